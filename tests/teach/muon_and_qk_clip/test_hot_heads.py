"""The runs of notebook 07 and what its main figure shows of them, against scipy, plain loops and the provenance."""

import asyncio
import hashlib
import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from hmpo_lib.lm.model import make_model, make_tokenizer
from hmpo_lib.lm.pretrain import pretraining_batch
from hmpo_lib.optim import MuonAdamW
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_experiment import (
    ADAMW_RATE,
    BATCH,
    STEPS_PER_RECORD,
    WARMUP_STEPS,
    attention_entropies,
    train_hot,
)
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_panel import (
    hot_alt,
    hot_caption,
    hot_heads_explorer,
    hot_heads_live,
    view_hot,
)
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_recording import (
    LAST,
    RATES,
    RECORDED,
    SEEDS,
    THRESHOLDS,
    load_hot_traces,
)

from ...tiny_models import softmax_maxima

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def traces():
    return load_hot_traces()


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("record_hot_heads", ROOT / "tools" / "record_hot_heads.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- training --------------------------------------------------------------------------------------------------------


def plain_loop(rate, seed, steps):
    """The same training without the clip and its monitor; the largest logits by transformers' own eager attention."""
    tokenizer, generator, model = make_tokenizer(), torch.Generator().manual_seed(seed), make_model(seed).train()
    optimizer = MuonAdamW(model, rate, adamw_lr=ADAMW_RATE, adjust_lr_fn="original", weight_decay=0.0)
    losses, maxima = [], []
    for step in range(steps):
        for group, full in zip(optimizer.param_groups, (rate, ADAMW_RATE), strict=True):
            group["lr"] = full * min(1.0, (step + 1) / WARMUP_STEPS)
        input_ids, attention_mask, labels = pretraining_batch(tokenizer, BATCH, generator)
        maxima.append(softmax_maxima(model, {"input_ids": input_ids, "attention_mask": attention_mask}).flatten())
        loss = model(input_ids=input_ids, attention_mask=attention_mask, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, torch.stack(maxima)


def test_run_without_a_clip_is_the_plain_training_and_its_maxima_are_those_of_the_softmax():
    records = list(train_hot(rate=0.2, threshold=math.inf, seed=100, records=2))
    losses, maxima = plain_loop(0.2, 100, 2 * STEPS_PER_RECORD)
    assert [record.step for record in records] == [5, 10]
    for k, record in enumerate(records):
        part = slice(k * STEPS_PER_RECORD, (k + 1) * STEPS_PER_RECORD)
        assert record.loss == pytest.approx(sum(losses[part]) / STEPS_PER_RECORD, rel=1e-5)
        torch.testing.assert_close(record.max_logits, maxima[part].amax(dim=0), rtol=1e-3, atol=1e-4)
        assert record.clipped == 0


def test_clip_holds_the_heads_down():
    free, held = (list(train_hot(rate=0.2, threshold=t, seed=100, records=4))[-1] for t in (math.inf, 2.0))
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
    size = (len(RATES), len(THRESHOLDS), len(SEEDS))
    assert traces.losses.shape[:3] == size
    for table in traces:
        assert table.isfinite().all()


@pytest.mark.parametrize(("rate", "threshold", "seed"), [(0.2, 10.0, 0), (0.05, math.inf, 3)])
def test_beginning_of_a_recorded_run_can_be_made_again(traces, rate, threshold, seed):
    recorded = view_hot(traces, rate, threshold, seed)
    for k, record in enumerate(train_hot(rate=rate, threshold=threshold, seed=seed, records=2)):
        assert record.loss == pytest.approx(recorded.losses[k].item(), rel=5e-3)
        torch.testing.assert_close(record.max_logits.double(), recorded.max_logits[k], rtol=0.05, atol=0.01)
    other = view_hot(traces, rate, threshold, seed + 1)
    assert not torch.allclose(record.max_logits.double(), other.max_logits[1], rtol=0.05, atol=0.01)


def test_runs_that_no_clip_touches_are_copies_and_all_others_are_to_do(tool):
    tables = tool.empty_tables()
    free, first = len(THRESHOLDS) - 1, THRESHOLDS.index(10.0)
    assert len(tool.to_do(tables, free)) == len(RATES) * len(SEEDS)
    for name, table in tables.items():
        table[:, free] = 9.0 if name == "max_logits" else 1.0
    tables["max_logits"][2, free, 4] = (
        10.0  # as large as the smallest threshold: it may have been above before rounding
    )
    assert tool.to_do(tables, first) == [(2, first, 4)]
    assert (tables["losses"][0, first] == 1.0).all()
    assert tool.to_do(tables, free) == []


def test_recorded_runs_below_the_threshold_are_those_without_a_clip(traces):
    free = THRESHOLDS.index(math.inf)
    for t, threshold in enumerate(THRESHOLDS):
        calm = traces.max_logits[:, free].amax(dim=(-1, -2)) < threshold
        assert torch.equal(traces.losses[:, t][calm], traces.losses[:, free][calm])
        assert (traces.clipped[:, t][calm] == 0).all()


# --- the figure ------------------------------------------------------------------------------------------------------


def test_intervals_are_students(traces):
    view = view_hot(traces, 0.2, 30.0, 1)
    for t, interval in enumerate(view.finals):
        runs = traces.losses[RATES.index(0.2), t, :, -LAST:].mean(dim=-1).numpy()
        low, high = stats.t.interval(0.95, len(runs) - 1, loc=runs.mean(), scale=stats.sem(runs))
        assert interval == pytest.approx((runs.mean(), low, high), rel=1e-3)


def test_panel_follows_its_controls(traces, sweep):
    shown = sweep(hot_heads_explorer(traces))
    assert len(shown) == len(RATES) * len(THRESHOLDS) * len(SEEDS)


def test_words_give_the_setting_and_the_heads(traces):
    view = view_hot(traces, 0.2, 30.0, 1)
    assert hot_caption(view).startswith("Muon at 0.2, τ = 30, seed 1, 150 steps: largest logits from ")
    assert f"to {view.max_logits[-1].max():,.0f}," in hot_caption(view)
    assert "no clip" in hot_alt(view)


def test_live_run_shows_each_record_beside_the_recorded_ones(traces):
    live = hot_heads_live(traces, rate=0.05, threshold=10.0, seed=4, records=2)
    records = asyncio.run(live.run())
    assert [record.step for record in records] == [5, 10]
    assert "τ = 10, seed 4, 10 steps" in live.picture.caption_text
    assert live.picture.alt_text.startswith("Four plots.")
    assert "data:image/png" in live.picture.static_bundle()["text/html"]
