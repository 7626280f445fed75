"""A panel on completions of independent tokens: how wide their ratios spread with length.

Each token's log-ratio is drawn from a normal distribution by itself; the same draws for every setting.
"""

from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import torch

from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import GREY, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.shared.ratio_styles import RATIO_STYLES, number
from hmpo_lib.teach.shared.simulated_ratios import KINDS, LENGTHS, length_slider, simulate


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
    """The two plots in words."""
    return (
        f"Left, over the number of tokens, product and geometric mean of token ratios around {view.ratio:g}. "
        f"{length_caption(view)} Right, the spread of their logarithms, which is {view.spread:g} for one token: at "
        f"{view.length} tokens {view.widths['product'][LENGTHS.index(view.length)]:.3g} for the product and "
        f"{view.widths['geometric'][LENGTHS.index(view.length)]:.3g} for the geometric mean."
    )


def length_explorer(*, ratio: float = 1.02, spread: float = 0.0) -> Panel[SpreadView]:
    """Product and geometric mean over the length, for a chosen token ratio and spread around it."""
    canvas = Canvas(760, 340)
    places = canvas.mosaic([["ratio", "spread"]])
    left, right = places["ratio"], places["spread"]
    limit = 1e6
    tidy_axes(left, title="Ratio of the completion", xlabel="tokens", xlim=(0, 405), ylim=(1 / limit, limit))
    left.set_yscale("log")
    label_ticks(left, [1e-6, 1e-3, 1, 1e3, 1e6], ["1e-6", "0.001", "1", "1000", "1e6"])
    tidy_axes(right, title="Spread of its logarithm", xlabel="tokens", xlim=(1, 400), ylim=(1e-3, 10))
    right.set(xscale="log", yscale="log")
    label_ticks(right, [0.001, 0.01, 0.1, 1, 10])
    label_ticks(right, [1, 4, 20, 100, 400], axis="x")
    bands, curves, widths = {}, {}, {}
    for kind in KINDS:
        style = RATIO_STYLES[kind]
        look: dict[str, Any] = {"color": style.colour, "linestyle": style.linestyle, "linewidth": 2}
        bands[kind] = canvas.animate(left.fill_between(LENGTHS, 1.0, 1.0, color=style.colour, alpha=0.2, linewidth=0))
        curves[kind] = canvas.animate(left.plot([], [], label=kind, **look)[0])
        widths[kind] = canvas.animate(right.plot([], [], label=kind, **look)[0])
    here = [canvas.animate(axes.axvline(1.0, color=GREY, linewidth=1)) for axes in (left, right)]
    alike = canvas.animate(right.text(20, 0.1, "", ha="center", fontsize=10, color=GREY))
    next(iter(bands.values())).set_label("95 % of them")
    left.legend(loc="upper left", fontsize=9, handlelength=3.5, frameon=False)

    def draw(view: SpreadView) -> None:
        for kind in KINDS:
            low, middle, high = view.bands[kind]
            bands[kind].set_data(LENGTHS, low, high)
            curves[kind].set_data(LENGTHS, middle)
            widths[kind].set_data(LENGTHS, view.widths[kind])
        alike.set_text("all completions alike: no spread" if view.spread == 0 else "")
        for line in here:
            line.set_xdata([view.length, view.length])

    return Panel(
        {
            "ratio": slider(widgets.FloatSlider, "token ratio", value=ratio, min=0.95, max=1.05, step=0.01),
            "spread": slider(widgets.FloatSlider, "spread of its logarithm", value=spread, min=0.0, max=0.3, step=0.02),
            "length": length_slider(),
        },
        view_length,
        canvas,
        draw=draw,
        caption=length_caption,
        alt=length_alt,
        book={"ratio": (0.98, 1.0, 1.02), "spread": (0.0, 0.04, 0.1, 0.2)},
    )
