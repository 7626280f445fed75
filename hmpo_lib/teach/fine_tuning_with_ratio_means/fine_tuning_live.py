"""Fine-tuning while one watches: what the model earns and writes, its ratios and its attention, step by step."""

from collections.abc import Iterator, Sequence

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hmpo_lib.lm.config import FineTuneConfig
from hmpo_lib.lm.records import StepRecord
from hmpo_lib.lm.tasks import is_worked
from hmpo_lib.lm.training import fine_tune
from hmpo_lib.means import log_power_mean
from hmpo_lib.teach.fine_tuning_with_ratio_means.fine_tuning_drawings import HEIGHT, WIDTH, LiveView, draw_live
from hmpo_lib.teach.live import LiveRun
from hmpo_lib.teach.plotting import Canvas


def worked_share(record: StepRecord) -> float:
    """The share of the rollout's answers that show their work."""
    return sum(map(is_worked, record.texts)) / len(record.texts)


def last_of_each_rollout(records: Sequence[StepRecord]) -> list[StepRecord]:
    """One record per rollout, its last so far: the one with the stalest ratios."""
    return list({record.rollout: record for record in records}.values())


def completion_means(record: StepRecord) -> Tensor:
    """M_p of each completion's ratios in a step's minibatch, ``[minibatch]``, with the step's own p."""
    return log_power_mean(record.log_ratios, record.p, record.completion_mask).exp()


def view_live(records: Sequence[StepRecord]) -> LiveView:
    """What the six plots show of the records so far."""
    ends, latest = last_of_each_rollout(records), records[-1]
    return LiveView(
        rewards=tuple(record.metrics["reward_mean"] for record in ends),
        worked=tuple(map(worked_share, ends)),
        tokens=tuple(record.metrics["completion_length_mean"] for record in ends),
        token_log_ratios=latest.log_ratios[latest.completion_mask],
        log_means=completion_means(latest).log(),
        max_logits={
            name: tuple(tuple(record.max_logits[name].tolist()) for record in ends) for name in latest.max_logits
        },
    )


def fine_tuning_caption(records: Sequence[StepRecord]) -> str:
    """The latest rollout in numbers."""
    last = records[-1]
    metrics = last.metrics
    clipped = f", {metrics['heads_clipped']:.0f} heads clipped" if "heads_clipped" in metrics else ""
    logit = f"; largest logit {metrics['max_logit']:.1f}{clipped}" if "max_logit" in metrics else ""
    return (
        f"rollout {last.rollout + 1}, step {last.step + 1}: reward {metrics['reward_mean']:.2f}, "
        f"{100 * worked_share(last):.0f} % worked, {metrics['completion_length_mean']:.1f} tokens per answer, "
        f"token ratios from {metrics['ratio_min']:.2f} to {metrics['ratio_max']:.2f}, "
        f"{100 * metrics['blocked_fraction']:.0f} % of the tokens blocked by the clip{logit}."
    )


def fine_tuning_alt(records: Sequence[StepRecord]) -> str:
    """The six plots in words."""
    first, last = records[0], records[-1]
    means = completion_means(last)
    logits = "not watched"
    if last.max_logits:
        logits = f"from {first.metrics['max_logit']:.1f} to {last.metrics['max_logit']:.1f} in the largest head"
    return (
        f"Six plots after {last.rollout + 1} rollouts. Mean reward, from {first.metrics['reward_mean']:.2f} to "
        f"{last.metrics['reward_mean']:.2f}; share of worked answers, from {worked_share(first):.2f} to "
        f"{worked_share(last):.2f}; tokens per answer, from {first.metrics['completion_length_mean']:.1f} to "
        f"{last.metrics['completion_length_mean']:.1f}; histograms of the latest step's ratios, of single tokens "
        f"between {last.metrics['ratio_min']:.2f} and {last.metrics['ratio_max']:.2f} and of completions' means "
        f"between {means.min():.3f} and {means.max():.3f}; largest attention logit of each head, {logits}."
    )


def fine_tuning_live(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: FineTuneConfig
) -> LiveRun[StepRecord]:
    """A `LiveRun` that fine-tunes ``model`` in place on sums and draws every optimizer step.

    The cell's last line is ``records = await fine_tuning_live(model, tokenizer, FineTuneConfig("hmpo")).run()``.
    """
    canvas = Canvas(WIDTH, HEIGHT)
    move = draw_live(canvas, config)

    def steps() -> Iterator[StepRecord]:
        return fine_tune(model, tokenizer, config)

    return LiveRun(
        steps,
        total=config.steps,
        canvas=canvas,
        draw=lambda records: move(view_live(records)),
        caption=fine_tuning_caption,
        alt=fine_tuning_alt,
        model=model,
    )
