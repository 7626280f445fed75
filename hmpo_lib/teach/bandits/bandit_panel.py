"""The panel of notebook 05's main figure: ratios, bias and variance, and learning, for every setting at once."""

import functools
from dataclasses import dataclass

import ipywidgets as widgets
from torch import Tensor

from hmpo_lib.bandits import sequence_logprobs, sequence_probabilities
from hmpo_lib.means import log_power_mean
from hmpo_lib.teach.bandits.bandit_drawings import (
    BINS,
    LIMIT,
    NAMED,
    PESSIMISTIC,
    draw_learning_curves,
    draw_plane,
    draw_ratios,
)
from hmpo_lib.teach.bandits.bandit_recording import (
    CLIPS,
    CURVE_STEPS,
    EXPONENTS,
    LEARNING_RATE,
    LENGTHS,
    STALENESS,
    BanditTraces,
    mean_intervals,
)
from hmpo_lib.teach.bandits.flip_panel import exponent_slider
from hmpo_lib.teach.bandits.worlds_experiment import KINDS, random_world, take_steps
from hmpo_lib.teach.panels import Panel, p_label, slider
from hmpo_lib.teach.plotting import Canvas
from hmpo_lib.teach.shared.log_histograms import bin_shares


@dataclass(frozen=True)
class BanditView:
    """One setting of the panel. Intervals are (mean, low, high).

    Attributes:
        shares: of the first world's token ratios, product ratios and means M_p, by bin of the logarithm.
        bias, error: of every method, EXPONENTS and then the pessimistic mean, mean over worlds.
        bias_interval, error_interval: of the chosen p.
        product: bias and standard error of the product ratio.
        curves: by name, the three means and the chosen p, intervals of the gain over CURVE_STEPS.
    """

    kind: str
    length: int
    staleness: int
    clip: str
    p: float
    shares: dict[str, tuple[float, ...]]
    bias: tuple[float, ...]
    error: tuple[float, ...]
    bias_interval: tuple[float, ...]
    error_interval: tuple[float, ...]
    product: tuple[float, ...]
    curves: dict[str, tuple[tuple[float, ...], ...]]
    worlds: tuple[int, int]  # of the gradients, of the curves


@functools.cache
def first_world(kind: str, length: int, staleness: int) -> tuple[Tensor, Tensor]:
    """Log-ratios ``[N, T]`` of the first recorded world's sequences, and their probabilities under old."""
    bandit, old = random_world(kind, length, seed=0)
    new = take_steps(bandit, old, staleness, learning_rate=LEARNING_RATE)
    log_ratios = sequence_logprobs(new, bandit.sequences) - sequence_logprobs(old, bandit.sequences)
    return log_ratios, sequence_probabilities(bandit, old)


def view_bandits(traces: BanditTraces, p: float, staleness: int, length: int, clip: str, kind: str) -> BanditView:
    """Everything that one setting shows: the ratios by enumeration, the rest from the traces."""
    log_ratios, old = first_world(kind, length, staleness)
    by_token = old.unsqueeze(1).expand_as(log_ratios)
    weighted = {
        "tokens": (log_ratios.flatten(), by_token.flatten()),
        "product": (log_ratios.sum(dim=1), old),
        "mean": (log_power_mean(log_ratios, p), old),
    }
    shares = {name: bin_shares(*values, limit=LIMIT, bins=BINS) for name, values in weighted.items()}
    place = (KINDS.index(kind), LENGTHS.index(length), STALENESS.index(staleness))
    here = (*place, list(CLIPS).index(clip))
    method = EXPONENTS.index(p)
    bias, error = traces.errors[here].mean(dim=-1).T.tolist()
    bias_interval, error_interval = mean_intervals(traces.errors[here][method]).T.tolist()
    named = {style.name: EXPONENTS.index(style.p) for style in NAMED} | {"chosen": method}
    curves = {
        name: tuple(tuple(row) for row in mean_intervals(traces.gains[here][place]).tolist())
        for name, place in named.items()
    }
    return BanditView(
        kind,
        length,
        staleness,
        clip,
        p,
        shares,
        tuple(bias),
        tuple(error),
        tuple(bias_interval),
        tuple(error_interval),
        tuple(traces.product_errors[place].mean(dim=-1).tolist()),
        curves,
        (traces.errors.shape[-1], traces.gains.shape[-1]),
    )


def within(interval: tuple[float, ...]) -> str:
    """An estimate and its interval in words."""
    mean, low, high = interval
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


def bandit_caption(view: BanditView) -> str:
    """Bias and standard error of the chosen p, of the product, and what was learned."""
    last = tuple(row[-1] for row in view.curves["chosen"])
    return (
        f"{p_label(view.p)}, {view.staleness} {'step' if view.staleness == 1 else 'steps'} old, T = {view.length}, "
        f"{view.clip}, rewards {view.kind}: bias {within(view.bias_interval)}, standard error "
        f"{within(view.error_interval)}; the product ratio's {view.product[0]:.2f} and {view.product[1]:.2f}. After "
        f"{CURVE_STEPS[-1]} steps {100 * last[0]:.0f} % ({100 * last[1]:.0f} to {100 * last[2]:.0f} %) of the way."
    )


def bandit_alt(view: BanditView) -> str:
    """The three plots in words."""
    points = ", ".join(
        f"p = {p:g}: {bias:.2f} and {error:.2f}"
        for p, bias, error in zip(EXPONENTS, view.bias, view.error, strict=False)
    )
    widest = {name: sum(share > 1e-9 for share in shares) for name, shares in view.shares.items()}
    ends = ", ".join(f"{name} {100 * curve[0][-1]:.0f} %" for name, curve in view.curves.items())
    return (
        f"Histograms of one world's ratios: tokens in {widest['tokens']} bins, products in {widest['product']}, means "
        f"in {widest['mean']}. Bias and standard error of every mean: {points}; pessimistic: "
        f"{view.bias[PESSIMISTIC]:.2f} and {view.error[PESSIMISTIC]:.2f}; product: {view.product[0]:.2f} and "
        f"{view.product[1]:.2f}. Learning curves that end at: {ends}."
    )


def bandit_explorer(traces: BanditTraces, *, p: float = -1.0) -> Panel[BanditView]:
    """Four sliders and the kind of reward; ratio histograms, the bias-variance plane and learning curves follow."""
    canvas = Canvas(760, 590)
    moves = [
        draw_ratios(canvas, canvas.figure.add_axes((0.075, 0.6, 0.36, 0.345))),
        draw_plane(canvas, canvas.figure.add_axes((0.535, 0.6, 0.445, 0.345)), traces.errors.shape[-1]),
        draw_learning_curves(
            canvas, canvas.figure.add_axes((0.075, 0.085, 0.905, 0.365)), f"{traces.gains.shape[-1]} worlds"
        ),
    ]

    def draw(view: BanditView) -> None:
        for move in moves:
            move(view)

    age = slider(
        widgets.SelectionSlider,
        "optimizer steps since sampling",
        options=[(f"{k:>2}", k) for k in STALENESS],
        value=7,
    )
    length = slider(widgets.SelectionSlider, "choices T", options=[(str(n), n) for n in LENGTHS], value=4)
    clip = slider(widgets.SelectionSlider, "clip of tokens", options=[(name.center(14), name) for name in CLIPS])
    return Panel(
        {
            "p": exponent_slider(EXPONENTS, p),
            "staleness": age,
            "length": length,
            "clip": clip,
            "kind": widgets.ToggleButtons(
                options=[(f"rewards {kind}", kind) for kind in KINDS], style={"button_width": "15em"}
            ),
        },
        functools.partial(view_bandits, traces),
        canvas,
        draw=draw,
        caption=bandit_caption,
        alt=bandit_alt,
    )
