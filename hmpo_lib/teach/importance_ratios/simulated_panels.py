"""Two panels on completions of independent tokens: how wide their ratios spread with length, and how few weigh then.

Each token's log-ratio is drawn from a normal distribution by itself; the same draws for every setting.
"""

import functools
import math
from dataclasses import dataclass

import ipywidgets as widgets
import torch
from torch import Tensor

from hmpo_lib.ratios import effective_sample_size
from hmpo_lib.teach.importance_ratios.four_ratios_panel import RATIO_STYLES, number
from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import BLACK, GREY, Canvas, label_ticks, tidy_axes

COMPLETIONS = 1000
LENGTHS = (1, 2, 3, 5, 7, *range(10, 401, 10))
SEED = 0
HEAVIEST = 20  # weights that the panel of effective sample sizes shows one by one
KINDS = ("product", "geometric")


@functools.cache
def summed_noise() -> Tensor:
    """Sums of the first 1, 2, 3, ... standard normal draws of each completion, ``[COMPLETIONS, len(LENGTHS)]``."""
    generator = torch.Generator().manual_seed(SEED)
    draws = torch.randn(COMPLETIONS, LENGTHS[-1], generator=generator, dtype=torch.float64)
    return draws.cumsum(dim=1)[:, [length - 1 for length in LENGTHS]]


def simulate(ratio: float, spread: float) -> dict[str, Tensor]:
    """Logarithms of the product and the geometric mean of each completion's tokens, ``[COMPLETIONS, len(LENGTHS)]``.

    Args:
        ratio: the median of the tokens' ratios.
        spread: the standard deviation of the tokens' log-ratios.
    """
    lengths = torch.tensor(LENGTHS, dtype=torch.float64)
    product = math.log(ratio) * lengths + spread * summed_noise()
    return {"product": product, "geometric": product / lengths}


@dataclass(frozen=True)
class LengthView:
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


def view_length(ratio: float, spread: float, length: int) -> LengthView:
    """How product and geometric mean of simulated completions spread at each length.

    >>> view_length(1.02, 0.0, 200).at_length("product")[1]
    52.4...
    """
    levels = torch.tensor([0.025, 0.5, 0.975], dtype=torch.float64)
    logs = simulate(ratio, spread)
    bands = {kind: tuple(map(tuple, logs[kind].quantile(levels, dim=0).exp().tolist())) for kind in KINDS}
    widths = {kind: tuple(logs[kind].std(dim=0).tolist()) for kind in KINDS}
    return LengthView(ratio, spread, length, bands, widths)


def length_caption(view: LengthView) -> str:
    """Both ratios at the chosen length."""

    def said(kind: str) -> str:
        low, middle, high = map(number, view.at_length(kind))
        return middle if view.spread == 0 else f"{low} to {high}"

    many = "each" if view.spread == 0 else "95 % of the completions"
    return f"{view.length} tokens, {many}: product {said('product')}, geometric mean {said('geometric')}."


def length_alt(view: LengthView) -> str:
    """The two plots in words."""
    return (
        f"Left, over the number of tokens, product and geometric mean of token ratios around {view.ratio:g}. "
        f"{length_caption(view)} Right, the spread of their logarithms, which is {view.spread:g} for one token: at "
        f"{view.length} tokens {view.widths['product'][LENGTHS.index(view.length)]:.3g} for the product and "
        f"{view.widths['geometric'][LENGTHS.index(view.length)]:.3g} for the geometric mean."
    )


def length_explorer(*, ratio: float = 1.02, spread: float = 0.0) -> Panel[LengthView]:
    """Product and geometric mean over the length, for a chosen token ratio and spread around it."""
    canvas = Canvas(760, 340)
    left, right = (canvas.figure.add_axes((x, 0.145, 0.39, 0.75)) for x in (0.085, 0.585))
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
        look = {"color": style.colour, "linestyle": style.linestyle, "linewidth": 2}
        bands[kind] = canvas.animate(left.fill_between(LENGTHS, 1.0, 1.0, color=style.colour, alpha=0.2, linewidth=0))
        curves[kind] = canvas.animate(left.plot([], [], label=kind, **look)[0])
        widths[kind] = canvas.animate(right.plot([], [], label=kind, **look)[0])
    here = [canvas.animate(axes.axvline(1.0, color=GREY, linewidth=1)) for axes in (left, right)]
    alike = canvas.animate(right.text(20, 0.1, "", ha="center", fontsize=10, color=GREY))
    left.legend(loc="upper left", fontsize=9, handlelength=3.5, frameon=False)

    def draw(view: LengthView) -> None:
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
    )


def length_slider(length: int = 200) -> widgets.SelectionSlider:
    """A slider over LENGTHS."""
    return slider(widgets.SelectionSlider, "tokens", options=[(f"{n:>3}", n) for n in LENGTHS], value=length)


@dataclass(frozen=True)
class WeightsView:
    """One setting of the panel of effective sample sizes, by kind of ratio.

    Attributes:
        sizes: effective sample size over the number of completions, by length.
        heaviest: the largest shares of the total weight at the chosen length, in falling order.
    """

    spread: float
    length: int
    sizes: dict[str, tuple[float, ...]]
    heaviest: dict[str, tuple[float, ...]]

    def size(self, kind: str) -> float:
        """How many completions are heard at the chosen length."""
        return COMPLETIONS * self.sizes[kind][LENGTHS.index(self.length)]


def view_weights(spread: float, length: int) -> WeightsView:
    """Whom importance sampling hears when each completion is weighed by its product, or by its geometric mean.

    >>> round(view_weights(0.0, 200).size("product"))
    1000
    """
    logs = simulate(1.0, spread)
    sizes = {kind: tuple((effective_sample_size(logs[kind], dim=0) / COMPLETIONS).tolist()) for kind in KINDS}
    here = LENGTHS.index(length)
    shares = {kind: logs[kind][:, here].softmax(0).topk(HEAVIEST).values for kind in KINDS}
    return WeightsView(spread, length, sizes, {kind: tuple(share.tolist()) for kind, share in shares.items()})


def weights_caption(view: WeightsView) -> str:
    """How many are heard."""
    heard = {kind: f"{view.size(kind):.{0 if view.size(kind) >= 10 else 1}f}" for kind in KINDS}
    return (
        f"{view.length} tokens, spread {view.spread:g}: of {COMPLETIONS} completions the product hears "
        f"{heard['product']}, the geometric mean {heard['geometric']}."
    )


def weights_alt(view: WeightsView) -> str:
    """The two plots in words."""
    return (
        f"Left, the share of the completions that is heard falls with the length. {weights_caption(view)} Right, the "
        f"shares of the {HEAVIEST} heaviest completions: the first has {100 * view.heaviest['product'][0]:.1f} % by "
        f"product, {100 * view.heaviest['geometric'][0]:.1f} % by geometric mean."
    )


def weights_explorer(*, spread: float = 0.1, length: int = 200) -> Panel[WeightsView]:
    """The effective sample size of completions over their length, and the heaviest weights, for a chosen spread."""
    canvas = Canvas(760, 330)
    left, right = (canvas.figure.add_axes((x, 0.15, 0.405, 0.75)) for x in (0.085, 0.585))
    tidy_axes(left, title="Share of the completions that is heard", xlabel="tokens", xlim=(0, 405), ylim=(0, 1.04))
    label_ticks(left, [0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    title = f"Shares of the {HEAVIEST} heaviest completions"
    tidy_axes(right, title=title, xlabel="completion, by weight", xlim=(0.3, HEAVIEST + 0.7), ylim=(5e-4, 1.2))
    right.set_yscale("log")
    label_ticks(right, [0.001, 0.01, 0.1, 1], ["0.1 %", "1 %", "10 %", "100 %"])
    label_ticks(right, [1, 5, 10, 15, 20], axis="x")
    ranks = range(1, HEAVIEST + 1)
    curves, marks = {}, {}
    for kind in KINDS:
        style = RATIO_STYLES[kind]
        look = {"color": style.colour, "linestyle": style.linestyle}
        curves[kind] = canvas.animate(left.plot([], [], linewidth=2, label=kind, **look)[0])
        marks[kind] = canvas.animate(right.plot([], [], style.marker, color=style.colour, markersize=6)[0])
    theory = canvas.animate(left.plot([], [], color=GREY, linewidth=1, label="theory")[0])
    here = canvas.animate(left.axvline(1.0, color=BLACK, linewidth=1, linestyle=":"))
    left.legend(loc="center right", fontsize=9, handlelength=3.5, frameon=False)

    def draw(view: WeightsView) -> None:
        for kind in KINDS:
            curves[kind].set_data(LENGTHS, view.sizes[kind])
            marks[kind].set_data(ranks, view.heaviest[kind])
        theory.set_data(LENGTHS, [math.exp(-length * view.spread**2) for length in LENGTHS])
        here.set_xdata([view.length, view.length])

    return Panel(
        {
            "spread": slider(
                widgets.FloatSlider, "spread of a token's log-ratio", value=spread, min=0.0, max=0.3, step=0.02
            ),
            "length": length_slider(length),
        },
        view_weights,
        canvas,
        draw=draw,
        caption=weights_caption,
        alt=weights_alt,
    )
