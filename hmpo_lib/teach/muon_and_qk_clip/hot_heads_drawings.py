"""The plots of notebook 07's main figures. Each function draws the axes and gives the function that moves them."""

import math
from collections.abc import Callable
from typing import Any

from hmpo_lib.evaluation import student_interval
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_experiment import OPTIMIZERS, STEPS_PER_RECORD
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_recording import HEADS, RECORDS, SEEDS, THRESHOLDS, TIMES, HotTraces
from hmpo_lib.teach.muon_and_qk_clip.looks import HEADS_PER_LAYER, LAYER_LOOKS, OPTIMIZER_LOOKS, head_lines
from hmpo_lib.teach.plotting import BLACK, GREY, ORANGE, Canvas, label_ticks, tidy_axes

Move = Callable[[Any], None]

STEPS = tuple(STEPS_PER_RECORD * (k + 1) for k in range(RECORDS))
XLIM = (0, STEPS[-1] + 1)
LOGIT_LIMITS = (0.3, 1.5e4)
LOSS_LIMITS = (0.9, 3.3)
FINAL_LIMITS = (1.05, 1.85)
NAMES_BESIDE: dict[str, Any] = {  # points from the dots, and the end of the name that is there
    "Muon": ((-8, 0), "right"),
    "AdamW": ((0, -16), "center"),
    "Muon, per head": ((0, 14), "center"),
}
SHIFTS = dict(zip(OPTIMIZERS, (-0.2, 0.0, 0.2), strict=True))  # beside the tick of a rate


def _logit_axis(axes: Any) -> None:
    axes.set(yscale="log", ylim=LOGIT_LIMITS)
    label_ticks(axes, [1, 10, 100, 1000, 10000])


def draw_max_logits(canvas: Canvas, axes: Any) -> Move:
    """S_max of each head over the steps, and the threshold."""
    tidy_axes(axes, title="Largest logits $S_{max}$", xlim=XLIM)
    _logit_axis(axes)
    lines = head_lines(canvas, axes, HEADS)
    for layer, (colour, _) in enumerate(LAYER_LOOKS):  # in the corner that no run reaches
        words = f"layer {layer + 1}, {HEADS_PER_LAYER} heads"
        axes.text(0.03, 0.97 - 0.09 * layer, words, color=colour, fontsize=9, va="top", transform=axes.transAxes)
    threshold = canvas.animate(axes.plot([], [], color=ORANGE, linewidth=1.5)[0])
    # On the left, where every run is still far below.
    name = canvas.animate(axes.text(XLIM[0] + 3, 1, "τ", color=ORANGE, fontsize=10, va="bottom"))

    def move(view: Any) -> None:
        for line, values in zip(lines, view.max_logits.T.tolist(), strict=True):
            line.set_data(STEPS[: len(values)], values)
        clipped = math.isfinite(view.threshold)
        threshold.set_data(XLIM, [view.threshold if clipped else 1] * 2)
        threshold.set_visible(clipped)
        name.set(visible=clipped, y=view.threshold if clipped else 1)

    return move


def draw_entropies(canvas: Canvas, axes: Any) -> Move:
    """Entropy of each head over the steps."""
    tidy_axes(axes, title="Entropies", xlim=XLIM, ylim=(0, 1.03))
    label_ticks(axes, [0, 0.5, 1], ["0: one token", "0.5", "1: all alike"])
    lines = head_lines(canvas, axes, HEADS)

    def move(view: Any) -> None:
        for line, values in zip(lines, view.entropies.T.tolist(), strict=True):
            line.set_data(STEPS[: len(values)], values)

    return move


def draw_losses(canvas: Canvas, axes: Any) -> Move:
    """The loss of this run, and the mean of the recorded ones without a clip."""
    tidy_axes(axes, title="Loss, nats per token", xlabel="optimizer steps", xlim=XLIM, ylim=LOSS_LIMITS)
    free = canvas.animate(axes.plot([], [], color=GREY, linestyle=":", linewidth=1.8)[0])
    line = canvas.animate(axes.plot([], [], color=BLACK, linewidth=2)[0])
    axes.legend(
        [line, free], ["this run", f"mean of {len(SEEDS)}, no clip"], fontsize=9, frameon=False, borderaxespad=0.1
    )

    def move(view: Any) -> None:
        free.set_data(STEPS, view.free_losses.tolist())
        line.set_data(STEPS[: len(view.losses)], view.losses.tolist())

    return move


def _ring(canvas: Canvas, axes: Any) -> Any:
    style: Any = {"color": "none", "markeredgecolor": GREY, "markersize": 16, "markeredgewidth": 1.5}
    return canvas.animate(axes.plot([], [], "o", **style)[0])


def draw_finals(canvas: Canvas, axes: Any, traces: HotTraces) -> Move:
    """Muon's recorded loss at the end for each threshold, with its interval; a ring at the chosen one."""
    tidy_axes(axes, title=f"Loss at the end, {len(SEEDS)} seeds", xlabel="threshold τ", ylim=FINAL_LIMITS)
    axes.set_xlim(-0.5, len(THRESHOLDS) - 0.5)
    label_ticks(axes, range(len(THRESHOLDS)), [*(f"{t:g}" for t in THRESHOLDS[:-1]), "no clip"], axis="x")
    bars = [canvas.animate(axes.plot([], [], color=BLACK, linewidth=2)[0]) for _ in THRESHOLDS]
    dots = canvas.animate(axes.plot([], [], "o", color=BLACK, markersize=5)[0])
    ring = _ring(canvas, axes)

    def move(view: Any) -> None:
        finals = [student_interval(values) for values in traces.final_losses[TIMES.index(view.times)]]
        for k, (bar, (_, low, high)) in enumerate(zip(bars, finals, strict=True)):
            bar.set_data([k, k], [low, high])
        dots.set_data(range(len(THRESHOLDS)), [mean for mean, _, _ in finals])
        chosen = THRESHOLDS.index(view.threshold)
        ring.set_data([chosen], [finals[chosen][0]])

    return move


def draw_hottest(canvas: Canvas, axes: Any, traces: HotTraces) -> Move:
    """S_max of the hottest head at the end of every run without a clip, by rate and optimizer; a ring at the chosen."""
    tidy_axes(axes, title=f"Hottest head at the end, {len(SEEDS)} seeds", xlabel="times the tuned rate")
    _logit_axis(axes)
    axes.set_xlim(-0.5, len(TIMES) - 0.5)
    label_ticks(axes, range(len(TIMES)), [f"{t:g} ×" for t in TIMES], axis="x")
    hottest = traces.free_max_logits[..., -1, :].amax(dim=-1)  # optimizers, rates, seeds
    for name, of_rates in zip(OPTIMIZERS, hottest.tolist(), strict=True):
        colour, _, marker = OPTIMIZER_LOOKS[name]
        pairs = [(k + SHIFTS[name], value) for k, values in enumerate(of_rates) for value in values]
        axes.plot(*zip(*pairs, strict=True), marker, color=colour, markersize=5, alpha=0.8)
        at = (1 + SHIFTS[name], math.prod(of_rates[1]) ** (1 / len(SEEDS)))  # at the rate in the middle
        shift, ha = NAMES_BESIDE[name]
        axes.annotate(name, at, shift, textcoords="offset points", color=colour, fontsize=9, ha=ha, va="center")
    ring = _ring(canvas, axes)

    def move(view: Any) -> None:
        o, r = OPTIMIZERS.index(view.optimizer), TIMES.index(view.times)
        ring.set_data([r + SHIFTS[view.optimizer]], [hottest[o, r].log().mean().exp().item()])

    return move
