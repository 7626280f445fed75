"""What notebook 07 shows of a clip of one head, in a model of two layers, against the definition."""

import copy

import pytest
import torch

from hmpo_lib.lm import load_base_model, pretraining_batch
from hmpo_lib.teach.muon_and_qk_clip.one_head_panel import _Model, one_head_caption, one_head_explorer, view_one_head

from ...tiny_models import softmax_maxima


@pytest.fixture(scope="module")
def base():
    return load_base_model()


@pytest.fixture(scope="module")
def texts(base):
    return pretraining_batch(base[1], 4, torch.Generator().manual_seed(0))[:2]


@pytest.fixture(scope="module")
def model(base, texts):
    text = base[1]("7+12+5=24", return_tensors="pt")["input_ids"]
    return _Model(base[0], *texts, text)


def test_largest_logits_are_those_of_the_softmax_with_the_heads_rows_scaled_by_hand(base, texts, model):
    view = view_one_head(model, 2, 3.0)
    by_hand = copy.deepcopy(base[0]).double()
    inputs = {"input_ids": texts[0], "attention_mask": texts[1]}
    torch.testing.assert_close(torch.tensor(view.before).double(), softmax_maxima(by_hand, inputs).flatten())
    attention = by_hand.model.layers[0].self_attn
    with torch.no_grad():
        for projection in (attention.q_proj, attention.k_proj):
            projection.weight[64:96] *= view.gamma**0.5
    torch.testing.assert_close(torch.tensor(view.after).double(), softmax_maxima(by_hand, inputs).flatten())


def test_clipped_head_meets_the_threshold_its_layer_keeps_every_bit_and_the_next_changes(model):
    view = view_one_head(model, 2, 3.0)
    assert view.after[2] == pytest.approx(3.0, abs=1e-12)
    assert view.states == ["the same, bit for bit"] * 2 + ["clipped", "the same, bit for bit"] + ["changed"] * 4


def test_clip_in_the_last_layer_changes_no_other_head(model):
    view = view_one_head(model, 5, 3.0)
    assert view.states == ["the same, bit for bit"] * 5 + ["clipped"] + ["the same, bit for bit"] * 2


def test_below_the_threshold_nothing_changes(model):
    view = view_one_head(model, 0, 20.0)
    assert view.before == view.after
    assert torch.equal(view.map_before, view.map_after)
    assert one_head_caption(view).endswith("not above τ, so nothing changes.")


def test_map_is_softer_after_the_clip_and_each_query_still_sums_to_one(model):
    view = view_one_head(model, 2, 1.0)
    torch.testing.assert_close(view.map_after.sum(dim=1), torch.ones(len(view.map_after)).double())
    assert torch.special.entr(view.map_after).sum() > torch.special.entr(view.map_before).sum()


def test_panel_follows_its_controls(base, texts, sweep):
    sweep(one_head_explorer(*base, *texts), {"threshold": [0.5, 3.0, 20.0], "head": [0, 5]})
