"""The panel of effective sample sizes: how few completions weigh, by product and by geometric mean."""

import math
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets

from hmpo_lib.ratios import effective_sample_size
from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import BLACK, GREY, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.shared.ratio_styles import RATIO_STYLES
from hmpo_lib.teach.shared.simulated_ratios import COMPLETIONS, KINDS, LENGTHS, length_slider, simulate

HEAVIEST = 20  # weights that are shown one by one


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
        """How many completions are used at the chosen length."""
        return COMPLETIONS * self.sizes[kind][LENGTHS.index(self.length)]


def view_weights(spread: float, length: int) -> WeightsView:
    """How importance sampling weighs when each completion is weighed by its product, or by its geometric mean.

    >>> round(view_weights(0.0, 200).size("product"))
    1000
    """
    logs = simulate(1.0, spread)
    sizes = {kind: tuple((effective_sample_size(logs[kind], dim=0) / COMPLETIONS).tolist()) for kind in KINDS}
    here = LENGTHS.index(length)
    shares = {kind: logs[kind][:, here].softmax(0).topk(HEAVIEST).values for kind in KINDS}
    return WeightsView(spread, length, sizes, {kind: tuple(share.tolist()) for kind, share in shares.items()})


def weights_caption(view: WeightsView) -> str:
    """How many are used."""
    used = {kind: f"{view.size(kind):.{0 if view.size(kind) >= 10 else 1}f}" for kind in KINDS}
    return (
        f"{view.length} tokens, spread {view.spread:g}: of {COMPLETIONS} completions the product uses "
        f"{used['product']}, the geometric mean {used['geometric']}."
    )


def weights_alt(view: WeightsView) -> str:
    """The two plots in words."""
    return (
        f"Left, the share of the completions that is used falls with the length. {weights_caption(view)} Right, the "
        f"shares of the {HEAVIEST} heaviest completions: the first has {100 * view.heaviest['product'][0]:.1f} % by "
        f"product, {100 * view.heaviest['geometric'][0]:.1f} % by geometric mean."
    )


def weights_explorer(*, spread: float = 0.1, length: int = 200) -> Panel[WeightsView]:
    """The effective sample size of completions over their length, and the heaviest weights, for a chosen spread."""
    canvas = Canvas(760, 330)
    places = canvas.mosaic([["used", "heaviest"]])
    left, right = places["used"], places["heaviest"]
    tidy_axes(left, title="Share of the completions that is used", xlabel="tokens", xlim=(0, 405), ylim=(0, 1.04))
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
        look: dict[str, Any] = {"color": style.colour, "linestyle": style.linestyle}
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
