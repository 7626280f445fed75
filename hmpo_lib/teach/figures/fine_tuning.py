"""Fine-tuning while one watches: reward, share of worked answers, length and the ratios, step by step."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hmpo_lib.lm.records import StepRecord
from hmpo_lib.lm.tasks import MAX_COMPLETION_LENGTH, is_worked
from hmpo_lib.lm.training import FineTuneConfig, fine_tune
from hmpo_lib.means import log_power_mean
from hmpo_lib.teach.figures.log_histograms import bin_edges, bin_shares
from hmpo_lib.teach.live import LiveRun
from hmpo_lib.teach.plotting import BLACK, BLUE, GREEN, GREY, ORANGE, SKY_BLUE, Canvas, label_ticks, tidy_axes

# Ratios beyond these are counted in the outermost bins; 61 bins put a bin's middle at ratio 1.
LARGEST_RATIO = 1.5
BINS = 61


def worked_share(record: StepRecord) -> float:
    """The share of the rollout's answers that show their work."""
    return sum(map(is_worked, record.texts)) / len(record.texts)


def last_of_each_rollout(records: Sequence[StepRecord]) -> list[StepRecord]:
    """One record a rollout, its last so far: the one with the stalest ratios."""
    return list({record.rollout: record for record in records}.values())


def ratio_shares(ratios: Tensor) -> Tensor:
    """Share of the ratios in each of the histogram's bins, evenly spaced in the logarithm; the ends take the rest."""
    return torch.tensor(bin_shares(ratios.log(), limit=math.log(LARGEST_RATIO), bins=BINS))


def completion_means(record: StepRecord) -> Tensor:
    """M_p of each completion's ratios in a step's minibatch, ``[minibatch]``, with the step's own p."""
    return log_power_mean(record.log_ratios, record.p, record.completion_mask).exp()


def fine_tuning_caption(records: Sequence[StepRecord]) -> str:
    """The latest rollout in numbers."""
    last = records[-1]
    metrics = last.metrics
    return (
        f"rollout {last.rollout + 1}, step {last.step + 1}: reward {metrics['reward_mean']:.2f}, "
        f"{100 * worked_share(last):.0f} % worked, {metrics['completion_length_mean']:.1f} tokens an answer, "
        f"token ratios from {metrics['ratio_min']:.2f} to {metrics['ratio_max']:.2f}, "
        f"{100 * metrics['blocked_fraction']:.0f} % of the tokens blocked by the clip."
    )


def fine_tuning_alt(records: Sequence[StepRecord]) -> str:
    """The four plots in words."""
    first, last = records[0], records[-1]
    return (
        f"Four plots after {last.rollout + 1} rollouts. Mean reward, from {first.metrics['reward_mean']:.2f} to "
        f"{last.metrics['reward_mean']:.2f}; share of worked answers, from {worked_share(first):.2f} to "
        f"{worked_share(last):.2f}; tokens an answer, from {first.metrics['completion_length_mean']:.1f} to "
        f"{last.metrics['completion_length_mean']:.1f}; histograms of the latest step's ratios, of single tokens "
        f"between {last.metrics['ratio_min']:.2f} and {last.metrics['ratio_max']:.2f} and of completions' means."
    )


def fine_tuning_live(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: FineTuneConfig) -> LiveRun:
    """A `LiveRun` that fine-tunes ``model`` in place on sums and draws every optimizer step.

    The cell's last line is ``records = await fine_tuning_live(model, tokenizer, FineTuneConfig("hmpo")).run()``.
    """
    canvas = Canvas(760, 450)
    width, height, rollouts = 0.405, 0.32, range(config.rollouts)
    reward = canvas.figure.add_axes((0.075, 0.61, width, height))
    worked = canvas.figure.add_axes((0.575, 0.61, width, height))
    length = canvas.figure.add_axes((0.075, 0.115, width, height))
    ratios = canvas.figure.add_axes((0.575, 0.115, width, height))
    xlim = (-0.02 * config.rollouts, max(1.0, 1.02 * (config.rollouts - 1)))
    tidy_axes(reward, title="Reward: share of right answers", xlim=xlim, ylim=(0, 1.02))
    tidy_axes(worked, title="Share of answers that show the work", xlim=xlim, ylim=(0, 1.02))
    tidy_axes(length, title="Tokens an answer", xlabel="rollout", xlim=xlim, ylim=(0, MAX_COMPLETION_LENGTH))
    curves = [
        canvas.animate(axes.plot([], [], color=colour, linewidth=2, marker=marker, markersize=3)[0])
        for axes, colour, marker in ((reward, BLUE, "o"), (worked, GREEN, "s"), (length, BLACK, "^"))
    ]
    objective = config.resolved_method().objective
    edges = bin_edges(math.log(LARGEST_RATIO), BINS)
    smallest_share = 5e-4
    tidy_axes(ratios, title="Ratios at the latest step", xlabel="ratio new / old", xlim=(edges[0], edges[-1]))
    ratios.set(xscale="log", yscale="log", ylim=(smallest_share, 1.6))
    label_ticks(ratios, [0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5], axis="x")
    label_ticks(ratios, [0.001, 0.01, 0.1, 1], ["0.1 %", "1 %", "10 %", "100 %"])
    if objective.clip_range is not None:
        place = "tokens" if objective.clip == "token" else "completions"
        for bound, label in zip(objective.clip_range, (f"clip of {place}", None), strict=True):
            ratios.axvline(bound, color=GREY, linestyle=":", linewidth=1.5, label=label)
    by_token = ratios.stairs([smallest_share] * BINS, edges, baseline=smallest_share, fill=True, color=SKY_BLUE)
    by_completion = ratios.stairs([smallest_share] * BINS, edges, baseline=smallest_share, color=ORANGE, linewidth=1.8)
    by_token.set_label("tokens")
    by_completion.set_label("completions, $M_p$")
    legend = ratios.legend(loc="upper right", fontsize=8.5, handlelength=1.2, borderaxespad=0.1, framealpha=1)
    legend.get_frame().set_edgecolor("none")
    histograms = [canvas.animate(by_token), canvas.animate(by_completion)]

    def draw(records: Sequence[StepRecord]) -> None:
        ends = last_of_each_rollout(records)
        rows = (
            [record.metrics["reward_mean"] for record in ends],
            [worked_share(record) for record in ends],
            [record.metrics["completion_length_mean"] for record in ends],
        )
        for curve, values in zip(curves, rows, strict=True):
            curve.set_data(rollouts[: len(values)], values)
        latest = records[-1]
        tokens = latest.log_ratios[latest.completion_mask].exp()
        for stairs, sample in zip(histograms, (tokens, completion_means(latest)), strict=True):
            stairs.set_data(ratio_shares(sample).clamp(min=smallest_share).tolist())

    def steps() -> Iterator[StepRecord]:
        return fine_tune(model, tokenizer, config)

    return LiveRun(
        steps, total=config.steps, canvas=canvas, draw=draw, caption=fine_tuning_caption, alt=fine_tuning_alt
    )
