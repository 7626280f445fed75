"""The collection's ready-made panels. Each is made of plain functions: compute, draw, caption, alt text.

Data in, words and artists out: everything but the panel itself is tested without a browser.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.ticker import MaxNLocator

from hmpo_lib.means import log_power_mean, power_mean_weights
from hmpo_lib.teach.panels import Panel, p_label, p_slider
from hmpo_lib.teach.plotting import (
    BLACK,
    GREEN,
    GREY,
    MEAN_STYLES,
    ORANGE,
    SKY_BLUE,
    Canvas,
    label_ticks,
    tidy_axes,
)

# Six tokens of one answer: five have become a little more likely, or nearly stayed, and one much less likely. Chosen so
# that the arithmetic mean is above 1 and the harmonic and geometric means are below.
START_RATIOS = (0.3, 0.9, 1.1, 1.2, 1.3, 1.5)

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
    """The mean M_p of positive ratios, and the weights W with which it hears each of them.

    >>> view_power_mean([0.5, 1.0, 1.5], -1.0).weights  # (6, 3, 2) / 11
    (0.545..., 0.272..., 0.181...)
    """
    log_ratios = log_of(ratios)
    mean = log_power_mean(log_ratios, p).exp().item()
    return PowerMeanView(tuple(ratios), p, mean, tuple(power_mean_weights(log_ratios, p).tolist()))


def power_mean_caption(view: PowerMeanView) -> str:
    """The mean, and whom it hears most."""
    loudest = max(view.weights)
    heard = view.ratios[view.weights.index(loudest)]
    equal = max(view.weights) - min(view.weights) < 1e-9
    hears = "it hears all ratios alike" if equal else f"it hears {heard:g} most, with weight {loudest:.3f}"
    return f"{p_label(view.p)}: the mean is {view.mean:.3f}; {hears}."


def power_mean_alt(view: PowerMeanView) -> str:
    """The three plots in words."""
    weights = ", ".join(f"{ratio:g}: {weight:.3f}" for ratio, weight in zip(view.ratios, view.weights, strict=True))
    return (
        f"Ratios on a number line with their mean at {view.mean:.3f}; the curve of the mean over p, which rises from "
        f"{min(view.ratios):g} to {max(view.ratios):g}, marked at {p_label(view.p)}; bars of the weights: {weights}."
    )


def start_verdict(view: PowerMeanView) -> str:
    """Whether the answer counts as more or less likely than before, by this mean."""
    if abs(view.mean - 1) < 5e-4:
        return "as likely as before"
    return "more likely than before" if view.mean > 1 else "less likely than before"


def start_caption(view: PowerMeanView) -> str:
    """The mean and its verdict."""
    return f"{p_label(view.p)}: the mean is {view.mean:.3f}, so the answer counts as {start_verdict(view)}."


def start_alt(view: PowerMeanView) -> str:
    """The number line in words."""
    ratios = ", ".join(f"{ratio:g}" for ratio in view.ratios)
    return f"Number line with the token ratios {ratios} and their mean at {view.mean:.3f}: {start_verdict(view)}."


def power_mean_explorer(ratios: Sequence[float], *, p: float = -1.0) -> Panel[PowerMeanView]:
    """One slider for p; the mean on the number line, the curve of M_p and the escort weights follow together."""
    log_of(ratios)
    canvas = Canvas(760, 440)
    figure = canvas.figure
    moves = [
        _draw_number_line(canvas, figure.add_axes((0.085, 0.7, 0.895, 0.22)), ratios, title="Ratios and their mean"),
        _draw_curve(canvas, figure.add_axes((0.085, 0.115, 0.49, 0.425)), ratios),
        _draw_weights(canvas, figure.add_axes((0.66, 0.115, 0.32, 0.425)), ratios),
    ]
    figure.text(0.98, 0.945, "ring: equal weight   disc: its weight", ha="right", fontsize=9, color=GREY)

    def draw(view: PowerMeanView) -> None:
        for move in moves:
            move(view)

    return Panel(
        {"p": p_slider(value=p, largest=LARGEST_P)},
        lambda p: view_power_mean(ratios, p),
        canvas,
        draw=draw,
        caption=power_mean_caption,
        alt=power_mean_alt,
    )


def start_panel(ratios: Sequence[float] = START_RATIOS) -> Panel[PowerMeanView]:
    """One slider, one verdict: which side of 1 the mean of the ratios falls on."""
    log_of(ratios)
    canvas = Canvas(760, 230)
    axes = canvas.figure.add_axes((0.03, 0.24, 0.94, 0.59))
    move_mean = _draw_number_line(
        canvas,
        axes,
        ratios,
        title=f"{len(ratios)} tokens of one answer",
        xlabel="ratio: the token's new probability over its old one",
    )
    axes.axvspan(*axes.get_xlim()[:1], 1, color=ORANGE, alpha=0.12, linewidth=0)
    axes.axvspan(1, axes.get_xlim()[1], color=GREEN, alpha=0.12, linewidth=0)
    verdict = canvas.animate(axes.set_title("", loc="right", fontsize=12, fontweight="bold"))

    def draw(view: PowerMeanView) -> None:
        move_mean(view)
        verdict.set_text(f"the answer: {start_verdict(view)}")

    return Panel(
        {"p": p_slider(value=1.0, largest=LARGEST_P)},
        lambda p: view_power_mean(ratios, p),
        canvas,
        draw=draw,
        caption=start_caption,
        alt=start_alt,
    )


Move = Callable[[PowerMeanView], None]


def _draw_number_line(canvas: Canvas, axes: Any, ratios: Sequence[float], *, title: str, xlabel: str = "") -> Move:
    """Ratios on a line from 0: a ring for an equal weight, a disc for its weight; equal ratios stand on each other."""
    right = 1.08 * max(ratios)
    tidy_axes(axes, title=title, xlabel=xlabel, xlim=(0, right), ylim=(-1.3, 3.9), grid=False)
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    most = max(Counter(ratios).values())
    heights = [list(ratios)[:k].count(ratio) * min(0.9, 2.7 / most) for k, ratio in enumerate(ratios)]
    ring = 60.0  # area in square points
    discs = canvas.animate(axes.scatter(ratios, heights, color=SKY_BLUE, linewidths=0, clip_on=False))
    canvas.animate(axes.scatter(ratios, heights, s=ring, facecolors="none", edgecolors=GREY, linewidths=1))
    line = canvas.animate(axes.axvline(1.0, color=BLACK, linewidth=2))
    label = canvas.animate(axes.annotate("", (0, 3.8), (0, 0), textcoords="offset points", va="top"))
    label.set(fontsize=11, fontweight="bold")

    def move(view: PowerMeanView) -> None:
        discs.set_sizes([ring * len(ratios) * weight for weight in view.weights])
        line.set_xdata([view.mean, view.mean])
        label.set_text(f"mean {view.mean:.3f}")
        label.xy = (view.mean, 3.8)
        on_the_left = view.mean < right / 2
        label.set(x=7 if on_the_left else -7, horizontalalignment="left" if on_the_left else "right")

    return move


def _draw_curve(canvas: Canvas, axes: Any, ratios: Sequence[float]) -> Move:
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
        axes.annotate(style.name[0].upper(), (style.p, mean), (6, -11), textcoords="offset points", color=style.colour)
    marker = canvas.animate(axes.plot([], [], "o", color=ORANGE, markeredgecolor=BLACK, markersize=11)[0])

    def move(view: PowerMeanView) -> None:
        marker.set_data([max(-INFINITY_AT, min(INFINITY_AT, view.p))], [view.mean])

    return move


def _draw_weights(canvas: Canvas, axes: Any, ratios: Sequence[float]) -> Move:
    """One bar for each ratio's escort weight, with the line of equal weights."""
    n = len(ratios)
    tidy_axes(axes, title="Whom the mean hears", xlabel="ratio", ylabel="weight $W$")
    axes.set(xlim=(-0.6, n - 0.4), ylim=(0, 1.1))
    axes.grid(visible=False, axis="x")
    label_ticks(axes, range(n), [f"{ratio:g}" for ratio in ratios], axis="x")
    bars = [canvas.animate(bar) for bar in axes.bar(range(n), [0.0] * n, width=0.7, color=SKY_BLUE)]
    canvas.animate(axes.axhline(1 / n, color=BLACK, linewidth=1, linestyle="--"))
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    labels = [canvas.animate(axes.text(k, 0, "", ha="center", va="bottom", fontsize=9, bbox=box)) for k in range(n)]

    def move(view: PowerMeanView) -> None:
        for bar, label, weight in zip(bars, labels, view.weights, strict=True):
            bar.set_height(weight)
            label.set_text(f"{weight:.2f}")
            label.set_y(weight + 0.012)

    return move


def _padded(ratios: Sequence[float]) -> tuple[float, float]:
    """Limits for a logarithmic axis, with a margin; wide enough where all ratios are equal."""
    low, high = math.log(min(ratios)), math.log(max(ratios))
    margin = max(0.08 * (high - low), 0.1)
    return math.exp(low - margin), math.exp(high + margin)


def round_numbers(low: float, high: float) -> list[float]:
    """Ticks for a logarithmic axis: the coarsest of 1, of 1-2-5, of all digits, of equal steps that gives four."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        ticks = [round(digit * 10.0**decade, 12) for decade in decades for digit in digits]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) >= 4:
            return inside
    steps = [round(float(tick), 12) for tick in MaxNLocator(5).tick_values(low, high)]
    return [tick for tick in steps if low <= tick <= high]
