"""The panel of the pushes: their total is A M_p, their shares are W, and what they do flips with the sign of A."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import torch

from hmpo_lib.means import log_power_mean, power_mean_weights
from hmpo_lib.teach.panels import Panel, p_label, p_slider
from hmpo_lib.teach.plotting import (
    BLACK,
    GREEN,
    GREY,
    Canvas,
    exponent_colour,
    label_ticks,
    round_numbers,
    signed,
    tidy_axes,
)
from hmpo_lib.teach.shared.power_mean_drawings import log_of

# A step's size is such that the largest push moves its token by this share of the ratios' own range.
STEP = 0.4
PALE_GREEN = "#CDEBE2"
BOX = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}


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


# Shows another setting on what has been drawn.
Move = Callable[[PushView], None]


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


def push_explorer(ratios: Sequence[float], *, p: float = -1.0, advantage: float = 1.0) -> Panel[PushView]:
    """What one step does to the ratios, each token's push, and their sum, beside those of p = 0."""
    log_of(ratios)
    canvas = Canvas(760, 330)
    axes = canvas.mosaic([["step", "pushes", "total"]], width_ratios=(1.35, 1.3, 0.75))
    moves = [
        _draw_step(canvas, axes["step"], ratios),
        _draw_pushes(canvas, axes["pushes"], ratios),
        _draw_total(canvas, axes["total"], ratios),
    ]

    def draw(view: PushView) -> None:
        for move in moves:
            move(view)

    sign = widgets.ToggleButtons(options=[("advantage A = +1", 1.0), ("advantage A = −1", -1.0)], value=advantage)
    return Panel(
        {"p": p_slider(value=p), "advantage": sign},
        lambda p, advantage: view_pushes(ratios, p, advantage),
        canvas,
        draw=draw,
        caption=push_caption,
        alt="Where a step moves each ratio, on a logarithmic line; a bar for the push on each token, and all pushes in "
        "one bar, beside pale ones for p = 0.",
    )


def _draw_step(canvas: Canvas, axes: Any, ratios: Sequence[float]) -> Move:
    """The ratios now, in the upper row, and after a step, in the lower one; lines that close in say drawn together."""
    starts = [math.log(ratio) for ratio in ratios]
    low, high = min(starts), max(starts)
    longest = STEP * max(high - low, 0.1)
    margin = longest + 0.08 * max(high - low, 0.1)
    tidy_axes(axes, title="One step", xlabel="the tokens' ratios", grid=False)
    axes.set(xlim=(low - margin, high + margin), ylim=(-0.25, 1.3))
    ticks = round_numbers(math.exp(low - margin), math.exp(high + margin))
    ticks = ticks[1 :: -(-len(ticks) // 7)] if len(ticks) > 7 else ticks
    label_ticks(axes, [math.log(tick) for tick in ticks], [f"{tick:g}" for tick in ticks], axis="x")
    label_ticks(axes, [0, 1], ["after", "now"])
    axes.axvline(0, color=GREY, linewidth=1, linestyle=":")
    axes.plot(starts, [1.0] * len(starts), "o", color="white", markeredgecolor=BLACK, markersize=9, zorder=3)
    lines = [canvas.animate(axes.plot([], [], linewidth=1.8)[0]) for _ in starts]
    ends = canvas.animate(axes.plot([], [], "o", markersize=9)[0])
    verdict = canvas.animate(axes.text(0.5, 0.94, "", transform=axes.transAxes, ha="center", fontweight="bold"))

    def move(view: PushView) -> None:
        largest = max(map(abs, view.pushes))
        after = [start + longest * push / largest for start, push in zip(starts, view.pushes, strict=True)]
        for line, start, end in zip(lines, starts, after, strict=True):
            line.set(data=([start, end], [1, 0]), color=exponent_colour(view.p))
        ends.set(data=(after, [0] * len(after)), color=exponent_colour(view.p))
        verdict.set_text(push_verdict(view))

    return move


def _draw_pushes(canvas: Canvas, axes: Any, ratios: Sequence[float]) -> Move:
    """A bar for each token's push, beside its push at p = 0; what is longer than the axes says so by its number."""
    limit = _push_limit(ratios)
    n, size = len(ratios), 9 if len(ratios) <= 6 else 6
    _tidy_bars(axes, "Each push (pale: at p = 0)", limit)
    axes.set(xlabel="ratio", xlim=(-0.55, 1.22 * n - 0.35))
    label_ticks(axes, range(n), [f"{ratio:g}" for ratio in ratios], axis="x")
    zeros, equal = [0.0] * n, view_pushes(ratios, 0.0, 1.0).pushes[0]
    foot = canvas.animate(axes.axhline(0, color=GREY, linewidth=1))
    ghosts = axes.bar([k - 0.22 for k in range(n)], zeros, width=0.3, color=PALE_GREEN, edgecolor=GREEN)
    bars = axes.bar([k + 0.16 for k in range(n)], zeros, width=0.42)
    for bar in (*ghosts, *bars):
        canvas.animate(bar)
    labels = [canvas.animate(axes.text(k + 0.2, 0, "", ha="center", fontsize=size)) for k in range(n)]
    at_zero = canvas.animate(axes.text(n - 0.36, 0, "", color=GREEN, fontsize=9, va="center"))

    def move(view: PushView) -> None:
        sign, base = view.advantage, 0.0 if view.advantage > 0 else limit  # a bad answer's bars hang from the top
        foot.set_ydata([base, base])
        for ghost in ghosts:
            ghost.set(y=base, height=sign * equal)
        at_zero.set(text=f"p = 0:\n{signed(sign * equal)}", y=base + sign * equal)
        for bar, label, push in zip(bars, labels, view.pushes, strict=True):
            bar.set(y=base, height=push, facecolor=exponent_colour(view.p))
            label.set(
                text=signed(push), y=base + sign * min(abs(push), 0.92 * limit), va="bottom" if sign > 0 else "top"
            )
            label.set(color=exponent_colour(view.p), bbox=BOX)

    return move


def _push_limit(ratios: Sequence[float]) -> float:
    """Where the axis of single pushes ends: a little above the largest at p = −1, 0 and 1."""
    return 1.25 * max(push for p in (-1.0, 0.0, 1.0) for push in view_pushes(ratios, p, 1.0).pushes)


def _draw_total(canvas: Canvas, axes: Any, ratios: Sequence[float]) -> Move:
    """All pushes in one bar, a part for each token, beside their sum at p = 0."""
    limit, at_zero = 1.2 * max(ratios), view_pushes(ratios, 0.0, 1.0).total
    _tidy_bars(axes, f"All (bars ÷ {limit / _push_limit(ratios):.1f})", limit)
    axes.set(xlim=(-0.6, 0.6), xticks=[])
    foot = canvas.animate(axes.axhline(0, color=GREY, linewidth=1))
    ghost = canvas.animate(axes.bar([-0.3], [0.0], width=0.3, color=PALE_GREEN, edgecolor=GREEN)[0])
    ghost_label = canvas.animate(axes.text(-0.32, 0, "", color=GREEN, ha="center", fontsize=9))
    zeros = [0.0] * len(ratios)
    parts = [canvas.animate(bar) for bar in axes.bar([0.16] * len(ratios), zeros, width=0.5, edgecolor="white")]
    label = canvas.animate(axes.text(0.24, 0, "", ha="center", fontsize=10, fontweight="bold", bbox=BOX))

    def move(view: PushView) -> None:
        sign, top = view.advantage, 0.0 if view.advantage > 0 else limit
        foot.set_ydata([top, top])
        ghost.set(y=top, height=sign * at_zero)
        ghost_label.set(text=signed(sign * at_zero), y=top + sign * at_zero, va="bottom" if sign > 0 else "top")
        for part, push in zip(parts, view.pushes, strict=True):
            part.set(y=top, height=push, facecolor=exponent_colour(view.p))
            top += push
        label.set(text=signed(view.total), y=top, va="bottom" if sign > 0 else "top", color=exponent_colour(view.p))

    return move


def _tidy_bars(axes: Any, title: str, limit: float) -> None:
    """Axes for bars that say their numbers themselves."""
    tidy_axes(axes, title=title, ylim=(0, limit), grid=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_yticks([])
    axes.tick_params(axis="x", length=0)
