"""The panel of what a mean of ratios measures, and where that leaves a clip that is symmetric around 1."""

import math
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import torch
from torch import Tensor

from hmpo_lib.ratios import renyi_divergence
from hmpo_lib.teach.panels import FIGURE_SPACE, P_LABEL_WIDTH, Panel, p_label, slider
from hmpo_lib.teach.plotting import BLACK, GREY, PALE_GREY, SKY_BLUE, Canvas, exponent_colour, label_ticks, tidy_axes
from hmpo_lib.teach.shared.exponents import quarters
from hmpo_lib.teach.shared.power_mean_drawings import NAMED

OLD, NEW = (0.5, 0.3, 0.2), (0.4, 0.4, 0.2)
STOPS = quarters(2)
SHIFTS = [k / 2 for k in range(7)]  # 1: from OLD to NEW; beyond: as far again, in the logits
CLIP = (0.9, 1 / 0.9)  # the clip range of `hmpo`


@dataclass(frozen=True)
class DivergenceView:
    """The mean M_p of new / old, in expectation over old: at each exponent, and at the chosen one."""

    p: float
    shift: float
    new: tuple[float, ...]
    curve: tuple[float, ...]
    expected: float


def shifted(shift: float) -> Tensor:
    """Log-probabilities on the way from OLD (0) to NEW (1), and beyond: linear in the logits."""
    old, new = (torch.tensor(given, dtype=torch.float64).log() for given in (OLD, NEW))
    return (old + shift * (new - old)).log_softmax(dim=0)


def expected_mean(p: float, shift: float = 1.0) -> float:
    """exp(−D_{1−p}(old ‖ new)).

    >>> round(expected_mean(-1.0), 4)
    0.9524
    """
    return math.exp(-renyi_divergence(shifted(0.0), shifted(shift), 1 - p).item())


def view_divergence(p: float, shift: float) -> DivergenceView:
    """M_p over samples of one distribution, in expectation."""
    return DivergenceView(
        p,
        shift,
        tuple(shifted(shift).exp().tolist()),
        tuple(expected_mean(exponent, shift) for exponent in STOPS),
        expected_mean(p, shift),
    )


def divergence_caption(view: DivergenceView) -> str:
    """The mean, and whether the window of the clip still holds it."""
    side = "inside" if CLIP[0] <= view.expected <= CLIP[1] else "below" if view.expected < CLIP[0] else "above"
    return f"{p_label(view.p)}: in expectation {view.expected:.3f}, {side} the window {CLIP[0]:.2f} to {CLIP[1]:.2f}."


def divergence_alt(view: DivergenceView) -> str:
    """The two plots in words."""
    new = ", ".join(f"{probability:.2f}" for probability in view.new)
    return (
        "Left, the mean of the ratio over p: a rising curve through 1 at p = 1, over the grey window of a clip. "
        f"{divergence_caption(view)} Right, old probabilities {', '.join(map(str, OLD))} and new ones {new}."
    )


def divergence_explorer(*, p: float = -1.0, shift: float = 2.0) -> Panel[DivergenceView]:
    """The mean of the ratio in expectation, over p, as new moves away from old; with a clip's window around 1."""
    canvas = Canvas(760, 340)
    axes = canvas.mosaic("llr")
    left, right = axes["l"], axes["r"]
    tidy_axes(left, title="The mean of the ratios, as new leaves old", xlabel="exponent p", xlim=(-2.2, 2.2))
    left.set(ylim=(0.6, 1.4), ylabel="mean $M_p$")
    names = [f"\n{style.name}" for style in NAMED]
    label_ticks(left, [-2, -1, 0, 1, 2], ["−2", f"−1{names[0]}", f"0{names[1]}", f"1{names[2]}", "2"], axis="x")
    left.axhspan(*CLIP, color=PALE_GREY, alpha=0.6, linewidth=0)
    small: Any = {"fontsize": 9, "color": GREY}
    left.text(-2.15, CLIP[1] - 0.01, "HMPO's window", va="top", **small)
    left.text(-2.15, CLIP[1] + 0.012, "above it no push on good answers", **small)
    left.text(2.15, CLIP[0] - 0.012, "below it no push\non bad answers", ha="right", va="top", **small)
    left.axhline(1, color=GREY, linewidth=1)
    curve = canvas.animate(left.plot([], [], color=BLACK)[0])
    dot = canvas.animate(left.plot([], [], "o", markeredgecolor=BLACK, markersize=9)[0])
    tidy_axes(right, title="Three outcomes", xlabel="outcomes 1, 2 and 3", ylabel="probability", xlim=(-0.5, 2.5))
    right.set(ylim=(0, 0.8))
    right.grid(visible=False, axis="x")
    label_ticks(right, [k + side for k in range(3) for side in (-0.21, 0.21)], ["old", "new"] * 3, axis="x")
    right.bar([k - 0.21 for k in range(3)], OLD, width=0.38, color=SKY_BLUE)
    bars = right.bar([k + 0.21 for k in range(3)], NEW, width=0.38, fc="white", ec=BLACK, hatch="//")
    for patch in bars:
        canvas.animate(patch)

    def draw(view: DivergenceView) -> None:
        curve.set_data(STOPS, view.curve)
        dot.set_data([view.p], [view.expected])
        dot.set_markerfacecolor(exponent_colour(view.p))
        for patch, probability in zip(bars, view.new, strict=True):
            patch.set_height(probability)

    stops = [(p_label(stop).center(P_LABEL_WIDTH, FIGURE_SPACE), stop) for stop in STOPS]
    far = [(f"{shift:g}".center(3, FIGURE_SPACE), shift) for shift in SHIFTS]
    return Panel(
        {
            "p": slider(widgets.SelectionSlider, "exponent", options=stops, value=p),
            "shift": slider(widgets.SelectionSlider, "how far new has moved", options=far, value=shift),
        },
        view_divergence,
        canvas,
        draw=draw,
        caption=divergence_caption,
        alt=divergence_alt,
    )
