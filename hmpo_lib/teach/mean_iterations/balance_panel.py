"""The panel for the claim that the geometric mean is the balance point of the arithmetic and the harmonic mean."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets

from hmpo_lib.teach.panels import FIGURE_SPACE, Panel, slider
from hmpo_lib.teach.plotting import BLACK, GREY, MEAN_STYLES, ORANGE, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.shared.power_mean_drawings import view_power_mean

# Many triples of these are log-symmetric: 1, 2, 4; 4, 10, 25; 9, 3, 1.
STOPS = (0.1, 0.125, 0.2, 0.25, 0.5, 1, 2, 3, 4, 5, 8, 9, 10, 16, 20, 25, 50, 64, 100)
SYMBOLS = {"harmonic": "M₋₁", "geometric": "M₀", "arithmetic": "M₁"}
MEETING = "√(M₁ M₋₁)"


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

    def place(self, mean: float) -> float:
        """Where a mean lies between the harmonic one, 0, and the arithmetic one, 1, on a logarithmic scale."""
        width = math.log(self.arithmetic / self.harmonic)
        return math.log(mean / self.harmonic) / width if width > 1e-9 else 0.5


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


def draw_means(canvas: Canvas, axes: Any) -> Callable[[BalanceView], None]:
    """The three means between the outer two, the place where those meet, and the distance from it to M₀."""
    tidy_axes(axes, title="Their means, from M₋₁ to M₁", xlim=(-0.12, 1.12), ylim=(-1.1, 1.1), grid=False)
    axes.spines["left"].set_visible(False)
    axes.set(xticks=[], yticks=[])
    axes.spines["bottom"].set_visible(False)
    axes.plot([0, 1], [0, 0], color=GREY, linewidth=1)
    miss = canvas.animate(axes.plot([], [], color=ORANGE, linewidth=7, solid_capstyle="butt", alpha=0.7)[0])
    marks = {}
    for name, symbol in SYMBOLS.items():
        style = MEAN_STYLES[name]
        mark = canvas.animate(axes.plot([], [], style.marker, color=style.colour, markersize=11)[0])
        side = 0.25 if name == "geometric" else -0.25
        align = "bottom" if side > 0 else "top"
        marks[name] = mark, canvas.animate(axes.text(0, side, "", ha="center", va=align, color=style.colour)), symbol
    cross = canvas.animate(axes.plot([], [], "x", color=BLACK, markersize=12, markeredgewidth=2.5)[0])
    label = canvas.animate(axes.text(0.5, -0.25, "", ha="center", va="top"))

    def move(view: BalanceView) -> None:
        for name, (mark, text, symbol) in marks.items():
            mean = getattr(view, name)
            mark.set_data([view.place(mean)], [0])
            text.set(text=f"{symbol} = {mean:.4g}", x=view.place(mean))
        cross.set_data([view.place(view.meeting_point)], [0])
        label.set_text(f"{MEETING} = {view.meeting_point:.4g}")
        miss.set_data([view.place(view.geometric), view.place(view.meeting_point)], [0, 0])

    return move


def balance_explorer(first: float, second: float, third: float) -> Panel[BalanceView]:
    """Three numbers on sliders, or the first two of them alone: where do √(M₁ M₋₁) and M₀ coincide?"""
    canvas = Canvas(760, 270)
    axes = canvas.mosaic([["numbers"], ["means"]], height_ratios=(1, 1.5))
    line = axes["numbers"]
    tidy_axes(line, title="The numbers", xlim=(0.088, 114), ylim=(-0.6, 2.6))
    line.set_xscale("log")
    line.spines["left"].set_visible(False)
    line.set_yticks([])
    label_ticks(line, [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100], axis="x")
    discs = canvas.animate(line.plot([], [], "o", color=GREY, markeredgecolor="white", markersize=11)[0])
    move_means = draw_means(canvas, axes["means"])
    verdict = canvas.animate(axes["means"].set_title("", loc="right", fontsize=12, fontweight="bold"))

    def draw(view: BalanceView) -> None:
        discs.set_data(view.numbers, [view.numbers[:k].count(number) for k, number in enumerate(view.numbers)])
        move_means(view)
        verdict.set_text(balance_verdict(view))

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
        alt=lambda view: (
            f"The numbers on a logarithmic line, and below them their three means. {balance_caption(view)}"
        ),
    )
