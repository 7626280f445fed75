"""The runs of notebook 06 with Muon and AdamW and what its figures show, against plain loops, scipy and provenance."""

import asyncio
import hashlib
import itertools
import math
from pathlib import Path

import pytest
import torch
from scipy import stats

from hmpo_lib.evaluation import student_interval
from hmpo_lib.lm.model import make_model, make_tokenizer
from hmpo_lib.lm.pretrain import pretrain, pretraining_batch
from hmpo_lib.lm.tasks import Question
from hmpo_lib.teach.a_language_model_from_scratch.race_drawings import LONG, apart
from hmpo_lib.teach.a_language_model_from_scratch.race_experiment import (
    BATCH,
    RECORDS,
    STEPS,
    STEPS_PER_RECORD,
    Setting,
    held_out_batch,
    least_loss,
    race,
    race_optimizer,
)
from hmpo_lib.teach.a_language_model_from_scratch.race_panel import (
    final_losses,
    race_explorer,
    race_live,
    steps_needed,
    tuning_explorer,
    view_race,
    view_tuning,
)
from hmpo_lib.teach.a_language_model_from_scratch.race_recording import (
    DETAILS,
    LONG_RATES,
    OPTIMIZERS,
    RATES,
    RECORDED,
    SEEDS,
    TUNING_SEEDS,
    load_race_traces,
)

from ...scripts import load_script

ROOT = Path(__file__).resolve().parents[3]
MUON, ADAMW = Setting("Muon", 0.02, 0.003), Setting("AdamW", 0.004, 0.95)


@pytest.fixture(scope="module")
def traces():
    return load_race_traces()


@pytest.fixture(scope="module")
def tool():
    return load_script("tools/record_optimizers.py")


# --- training --------------------------------------------------------------------------------------------------------


def plain_loop(seed, steps):
    """AdamW with the schedule written out."""
    tokenizer, generator, model = make_tokenizer(), torch.Generator().manual_seed(seed), make_model(seed).train()
    optimizer = torch.optim.AdamW(model.parameters(), ADAMW.rate, betas=(0.9, ADAMW.detail), weight_decay=0.01)
    losses = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = ADAMW.rate * min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        input_ids, attention_mask, labels = pretraining_batch(tokenizer, BATCH, generator)
        loss = model(input_ids=input_ids, attention_mask=attention_mask, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    held_out = held_out_batch()
    with torch.no_grad():
        logits = model(input_ids=held_out[0]).logits[:, :-1]  # padding stands on the right: no mask is needed
    held_out_loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), held_out[2][:, 1:].flatten())
    return losses, held_out_loss.item()


def test_run_with_adamw_is_the_plain_loop():
    *_, record = race(ADAMW, seed=100, records=1)
    losses, held_out_loss = plain_loop(100, STEPS_PER_RECORD)
    assert record.step == STEPS_PER_RECORD
    assert record.loss == pytest.approx(sum(losses) / STEPS_PER_RECORD, rel=1e-5)
    assert record.held_out_loss == pytest.approx(held_out_loss, rel=1e-4)


def test_run_with_muon_is_the_pretraining_of_the_shipped_model_with_fewer_texts_and_steps():
    *_, record = race(MUON, seed=100, records=1)
    steps = pretrain(make_model(100), make_tokenizer(), steps=STEPS, batch_size=BATCH, seed=100)
    losses = [next(steps)["loss"] for _ in range(STEPS_PER_RECORD)]
    assert record.loss == pytest.approx(sum(losses) / STEPS_PER_RECORD, rel=1e-6)


def test_both_optimizers_move_every_weight():
    tokenizer = make_tokenizer()
    input_ids, attention_mask, labels = pretraining_batch(tokenizer, 4, torch.Generator().manual_seed(0))
    for setting in (MUON, ADAMW):
        model = make_model(0)
        before = [weight.detach().clone() for weight in model.parameters()]
        optimizer = race_optimizer(model, setting)
        model(input_ids=input_ids, attention_mask=attention_mask, labels=labels).loss.backward()
        optimizer.step()
        assert not any(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match="expected 'Muon' or 'AdamW'"):
        race_optimizer(make_model(0), Setting("SGD", 0.1, 0.9))


def test_held_out_texts_are_held_out_and_those_of_training_are_not():
    tokenizer = make_tokenizer()
    for held_out, batch in (
        (True, held_out_batch()),
        (False, pretraining_batch(tokenizer, 64, torch.Generator().manual_seed(0))),
    ):
        for text in tokenizer.batch_decode(batch[0], skip_special_tokens=True):
            terms = tuple(map(int, text.partition("=")[0].split("+")))
            assert Question(terms).held_out == held_out


def test_least_loss_is_the_surprise_of_a_model_that_errs_in_no_sum():
    tokenizer = make_tokenizer()
    texts = ["7+12+5=24<eos>", "7+12+5+1=(7+12=19,19+5=24,24+1=25)25<eos>"]
    encoded = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
    batch = encoded["input_ids"], encoded["attention_mask"], encoded["input_ids"]
    # 3 of 3 lengths alike, 20 values a term, 60 % direct and 40 % worked; the tokens are the characters and eos.
    probabilities = [1 / 3 * 20**-3 * 0.6, 1 / 3 * 20**-4 * 0.4]
    tokens = sum(len(text.removesuffix("<eos>")) + 1 for text in texts)
    assert least_loss(batch) == pytest.approx(-sum(map(math.log, probabilities)) / tokens)


# --- the recording ---------------------------------------------------------------------------------------------------


def test_recording_is_the_one_whose_provenance_is_given():
    digest = hashlib.sha256(RECORDED.read_bytes()).hexdigest()
    assert digest in (ROOT / "data" / "README.md").read_text(encoding="utf-8")


def test_recording_is_whole_and_of_its_shape(traces):
    assert traces.tuning.shape == (2, len(RATES["Muon"]), len(TUNING_SEEDS), RECORDS)
    assert traces.detail_tuning.shape == (2, len(DETAILS["Muon"]), len(TUNING_SEEDS), RECORDS)
    assert traces.long_tuning.shape == (len(LONG_RATES), len(TUNING_SEEDS), 2 * RECORDS)
    assert traces.losses.shape == traces.held_out_losses.shape == (2, len(SEEDS), RECORDS)
    assert traces.long_losses.shape == traces.long_held_out_losses.shape == (len(SEEDS), 2 * RECORDS)
    for table in traces:
        assert table.isfinite().all()


def test_both_optimizers_were_tuned_on_as_many_settings_and_on_seeds_that_are_not_reported():
    assert len(RATES["Muon"]) == len(RATES["AdamW"])
    assert len(DETAILS["Muon"]) == len(DETAILS["AdamW"])
    assert not set(TUNING_SEEDS) & set(SEEDS)


def test_chosen_rates_are_within_their_grids_and_the_best(traces):
    for k, name in enumerate(OPTIMIZERS):
        ends = traces.tuning[k, :, :, -1].mean(dim=-1)
        assert 0 < ends.argmin() < len(ends) - 1
        assert traces.chosen[name].rate == RATES[name][int(ends.argmin())]
        details = traces.detail_tuning[k, :, :, -1].mean(dim=-1)
        assert traces.chosen[name].detail == DETAILS[name][int(details.argmin())]
        assert torch.equal(traces.detail_tuning[k, 0], traces.tuning[k, int(ends.argmin())])
    ends = traces.long_tuning[..., -1].mean(dim=-1)
    assert 0 < ends.argmin() < len(ends) - 1
    assert traces.chosen_long.rate == LONG_RATES[int(ends.argmin())]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_beginning_of_a_recorded_run_can_be_made_again(traces, optimizer):
    k = OPTIMIZERS.index(optimizer)
    (record,) = race(traces.chosen[optimizer], seed=3, records=1)
    assert record.loss == pytest.approx(traces.losses[k, 3, 0].item(), rel=1e-3)
    assert record.held_out_loss == pytest.approx(traces.held_out_losses[k, 3, 0].item(), rel=1e-3)
    assert record.held_out_loss != pytest.approx(traces.held_out_losses[k, 4, 0].item(), rel=1e-3)
    assert record.held_out_loss != pytest.approx(traces.held_out_losses[1 - k, 3, 0].item(), rel=1e-3)


def test_beginning_of_a_longer_run_can_be_made_again_with_its_own_schedule(traces):
    (record,) = race(traces.chosen_long, seed=3, steps=2 * STEPS, records=1)
    assert record.loss == pytest.approx(traces.long_losses[3, 0].item(), rel=1e-3)
    (shorter,) = race(traces.chosen_long, seed=3, records=1)
    assert shorter.loss != record.loss


def test_tool_keeps_finished_runs(tool, tmp_path, monkeypatch):
    made = []

    def short_race(setting, *, seed, steps):
        made.append((setting, seed, steps))
        return race(setting, seed=seed, steps=steps, records=1)

    monkeypatch.setattr(tool, "race", short_race)
    first, again = (tool.recorded_run(tmp_path, ADAMW, 100) for _ in range(2))
    assert made == [(ADAMW, 100, STEPS)]
    assert torch.equal(first["held_out_losses"], again["held_out_losses"])


def test_tool_refuses_a_best_rate_at_an_end_of_the_grid(tool, tmp_path, monkeypatch):
    def recorded(folder, setting, seed, steps=STEPS):
        return {"held_out_losses": torch.tensor([2.0, 1.0 + setting.rate])}

    monkeypatch.setattr(tool, "recorded_run", recorded)
    with pytest.raises(SystemExit, match=r"AdamW is best at 0\.001, an end of its grid"):
        tool.tune(tmp_path, "AdamW")


# --- the figures -----------------------------------------------------------------------------------------------------


def test_steps_needed_are_those_of_the_first_record_at_the_goal():
    losses = [2.0, 1.5, 1.6, 1.4]
    assert steps_needed(losses, 1.5) == 2 * STEPS_PER_RECORD
    assert steps_needed(losses, 1.45) == 4 * STEPS_PER_RECORD
    assert steps_needed(losses, 1.0) is None


def test_tuning_panel_follows_its_controls(traces, sweep):
    assert len(sweep(tuning_explorer(traces))) == len(RATES["Muon"]) * len(RATES["AdamW"])


def test_tuning_words_give_the_recorded_means(traces):
    view = view_tuning(traces, 0.04, 0.002)
    mean = traces.tuning[0, RATES["Muon"].index(0.04), :, -1].mean()
    assert f"Muon at 0.04 ends at {mean:.3f}, AdamW at 0.002" in view.caption
    assert view.marked[0] == pytest.approx((0.04, mean.item()))


def test_race_panel_follows_its_controls(traces, sweep):
    assert len(sweep(race_explorer(traces))) == len(SEEDS)


def test_race_words_give_the_recorded_ends(traces):
    view = view_race(traces, 2)
    ends = [final_losses(traces)[name][2].item() for name in ("Muon", "AdamW", LONG)]
    assert [end for _, end in view.marked] == ends
    assert view.caption.startswith(f"Seed 2: after {STEPS} steps Muon is at {ends[0]:.3f}")


def test_names_at_the_ends_of_lines_keep_apart_and_in_order():
    heights = [1.0, 0.99, 2.0, 0.98]
    moved = apart(heights, 0.1)
    assert sorted(range(4), key=moved.__getitem__) == sorted(range(4), key=heights.__getitem__)
    in_order = sorted(moved)
    assert all(above - below >= 0.1 - 1e-9 for below, above in itertools.pairwise(in_order))
    assert apart([0.5, 1.0], 0.1) == [0.5, 1.0]  # none is moved without need


def test_intervals_of_the_paired_differences_are_students(traces):
    differences = traces.held_out_losses[1, :, -1] - traces.held_out_losses[0, :, -1]
    low, high = stats.t.interval(0.95, 4, loc=differences.mean().item(), scale=stats.sem(differences.numpy()))
    assert student_interval(differences)[1:] == pytest.approx((low, high), rel=1e-3)


def test_live_run_shows_each_record_over_the_recorded_ones_and_trains_the_model_it_is_given(traces):
    model = make_model(5)
    before = model.lm_head.weight.detach().clone()
    live = race_live(traces, MUON, seed=5, records=1, model=model)
    (record,) = asyncio.run(live.run())
    assert record.step == STEPS_PER_RECORD
    assert f"Muon at 0.02, seed 5, {STEPS_PER_RECORD} steps" in live.picture.caption_text
    assert "data:image/png" in live.picture.static_bundle()["text/html"]
    assert not torch.equal(model.lm_head.weight, before)
