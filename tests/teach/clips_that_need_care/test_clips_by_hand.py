"""Clips of heads that share keys: the right one against the library's, the careless ones against what they break."""

import pytest
import torch
from torch import nn

from hmpo_lib.optim import QKClip
from hmpo_lib.teach.clips_that_need_care import clip_explorer, heads_drawing
from hmpo_lib.teach.clips_that_need_care.clip_panel import clip_caption
from hmpo_lib.teach.clips_that_need_care.clips_by_hand import KINDS, clip_by_hand

BOTH, KEY, QUERY = KINDS
X = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


class Attention(nn.Module):
    """Four heads of four features over two keys, or over four."""

    def __init__(self, keys):
        super().__init__()
        self.num_heads, self.size = 4, 4
        self.q_proj, self.k_proj = (nn.Linear(16, 4 * n, dtype=torch.float64) for n in (4, keys))
        random = torch.Generator().manual_seed(1)
        for weight in self.parameters():
            weight.data = 0.6 * torch.randn(weight.shape, generator=random, dtype=torch.float64)

    def forward(self, x):
        q, k = (layer(x).unflatten(-1, (-1, 4)).transpose(1, 2) for layer in (self.q_proj, self.k_proj))
        k = k.repeat_interleave(4 // k.shape[1], dim=1)
        self.logits = q @ k.mT / 2
        return self.logits.softmax(dim=-1)

    def maxima(self):
        self(X)
        return self.logits.detach().amax(dim=(0, 2, 3))


def clipped_by_the_library(keys, threshold):
    layer = Attention(keys)
    optimizer = QKClip(torch.optim.SGD(layer.parameters(), lr=0.0), layer, threshold=threshold)
    layer(X)[..., 0].sum().backward()
    optimizer.step()
    optimizer.remove()
    return layer.maxima()


@pytest.mark.parametrize("threshold", [6.0, 9.0, 12.0])
@pytest.mark.parametrize(("keys", "kind"), [(2, QUERY), (4, BOTH)])
def test_the_right_clip_leaves_the_largest_logits_that_the_librarys_leaves(keys, kind, threshold):
    layer = Attention(keys)
    clip = clip_by_hand(layer, X, threshold, kind)
    torch.testing.assert_close(torch.tensor(clip.before).double(), layer.maxima())
    torch.testing.assert_close(torch.tensor(clip.after).double(), clipped_by_the_library(keys, threshold))
    assert set(clip.states) <= {"at τ", "kept"}
    assert "right" in clip_caption(clip)


@pytest.mark.parametrize("kind", [BOTH, KEY])
def test_a_clip_of_a_shared_key_changes_the_head_beside_the_hot_one(kind):
    clip = clip_by_hand(Attention(2), X, 12.0, kind)
    assert clip.states == ["at τ", "changed", "kept", "kept"]
    shrunk = clip.keys[0]
    assert shrunk == pytest.approx({BOTH: 12.0 / clip.before[0], KEY: (12.0 / clip.before[0]) ** 2}[kind] ** 0.5)
    assert "wrong, head 2 was not hot" in clip_caption(clip)


def test_a_key_that_two_hot_heads_share_shrinks_twice_and_both_fall_below():
    clip = clip_by_hand(Attention(2), X, 8.0, BOTH)
    assert clip.keys[0] == pytest.approx((8.0 / clip.before[0] * 8.0 / clip.before[1]) ** 0.5)
    assert clip.states[:2] == ["below τ"] * 2


def test_without_the_biases_the_hot_head_misses_the_threshold():
    assert clip_by_hand(Attention(2), X, 12.0, QUERY, biases=False).states[0] == "above τ"


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="expected one of"):
        clip_by_hand(Attention(2), X, 12.0, "value by γ")


def test_where_no_head_is_hot_nothing_is_scaled():
    clip = clip_by_hand(Attention(2), X, 18.0, BOTH)
    assert clip.after == clip.before
    assert "no head is hot" in clip_caption(clip)


def test_every_position_of_the_panel_draws_and_tells_what_it_shows(sweep):
    shown = sweep(clip_explorer(Attention(2), X))
    right = [view.values for view in shown if "right" in view.caption]
    # Alone in all positions where a head is hot: the query, with its bias.
    assert {(values["kind"], values["biases"]) for values in right} == {(QUERY, True)}


def test_the_panel_goes_on_showing_the_layer_that_it_was_given():
    layer = Attention(2)
    panel = clip_explorer(layer, X)
    before = panel.picture.caption_text
    layer.q_proj.weight.data.zero_()
    panel.redraw()
    assert panel.picture.caption_text == before


def test_the_picture_marks_the_hot_heads_of_both_layers():
    words = heads_drawing(Attention(4), Attention(2), X, threshold=14.0).picture.alt_text
    for layer in (Attention(4), Attention(2)):
        assert ", ".join(f"{value:.2f}" for value in layer.maxima()) in words
