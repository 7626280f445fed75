"""What a fine-tuning run tells of itself: a record for each optimizer step, a row for each rollout."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from hmpo_lib.lm.rollouts import Rollout


class StepRecord(NamedTuple):
    """What one optimizer step saw; all tensors are detached and on the CPU.

    Attributes:
        rollout: which rollout, from 0.
        step: which optimizer step since it was sampled, from 0: the staleness of the log-probabilities, besides a
            ``policy_lag``.
        metrics: plain numbers, each defined in docs/metrics.md; those of the rollout repeat on each of its steps.
        log_ratios: ``[minibatch, time]``, before clipping; 0 where masked.
        completion_mask: ``[minibatch, time]``, bool.
        advantages: ``[minibatch]``.
        p: the exponent of this step, a number or ``[minibatch]``.
        prompts: of the whole rollout, one a group.
        texts: completions of the whole rollout, groups one after the other.
        rewards: ``[batch]`` of the whole rollout.
        rows: ``[minibatch]``, which completions of the rollout the step learned from: indices into ``texts``.
        max_logits: the attention module's name -> the largest logit of each head, ``[heads]``, in the step's forward
            passes; empty where they are not watched.
    """

    rollout: int
    step: int
    metrics: dict[str, float]
    log_ratios: Tensor
    completion_mask: Tensor
    advantages: Tensor
    p: float | Tensor
    prompts: list[str]
    texts: list[str]
    rewards: Tensor
    rows: Tensor
    max_logits: dict[str, Tensor]


def rollout_metrics(rollout: Rollout, rewards: Tensor, advantages: Tensor, group_size: int) -> dict[str, float]:
    """What is measured of a rollout as a whole; each is defined in docs/metrics.md."""
    groups = advantages.view(-1, group_size)
    return {
        "reward_mean": float(rewards.mean()),
        "completion_length_mean": float(rollout.completion_mask.sum(dim=1).float().mean()),
        "zero_variance_fraction": float((groups == 0).all(dim=1).float().mean()),
        "truncated_fraction": float(rollout.truncated.float().mean()),
    }


def rollout_row(records: list[StepRecord]) -> dict[str, float]:
    """The row of metrics.csv for one rollout, from the records of all its steps.

    Metrics of a step are averaged over the steps, except ``seconds`` (the last one's: the whole rollout),
    ``ratio_min``, and ``ratio_max`` and ``max_logit`` (the largest).
    """
    reduce: dict[str, Callable[[list[float]], float]] = {
        "seconds": lambda values: values[-1],
        "ratio_min": min,
        "ratio_max": max,
        "max_logit": max,
    }
    columns = {name: [record.metrics[name] for record in records] for name in records[0].metrics}
    means = {name: reduce.get(name, lambda v: sum(v) / len(v))(values) for name, values in columns.items()}
    return {"rollout": records[0].rollout, **means}
