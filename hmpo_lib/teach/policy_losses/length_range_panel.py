"""What a range that is fixed does to answers of other lengths: a calculation, with a slider for the range."""

import math
from dataclasses import dataclass

import ipywidgets as widgets
import torch

from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import BLACK, GREY, ORANGE, PALE_GREY, PURPLE, SKY_BLUE, Canvas, label_ticks, tidy_axes

SPREAD = 0.05  # of a token's log-ratio
LENGTHS = (4, 16, 64, 256)
CURVE = [2 ** (k / 8) for k in range(8, 81)]
COLOURS = (SKY_BLUE, PURPLE, ORANGE, BLACK)  # of the lengths; blue, green and vermillion are the exponents'


@dataclass(frozen=True)
class RangeView:
    """The share of answers outside ±width percent, for each of the lengths and over all of them."""

    width: float
    shares: tuple[float, ...]
    curve: tuple[float, ...]


def outside(n: float, *, spread: float = SPREAD, width: float = 0.01) -> float:
    """The share of answers of n independent tokens whose log geometric mean is beyond ±width: 2 (1 − Φ(width √n / sd)).

    >>> [round(outside(n), 3) for n in (4, 16, 64, 256)]
    [0.689, 0.424, 0.11, 0.001]
    """
    return math.erfc(width * n**0.5 / spread / 2**0.5)


def view_range(width: float) -> RangeView:
    """The shares for one width, in percent."""
    of_lengths, of_all = (tuple(outside(n, width=width / 100) for n in lengths) for lengths in (LENGTHS, CURVE))
    return RangeView(width, of_lengths, of_all)


def number_of(share: float) -> str:
    """Two digits, or a third where two would be 0."""
    return f"{share:.2f}" if share > 0.005 else f"{share:.3f}"


def range_caption(view: RangeView) -> str:
    """The four shares in words."""
    return (
        f"Outside ±{view.width:g} % are, of answers of {', '.join(map(str, LENGTHS))} tokens: "
        f"{', '.join(map(number_of, view.shares))}. The longer an answer, the narrower its mean."
    )


def range_by_length() -> Panel[RangeView]:
    """Where the geometric means of answers of four lengths lie, and what share of them a fixed range leaves outside."""
    canvas = Canvas(760, 320)
    axes = canvas.mosaic([["means", "shares"]], width_ratios=(1.25, 1))
    left, right = axes["means"], axes["shares"]
    tidy_axes(
        left,
        title="The geometric mean of an answer",
        xlabel="its distance from 1; bells of one height",
        xlim=(-0.08, 0.08),
        grid=False,
    )
    left.set(ylim=(0, 1.14), yticks=[])
    left.spines["left"].set_visible(False)
    label_ticks(left, [-0.05, 0, 0.05], ["−5 %", "0", "+5 %"], axis="x")
    band = canvas.animate(left.axvspan(-0.01, 0.01, color=PALE_GREY, linewidth=0))
    grid = torch.linspace(-0.08, 0.08, 401, dtype=torch.float64)
    names = {4: ("4 tokens", 0.042, 0.4), 16: ("16", 0.02, 0.34), 64: ("64", 0.0105, 0.26), 256: ("256", 0.0, 1.03)}
    for n, colour in zip(LENGTHS, COLOURS, strict=True):
        bell = (-((grid * n**0.5 / SPREAD) ** 2) / 2).exp()  # all of one height, so that the widths are compared
        canvas.animate(left.plot(grid, bell, color=colour, linewidth=2)[0])
        text, x, y = names[n]
        canvas.animate(left.text(x, y, text, color=colour, fontweight="bold", ha="center" if n == 256 else "left"))
    tidy_axes(right, title="Share outside the grey range", xlabel="tokens", xlim=(1.8, 1200), ylim=(0, 1.04))
    right.set_xscale("log", base=2)
    label_ticks(right, [2, *LENGTHS, 1024], axis="x")
    label_ticks(right, [0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    curve = canvas.animate(right.plot([], [], color=GREY, linewidth=1.5)[0])
    dots, labels = [], []
    for n, colour in zip(LENGTHS, COLOURS, strict=True):
        dots.append(canvas.animate(right.plot([n], [0], "o", color=colour, markersize=9)[0]))
        labels.append(canvas.animate(right.annotate("", (n, 0), (9, 4), textcoords="offset points", fontsize=9)))

    def draw(view: RangeView) -> None:
        half = view.width / 100
        band.set(x=-half, width=2 * half)
        curve.set_data(CURVE, view.curve)
        for dot, label, n, share in zip(dots, labels, LENGTHS, view.shares, strict=True):
            dot.set_ydata([share])
            label.xy = (n, share)
            label.set_text(number_of(share))

    return Panel(
        {"width": slider(widgets.FloatSlider, "range: ± percent", value=1.0, min=0.25, max=5.0, step=0.25)},
        view_range,
        canvas,
        draw=draw,
        caption=range_caption,
        alt="Four bell curves, narrower for longer answers, over a grey range; beside them the share outside it, which "
        "falls with the length.",
    )
