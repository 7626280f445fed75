"""What notebook 07 shows of Muon head by head, against the optimizer itself."""

import pytest
import torch

from hmpo_lib.lm.model import make_model, make_tokenizer
from hmpo_lib.lm.pretrain import pretraining_batch
from hmpo_lib.optim import MuonAdamW
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_experiment import OPTIMIZERS
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_recording import LAST, SEEDS, TIMES, load_hot_traces
from hmpo_lib.teach.muon_and_qk_clip.per_head_panel import (
    DIFFERENCE_LIMITS,
    END_LIMITS,
    LONGEST,
    MUONS,
    TEXTS,
    first_step_lengths,
    per_head_caption,
    per_head_explorer,
    view_per_head,
)


@pytest.fixture(scope="module")
def lengths():
    return first_step_lengths()


@pytest.fixture(scope="module")
def traces():
    return load_hot_traces()


@pytest.mark.parametrize("kind", MUONS)
def test_lengths_are_how_far_the_optimizer_moves_each_head(lengths, kind):
    model, tokenizer = make_model(SEEDS[1]), make_tokenizer()
    ids, mask, labels = pretraining_batch(tokenizer, TEXTS, torch.Generator().manual_seed(SEEDS[1]))
    settings = {"adamw_lr": 0.0, "adjust_lr_fn": "original", "weight_decay": 0.0}
    optimizer = MuonAdamW(model, 1.0, per_head=kind != "Muon", **settings)
    weight = model.model.layers[1].self_attn.k_proj.weight
    before = weight.detach().clone()
    model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
    optimizer.step()
    moved = (weight.detach() - before).unflatten(0, (4, 32)).flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths[kind][1, 1, 1], moved, rtol=0.03, atol=0.0)  # in bfloat16


def test_view_pairs_runs_of_one_seed(traces, lengths):
    view, r = view_per_head(traces, lengths, (0, 1), 2.5), TIMES.index(2.5)
    whole, apart = (traces.free_losses[OPTIMIZERS.index(kind), r] for kind in MUONS)
    assert torch.equal(view.differences, apart - whole)
    assert view.change[0] == pytest.approx((apart - whole)[:, -LAST:].mean().item())


def test_caption_names_matrix_and_rate(traces, lengths):
    caption = per_head_caption(view_per_head(traces, lengths, (1, 1), 10.0))
    assert caption.startswith("W_k of layer 2: lengths of the heads' first steps, 5 seeds: one matrix ")
    assert "At 10 × 0.02 the loss at the end: one matrix " in caption


def test_panel_follows_its_controls_and_nothing_leaves_the_axes(traces, lengths, sweep):
    assert sweep(per_head_explorer(traces))
    assert all(of_kind.max() < LONGEST for of_kind in lengths.values())
    views = [view_per_head(traces, lengths, (0, 0), times) for times in TIMES]
    assert all(DIFFERENCE_LIMITS[0] < view.differences.min() < DIFFERENCE_LIMITS[1] for view in views)
    ends = [end for of_kind in views[0].finals.values() for interval in of_kind for end in interval]
    assert END_LIMITS[0] < min(ends) < max(ends) < END_LIMITS[1]
