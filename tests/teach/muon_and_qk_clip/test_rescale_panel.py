"""What notebook 07 shows of one clip, on a small layer of ours, against the definition."""

import pytest
import torch
from torch import nn

from hmpo_lib.teach.muon_and_qk_clip.rescale_panel import rescale_caption, rescale_explorer, view_rescale


class Layer(nn.Module):
    """Attention logits of three heads, without a mask."""

    def __init__(self):
        super().__init__()
        self.num_heads = 3
        self.q_proj, self.k_proj = (nn.Linear(4, 6, dtype=torch.float64) for _ in range(2))
        generator = torch.Generator().manual_seed(0)
        for weight in self.parameters():
            weight.data = torch.randn(weight.shape, generator=generator, dtype=torch.float64)

    def logits(self, x):
        q, k = (layer(x).unflatten(-1, (3, 2)).transpose(1, 2) for layer in (self.q_proj, self.k_proj))
        return q @ k.mT / 2**0.5


@pytest.fixture
def layer():
    return Layer()


@pytest.fixture
def x():
    return torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_hot_heads_come_to_the_threshold_and_the_others_stay(layer, x):
    before = layer.logits(x).amax(dim=(0, 2, 3)).tolist()
    threshold = sorted(before)[1] + 1e-3  # one head is above it
    view = view_rescale(layer, x, threshold, 1)
    assert view.before == tuple(before)
    assert view.after == pytest.approx([min(s, threshold) for s in before], abs=1e-12)
    assert sum(gamma < 1 for gamma in view.gammas) == 1
    assert layer.logits(x).amax(dim=(0, 2, 3)).tolist() == before  # the reader's layer is left alone


def test_maps_are_of_the_first_sequence_and_the_chosen_head(layer, x):
    view = view_rescale(layer, x, 1.0, 3)
    torch.testing.assert_close(view.weights_before, layer.logits(x)[0, 2].softmax(dim=-1))
    cooler = (view.gammas[2] * layer.logits(x)[0, 2]).softmax(dim=-1)
    torch.testing.assert_close(view.weights_after, cooler)
    assert not torch.allclose(view.weights_after, (view.gammas[2] ** 2 * layer.logits(x)[0, 2]).softmax(dim=-1))


def test_panel_follows_its_controls(layer, x, sweep):
    highest = layer.logits(x).max().item()
    shown = sweep(rescale_explorer(layer, x, threshold=2.0))
    above = [view for view in shown if view.values["threshold"] > highest]
    assert above
    assert all("as it was" in view.caption and "→" not in view.caption for view in above)


def test_caption_says_what_became_of_each_head(layer, x):
    caption = rescale_caption(view_rescale(layer, x, 1.0, 1))
    assert caption.startswith("τ = 1: largest logits ")
    assert "→ 1.0" in caption
