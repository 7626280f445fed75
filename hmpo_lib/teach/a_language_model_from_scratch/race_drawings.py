"""The plots of notebook 06's training figures. Each function draws the axes and gives the function that moves them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from hmpo_lib.evaluation import student_interval
from hmpo_lib.teach.a_language_model_from_scratch.race_experiment import (
    STEPS,
    STEPS_PER_RECORD,
    held_out_batch,
    least_loss,
)
from hmpo_lib.teach.a_language_model_from_scratch.race_recording import OPTIMIZERS, RATES, RaceTraces
from hmpo_lib.teach.plotting import GREY, SKY_BLUE, Canvas, apart, label_ticks, tidy_axes
from hmpo_lib.teach.shared.optimizer_styles import OPTIMIZER_STYLES, OptimizerStyle

Curves = Sequence[Sequence[float]]
Point = tuple[float, float]

LONG = "AdamW, twice the steps"
OWN = "your run"
STYLES = OPTIMIZER_STYLES | {
    LONG: OptimizerStyle(OPTIMIZER_STYLES["AdamW"].colour, ":", "D"),
    OWN: OptimizerStyle(SKY_BLUE, "-", "o"),
}

LOSS_LIMITS = (0.5, 2.5)
FINAL_LIMITS = (0.88, 1.5)
LEAST_APART = 0.06  # of an axis' height, between the names at the ends of lines


def steps_of(losses: Sequence[float]) -> list[int]:
    """After how many steps each record was made."""
    return [STEPS_PER_RECORD * (k + 1) for k in range(len(losses))]


def draw_curves(
    canvas: Canvas,
    axes: Any,
    names: Sequence[str],
    *,
    title: str,
    last: int,
    floor: tuple[float, str],
    limits: Point = LOSS_LIMITS,
) -> Callable[[Curves], None]:
    """A line for each name, with the name once at its end, over a dotted line.

    Args:
        canvas, axes: where.
        names: a style for each of the curves to come.
        title: of the axes.
        last: the last step.
        floor: where the dotted line is, and what it means.
        limits: of the values.
    """
    tidy_axes(axes, title=title, xlabel="optimizer steps", xlim=(0, 1.36 * last), ylim=limits)
    label_ticks(axes, range(0, last + 1, last // 4), axis="x")
    axes.plot([0, last], [floor[0]] * 2, color=GREY, linewidth=1, linestyle=":")
    lines = []
    for name in names:
        style, width = STYLES[name], 2.4 if name == OWN else 1.6
        look = {"color": style.colour, "linestyle": style.linestyle, "linewidth": width}
        lines.append(canvas.animate(axes.plot([], [], **look)[0]))
    firsts = [k for k, name in enumerate(names) if name not in names[:k]]
    ends = {k: canvas.animate(axes.text(0, 0, names[k].replace(", ", ",\n"), va="center", fontsize=9)) for k in firsts}
    meaning = canvas.animate(axes.text(0, 0, floor[1], va="center", fontsize=9, color=GREY))
    for text in (*ends.values(), meaning):
        text.set_in_layout(False)  # where they are before they move is outside of the axes

    def move(curves: Curves) -> None:
        for line, values in zip(lines, curves, strict=True):
            line.set_data(steps_of(values), values)
        shown = [k for k in ends if curves[k]]
        ends_of_lines = [(steps_of(curves[k])[-1], curves[k][-1]) for k in shown] + [(last, floor[0])]
        heights = apart([height for _, height in ends_of_lines], LEAST_APART * (limits[1] - limits[0]))
        names_shown = [ends[k] for k in shown] + [meaning]
        for text, (step, _), height in zip(names_shown, ends_of_lines, heights, strict=True):
            text.set_position((step + 0.02 * last, height))

    return move


def draw_losses(canvas: Canvas, axes: Any, names: Sequence[str], *, last: int) -> Callable[[Curves], None]:
    """Held-out losses over the least loss possible."""
    floor = (least_loss(held_out_batch()), "no error")
    return draw_curves(canvas, axes, names, title="Held-out loss, nats per token", last=last, floor=floor)


def draw_tuning(canvas: Canvas, axes: Any, traces: RaceTraces) -> Callable[[Sequence[Point]], None]:
    """The loss at the end for each learning rate of both optimizers: a mark a seed, a line through their means."""
    tidy_axes(axes, title="Muon's best rate ends lower", xlabel="learning rate", ylim=FINAL_LIMITS)
    axes.set(xscale="log", xlim=(0.0007, 0.12))
    label_ticks(axes, [0.001, 0.003, 0.01, 0.03, 0.1], axis="x")
    for name, runs in zip(OPTIMIZERS, traces.tuning[..., -1], strict=True):
        style, means = OPTIMIZER_STYLES[name], runs.mean(dim=-1).tolist()
        axes.plot(RATES[name], means, color=style.colour, linestyle=style.linestyle, linewidth=1.6)
        for seed in runs.T.tolist():
            axes.plot(RATES[name], seed, style.marker, color=style.colour, markersize=4.5)
        at = RATES[name][-1], runs[-1].max().item()
        axes.annotate(name, at, (0, 7), textcoords="offset points", ha="center", fontsize=9)
    return _rings(canvas, axes, len(OPTIMIZERS))


def draw_finals(canvas: Canvas, axes: Any, finals: Mapping[str, Tensor]) -> Callable[[Sequence[Point]], None]:
    """The loss at the end of every recorded run ``[seeds]``, by style, beside its mean with the 95 % interval."""
    tidy_axes(axes, title="After the last step, 5 seeds", xlim=(-0.5, len(finals) - 0.5), ylim=FINAL_LIMITS)
    names = [f"{name.partition(',')[0]}\n{STEPS * (2 if name == LONG else 1)} steps" for name in finals]
    label_ticks(axes, range(len(finals)), names, axis="x")
    for k, (name, losses) in enumerate(finals.items()):
        style, (mean, low, high) = STYLES[name], student_interval(losses)
        axes.plot([k - 0.12] * len(losses), losses.tolist(), style.marker, color=style.colour, markersize=4.5)
        axes.errorbar(
            [k + 0.12], [mean], [[mean - low], [high - mean]], color=style.colour, fmt=style.marker, capsize=4
        )
    return _rings(canvas, axes, len(finals))


def _rings(canvas: Canvas, axes: Any, most: int) -> Callable[[Sequence[Point]], None]:
    """Rings around the points that a view marks."""
    look = {"color": "none", "markeredgecolor": SKY_BLUE, "markersize": 14, "markeredgewidth": 2.4}
    rings = [canvas.animate(axes.plot([], [], "o", **look)[0]) for _ in range(most)]

    def move(points: Sequence[Point]) -> None:
        for k, ring in enumerate(rings):
            ring.set_data(*([[value] for value in points[k]] if k < len(points) else ([], [])))

    return move
