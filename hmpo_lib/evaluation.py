"""What a few noisy runs say: means with intervals, robust means, and the probability that one method beats another.

Scores are ``[runs, tasks]``, or ``[runs]`` for one task. Source: Agarwal et al., *Deep Reinforcement Learning at the
Edge of the Statistical Precipice*, NeurIPS 2021 (rliable); pass@k: Chen et al., arXiv 2107.03374, eq. 1.

The statistics are scipy's (extra ``lab``), which is imported where it is needed: `import hmpo_lib` needs torch alone.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Interval(NamedTuple):
    """An estimate and its interval."""

    estimate: float
    low: float
    high: float


def interquartile_mean(scores: Tensor) -> Tensor:
    """Mean of the middle half of all scores: the lowest and the highest quarter, rounded down, are left out.

    Args:
        scores: ``[..., runs, tasks]`` or ``[runs]``; runs and tasks are pooled.

    >>> interquartile_mean(torch.tensor([[0.0], [1.0], [2.0], [99.0]]))
    tensor(1.5000)
    """
    from scipy import stats

    pooled = _real(torch.atleast_2d(scores)).flatten(-2)
    return torch.as_tensor(stats.trim_mean(pooled.numpy(force=True), 0.25, axis=-1), dtype=pooled.dtype)


def student_interval(runs: Tensor, *, confidence: float = 0.95) -> Interval:
    """Mean of a few runs with its interval by Student's t, which takes them for normally distributed.

    Args:
        runs: ``[runs]``, at least 2. For another statistic than the mean, see `bootstrap_interval`.
        confidence: of the interval.

    Raises:
        ValueError: fewer than two runs, or a confidence outside (0, 1).

    >>> [round(x, 2) for x in student_interval(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]))]
    [3.0, 1.04, 4.96]
    """
    from scipy import stats

    if runs.dim() != 1 or len(runs) < 2 or not 0 < confidence < 1:
        raise ValueError(
            f"runs has shape {tuple(runs.shape)}, confidence is {confidence}: expected one dimension of at least 2 runs"
            " and a number in (0, 1)."
        )
    mean, error = runs.double().mean().item(), runs.double().std().item() / math.sqrt(len(runs))
    half = error * float(stats.t.ppf((1 + confidence) / 2, len(runs) - 1))
    return Interval(mean, mean - half, mean + half)


def bootstrap_interval(
    scores: Tensor,
    statistic: Callable[[Tensor], Tensor] = interquartile_mean,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a statistic by the stratified bootstrap: runs are drawn anew within each task.

    Args:
        scores: ``[runs]`` or ``[runs, tasks]``.
        statistic: ``[..., runs, tasks]`` -> ``[...]``.
        confidence: of the interval.
        resamples: how many.
        seed: of the drawing.

    Raises:
        ValueError: fewer than two runs, or a confidence outside (0, 1).

    >>> bootstrap_interval(torch.full((5,), 0.8)).low
    0.80000...
    """
    from scipy import stats

    table = _two_dimensional(scores)
    if len(table) < 2 or not 0 < confidence < 1:
        raise ValueError(
            f"{len(table)} runs, confidence {confidence}: expected at least 2 runs and a number in (0, 1)."
        )

    def of_columns(*tasks: Any, axis: int) -> Any:
        return statistic(torch.stack([torch.as_tensor(task) for task in tasks], dim=-1)).numpy()

    # Each task is a sample of its own: the strata.
    columns = tuple(table.numpy(force=True).T)
    low, high = stats.bootstrap(
        columns, of_columns, n_resamples=resamples, confidence_level=confidence, method="percentile", rng=seed
    ).confidence_interval
    return Interval(float(statistic(table)), float(low), float(high))


def probability_of_improvement(scores: Tensor, other: Tensor) -> float:
    """P(a run of the first beats one of the other on the same task), ties count half; the mean over tasks.

    For one task it is the Mann-Whitney statistic over the product of the numbers of runs.

    Args:
        scores: ``[runs]`` or ``[runs, tasks]``.
        other: the same for the other method; the runs may be more or fewer.

    Raises:
        ValueError: not the same tasks.

    >>> probability_of_improvement(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 2.0]))
    0.625
    """
    first, second = _two_dimensional(scores), _two_dimensional(other)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"{first.shape[1]} tasks and {second.shape[1]}: expected scores on the same tasks.")
    difference = first.unsqueeze(1) - second.unsqueeze(0)
    return float(((difference > 0).double() + (difference == 0).double() / 2).mean())


def pass_at_k(samples: int, right: int, k: int) -> float:
    """Unbiased estimate of P(at least one of k answers is right) from ``right`` among ``samples``.

    1 − C(samples − right, k) / C(samples, k)

    Raises:
        ValueError: not 0 <= right <= samples, or not 1 <= k <= samples.

    >>> pass_at_k(4, 2, 2)
    0.8333333333333334
    """
    if not (0 <= right <= samples and 1 <= k <= samples):
        raise ValueError(f"samples = {samples}, right = {right}, k = {k}: expected right and k of at most samples.")
    return 1 - math.comb(samples - right, k) / math.comb(samples, k)


def _two_dimensional(scores: Tensor) -> Tensor:
    if scores.dim() not in (1, 2) or scores.numel() == 0:
        raise ValueError(f"scores has shape {tuple(scores.shape)}: expected [runs] or [runs, tasks], not empty.")
    return _real(scores.view(len(scores), -1))


def _real(scores: Tensor) -> Tensor:
    """Counts and truth values are scores too; their mean is a float."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))
