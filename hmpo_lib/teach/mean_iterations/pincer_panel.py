"""The panel of the mean iterations: two numbers close in on each other, and their right digits double."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import mpmath  # type: ignore[import-untyped]
from matplotlib.axes import Axes

from hmpo_lib.iterations import MeanIteration, arithmetic_geometric_mean, arithmetic_harmonic_mean
from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import BLACK, GREY, MEAN_STYLES, Canvas, label_ticks, tidy_axes

ITERATIONS = {"harmonic": arithmetic_harmonic_mean, "geometric": arithmetic_geometric_mean}
STEPS = 7
LARGEST = 20.0  # the sliders' end; they start at 0.1 and move by 0.1

# Of its own, so that a cell's `mpmath.mp.dps` and the panel's thread leave each other alone. From neighbouring numbers
# on the sliders, 19.9 and 20, seven steps get 440 digits right.
DIGITS = mpmath.MPContext()
DIGITS.dps = 1000


@dataclass(frozen=True)
class PincerView:
    """Two numbers after each step, and how right the upper one is.

    Attributes:
        partner: the lower mean, "harmonic" or "geometric".
        upper, lower: the two numbers after 0, 1, ... steps.
        limit: the number they meet at.
        digits: −log₁₀ of (upper − limit) / (upper + limit) after each step: about the number of right digits.
    """

    partner: str
    upper: tuple[float, ...]
    lower: tuple[float, ...]
    limit: float
    digits: tuple[float, ...]


def view_pincer(a: float, b: float, partner: str = "harmonic", *, steps: int = STEPS) -> PincerView:
    """Iterate two means with 1,000 digits.

    >>> [round(digits, 2) for digits in view_pincer(4, 9, steps=3).digits]  # 0.2, then its squares
    [0.7, 1.4, 2.8, 5.59]
    """
    if partner not in ITERATIONS:
        raise ValueError(f"partner = {partner!r}: expected one of {', '.join(ITERATIONS)}.")
    start = DIGITS.mpf(max(a, b)), DIGITS.mpf(min(a, b))
    run: MeanIteration = ITERATIONS[partner](*start, max_steps=steps, tolerance=0)
    # Not the iteration's own value, so that the picture would show where it went wrong.
    limit = DIGITS.agm(*start) if partner == "geometric" else DIGITS.sqrt(start[0] * start[1])
    upper, lower = zip(*run.history, strict=True)
    gaps = [abs(x - limit) / (x + limit) for x in upper]
    digits = tuple(float(-DIGITS.log10(gap)) if gap else math.inf for gap in gaps)
    return PincerView(partner, tuple(map(float, upper)), tuple(map(float, lower)), float(limit), digits)


def pincer_caption(view: PincerView) -> str:
    """Where the two meet, and how many digits are right after each step."""
    if len(view.upper) == 1:
        return f"Both numbers are {view.limit:g}, and so is every mean of them."
    digits = ", ".join(f"{digits:.2g}" if digits < 10 else f"{digits:.0f}" for digits in view.digits)
    pair = f"{view.upper[0]:g} and {view.lower[0]:g}"
    return f"With the arithmetic and the {view.partner} mean, {pair} meet at {view.limit:.6g}. Right digits: {digits}."


def pincer_alt(view: PincerView) -> str:
    """The two plots in words."""
    pairs = "; ".join(f"{x:.5g} and {y:.5g}" for x, y in list(zip(view.upper, view.lower, strict=True))[:4])
    return (
        f"Two lines close in on each other: {pairs}. Beside them the right digits of each step. {pincer_caption(view)}"
    )


def pincer_explorer(a: float, b: float, *, partner: str = "harmonic") -> Panel[PincerView]:
    """Sliders for two start values; the two means close in, step by step, and the right digits double."""
    canvas = Canvas(760, 330)
    axes = canvas.mosaic([["jaws", "digits"]])
    move_jaws = draw_jaws(canvas, axes["jaws"])
    move_digits = draw_digits(canvas, axes["digits"])

    def draw(view: PincerView) -> None:
        move_jaws(view)
        move_digits(view)

    limits = {"min": 0.1, "max": LARGEST, "step": 0.1}
    partners = [("arithmetic and harmonic", "harmonic"), ("arithmetic and geometric", "geometric")]
    return Panel(
        {
            "a": slider(widgets.FloatSlider, "first number", value=a, **limits),
            "b": slider(widgets.FloatSlider, "second number", value=b, **limits),
            "partner": widgets.ToggleButtons(options=partners, value=partner, style={"button_width": "17em"}),
        },
        view_pincer,
        canvas,
        draw=draw,
        caption=pincer_caption,
        alt=pincer_alt,
        book={"a": (0.1, 1.0, 4.0, 9.0, LARGEST), "b": (0.1, 1.0, 4.0, 9.0, LARGEST)},
    )


def draw_jaws(canvas: Canvas, axes: Axes) -> Callable[[PincerView], None]:
    """Both numbers over the steps, logarithmically between the two they start from, and where they meet."""
    tidy_axes(axes, title="Closing in", xlabel="steps", xlim=(-0.5, STEPS + 0.3), ylim=(-0.14, 1.14))
    axes.set_ylabel("logarithmic scale", fontsize=10)
    axes.grid(visible=False, axis="y")
    label_ticks(axes, range(STEPS + 1), axis="x")
    axes.set_yticks([])
    limit = canvas.animate(axes.axhline(0.5, color=BLACK, linewidth=1))
    label = canvas.animate(axes.set_title("", loc="right", fontsize=10))
    lines, names = {}, {}
    for name in ("arithmetic", "harmonic", "geometric"):
        lines[name] = canvas.animate(axes.plot([], [], **look_of(name))[0])
    for name, height, align in (("upper", 0.9, "top"), ("lower", 0.1, "bottom")):
        place: dict[str, Any] = {"ha": "right", "va": align, "fontsize": 10, "fontweight": "bold"}
        names[name] = canvas.animate(axes.text(STEPS + 0.2, height, "", **place))
    values = [
        canvas.animate(axes.annotate("", (0, 0), (5, 6 * side), textcoords="offset points", fontsize=9, va=align))
        for side, align in ((1, "bottom"), (-1, "top"))
        for _ in range(STEPS + 1)
    ]

    def move(view: PincerView) -> None:
        high, low = view.upper[0], view.lower[0]

        def height(x: float) -> float:
            return 0.5 if high == low else math.log(x / low) / math.log(high / low)

        for name, line in lines.items():
            numbers = {"arithmetic": view.upper, view.partner: view.lower}.get(name, ())
            line.set_data(range(len(numbers)), [*map(height, numbers)])
        for name, mean in (("upper", "arithmetic"), ("lower", view.partner)):
            names[name].set(text=f"{mean} mean", color=MEAN_STYLES[mean].colour)
        for text in values:
            text.set_text("")
        for k, (x, y) in enumerate(zip(view.upper, view.lower, strict=True)):
            if height(x) - height(y) > 0.1:  # after that the two labels would be in one place
                for text, number in ((values[k], x), (values[STEPS + 1 + k], y)):
                    text.set_text(f"{number:.3g}")
                    text.xy = (k, height(number))
        limit.set_ydata([height(view.limit)] * 2)
        label.set_text(f"{high:g} and {low:g} meet at {view.limit:.6g}")

    return move


def draw_digits(canvas: Canvas, axes: Axes) -> Callable[[PincerView], None]:
    """The right digits of the upper number over the steps; each line of the grid is twice the one below."""
    tidy_axes(axes, title="Right digits", xlabel="steps", xlim=(-0.3, STEPS + 0.9), ylim=(0.04, 1400))
    axes.set_yscale("log", base=2)
    label_ticks(axes, [2.0**k for k in range(-4, 11)], [f"{2**k}" if k >= 0 else f"1/{2**-k}" for k in range(-4, 11)])
    label_ticks(axes, range(STEPS + 1), axis="x")
    axes.axhline(16, color=GREY, linestyle=":")
    axes.text(0, 17.5, "what a float holds", color=GREY, fontsize=9)
    line = canvas.animate(axes.plot([], [], **look_of("arithmetic"))[0])
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    place: dict[str, Any] = {"textcoords": "offset points", "fontsize": 9, "bbox": box}
    labels = [canvas.animate(axes.annotate("", (0, 1), (8, -10), **place)) for _ in range(STEPS + 1)]

    def move(view: PincerView) -> None:
        right = [digits for digits in view.digits if digits < math.inf]
        line.set_data(range(len(right)), right)
        for step, label in enumerate(labels):
            label.set_text("")
            if step < len(right):
                label.set_text(f"{right[step]:.2g}" if right[step] < 10 else f"{right[step]:.0f}")
                label.xy = (step, right[step])

    return move


def look_of(name: str) -> dict[str, Any]:
    """A mean's line and marker; the arithmetic mean's is larger, to be seen under the other where the two have met."""
    style = MEAN_STYLES[name]
    size = 9 if name == "arithmetic" else 5
    return {"color": style.colour, "linestyle": style.linestyle, "marker": style.marker, "markersize": size}
