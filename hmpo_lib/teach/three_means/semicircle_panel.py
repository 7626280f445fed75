"""The three means of two numbers as three lengths in a semicircle: a picture that proves their order."""

import math
from dataclasses import dataclass

import ipywidgets as widgets

from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import BLACK, GREY, MEAN_STYLES, Canvas, tidy_axes


@dataclass(frozen=True)
class SemicircleView:
    """Two numbers that sum to 2, and their means."""

    a: float
    b: float
    arithmetic: float
    geometric: float
    harmonic: float

    @property
    def projection(self) -> tuple[float, float]:
        """Where the foot of the height, projected onto the radius to its top, falls; the radius's start is (0, 0)."""
        x, y = self.a - 1, self.geometric
        return x * (1 - self.harmonic), y * (1 - self.harmonic)


def view_semicircle(a: float) -> SemicircleView:
    """The means of a and 2 − a.

    >>> view_semicircle(0.4)
    SemicircleView(a=0.4, b=1.6, arithmetic=1.0, geometric=0.8, harmonic=0.64...)
    """
    b = 2 - a
    return SemicircleView(a, b, (a + b) / 2, math.sqrt(a * b), 2 * a * b / (a + b))


def semicircle_caption(view: SemicircleView) -> str:
    """The numbers and their means."""
    return (
        f"Of {view.a:.2f} and {view.b:.2f}, whose sum stays 2: arithmetic {view.arithmetic:.3f}, "
        f"geometric {view.geometric:.3f}, harmonic {view.harmonic:.3f}."
    )


def semicircle(a: float = 0.4) -> Panel[SemicircleView]:
    """A slider for the first of two numbers that sum to 2; their means as radius, height and shadow."""
    canvas = Canvas(760, 320)
    places = canvas.mosaic([["circle", "lengths"]], width_ratios=(1.75, 1))
    axes, lengths = places["circle"], places["lengths"]
    axes.set(xlim=(-1.08, 1.08), ylim=(-0.2, 1.08), aspect="equal")
    axes.axis("off")
    arc = [math.pi * k / 120 for k in range(121)]
    axes.plot([math.cos(t) for t in arc], [math.sin(t) for t in arc], color=GREY, linewidth=1)
    axes.plot(0, 0, "o", color=BLACK, markersize=4)
    numbers = [
        canvas.animate(axes.plot([], [], color=colour, linewidth=5, solid_capstyle="butt")[0])
        for colour in (BLACK, GREY)
    ]
    names = [canvas.animate(axes.text(0, -0.14, "", ha="center", fontsize=11)) for _ in numbers]
    styles = [MEAN_STYLES[name] for name in ("arithmetic", "geometric", "harmonic")]
    lines = [
        canvas.animate(axes.plot([], [], color=style.colour, linewidth=width)[0])
        for style, width in zip(styles, (2, 4, 5), strict=True)
    ]
    plumb = canvas.animate(axes.plot([], [], color=GREY, linewidth=1, linestyle=":")[0])
    tidy_axes(lengths, title="The three lengths, side by side", xlim=(0, 1.1), ylim=(-0.6, 2.9), grid=False)
    lengths.spines["left"].set_visible(False)
    lengths.set_yticks([])
    lengths.set_xticks([0, 0.5, 1])
    bars = [
        canvas.animate(lengths.barh(2 - k, 1.0, height=0.3, color=style.colour)[0]) for k, style in enumerate(styles)
    ]
    legend = [
        canvas.animate(lengths.text(0, 2.25 - k, "", color=style.colour, fontweight="bold"))
        for k, style in enumerate(styles)
    ]

    def draw(view: SemicircleView) -> None:
        x, top = view.a - 1, (view.a - 1, view.geometric)
        near = view.projection
        ends = [((0, 0), top), ((x, 0), top), (near, top)]
        for line, (start, end) in zip(lines, ends, strict=True):
            line.set_data(*zip(start, end, strict=True))
        plumb.set_data([x, near[0]], [0, near[1]])
        spans = [(-1, x), (x, 1)]
        for line, name, number, span in zip(numbers, names, (view.a, view.b), spans, strict=True):
            line.set_data(span, (0, 0))
            name.set(text=f"{number:.2f}", x=sum(span) / 2)
        words = ("radius", "height", "height's shadow")
        for bar, text, style, word in zip(bars, legend, styles, words, strict=True):
            length = getattr(view, style.name)
            bar.set_width(length)
            text.set_text(f"{style.name} {length:.3f}: the {word}")

    return Panel(
        {"a": slider(widgets.FloatSlider, "first number", value=a, min=0.05, max=1.95, step=0.05)},
        view_semicircle,
        canvas,
        draw=draw,
        caption=semicircle_caption,
        alt="A semicircle over a line of the two numbers' lengths. The radius to the point above the place where they "
        "meet is the arithmetic mean, that point's height the geometric mean, the height's shadow on the radius the "
        "harmonic mean; beside it the three as bars.",
    )
