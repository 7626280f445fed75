"""The panel for the claim that the geometric mean is the balance point of the arithmetic and the harmonic mean."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets

from hmpo_lib.teach.panels import FIGURE_SPACE, Panel, slider
from hmpo_lib.teach.plotting import BLACK, GREY, MEAN_STYLES, ORANGE, Canvas, tidy_axes
from hmpo_lib.teach.shared.power_mean_drawings import view_power_mean

# Many triples of these are log-symmetric: 1, 2, 4; 4, 10, 25; 9, 3, 1.
STOPS = (0.1, 0.125, 0.2, 0.25, 0.5, 1, 2, 3, 4, 5, 8, 9, 10, 16, 20, 25, 50, 64, 100)
SYMBOLS = {"harmonic": "M₋₁", "geometric": "M₀", "arithmetic": "M₁"}
MEETING = "√(M₁ M₋₁)"
NUMBERS_ROW = 2.0


@dataclass(frozen=True)
class BalanceView:
    """A few numbers, their three means, and √(M₁ M₋₁), at which iterating M₁ and M₋₁ ends."""

    numbers: tuple[float, ...]
    harmonic: float
    geometric: float
    arithmetic: float
    meeting_point: float

    @property
    def miss(self) -> float:
        """How far the meeting point is above the geometric mean, as a share of it."""
        return self.meeting_point / self.geometric - 1

    def place(self, x: float) -> float:
        """Where x lies between the smallest number, 0, and the largest, 1, on a logarithmic scale."""
        least, width = min(self.numbers), math.log(max(self.numbers) / min(self.numbers))
        return math.log(x / least) / width if width > 1e-9 else 0.5


def view_balance(numbers: Sequence[float]) -> BalanceView:
    """The three means of positive numbers and √(M₁ M₋₁).

    >>> view_balance([1.0, 1.0, 8.0]).meeting_point
    2.1693...
    """
    harmonic, geometric, arithmetic = (view_power_mean(numbers, MEAN_STYLES[name].p).mean for name in SYMBOLS)
    return BalanceView(tuple(numbers), harmonic, geometric, arithmetic, math.sqrt(arithmetic * harmonic))


def balance_verdict(view: BalanceView) -> str:
    """Whether the meeting point is the geometric mean, and if not, by how much and on which side."""
    if abs(view.miss) < 1e-12:  # rounding; neighbours on the sliders that are no solution miss by more
        return "they meet at M₀"
    percent = 100 * abs(view.miss)
    size = f"{percent:.0f}" if percent >= 10 else f"{percent:.2g}"
    return f"they meet {size} % {'above' if view.miss > 0 else 'below'} M₀"


def balance_caption(view: BalanceView) -> str:
    """The means in numbers, and the verdict."""
    numbers = ", ".join(f"{number:g}" for number in view.numbers)
    return (
        f"Of {numbers}: M₋₁ = {view.harmonic:.4f}, M₀ = {view.geometric:.4f}, M₁ = {view.arithmetic:.4f}. M₁ and M₋₁ "
        f"iterate to {view.meeting_point:.4f}: {balance_verdict(view)}."
    )


def draw_balance(canvas: Canvas, axes: Any) -> Callable[[BalanceView], None]:
    """The numbers, and under them on the same axis their means, where M₁ and M₋₁ meet, and its distance from M₀."""
    title = "Numbers and means on one logarithmic axis"
    tidy_axes(axes, title=title, xlim=(-0.13, 1.14), ylim=(-1.25, 3.6), grid=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set(xticks=[], yticks=[])
    axes.plot([0, 1], [NUMBERS_ROW - 0.45] * 2, color=GREY, linewidth=1)
    axes.plot([0, 1], [0, 0], color=GREY, linewidth=1)
    for edge in (0, 1):
        axes.plot([edge, edge], [0, NUMBERS_ROW - 0.45], color=GREY, linewidth=1, linestyle=":")
    discs = canvas.animate(axes.plot([], [], "o", color=GREY, markeredgecolor="white", markersize=12)[0])
    names = [canvas.animate(axes.text(0, 0, "", ha="left", va="center", fontsize=10)) for _ in range(3)]
    miss = canvas.animate(axes.plot([], [], color=ORANGE, linewidth=8, solid_capstyle="butt", alpha=0.7)[0])
    marks = {}
    # Each label in a place of its own, since the means may be close together.
    labels = {
        "harmonic": (-0.3, "right", "top"),
        "geometric": (0.3, "center", "bottom"),
        "arithmetic": (-0.3, "left", "top"),
    }
    for name, (side, align, vertical) in labels.items():
        style = MEAN_STYLES[name]
        mark = canvas.animate(axes.plot([], [], style.marker, color=style.colour, markersize=11)[0])
        text = canvas.animate(axes.text(0, side, "", ha=align, va=vertical, color=style.colour))
        marks[name] = mark, text
    cross = canvas.animate(axes.plot([], [], "x", color=BLACK, markersize=12, markeredgewidth=2.5)[0])
    label = canvas.animate(axes.text(0.5, -0.72, "", ha="center", va="top"))
    verdict = canvas.animate(axes.set_title("", loc="right", fontsize=12, fontweight="bold"))

    def move(view: BalanceView) -> None:
        heights = [NUMBERS_ROW + 0.62 * view.numbers[:k].count(x) for k, x in enumerate(view.numbers)]
        discs.set_data([view.place(x) for x in view.numbers], heights)
        for text in names:
            text.set_text("")
        for text, x, height in zip(names, view.numbers, heights, strict=False):
            text.set(text=f"{x:g}", x=view.place(x) + 0.016, y=height)
        for name, (mark, text) in marks.items():
            mean = getattr(view, name)
            mark.set_data([view.place(mean)], [0])
            text.set(text=f"{SYMBOLS[name]} = {mean:.4g}", x=view.place(mean))
        cross.set_data([view.place(view.meeting_point)], [0])
        label.set(text=f"{MEETING} = {view.meeting_point:.4g}", x=view.place(view.meeting_point))
        miss.set_data([view.place(view.geometric), view.place(view.meeting_point)], [0, 0])
        verdict.set_text(balance_verdict(view))

    return move


def balance_explorer(first: float, second: float, third: float) -> Panel[BalanceView]:
    """Three numbers on sliders, or the first two of them alone: where do √(M₁ M₋₁) and M₀ coincide?"""
    canvas = Canvas(760, 250)
    draw = draw_balance(canvas, canvas.mosaic("a")["a"])
    options = [(f"{stop:g}".rjust(5, FIGURE_SPACE), float(stop)) for stop in STOPS]
    values = {"first": first, "second": second, "third": third}
    sliders = {
        name: slider(widgets.SelectionSlider, name, options=options, value=value) for name, value in values.items()
    }
    count = widgets.ToggleButtons(options=[("two numbers", 2), ("three numbers", 3)], value=3)
    return Panel(
        {**sliders, "count": count},
        lambda first, second, third, count: view_balance((first, second, third)[:count]),
        canvas,
        draw=draw,
        caption=balance_caption,
        alt="The numbers on a logarithmic line, and below them, on the same one, their means.",
        book=dict.fromkeys(sliders, (1.0, 10.0, 100.0)),  # 1, 10 and 100 are balanced, 1, 1 and 100 are not
    )
