"""Runs that differ in the exponent alone, learning side by side, and how much room their ratios leave it to differ."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.ticker import MaxNLocator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hmpo_lib.lm.config import FineTuneConfig
from hmpo_lib.lm.records import StepRecord
from hmpo_lib.lm.training import fine_tune
from hmpo_lib.means import log_power_mean
from hmpo_lib.teach.fine_tuning_with_ratio_means.fine_tuning_live import worked_share
from hmpo_lib.teach.live import LiveRun
from hmpo_lib.teach.plotting import MEAN_STYLES, Canvas, label_ticks, tidy_axes

SMALLEST_GAP = 1e-5  # the lower end of the last plot's logarithmic axis
STYLES = {style.p: style for style in MEAN_STYLES.values()}

Rollouts = Sequence[tuple[StepRecord, ...]]  # rollout by rollout, the last record of each run


@dataclass(frozen=True)
class ComparisonView:
    """What the plots show: for each run a number per rollout.

    Attributes:
        rewards, worked: of the rollout's answers.
        gaps: mean of M_1 − M_−1 over the answers of the rollout's last step: what another exponent could change.
    """

    rewards: tuple[tuple[float, ...], ...]
    worked: tuple[tuple[float, ...], ...]
    gaps: tuple[tuple[float, ...], ...]


def room_to_differ(record: StepRecord) -> float:
    """The mean over a step's answers of M_1 − M_−1: 0 where no exponent can make a difference."""
    high, low = (log_power_mean(record.log_ratios, p, record.completion_mask).exp() for p in (1.0, -1.0))
    return float((high - low).mean())


def view_comparison(rollouts: Rollouts) -> ComparisonView:
    """The runs so far."""
    runs = list(zip(*rollouts, strict=True))
    return ComparisonView(
        rewards=tuple(tuple(record.metrics["reward_mean"] for record in run) for run in runs),
        worked=tuple(tuple(map(worked_share, run)) for run in runs),
        gaps=tuple(tuple(map(room_to_differ, run)) for run in runs),
    )


def comparison_live(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, configs: Sequence[FineTuneConfig]
) -> LiveRun[tuple[StepRecord, ...]]:
    """A `LiveRun` that fine-tunes a copy of ``model`` for each config, in turns, and draws them after every rollout.

    Args:
        model: where all runs begin; it is left as it is.
        tokenizer: its tokenizer.
        configs: of as many rollouts, each with a p of -1, 0 or 1.
    """
    exponents = [config.resolved_method().objective.p for config in configs]
    names = [f"p = {p:g}".replace("-", "−") for p in exponents if isinstance(p, float)]
    canvas = Canvas(760, 300)
    move = _draw(canvas, [STYLES[p] for p in exponents if isinstance(p, float)], names, configs[0].rollouts)

    def steps() -> Iterator[tuple[StepRecord, ...]]:
        runs = [fine_tune(copy.deepcopy(model), tokenizer, config) for config in configs]
        for _ in range(configs[0].rollouts):
            yield tuple(
                [next(run) for _ in range(config.steps_per_rollout)][-1]
                for run, config in zip(runs, configs, strict=True)
            )

    def caption(rollouts: Rollouts) -> str:
        view = view_comparison(rollouts)
        ends = [
            f"{name}: {sum(rewards) / len(rewards):.3f} right, {worked[-1]:.2f} worked, room {gaps[-1]:.4f}"
            for name, rewards, worked, gaps in zip(names, view.rewards, view.worked, view.gaps, strict=True)
        ]
        past = f"After {len(rollouts)} of {configs[0].rollouts} rollouts"
        return f"{past}, right on average over them, worked in the last: {'; '.join(ends)}."

    return LiveRun(
        steps,
        total=configs[0].rollouts,
        canvas=canvas,
        draw=lambda rollouts: move(view_comparison(rollouts)),
        caption=caption,
        alt=lambda rollouts: (
            "Three plots over the rollouts, a line for each exponent: right answers, answers with work, and the room "
            f"to differ, the mean of M₁ − M₋₁ in the last step. {caption(rollouts)}"
        ),
    )


def _draw(
    canvas: Canvas, styles: Sequence[Any], names: Sequence[str], rollouts: int
) -> Callable[[ComparisonView], None]:
    axes = canvas.mosaic([["rewards", "worked", "gaps"]])
    titles = {"rewards": "Right answers", "worked": "Answers with work", "gaps": "Room: mean of $M_1 - M_{-1}$"}
    lines: dict[str, list[Any]] = {}
    for name, plot in axes.items():
        tidy_axes(plot, title=titles[name], xlabel="rollout", xlim=(0.7, max(2.0, rollouts + 0.3)), ylim=(0, 1.02))
        plot.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
        if name == "gaps":
            plot.set(yscale="log", ylim=(SMALLEST_GAP, 1))
            label_ticks(plot, [1e-4, 1e-3, 0.01, 0.1, 1])
        else:
            label_ticks(plot, [0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        looks = ({"color": s.colour, "linestyle": s.linestyle, "marker": s.marker, "markersize": 4} for s in styles)
        lines[name] = [canvas.animate(plot.plot([], [], linewidth=1.8, **look)[0]) for look in looks]
    canvas.figure.legend(
        lines["rewards"], names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=9
    )

    def draw(view: ComparisonView) -> None:
        for name, curves in lines.items():
            for line, values in zip(curves, getattr(view, name), strict=True):
                line.set_data(range(1, len(values) + 1), [max(value, SMALLEST_GAP) for value in values])

    return draw
