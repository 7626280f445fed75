"""The panel of the pushes: their total is A M_p, their shares are W, and what they do flips with the sign of A."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import torch

from hmpo_lib.means import log_power_mean, power_mean_weights
from hmpo_lib.teach.panels import Panel, p_label, p_slider
from hmpo_lib.teach.plotting import (
    BLACK,
    GREY,
    Canvas,
    exponent_colour,
    label_ticks,
    round_numbers,
    signed,
    tidy_axes,
)
from hmpo_lib.teach.shared.power_mean_drawings import log_of

ARROWS = 0.6  # the longest possible arrow, as a share of the ratios' own range
EXPONENTS = (-math.inf, *range(-5, 6), math.inf)  # among them are the longest arrows


@dataclass(frozen=True)
class PushView:
    """What one setting shows: each token's ratio and the push on its log-probability."""

    ratios: tuple[float, ...]
    p: float
    advantage: float
    pushes: tuple[float, ...]

    @property
    def total(self) -> float:
        """All pushes together, which is A M_p."""
        return sum(self.pushes)


def view_pushes(ratios: Sequence[float], p: float, advantage: float) -> PushView:
    """The push on each log-probability, ∂(A M_p) / ∂d_t = A M_p W_t.

    >>> [round(push, 3) for push in view_pushes([0.5, 1.0, 1.5], -1.0, 1.0).pushes]
    [0.446, 0.223, 0.149]
    """
    log_ratios = log_of(ratios)
    pushes = advantage * log_power_mean(log_ratios, p).exp() * power_mean_weights(log_ratios, p)
    return PushView(tuple(ratios), p, advantage, tuple(pushes.tolist()))


def push_verdict(view: PushView) -> str:
    """Whether a small step draws the ratios together: the variance of the d_t changes by 2 Cov(d, push) a step.

    >>> push_verdict(view_pushes([0.5, 1.0, 1.5], -1.0, 1.0))
    'the ratios are drawn together'
    """
    d, push = log_of(view.ratios), torch.tensor(view.pushes, dtype=torch.float64)
    change = ((d - d.mean()) * (push - push.mean())).mean().item()
    if abs(change) < 1e-12:
        return "the ratios keep their distance"
    return "the ratios are drawn together" if change < 0 else "the ratios are driven apart"


def push_caption(view: PushView) -> str:
    """Each push, their total, and what a step does."""
    pushes = ", ".join(f"{signed(push)} on {ratio:g}" for ratio, push in zip(view.ratios, view.pushes, strict=True))
    sign = "A = +1" if view.advantage > 0 else "A = −1"
    return f"{p_label(view.p)}, {sign}: {pushes}; in all {signed(view.total)}; {push_verdict(view)}."


def push_explorer(ratios: Sequence[float], *, p: float = -1.0) -> Panel[PushView]:
    """Arrows on the tokens' ratios for a chosen p and sign of the advantage, and all of them as one bar."""
    log_of(ratios)
    canvas = Canvas(760, 300)
    axes = canvas.mosaic([["arrows", "total"]], width_ratios=(3.4, 1))
    low, high = math.log(min(ratios)), math.log(max(ratios))
    step = ARROWS * max(high - low, 0.1) / max(ratios)  # at p = ∞ the whole mean pushes the largest ratio
    longest = [
        step * max(pushes) for pushes in zip(*(view_pushes(ratios, q, 1.0).pushes for q in EXPONENTS), strict=True)
    ]
    starts = [math.log(ratio) for ratio in ratios]
    left = min(start - arrow for start, arrow in zip(starts, longest, strict=True))
    right = max(start + arrow for start, arrow in zip(starts, longest, strict=True))
    margin = 0.06 * (right - left)
    arrows, total = axes["arrows"], axes["total"]
    rows = range(len(ratios), 0, -1)
    tidy_axes(arrows, title="The push on each token", xlabel="the token's ratio", grid=False)
    arrows.set(xlim=(left - margin, right + margin), ylim=(0.3, len(ratios) + 0.7), yticks=[])
    arrows.spines["left"].set_visible(False)
    ticks = round_numbers(math.exp(left), math.exp(right))
    label_ticks(arrows, [math.log(tick) for tick in ticks], [f"{tick:g}" for tick in ticks], axis="x")
    arrows.axvline(0, color=GREY, linewidth=1, linestyle=":")
    arrows.plot(starts, rows, "o", color="white", markeredgecolor=BLACK, markersize=9)
    zeros = [0.0] * len(ratios)
    quiver = canvas.animate(
        arrows.quiver(starts, rows, zeros, zeros, angles="xy", scale_units="xy", scale=1, width=0.008, zorder=3)
    )
    place: dict[str, Any] = {"fontsize": 9, "ha": "center", "va": "bottom"}
    labels = [
        canvas.animate(arrows.text(start, row + 0.22, "", **place)) for start, row in zip(starts, rows, strict=True)
    ]
    verdict = canvas.animate(arrows.set_title("", loc="right", fontsize=11, fontweight="bold"))

    limit = 1.3 * max(ratios)
    tidy_axes(total, title="All pushes", xlim=(-0.8, 0.8), ylim=(-limit, limit))
    total.grid(visible=False, axis="x")
    total.set_xticks([])
    total.axhline(0, color=GREY, linewidth=1)
    parts = [canvas.animate(bar) for bar in total.bar(zeros, zeros, width=0.8, edgecolor="white", linewidth=1.5)]
    sum_label = canvas.animate(total.text(0, 0, "", ha="center", fontsize=11, fontweight="bold"))

    def draw(view: PushView) -> None:
        colour = exponent_colour(view.p)
        quiver.set_UVC([step * push for push in view.pushes], zeros)
        quiver.set_color(colour)
        foot = 0.0
        for label, part, push in zip(labels, parts, view.pushes, strict=True):
            label.set(text=signed(push), color=colour)
            part.set(y=foot, height=push, facecolor=colour)
            foot += push
        up = view.total > 0
        sum_label.set(text=signed(view.total), y=view.total, va="bottom" if up else "top", color=colour)
        verdict.set_text(push_verdict(view))

    sign = widgets.ToggleButtons(options=[("advantage A = +1", 1.0), ("advantage A = −1", -1.0)], value=1.0)
    return Panel(
        {"p": p_slider(value=p), "advantage": sign},
        lambda p, advantage: view_pushes(ratios, p, advantage),
        canvas,
        draw=draw,
        caption=push_caption,
        alt=lambda view: (
            f"An arrow from each token's ratio, as long as its push, and all pushes stacked. {push_caption(view)}"
        ),
    )
