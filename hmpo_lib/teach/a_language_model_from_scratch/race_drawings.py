"""The plots of notebook 06's training figures. Each function draws the axes and gives the function that moves them."""

from collections.abc import Callable, Sequence
from typing import Any

from hmpo_lib.teach.a_language_model_from_scratch.race_experiment import STEPS, STEPS_PER_RECORD
from hmpo_lib.teach.a_language_model_from_scratch.race_recording import OPTIMIZERS, RATES, RaceTraces
from hmpo_lib.teach.plotting import BLACK, BLUE, GREY, ORANGE, VERMILLION, Canvas, label_ticks, tidy_axes

Move = Callable[[Any], None]

LONG = "AdamW, twice the steps"
OWN = "your run"
STYLES = {"Muon": (BLUE, "-", "o"), "AdamW": (VERMILLION, "--", "s"), LONG: (ORANGE, "-.", "D"), OWN: (BLACK, "-", "o")}

LOSS_LIMITS = (0.55, 2.75)
FINAL_LIMITS = (0.55, 1.65)
SHORT_NAMES = {"Muon": f"Muon\n{STEPS} steps", "AdamW": f"AdamW\n{STEPS} steps", LONG: f"AdamW\n{2 * STEPS} steps"}


def steps_of(losses: Sequence[float]) -> list[int]:
    """After how many steps each record was made."""
    return [STEPS_PER_RECORD * (k + 1) for k in range(len(losses))]


def draw_loss_curves(canvas: Canvas, axes: Any, styles: Sequence[str], *, last: int, least: float) -> Move:
    """A line for each of the styles, which the view's `curves` fill, over a line for the least loss possible."""
    tidy_axes(axes, title="Held-out loss, nats per token", xlabel="optimizer steps", xlim=(0, last), ylim=LOSS_LIMITS)
    axes.axhline(least, color=GREY, linewidth=1, linestyle=":")
    axes.text(last, least + 0.02, "no error in any sum", ha="right", fontsize=9, color=GREY)
    lines = []
    for k, style in enumerate(styles):
        colour, dashes, _ = STYLES[style]
        label = style if style not in styles[:k] else None
        look = {"color": colour, "linestyle": dashes, "linewidth": 2.4 if style == OWN else 1.6, "label": label}
        lines.append(canvas.animate(axes.plot([], [], **look)[0]))
    axes.legend(loc="upper right", fontsize=9, frameon=False, borderaxespad=0.1)

    def move(view: Any) -> None:
        for line, losses in zip(lines, view.curves, strict=True):
            line.set_data(steps_of(losses), losses)

    return move


def draw_tuning(canvas: Canvas, axes: Any, traces: RaceTraces) -> Move:
    """The loss at the end for each learning rate of both optimizers: a mark a seed, a line through their means."""
    tidy_axes(axes, title=f"Loss after {STEPS} steps", xlabel="learning rate", ylim=FINAL_LIMITS)
    rates = [rate for name in OPTIMIZERS for rate in RATES[name]]
    axes.set(xscale="log", xlim=(min(rates) / 1.5, max(rates) * 1.5))
    label_ticks(axes, [0.001, 0.003, 0.01, 0.03, 0.1], axis="x")
    rings = []
    for name, runs in zip(OPTIMIZERS, traces.tuning[..., -1], strict=True):
        colour, dashes, marker = STYLES[name]
        look = {"color": colour, "linestyle": dashes, "linewidth": 1.6}
        axes.plot(
            RATES[name], runs.mean(dim=-1).tolist(), label=f"{name}, best at {traces.chosen[name].rate:g}", **look
        )
        for seed in runs.T.tolist():
            axes.plot(RATES[name], seed, marker, color=colour, markersize=4.5)
        ring = {"color": "none", "markeredgecolor": colour, "markersize": 15, "markeredgewidth": 2.2}
        rings.append(canvas.animate(axes.plot([], [], "o", **ring)[0]))
    axes.legend(loc="upper right", fontsize=9, frameon=False, borderaxespad=0.1)

    def move(view: Any) -> None:
        for ring, rate, loss in zip(rings, view.rates, view.finals, strict=True):
            ring.set_data([rate], [loss])

    return move


def draw_finals(canvas: Canvas, axes: Any, finals: dict[str, tuple[list[float], tuple[float, float, float]]]) -> Move:
    """The loss at the end of every recorded run, beside mean and interval; the view's `ends` stand out.

    Args:
        canvas, axes: where.
        finals: by style, the runs, and their mean with the interval's two ends.
    """
    tidy_axes(axes, title="Loss at the end, 5 seeds", ylim=FINAL_LIMITS)
    axes.set_xlim(-0.5, len(finals) - 0.5)
    label_ticks(axes, range(len(finals)), [SHORT_NAMES[style] for style in finals], axis="x")
    for k, (style, (runs, (mean, low, high))) in enumerate(finals.items()):
        colour, _, marker = STYLES[style]
        axes.plot([k - 0.12] * len(runs), runs, marker, color=colour, markersize=4.5)
        axes.errorbar([k + 0.12], [mean], [[mean - low], [high - mean]], color=colour, fmt=marker, capsize=4)
    ring = {"color": "none", "markeredgecolor": BLACK, "markersize": 12, "markeredgewidth": 1.8}
    rings = [canvas.animate(axes.plot([], [], "o", **ring)[0]) for _ in finals]

    def move(view: Any) -> None:
        for k, (mark, end) in enumerate(zip(rings, view.ends, strict=True)):
            mark.set_data(*(([k - 0.12], [end]) if end is not None else ([], [])))

    return move
