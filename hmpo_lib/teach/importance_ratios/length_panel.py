"""A panel on completions of independent tokens: how wide their ratios spread with length.

Each token's log-ratio is drawn from a normal distribution by itself; the same draws for every setting.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import torch

from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import GREY, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.shared.ratio_styles import RATIO_STYLES, number
from hmpo_lib.teach.shared.simulated_ratios import KINDS, LENGTHS, length_slider, simulate

LIMIT = 1e6  # the ends of the axis of ratios
NAMES = {"product": "product", "geometric": "geometric mean"}
LOOKS: dict[str, dict[str, Any]] = {
    kind: {"color": RATIO_STYLES[kind].colour, "linestyle": RATIO_STYLES[kind].linestyle, "linewidth": 2}
    for kind in KINDS
}


@dataclass(frozen=True)
class SpreadView:
    """One setting of the length panel; each inner tuple runs over LENGTHS.

    Attributes:
        bands: by kind of ratio, its 2.5 %, 50 % and 97.5 % quantiles over the completions.
        widths: by kind, the standard deviation of its logarithm.
    """

    ratio: float
    spread: float
    length: int
    bands: dict[str, tuple[tuple[float, ...], ...]]
    widths: dict[str, tuple[float, ...]]

    def at_length(self, kind: str) -> list[float]:
        """The three quantiles at the chosen length."""
        return [quantile[LENGTHS.index(self.length)] for quantile in self.bands[kind]]


def view_length(ratio: float, spread: float, length: int) -> SpreadView:
    """How product and geometric mean of simulated completions spread at each length.

    >>> view_length(1.02, 0.0, 200).at_length("product")[1]
    52.4...
    """
    levels = torch.tensor([0.025, 0.5, 0.975], dtype=torch.float64)
    logs = simulate(ratio, spread)
    bands = {kind: tuple(map(tuple, logs[kind].quantile(levels, dim=0).exp().tolist())) for kind in KINDS}
    widths = {kind: tuple(logs[kind].std(dim=0).tolist()) for kind in KINDS}
    return SpreadView(ratio, spread, length, bands, widths)


def length_caption(view: SpreadView) -> str:
    """Both ratios at the chosen length."""

    def said(kind: str) -> str:
        low, middle, high = map(number, view.at_length(kind))
        return middle if view.spread == 0 else f"{low} to {high}"

    many = "each" if view.spread == 0 else "95 % of the completions"
    return f"{view.length} tokens, {many}: product {said('product')}, geometric mean {said('geometric')}."


def length_alt(view: SpreadView) -> str:
    """The plots in words."""
    left = f"Over the number of tokens, product and geometric mean of token ratios around {view.ratio:g}."
    if view.spread == 0:
        return f"{left} {length_caption(view)}"
    return (
        f"Left: {left} {length_caption(view)} Right, the spread of their logarithms, which is {view.spread:g} for one "
        f"token: at {view.length} tokens {view.widths['product'][LENGTHS.index(view.length)]:.3g} for the product and "
        f"{view.widths['geometric'][LENGTHS.index(view.length)]:.3g} for the geometric mean."
    )


def _draw_ratios(canvas: Canvas, axes: Any) -> Callable[[SpreadView], None]:
    """Both ratios over the length, named at the ends of their curves, with bands that hold 95 % of the completions."""
    tidy_axes(axes, title="Ratio of the whole completion", xlabel="tokens", xlim=(0, 405), ylim=(1 / LIMIT, LIMIT))
    axes.set_yscale("log")
    label_ticks(axes, [1e-6, 1e-3, 1, 1e3, 1e6], ["1e-6", "0.001", "1", "1000", "1e6"])
    bands, curves, names = {}, {}, {}
    for kind, look in LOOKS.items():
        bands[kind] = canvas.animate(axes.fill_between(LENGTHS, 1.0, 1.0, color=look["color"], alpha=0.2, linewidth=0))
        curves[kind] = canvas.animate(axes.plot([], [], **look)[0])
        names[kind] = canvas.animate(axes.text(400, 1.0, NAMES[kind], ha="right", color=look["color"]))
    shaded = canvas.animate(axes.text(10, 2 / LIMIT, "", fontsize=9, color=GREY))
    here = canvas.animate(axes.axvline(1.0, color=GREY, linewidth=1))

    def move(view: SpreadView) -> None:
        for kind in KINDS:
            low, middle, high = view.bands[kind]
            bands[kind].set_data(LENGTHS, low, high)
            curves[kind].set_data(LENGTHS, middle)
        end = min(max(view.bands["product"][1][-1], 1 / LIMIT), LIMIT)
        inward = abs(math.log10(end)) > 4  # else its name would leave the axes
        above = {"product": (end >= 1) != inward, "geometric": end < 1}
        for kind, y in (("product", end), ("geometric", view.ratio)):
            off = 5.0 if kind == "product" and inward else 2.0
            names[kind].set(y=y * off if above[kind] else y / off, va="bottom" if above[kind] else "top")
        shaded.set_text("shaded: 95 % of the products" if view.spread else "")
        here.set_xdata([view.length, view.length])

    return move


def _draw_spreads(canvas: Canvas, axes: Any) -> Callable[[SpreadView], None]:
    """The standard deviations of both logarithms over the length."""
    tidy_axes(axes, title="Spread of its logarithm", xlabel="tokens", xlim=(1, 400), ylim=(1e-3, 10))
    axes.set(xscale="log", yscale="log")
    label_ticks(axes, [0.001, 0.01, 0.1, 1, 10])
    label_ticks(axes, [1, 4, 20, 100, 400], axis="x")
    at = LENGTHS.index(100)
    curves, names = {}, {}
    for kind, look in LOOKS.items():
        above = kind == "product"
        curves[kind] = canvas.animate(axes.plot([], [], **look)[0])
        names[kind] = canvas.animate(
            axes.annotate(
                f"{NAMES[kind]}: {'grows like √n' if above else 'shrinks like 1/√n'}",
                (100, 1.0),
                (0, 6 if above else -6),
                textcoords="offset points",
                ha="right",
                va="bottom" if above else "top",
                color=look["color"],
            )
        )
    here = canvas.animate(axes.axvline(1.0, color=GREY, linewidth=1))

    def move(view: SpreadView) -> None:
        for kind in KINDS:
            curves[kind].set_data(LENGTHS, view.widths[kind])
            names[kind].xy = (100, view.widths[kind][at])
        here.set_xdata([view.length, view.length])

    return move


def length_explorer(*, ratio: float = 1.02, spread: float | None = None) -> Panel[SpreadView]:
    """Product and geometric mean over the length, for a chosen token ratio; with a spread around it unless None."""
    canvas = Canvas(760, 340)
    places = canvas.mosaic([["ratio"] if spread is None else ["ratio", "spread"]])
    moves = [_draw_ratios(canvas, places["ratio"])]
    controls = {"ratio": slider(widgets.FloatSlider, "token ratio", value=ratio, min=0.95, max=1.05, step=0.01)}
    book: dict[str, tuple[float, ...]] = {"ratio": (0.98, 1.0, 1.02)}
    if spread is not None:
        moves.append(_draw_spreads(canvas, places["spread"]))
        controls["spread"] = slider(
            widgets.FloatSlider, "spread of its logarithm", value=spread, min=0.02, max=0.3, step=0.02
        )
        book["spread"] = (0.02, 0.06, 0.1, 0.2)
    controls["length"] = length_slider()

    def draw(view: SpreadView) -> None:
        for move in moves:
            move(view)

    return Panel(
        controls,
        lambda ratio, length, spread=0.0: view_length(ratio, spread, length),
        canvas,
        draw=draw,
        caption=length_caption,
        alt=length_alt,
        book=book,
    )
