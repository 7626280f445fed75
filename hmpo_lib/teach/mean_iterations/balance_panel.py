"""The panel for the claim that the geometric mean is the balance point of the arithmetic and the harmonic mean."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import ipywidgets as widgets

from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import BLACK, GREY, MEAN_STYLES, SKY_BLUE, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.shared.power_mean_drawings import view_power_mean

MEANS = ("harmonic", "geometric", "arithmetic")


@dataclass(frozen=True)
class BalanceView:
    """A few numbers, their three means, and √(A H), at which iterating A and H ends."""

    numbers: tuple[float, ...]
    harmonic: float
    geometric: float
    arithmetic: float
    meeting_point: float

    @property
    def miss(self) -> float:
        """How far the meeting point is above the geometric mean, as a share of it."""
        return self.meeting_point / self.geometric - 1


def view_balance(numbers: Sequence[float]) -> BalanceView:
    """The three means of positive numbers and √(A H).

    >>> view_balance([1.0, 1.0, 8.0]).meeting_point
    2.1693...
    """
    harmonic, geometric, arithmetic = (view_power_mean(numbers, MEAN_STYLES[name].p).mean for name in MEANS)
    return BalanceView(tuple(numbers), harmonic, geometric, arithmetic, math.sqrt(arithmetic * harmonic))


def balance_verdict(view: BalanceView) -> str:
    """Whether √(A H) is the geometric mean, and if not, on which side of it."""
    if abs(view.miss) < 1e-12:  # rounding; neighbours on the sliders that are no solution miss by more
        return "√(A H) is G"
    return f"√(A H) is {100 * abs(view.miss):.2g} % {'above' if view.miss > 0 else 'below'} G"


def balance_caption(view: BalanceView) -> str:
    """The means in numbers, and the verdict."""
    numbers = ", ".join(f"{number:g}" for number in view.numbers)
    return (
        f"Of {numbers}: H = {view.harmonic:.4f}, G = {view.geometric:.4f}, A = {view.arithmetic:.4f}. A and H iterate "
        f"to {view.meeting_point:.4f}; {balance_verdict(view)}."
    )


def balance_alt(view: BalanceView) -> str:
    """The line in words."""
    numbers = ", ".join(f"{number:g}" for number in view.numbers)
    return (
        f"A logarithmic line with the numbers {numbers}, their harmonic mean {view.harmonic:.4f}, geometric mean "
        f"{view.geometric:.4f} and arithmetic mean {view.arithmetic:.4f}. Half way from H to A a cross marks "
        f"{view.meeting_point:.4f}; {balance_verdict(view)}."
    )


def balance_explorer(first: float, second: float, third: float) -> Panel[BalanceView]:
    """Three numbers on sliders, or the first two of them alone: where do √(A H) and G coincide?"""
    canvas = Canvas(760, 210)
    axes = canvas.figure.add_axes((0.03, 0.14, 0.94, 0.54))
    tidy_axes(axes, xlim=(0.088, 11.4), ylim=(-0.6, 2.6))
    axes.set_xscale("log")
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    label_ticks(axes, [0.1, 0.2, 0.5, 1, 2, 5, 10], axis="x")
    axes.set_title("The numbers, and below them their means", loc="left", y=1.2, fontsize=10, fontweight="bold")
    discs = canvas.animate(axes.plot([], [], "o", color=SKY_BLUE, markeredgecolor=GREY, markersize=11)[0])
    jaw = canvas.animate(axes.plot([], [], color=GREY, linewidth=1)[0])
    marks = []
    for name in MEANS:
        style = MEAN_STYLES[name]
        label = f"{name[0].upper()}, {name}"
        marks.append(canvas.animate(axes.plot([], [], style.marker, color=style.colour, markersize=9, label=label)[0]))
    cross = canvas.animate(
        axes.plot([], [], "x", color=BLACK, markersize=11, markeredgewidth=2, label="√(A H), half way from H to A")[0]
    )
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 0.98), ncols=4, fontsize=9, frameon=False, borderpad=0)
    verdict = canvas.animate(axes.set_title("", loc="right", y=1.2, fontsize=12, fontweight="bold"))

    def draw(view: BalanceView) -> None:
        heights = [1.3 + 0.45 * view.numbers[:k].count(number) for k, number in enumerate(view.numbers)]
        discs.set_data(view.numbers, heights)
        jaw.set_data([view.harmonic, view.arithmetic], [0, 0])
        for mark, mean in zip(marks, (view.harmonic, view.geometric, view.arithmetic), strict=True):
            mark.set_data([mean], [0])
        cross.set_data([view.meeting_point], [0])
        verdict.set_text(balance_verdict(view))

    limits = {"min": 0.1, "max": 10.0, "step": 0.1}
    values = {"first": first, "second": second, "third": third}
    sliders = {name: slider(widgets.FloatSlider, name, value=value, **limits) for name, value in values.items()}
    count = widgets.ToggleButtons(options=[("two numbers", 2), ("three numbers", 3)], value=3)
    return Panel(
        {**sliders, "count": count},
        lambda first, second, third, count: view_balance((first, second, third)[:count]),
        canvas,
        draw=draw,
        caption=balance_caption,
        alt=balance_alt,
    )
