"""The runs of notebook 07 and what its main figure shows of them, against scipy, plain loops and the provenance."""

import asyncio
import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from hmpo_lib.lm.model import make_model, make_tokenizer
from hmpo_lib.lm.pretrain import pretraining_batch
from hmpo_lib.optim import MuonAdamW
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_drawings import FINAL_LIMITS, LOGIT_LIMITS
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_experiment import (
    BATCH,
    OPTIMIZERS,
    REST_RATE,
    STEPS_PER_RECORD,
    WARMUP_STEPS,
    attention_entropies,
    hot_optimizer,
    train_hot,
)
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_panel import (
    clipped_caption,
    clipped_heads_explorer,
    free_caption,
    hot_heads_explorer,
    hot_heads_live,
    view_clipped,
    view_free,
)
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_recording import (
    LAST,
    RECORDED,
    SEEDS,
    THRESHOLDS,
    TIMES,
    load_hot_traces,
)

from ...scripts import load_script
from ...tiny_models import softmax_maxima

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def traces():
    return load_hot_traces()


@pytest.fixture(scope="module")
def tool():
    return load_script("tools/record_hot_heads.py")


# --- training --------------------------------------------------------------------------------------------------------


def plain_optimizer(model, optimizer, rate):
    """Muon, or AdamW for the matrices in the blocks found by their names; AdamW for the rest. A group each."""
    if optimizer == "Muon":
        return MuonAdamW(model, rate, adamw_lr=REST_RATE, adjust_lr_fn="original", weight_decay=0.0)
    blocks = {name: weight for name, weight in model.named_parameters() if ".layers." in name and weight.dim() == 2}
    rest = [weight for name, weight in model.named_parameters() if name not in blocks]
    return torch.optim.AdamW([{"params": list(blocks.values())}, {"params": rest}], betas=(0.9, 0.95), weight_decay=0.0)


def plain_loop(optimizer, rate, seed, steps):
    """The same training without the clip and its monitor; the largest logits by transformers' own eager attention."""
    tokenizer, generator, model = make_tokenizer(), torch.Generator().manual_seed(seed), make_model(seed).train()
    optimizer = plain_optimizer(model, optimizer, rate)
    losses, maxima = [], []
    for step in range(steps):
        for group, full in zip(optimizer.param_groups, (rate, REST_RATE), strict=True):
            group["lr"] = full * min(1.0, (step + 1) / WARMUP_STEPS)
        input_ids, attention_mask, labels = pretraining_batch(tokenizer, BATCH, generator)
        maxima.append(softmax_maxima(model, {"input_ids": input_ids, "attention_mask": attention_mask}).flatten())
        loss = model(input_ids=input_ids, attention_mask=attention_mask, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, torch.stack(maxima)


@pytest.mark.parametrize(("optimizer", "rate"), [("Muon", 0.2), ("AdamW", 0.02)])
def test_run_without_a_clip_is_the_plain_training_and_its_maxima_are_those_of_the_softmax(optimizer, rate):
    records = list(train_hot(optimizer=optimizer, times=10, threshold=math.inf, seed=100, records=2))
    losses, maxima = plain_loop(optimizer, rate, 100, 2 * STEPS_PER_RECORD)
    assert [record.step for record in records] == [5, 10]
    for k, record in enumerate(records):
        part = slice(k * STEPS_PER_RECORD, (k + 1) * STEPS_PER_RECORD)
        assert record.loss == pytest.approx(sum(losses[part]) / STEPS_PER_RECORD, rel=1e-5)
        torch.testing.assert_close(record.max_logits, maxima[part].amax(dim=0), rtol=1e-3, atol=1e-4)
        assert record.clipped == 0


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_weight_is_moved_and_decay_takes_from_the_matrices_alone(optimizer):
    model = make_model(100)
    made = hot_optimizer(model, optimizer, 1, weight_decay=0.5)
    moved = {id(weight): group["weight_decay"] for group in made.param_groups for weight in group["params"]}
    for name, weight in model.named_parameters():
        inside = ".layers." in name and weight.dim() == 2
        assert moved.pop(id(weight)) == (0.5 if inside else 0.0)
    assert not moved


def test_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match="the optimizer is 'SGD': expected one of"):
        next(train_hot(optimizer="SGD", times=1, threshold=math.inf, seed=0, records=1))


def test_clip_holds_the_heads_down():
    free, held = (list(train_hot(times=10, threshold=t, seed=100, records=4))[-1] for t in (math.inf, 2.0))
    assert free.max_logits.max() > 10
    assert held.max_logits.max() < 5
    assert held.clipped > 0
    assert held.entropies.mean() > free.entropies.mean()


def test_entropies_are_those_of_scipy_over_the_real_queries():
    tokenizer = make_tokenizer()
    input_ids, attention_mask, _ = pretraining_batch(tokenizer, 4, torch.Generator().manual_seed(0))
    model = make_model(100).eval()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.q_proj.weight.mul_(30)  # so that heads differ
        attentions = model(input_ids=input_ids, attention_mask=attention_mask, output_attentions=True).attentions
    expected = [
        np.mean(
            [
                stats.entropy(weights[row, head, i, : i + 1].numpy(), base=i + 1)
                for row in range(4)
                for i in range(1, int(attention_mask[row].sum()))
            ]
        )
        for weights in attentions
        for head in range(4)
    ]
    got = attention_entropies(model, input_ids, attention_mask)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-4)
    padding_too = attention_entropies(model, input_ids, torch.ones_like(attention_mask))
    assert not np.allclose(padding_too.numpy(), expected, rtol=1e-3)


# --- the recording ---------------------------------------------------------------------------------------------------


def test_recording_is_the_one_whose_provenance_is_given():
    digest = hashlib.sha256(RECORDED.read_bytes()).hexdigest()
    assert digest in (ROOT / "data" / "README.md").read_text(encoding="utf-8")


def test_recording_is_whole_and_of_its_shape(traces):
    assert traces.losses.shape[:3] == (len(TIMES), len(THRESHOLDS), len(SEEDS))
    assert traces.free_losses.shape[:3] == (len(OPTIMIZERS), len(TIMES), len(SEEDS))
    for table in traces:
        assert table.isfinite().all()


def assert_begins_as_recorded(recorded, other, **setting):
    """The first two records of a run, made again, are those of one recording and not of another."""
    for k, record in enumerate(train_hot(**setting, records=2)):
        assert record.loss == pytest.approx(recorded.losses[k].item(), rel=5e-3)
        torch.testing.assert_close(record.max_logits.double(), recorded.max_logits[k], rtol=0.05, atol=0.01)
    assert not torch.allclose(record.max_logits.double(), other.max_logits[1], rtol=0.05, atol=0.01)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_beginning_of_a_run_without_a_clip_can_be_made_again(traces, optimizer):
    recorded, other = view_free(traces, optimizer, 2.5, 3), view_free(traces, optimizer, 2.5, 4)
    assert_begins_as_recorded(recorded, other, optimizer=optimizer, times=2.5, threshold=math.inf, seed=3)


def test_beginning_of_a_clipped_run_can_be_made_again(traces):
    recorded, other = (view_clipped(traces, 10.0, 10.0, seed) for seed in (0, 1))
    assert_begins_as_recorded(recorded, other, times=10.0, threshold=10.0, seed=0)


def test_runs_that_no_clip_touches_are_copies_and_all_others_are_to_do(tool):
    tables = tool.empty_tables()
    assert len(list(tool.free_to_do(tables))) == len(OPTIMIZERS) * len(TIMES) * len(SEEDS)
    for name in ("losses", "max_logits", "entropies"):
        tables[f"free_{name}"][:] = 9.0
    # As large as the smallest threshold: it may have been above before rounding.
    tables["free_max_logits"][tool.MUON, 2, 4] = 10.0
    assert not list(tool.free_to_do(tables))
    assert list(tool.clipped_to_do(tables)) == [(2, THRESHOLDS.index(10.0), 4)]
    assert (tables["losses"][0, 0] == 9.0).all()
    assert (tables["clipped"][0, 0] == 0.0).all()


def test_recorded_runs_below_the_threshold_are_those_without_a_clip(traces):
    free = traces.free_max_logits[OPTIMIZERS.index("Muon")].amax(dim=(-1, -2))
    for t, threshold in enumerate(THRESHOLDS):
        calm = free < threshold
        assert torch.equal(traces.losses[:, t][calm], traces.free_losses[OPTIMIZERS.index("Muon")][calm])
        assert (traces.clipped[:, t][calm] == 0).all()


# --- the figures -----------------------------------------------------------------------------------------------------


def test_intervals_are_students(traces):
    runs = traces.losses[TIMES.index(10.0), THRESHOLDS.index(30.0), :, -LAST:].mean(dim=-1).numpy()
    low, high = stats.t.interval(0.95, len(runs) - 1, loc=runs.mean(), scale=stats.sem(runs))
    said = f"Recorded at the end, no decay, 5 seeds: {runs.mean():.2f} ({low:.2f} to {high:.2f})"
    assert said in clipped_caption(traces, view_clipped(traces, 10.0, 30.0, 1))


def test_panel_of_the_clip_follows_its_controls(traces, sweep):
    assert len(sweep(clipped_heads_explorer(traces))) == len(TIMES) * len(THRESHOLDS) * len(SEEDS)


def test_panel_of_the_optimizers_follows_its_controls(traces, sweep):
    assert len(sweep(hot_heads_explorer(traces))) == len(OPTIMIZERS) * len(TIMES) * len(SEEDS)


def test_words_give_the_setting_and_the_heads(traces):
    view = view_free(traces, "AdamW", 10.0, 1)
    said = free_caption(traces, view)
    assert said.startswith("AdamW at 10 × 0.002, no clip, seed 1, 150 steps: largest logits from ")
    assert f"to {view.max_logits[-1].max():,.0f}, mean entropy" in said
    ends = [max(traces.free_max_logits[1, 2, s, -1].tolist()) for s in range(len(SEEDS))]
    assert f"AdamW {min(ends):,.0f} to {max(ends):,.0f}" in said


def test_nothing_leaves_the_axes(traces):
    assert max(traces.max_logits.max(), traces.free_max_logits.max()) < LOGIT_LIMITS[1]
    assert FINAL_LIMITS[0] < traces.final_losses.min() < traces.final_losses.max() < FINAL_LIMITS[1]


def test_live_run_shows_each_record_beside_the_recorded_ones(traces):
    live = hot_heads_live(traces, optimizer="AdamW", times=2.5, threshold=10.0, seed=14, records=2)
    records = asyncio.run(live.run())
    assert [record.step for record in records] == [5, 10]
    assert "τ = 10, seed 14, 10 steps" in live.picture.caption_text
    assert live.picture.alt_text.startswith("The largest logit and the entropy")
    assert "data:image/png" in live.picture.static_bundle()["text/html"]


def test_run_of_ones_own_repeats_no_recorded_one_and_stands_beside_some(traces):
    with pytest.raises(ValueError, match="seed 4 is recorded"):
        hot_heads_live(traces, times=10.0, seed=4)
    hot_heads_live(traces, times=10.0, seed=4, weight_decay=0.1)
    with pytest.raises(ValueError, match="times is 3, threshold inf: expected one of"):
        hot_heads_live(traces, times=3, seed=7)
