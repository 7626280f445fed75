"""Three pictures of one power mean, to be combined in panels: the number line, the curve of M_p, the weights.

Each `draw_...` draws what stands still on the axes it is given and returns a function that moves the rest.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hmpo_lib.means import log_power_mean, power_mean_weights
from hmpo_lib.teach.plotting import (
    BLACK,
    GREY,
    MEAN_STYLES,
    Canvas,
    exponent_colour,
    label_ticks,
    round_numbers,
    tidy_axes,
)

NAMED = [MEAN_STYLES[name] for name in ("harmonic", "geometric", "arithmetic")]
LARGEST_P = 5.0  # the ends of the sliders and of the curve, before ±∞
INFINITY_AT = 6.25  # where the curve's axis shows p = ±∞


@dataclass(frozen=True)
class PowerMeanView:
    """What one position of the p slider shows: the ratios, their mean M_p and each ratio's escort weight."""

    ratios: tuple[float, ...]
    p: float
    mean: float
    weights: tuple[float, ...]


def log_of(ratios: Sequence[float]) -> torch.Tensor:
    """The ratios' logarithms; refuses what has none."""
    if len(ratios) < 2 or not all(0 < ratio < math.inf for ratio in ratios):
        raise ValueError(f"ratios = {list(ratios)}: give at least two positive, finite numbers")
    return torch.tensor(ratios, dtype=torch.float64).log()


def view_power_mean(ratios: Sequence[float], p: float) -> PowerMeanView:
    """The mean M_p of positive ratios, and the shares W that it gives them.

    >>> view_power_mean([0.5, 1.0, 1.5], -1.0).weights  # (6, 3, 2) / 11
    (0.545..., 0.272..., 0.181...)
    """
    log_ratios = log_of(ratios)
    mean = log_power_mean(log_ratios, p).exp().item()
    return PowerMeanView(tuple(ratios), p, mean, tuple(power_mean_weights(log_ratios, p).tolist()))


# Shows another position of the slider on what has been drawn.
Move = Callable[[PowerMeanView], None]


def draw_number_line(canvas: Canvas, axes: Any, ratios: Sequence[float], *, title: str, xlabel: str = "") -> Move:
    """Ratios as discs on a line from 0, equal ones stacked, and the mean as a line in its exponent's colour."""
    right = 1.08 * max(ratios)
    tidy_axes(axes, title=title, xlabel=xlabel, xlim=(0, right), ylim=(-1.3, 3.9), grid=False)
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    most = max(Counter(ratios).values())
    heights = [list(ratios)[:k].count(ratio) * min(0.9, 2.7 / most) for k, ratio in enumerate(ratios)]
    axes.scatter(ratios, heights, s=75, color=GREY, edgecolors="white", linewidths=1, clip_on=False, zorder=3)
    line = canvas.animate(axes.axvline(1.0, linewidth=2.5))
    label = canvas.animate(axes.annotate("", (0, 3.8), (0, 0), textcoords="offset points", va="top"))
    label.set(fontsize=11, fontweight="bold")

    def move(view: PowerMeanView) -> None:
        line.set_xdata([view.mean, view.mean])
        label.set_text(f"mean {view.mean:.3f}")
        label.xy = (view.mean, 3.8)
        for artist in (line, label):
            artist.set_color(exponent_colour(view.p))
        on_the_left = view.mean < 0.84 * right
        label.set(x=7 if on_the_left else -7, horizontalalignment="left" if on_the_left else "right")

    return move


def draw_curve(canvas: Canvas, axes: Any, ratios: Sequence[float]) -> Move:
    """M_p over p on a logarithmic scale, with H, G and A marked, the limits at both ends, and a marker that moves."""
    low, high = _padded(ratios)
    exponents = [LARGEST_P * k / 100 for k in range(-100, 101)]
    means = [view_power_mean(ratios, p).mean for p in exponents]
    edge = INFINITY_AT + 0.4
    tidy_axes(axes, title="The mean rises with p", xlabel="exponent p", xlim=(-edge, edge), ylim=(low, high))
    axes.set_ylabel("mean $M_p$", fontsize=10)
    axes.set_yscale("log")
    label_ticks(axes, round_numbers(low, high))
    label_ticks(axes, [-INFINITY_AT, -4, -2, 0, 2, 4, INFINITY_AT], ["−∞", "−4", "−2", "0", "2", "4", "+∞"], axis="x")
    axes.plot(exponents, means, color=BLACK, linewidth=1.5)
    for sign, end, limit in ((-1, means[0], min(ratios)), (1, means[-1], max(ratios))):
        axes.plot([sign * LARGEST_P, sign * INFINITY_AT], [end, limit], color=GREY, linestyle=":")
    for style in NAMED:
        mean = view_power_mean(ratios, style.p).mean
        axes.plot(style.p, mean, style.marker, color=style.colour, markersize=7)
        place = {"textcoords": "offset points", "color": style.colour, "fontsize": 9}
        axes.annotate(f"{style.name} $M_{{{style.p:g}}}$", (style.p, mean), (9, -7), va="top", **place)
    marker = canvas.animate(axes.plot([], [], "o", markeredgecolor=BLACK, markersize=11)[0])

    def move(view: PowerMeanView) -> None:
        marker.set_data([max(-INFINITY_AT, min(INFINITY_AT, view.p))], [view.mean])
        marker.set_color(exponent_colour(view.p))

    return move


def draw_weights(canvas: Canvas, axes: Any, ratios: Sequence[float]) -> Move:
    """One bar for each ratio's escort weight, with the line of equal weights."""
    n = len(ratios)
    tidy_axes(axes, title="The share $W$ of each ratio", xlabel="ratio")
    axes.set(xlim=(-0.6, n - 0.4), ylim=(0, 1.1))
    axes.grid(visible=False, axis="x")
    label_ticks(axes, range(n), [f"{ratio:g}" for ratio in ratios], axis="x")
    bars = [canvas.animate(bar) for bar in axes.bar(range(n), [0.0] * n, width=0.7)]
    canvas.animate(axes.axhline(1 / n, color=BLACK, linewidth=1, linestyle="--"))
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    labels = [canvas.animate(axes.text(k, 0, "", ha="center", va="bottom", fontsize=9, bbox=box)) for k in range(n)]

    def move(view: PowerMeanView) -> None:
        for bar, label, weight in zip(bars, labels, view.weights, strict=True):
            bar.set(height=weight, color=exponent_colour(view.p))
            label.set_text(f"{weight:.2f}")
            label.set_y(weight + 0.012)

    return move


def _padded(ratios: Sequence[float]) -> tuple[float, float]:
    """Limits for a logarithmic axis, with a margin; wide enough where all ratios are equal."""
    low, high = math.log(min(ratios)), math.log(max(ratios))
    margin = max(0.08 * (high - low), 0.1)
    return math.exp(low - margin), math.exp(high + margin)
