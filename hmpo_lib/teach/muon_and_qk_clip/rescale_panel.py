"""The panel for the rescale of QK-Clip: one small attention layer, a threshold, and what each head looks at."""

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import torch
from torch import Tensor

from hmpo_lib.optim.layouts import find_layout
from hmpo_lib.optim.scaling import scale_logits
from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import BLACK, BLUE, ORANGE, Canvas, label_ticks, tidy_axes


@dataclass(frozen=True)
class RescaleView:
    """One threshold.

    Attributes:
        gammas, before, after: of each head; S_max before and after its weights were scaled.
        head: which one is shown, from 0.
        weights_before, weights_after: its attention ``[queries, keys]`` in the first sequence.
    """

    threshold: float
    head: int
    gammas: tuple[float, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    weights_before: Tensor
    weights_after: Tensor


@torch.no_grad()
def view_rescale(layer: Any, x: Tensor, threshold: float, head: int) -> RescaleView:
    """The layer and a copy of it whose hot heads were scaled down.

    Args:
        layer: an attention module that `QKClip` knows, with a method ``logits``: x -> ``[batch, heads, time, time]``.
        x: ``[batch, time, width]``.
        threshold: τ.
        head: the one to show, from 1, as readers count.
    """
    layout = find_layout(layer)
    assert layout is not None
    clipped = copy.deepcopy(layer)
    before = layer.logits(x)
    largest = before.amax(dim=(0, 2, 3))
    gammas = torch.where(largest > threshold, threshold / largest, torch.ones_like(largest))
    scale_logits(clipped, layout, gammas)
    after = clipped.logits(x)
    return RescaleView(
        threshold,
        head - 1,
        tuple(gammas.tolist()),
        tuple(largest.tolist()),
        tuple(after.amax(dim=(0, 2, 3)).tolist()),
        before[0, head - 1].softmax(dim=-1),
        after[0, head - 1].softmax(dim=-1),
    )


def rescale_caption(view: RescaleView) -> str:
    """What became of each head."""
    heads = ", ".join(
        f"{old:.1f} → {new:.1f}" if gamma < 1 else f"{old:.1f} as it was"
        for old, new, gamma in zip(view.before, view.after, view.gammas, strict=True)
    )
    return (
        f"τ = {view.threshold:g}: largest logits {heads}. Head {view.head + 1}: γ = {view.gammas[view.head]:.2f}, "
        f"largest weight of a query, on average, {_highest(view.weights_before):.2f} before and "
        f"{_highest(view.weights_after):.2f} after."
    )


def _highest(weights: Tensor) -> float:
    """The mean over the queries, but the first, of the largest weight that each gives."""
    return weights[1:].amax(dim=1).mean().item()


def rescale_alt(view: RescaleView) -> str:
    """The plots in words."""
    return (
        f"Bars of the largest logit of each head before and after the clip, with a line at τ; and two maps of head "
        f"{view.head + 1}'s attention, query by query, before and after: darker is more. {rescale_caption(view)}"
    )


def rescale_explorer(layer: Any, x: Tensor, *, threshold: float = 12.0) -> Panel[RescaleView]:
    """Sliders for threshold and head over a small attention layer; see `view_rescale` for the arguments."""
    heads, time = layer.num_heads, x.shape[1]
    canvas = Canvas(760, 290)
    bars = canvas.figure.add_axes((0.065, 0.185, 0.4, 0.7))
    highest = layer.logits(x).max().item()
    tidy_axes(bars, title="Largest logit of each head", xlabel="head", xlim=(0.4, heads + 0.6))
    bars.set_ylim(0, 1.25 * highest)
    label_ticks(bars, range(1, heads + 1), axis="x")
    places = torch.arange(1, heads + 1)
    old = canvas.animate(bars.plot([], [], "_", color=ORANGE, markersize=30, markeredgewidth=3, label="before")[0])
    new = [canvas.animate(bars.bar([place], [0.0], width=0.5, color=BLUE)[0]) for place in places.tolist()]
    new[0].set_label("after")
    line = canvas.animate(bars.plot([], [], color=BLACK, linewidth=1, label="τ")[0])
    bars.legend(handles=[old, new[0], line], loc="upper right", ncols=3, fontsize=9, frameon=False, borderaxespad=0.1)
    maps = [_draw_map(canvas, left, turn, time) for left, turn in ((0.53, "before"), (0.775, "after"))]

    def draw(view: RescaleView) -> None:
        old.set_data(places, view.before)
        for bar, value in zip(new, view.after, strict=True):
            bar.set_height(max(value, 0.0))
        line.set_data([0.4, heads + 0.6], [view.threshold] * 2)
        for show, weights in zip(maps, (view.weights_before, view.weights_after), strict=True):
            show(view.head, weights)

    top = 1.0 + round(1.1 * highest)
    controls = {
        "threshold": slider(widgets.FloatSlider, "threshold τ", value=threshold, min=1.0, max=top, step=0.5),
        "head": slider(widgets.IntSlider, "head shown", value=1, min=1, max=heads),
    }
    compute = functools.partial(view_rescale, layer, x)
    return Panel(controls, compute, canvas, draw=draw, caption=rescale_caption, alt=rescale_alt)


def _draw_map(canvas: Canvas, left: float, turn: str, time: int) -> Callable[[int, Tensor], None]:
    """A map of weights ``[queries, keys]``, from white for 0 to dark for 1."""
    axes = canvas.figure.add_axes((left, 0.185, 0.21, 0.7))
    title = canvas.animate(axes.set_title("", loc="left", fontsize=10, fontweight="bold"))
    axes.set_xlabel("key", fontsize=10)
    ticks = range(time)
    label_ticks(axes, ticks, [str(t + 1) for t in ticks], axis="x")
    label_ticks(axes, ticks, [str(t + 1) for t in ticks])
    if turn == "before":
        axes.set_ylabel("query", fontsize=10)
    image = axes.imshow(torch.zeros(time, time).numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    canvas.animate(image)

    def show(head: int, weights: Tensor) -> None:
        title.set_text(f"Head {head + 1} {turn}")
        image.set_data(weights.numpy())

    return show
