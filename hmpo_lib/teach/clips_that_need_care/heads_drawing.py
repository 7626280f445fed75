"""Heads over their queries and keys: a column a head, its largest logit on top, the weights that make it below."""

from typing import Any

import torch
from matplotlib.patches import FancyBboxPatch
from torch import Tensor

from hmpo_lib.teach.clips_that_need_care.clips_by_hand import KINDS, clip_by_hand
from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import BLACK, GREY, ORANGE, PALE_GREY, Canvas, label_ticks, tidy_axes

PLAIN = "#EFEFEF"  # a block of weights that is not scaled


class Blocks:
    """The weights under the heads: a box for each query, and one for each key, as wide as the heads that use it."""

    def __init__(self, axes: Any, heads: int, keys: int, *, named: bool = True) -> None:
        axes.axis("off")
        axes.set(xlim=(-0.5 - 0.62 * named, heads - 0.5), ylim=(-0.5, 1.5))
        self.queries = [self._box(axes, head, head, 1) for head in range(heads)]
        share = heads // keys
        self.keys = [self._box(axes, share * key, share * (key + 1) - 1, 0) for key in range(keys)]
        for head in range(heads):
            axes.plot([head, head], [0.36, 0.64], color=GREY, linewidth=1.2)
        if named:
            for y, name in ((1, "query"), (0, "key")):
                axes.text(-0.5, y, name, ha="right", va="center", fontsize=10)

    @staticmethod
    def _box(axes: Any, first: int, last: int, y: float) -> tuple[Any, Any]:
        corner, width = (first - 0.36, y - 0.3), last - first + 0.72
        box = axes.add_patch(FancyBboxPatch(corner, width, 0.6, boxstyle="round,pad=0.02", fc=PLAIN, ec=GREY))
        return box, axes.text((first + last) / 2, y, "", ha="center", va="center", fontsize=11)

    def show(self, queries: list[str], keys: list[str]) -> None:
        """Write into each box what its weights are scaled by; an empty one is left as it is."""
        for (box, text), words in zip([*self.queries, *self.keys], [*queries, *keys], strict=True):
            text.set_text(words)
            box.set_facecolor(ORANGE if words else PLAIN)

    @property
    def artists(self) -> list[Any]:
        """All that moves."""
        return [artist for pair in (*self.queries, *self.keys) for artist in pair]


def heads_drawing(own: Any, shared: Any, x: Tensor, *, threshold: float) -> Still:
    """A layer with a key for each head, where √γ goes to both, beside one with shared keys: where does γ go?

    Args:
        own, shared: layers as in `clip_by_hand`.
        x: ``[batch, time, features]``.
        threshold: τ.
    """
    canvas = Canvas(760, 330)
    axes = canvas.mosaic([["own bars", "shared bars"], ["own", "shared"]], height_ratios=(1.5, 1))
    said = []
    for name, layer, title in (("own", own, "A key each"), ("shared", shared, "Two heads share a key")):
        clip = clip_by_hand(layer, x, threshold, KINDS[0])
        heads, keys = len(clip.before), len(clip.keys)
        bars, named = axes[f"{name} bars"], name == "own"
        tidy_axes(bars, title=title, ylim=(0, 22))
        bars.set_xlim(-0.5 - 0.62 * named, heads - 0.5)
        bars.grid(visible=False, axis="x")
        label_ticks(bars, range(heads), [f"head {head + 1}" for head in range(heads)], axis="x")
        hot = [value > threshold for value in clip.before]
        bars.bar(range(heads), clip.before, width=0.5, color=[ORANGE if h else PALE_GREY for h in hot])
        bars.axhline(threshold, color=BLACK, linewidth=1.2, linestyle="--")
        if named:
            bars.text(-1.06, threshold + 0.4, f"τ = {threshold:g}", fontsize=10)
            bars.set_ylabel("largest logit")
        for head, value in enumerate(clip.before):
            bars.text(head, value + 0.4, f"{value:.2f}", ha="center", fontsize=9.5)
        mark = "× √γ" if named else "?"
        of_keys = torch.tensor(hot).view(keys, -1).any(dim=1).tolist()
        Blocks(axes[name], heads, keys, named=named).show(
            [mark if h else "" for h in hot], [mark if h else "" for h in of_keys]
        )
        said.append(f"{title}: the largest logits are {', '.join(f'{value:.2f}' for value in clip.before)}")
    caption = (
        "Orange: too hot. Left, the clip scales a hot head's query and key. Right, the key under a hot head is its "
        "neighbour's too."
    )
    alt = f"Bars of each head's largest logit over boxes for its query and its key. {'. '.join(said)}. {caption}"
    return Still(canvas, caption=caption, alt=alt)
