"""The four plots of notebook 07's main figure. Each function draws the axes and gives the function that moves them."""

from collections.abc import Callable
from typing import Any

from hmpo_lib.teach.muon_and_qk_clip.hot_heads_experiment import STEPS_PER_RECORD
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_recording import HEADS, RECORDS, THRESHOLDS
from hmpo_lib.teach.plotting import BLACK, BLUE, GREY, ORANGE, VERMILLION, Canvas, label_ticks, tidy_axes

Move = Callable[[Any], None]

STEPS = tuple(STEPS_PER_RECORD * (k + 1) for k in range(RECORDS))
XLIM = (0, STEPS[-1] + 1)
LOGIT_LIMITS = (0.3, 1.5e4)
HIGHEST_LOSS = 3.3
FINAL_LIMITS = (0.85, 1.85)


def _head_lines(canvas: Canvas, axes: Any) -> list[Any]:
    """A line for each head: the layer by colour and width, the head by dashes."""
    lines = []
    for head in range(HEADS):
        layer, place = divmod(head, HEADS // 2)
        look = {
            "color": (BLUE, VERMILLION)[layer],
            "linestyle": ("-", "--", "-.", ":")[place],
            "linewidth": (1.1, 2.4)[layer],
        }
        label = f"layer {layer + 1}" if place == 0 else None
        lines.append(canvas.animate(axes.plot([], [], label=label, **look)[0]))
    return lines


def draw_max_logits(canvas: Canvas, axes: Any) -> Move:
    """S_max of each head over the steps, and the threshold."""
    tidy_axes(axes, title="Largest logit $S_{max}$ of each head", xlim=XLIM)
    axes.set(yscale="log", ylim=LOGIT_LIMITS)
    label_ticks(axes, [1, 10, 100, 1000, 10000])
    lines = _head_lines(canvas, axes)
    threshold = canvas.animate(axes.plot([], [], color=BLACK, linewidth=1, label="τ")[0])
    axes.legend(loc="upper left", ncols=3, fontsize=9, frameon=False, borderaxespad=0.1)

    def move(view: Any) -> None:
        for line, values in zip(lines, view.max_logits.T.tolist(), strict=True):
            line.set_data(STEPS[: len(values)], values)
        threshold.set_data(XLIM, [min(view.threshold, 10 * LOGIT_LIMITS[1])] * 2)  # no clip: above the axes

    return move


def draw_entropies(canvas: Canvas, axes: Any) -> Move:
    """Entropy of each head over the steps."""
    tidy_axes(axes, title="Entropy of each head's attention", xlim=XLIM, ylim=(0, 1.03))
    label_ticks(axes, [0, 0.5, 1], ["0: one token", "0.5", "1: all alike"])
    lines = _head_lines(canvas, axes)

    def move(view: Any) -> None:
        for line, values in zip(lines, view.entropies.T.tolist(), strict=True):
            line.set_data(STEPS[: len(values)], values)

    return move


def draw_losses(canvas: Canvas, axes: Any) -> Move:
    """The loss of this run, and of the recorded one without a clip."""
    tidy_axes(axes, title="Loss, nats per token", xlabel="optimizer steps", xlim=XLIM, ylim=(0.7, HIGHEST_LOSS))
    free = canvas.animate(axes.plot([], [], color=GREY, linestyle=":", linewidth=1.8, label="same, no clip")[0])
    line = canvas.animate(axes.plot([], [], color=ORANGE, linewidth=2, label="this run")[0])
    axes.legend(loc="upper right", fontsize=9, frameon=False, borderaxespad=0.1)

    def move(view: Any) -> None:
        free.set_data(STEPS, view.free_losses.tolist())
        line.set_data(STEPS[: len(view.losses)], view.losses.tolist())

    return move


def draw_finals(canvas: Canvas, axes: Any, seeds: int) -> Move:
    """The recorded loss at the end for each threshold, with its interval over the seeds; a ring at the chosen one."""
    tidy_axes(axes, title=f"Loss at the end, {seeds} seeds", xlabel="threshold τ", ylim=FINAL_LIMITS)
    axes.set_xlim(-0.5, len(THRESHOLDS) - 0.5)
    label_ticks(axes, range(len(THRESHOLDS)), [*(f"{t:g}" for t in THRESHOLDS[:-1]), "no clip"], axis="x")
    bars = [canvas.animate(axes.plot([], [], color=BLUE, linewidth=2)[0]) for _ in THRESHOLDS]
    dots = canvas.animate(axes.plot([], [], "s", color=BLUE, markersize=5)[0])
    ring = canvas.animate(
        axes.plot([], [], "o", color="none", markeredgecolor=ORANGE, markersize=14, markeredgewidth=2.5)[0]
    )

    def move(view: Any) -> None:
        for k, (bar, (_, low, high)) in enumerate(zip(bars, view.finals, strict=True)):
            bar.set_data([k, k], [low, high])
        dots.set_data(range(len(THRESHOLDS)), [mean for mean, _, _ in view.finals])
        chosen = THRESHOLDS.index(view.threshold)
        ring.set_data([chosen], [view.finals[chosen][0]])

    return move
