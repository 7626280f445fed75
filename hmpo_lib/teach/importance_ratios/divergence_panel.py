"""The panel that holds the power mean of sampled ratios against what it is in expectation: a Rényi divergence."""

import math
from dataclasses import dataclass

import ipywidgets as widgets
import torch
from torch import Tensor

from hmpo_lib.means import log_power_mean
from hmpo_lib.ratios import renyi_divergence
from hmpo_lib.teach.panels import FIGURE_SPACE, P_LABEL_WIDTH, Panel, p_label, slider
from hmpo_lib.teach.plotting import BLACK, GREY, ORANGE, SKY_BLUE, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.shared.power_mean_drawings import NAMED

OLD, NEW = (0.5, 0.3, 0.2), (0.4, 0.4, 0.2)
SAMPLES = (10, 100, 1000, 10_000, 100_000)
EXPONENTS = [k / 4 for k in range(-16, 17)]
SEED = 0
SURE = 1.96  # standard errors on both sides of a 95 % interval


@dataclass(frozen=True)
class DivergenceView:
    """The mean M_p of the ratio new / old: in expectation over old, and of a sample, with its standard error."""

    p: float
    samples: int
    counts: tuple[int, ...]
    expected: float
    sampled: float
    error: float


def log_probabilities(probabilities: tuple[float, ...]) -> Tensor:
    """Their logarithms in double precision."""
    return torch.tensor(probabilities, dtype=torch.float64).log()


def expected_mean(p: float) -> float:
    """exp(−D_{1−p}(OLD ‖ NEW)).

    >>> round(expected_mean(-1.0), 4)
    0.9524
    """
    return math.exp(-renyi_divergence(log_probabilities(OLD), log_probabilities(NEW), 1 - p).item())


def log_mean_error(log_ratios: Tensor, p: float) -> float:
    """Standard error of log M_p of a sample (delta method): the standard error of mean r^p, over |p| · mean r^p."""
    if p == 0:
        return float(log_ratios.std() / len(log_ratios) ** 0.5)
    powers = (p * log_ratios).exp()
    return float(powers.std() / powers.mean() / abs(p) / len(powers) ** 0.5)


def view_divergence(p: float, samples: int) -> DivergenceView:
    """M_p of the first ``samples`` of one fixed sequence of outcomes drawn from OLD."""
    draws = torch.multinomial(
        log_probabilities(OLD).exp(), max(SAMPLES), replacement=True, generator=torch.Generator().manual_seed(SEED)
    )[:samples]
    log_ratios = (log_probabilities(NEW) - log_probabilities(OLD))[draws]
    mean = log_power_mean(log_ratios, p).exp().item()
    counts = tuple(torch.bincount(draws, minlength=len(OLD)).tolist())
    return DivergenceView(p, samples, counts, expected_mean(p), mean, mean * log_mean_error(log_ratios, p))


def divergence_caption(view: DivergenceView) -> str:
    """Both means."""
    return (
        f"{p_label(view.p)}: exp(−D) is {view.expected:.4f}; the mean of {view.samples:,} sampled ratios is "
        f"{view.sampled:.4f} ± {SURE * view.error:.4f}."
    )


def divergence_alt(view: DivergenceView) -> str:
    """The two plots in words."""
    drawn = ", ".join(f"{count / view.samples:.3f}" for count in view.counts)
    return (
        "Left, the curve of exp(−D) of order 1 − p over p, which rises through 1 at p = 1, and the mean of a sample. "
        f"{divergence_caption(view)} Right, the old and new probabilities of three outcomes, and the shares drawn: "
        f"{drawn}."
    )


def divergence_explorer(*, p: float = -1.0, samples: int = 100) -> Panel[DivergenceView]:
    """The mean of sampled ratios on the curve that it tends to, for a chosen exponent and number of samples."""
    canvas = Canvas(760, 340)
    left = canvas.figure.add_axes((0.085, 0.145, 0.5, 0.755))
    right = canvas.figure.add_axes((0.665, 0.145, 0.315, 0.755))
    tidy_axes(left, title="Mean of the ratio over samples from old", xlabel="exponent p", xlim=(-4.3, 4.3))
    left.set_ylim(0.78, 1.3)
    left.set_ylabel("mean $M_p$", fontsize=10)
    left.plot(EXPONENTS, [expected_mean(exponent) for exponent in EXPONENTS], color=BLACK, label="exp(−D)")
    left.axhline(1, color=GREY, linewidth=1)
    for style in NAMED:
        left.plot(style.p, expected_mean(style.p), style.marker, color=style.colour, markersize=7, label=style.name)
    tidy_axes(right, title="Three outcomes", xlabel="outcome", xlim=(-0.6, 2.6), ylim=(0, 0.95))
    right.grid(visible=False, axis="x")
    label_ticks(right, range(3), ["1", "2", "3"], axis="x")
    right.bar([k - 0.2 for k in range(3)], OLD, width=0.36, color=SKY_BLUE, label="old")
    right.bar([k + 0.2 for k in range(3)], NEW, width=0.36, color="white", edgecolor=BLACK, hatch="//", label="new")
    bar = canvas.animate(left.plot([], [], color=ORANGE, linewidth=3, solid_capstyle="butt", label="sample, 95 %")[0])
    dot = canvas.animate(left.plot([], [], "o", color=ORANGE, markeredgecolor=BLACK, markersize=9)[0])
    drawn = canvas.animate(right.plot([], [], "_", color=ORANGE, markersize=22, markeredgewidth=3, label="drawn")[0])
    left.legend(loc="upper left", fontsize=9, frameon=False)
    right.legend(loc="upper right", fontsize=9, frameon=False, ncols=3, handlelength=1.2, columnspacing=1)

    def draw(view: DivergenceView) -> None:
        dot.set_data([view.p], [view.sampled])
        reach = SURE * view.error
        bar.set_data([view.p, view.p], [view.sampled - reach, view.sampled + reach])
        drawn.set_data([k - 0.2 for k in range(3)], [count / view.samples for count in view.counts])

    stops = [(p_label(stop).center(P_LABEL_WIDTH, FIGURE_SPACE), stop) for stop in EXPONENTS]
    sizes = [(f"{size:,}".rjust(7, FIGURE_SPACE), size) for size in SAMPLES]
    return Panel(
        {
            "p": slider(widgets.SelectionSlider, "exponent", options=stops, value=p),
            "samples": slider(widgets.SelectionSlider, "samples from old", options=sizes, value=samples),
        },
        view_divergence,
        canvas,
        draw=draw,
        caption=divergence_caption,
        alt=divergence_alt,
    )
