"""Drawing for panels: one look for every mean, and a canvas that redraws only what moves.

A canvas renders straight to PNG bytes with the Agg backend. It never touches pyplot, so a notebook's own plots and the
panels do not disturb each other, and it may be used from any thread (one at a time).
"""

import base64
import io
import itertools
import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from PIL import Image

# Okabe and Ito, "Color Universal Design" (2008): told apart with every common kind of colour blindness.
BLACK = "#000000"
ORANGE = "#E69F00"
SKY_BLUE = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILLION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#6B6B6B"
PALE_GREY = "#D9D9D9"

# The same hues as letters: W3C asks for a contrast of 4.5 to 1 with the ground (WCAG 2.2, 1.4.3), for lines of 3.
INKS = {
    ORANGE: "#9E6D00",
    SKY_BLUE: "#3C7DA3",
    GREEN: "#008762",
    YELLOW: "#7F7822",
    VERMILLION: "#C35600",
    PURPLE: "#A36085",
}

FONT_SIZE = 10.0  # points at 100 dots per inch: about 14 CSS pixels


class MeanStyle(NamedTuple):
    """How one named mean looks in every figure: never by colour alone."""

    name: str
    p: float
    colour: str
    linestyle: str
    marker: str


MEAN_STYLES = {
    style.name: style
    for style in (
        MeanStyle("min", -math.inf, GREY, ":", "<"),
        MeanStyle("harmonic", -1.0, BLUE, "-", "s"),
        MeanStyle("geometric", 0.0, GREEN, "--", "D"),
        MeanStyle("arithmetic", 1.0, VERMILLION, "-.", "^"),
        MeanStyle("max", math.inf, GREY, ":", ">"),
    )
}


def exponent_colour(p: float) -> str:
    """The colour of an exponent in all figures: blue below 0, green at 0, vermillion above.

    >>> exponent_colour(-2.0) == BLUE, exponent_colour(0.0) == GREEN, exponent_colour(0.5) == VERMILLION
    (True, True, True)
    """
    return GREEN if p == 0 else BLUE if p < 0 else VERMILLION


A = TypeVar("A", bound=Any)  # an Artist; matplotlib is not typed here


class Canvas:
    """A figure of fixed size whose moving parts are redrawn over a cached background.

    Everything static (axes, ticks, labels) is drawn once. Whatever moves is registered with `animate`, changed with its
    own setters (`set_data`, `set_height`, ...) and drawn over the background by `png`, in order of registration. Axis
    limits must be set before the first `png`; call `forget_background` if something static has to change.

    Args:
        width, height: size on the page, in CSS pixels.
        scale: image pixels per CSS pixel: sharp on dense screens, against the time to encode (at 2 half as much again).

    >>> canvas = Canvas(200, 100)
    >>> dot, = canvas.figure.subplots().plot([0.5], [0.5], "o")
    >>> canvas.animate(dot) is dot and canvas.png().startswith(b"\\x89PNG")
    True
    """

    def __init__(self, width: int, height: int, *, scale: float = 1.5) -> None:
        self.width = width
        self.height = height
        # 100 dots per inch at scale 1, so that one inch of the figure is 100 CSS pixels and a point always looks alike.
        self.figure: Any = Figure(figsize=(width / 100, height / 100), dpi=100 * scale, facecolor="white")
        self._agg: Any = FigureCanvasAgg(self.figure)
        self._background: Any = None
        self._animated: list[Artist] = []

    def mosaic(self, layout: Any, **options: Any) -> dict[str, Axes]:
        """Axes by name, as `Figure.subplot_mosaic` has them, placed so that titles and labels fit.

        >>> sorted(Canvas(200, 100).mosaic("ab"))
        ['a', 'b']
        """
        self.figure.set_layout_engine("constrained")
        return self.figure.subplot_mosaic(layout, **options)

    def animate(self, artist: A) -> A:
        """Register an artist as moving and return it."""
        artist.set_animated(True)
        self._animated.append(artist)
        return artist

    def forget_background(self) -> None:
        """Draw the static parts again at the next `png`."""
        self._background = None

    def png(self, *, moving: bool = True, small: bool = False) -> bytes:
        """Render to PNG.

        Args:
            moving: draw the animated artists too, not the background alone.
            small: a third of the bytes in four times the time: for a stored page, not for a slider.
        """
        if not small:
            self._render(moving)
            return quick_png(np.asarray(self._agg.buffer_rgba()))
        image = Image.fromarray(self.pixels(moving=moving))
        buffer = io.BytesIO()
        image.quantize(256, method=Image.Quantize.MEDIANCUT).save(buffer, format="PNG", optimize=True)
        return buffer.getvalue()

    def pixels(self, *, moving: bool = True) -> Any:
        """Render to `[height, width, 3]` bytes of RGB.

        >>> Canvas(20, 10, scale=1).pixels().shape
        (10, 20, 3)
        """
        self._render(moving)
        return np.asarray(self._agg.buffer_rgba())[..., :3].copy()

    def _render(self, moving: bool) -> None:
        if self._background is None:
            for letters in self.figure.findobj(Text):
                _darken(letters)
            self._agg.draw()
            self._background = self._agg.copy_from_bbox(self.figure.bbox)
        self._agg.restore_region(self._background)
        for artist in self._animated if moving else ():
            if isinstance(artist, Text):  # its colour may have moved, too
                _darken(artist)
            self.figure.draw_artist(artist)


def _darken(letters: Text) -> None:
    """Gives letters in a colour of the palette the ink of that hue."""
    colour = letters.get_color()
    if isinstance(colour, str):
        letters.set_color(INKS.get(colour.upper(), colour))


def quick_png(pixels: Any) -> bytes:
    """The PNG of `[height, width, 4]` bytes of RGBA, made for a slider that waits for it.

    Pillow tries every filter on every row. For plots that saves few bytes and takes as long as all the rest, so no row
    is filtered here.

    >>> quick_png(np.full((2, 3, 4), 255, np.uint8))[:4]
    b'\\x89PNG'
    """
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 4 * width), np.uint8)  # each row begins with the number of its filter: 0, none
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">2I5B", width, height, 8, 6, 0, 0, 0)  # 8 bits a channel, RGBA, no interlacing
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.data, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def data_url(png: bytes) -> str:
    """The PNG as a `data:` URL, to stand in an `<img src>`."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def tidy_axes(
    axes: Axes,
    *,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    xlim: tuple[float, float] | None = None,
    ylim: tuple[float, float] | None = None,
    grid: bool = True,
) -> None:
    """Give axes the collection's look: title on the left, two spines, a pale grid behind the data, fixed limits."""
    axes.set_title(title, loc="left", fontsize=FONT_SIZE, fontweight="bold")
    axes.set_xlabel(xlabel, fontsize=FONT_SIZE)
    axes.set_ylabel(ylabel, fontsize=FONT_SIZE)
    if xlim is not None:
        axes.set_xlim(*xlim)
    if ylim is not None:
        axes.set_ylim(*ylim)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(labelsize=FONT_SIZE - 1, color=GREY)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(color=PALE_GREY, linewidth=0.6)


def label_ticks(axes: Axes, ticks: Sequence[float], labels: Sequence[str] | None = None, *, axis: str = "y") -> None:
    """Put major ticks exactly here, with these labels (the numbers themselves by default), and no minor ones."""
    chosen = axes.xaxis if axis == "x" else axes.yaxis
    chosen.set_ticks(list(ticks), labels=list(labels) if labels is not None else [f"{tick:g}" for tick in ticks])
    chosen.set_ticks([], minor=True)


def apart(heights: Sequence[float], least: float) -> list[float]:
    """The heights moved so that no two are nearer than ``least``, in the same order.

    >>> apart([1.0, 0.5, 0.9], 0.25)
    [1.15, 0.5, 0.9]
    """
    moved = list(heights)
    order = sorted(range(len(heights)), key=lambda k: heights[k])
    for below, above in itertools.pairwise(order):
        moved[above] = max(moved[above], round(moved[below] + least, 6))
    return moved


def signed(value: float) -> str:
    """A push with its sign and three digits, and a minus sign as long as the plus.

    >>> signed(-0.125), signed(1e-9)
    ('−0.125', '0')
    """
    return "0" if abs(value) < 5e-4 else f"{value:+.3f}".replace("-", "−")  # so that a nan is seen


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
