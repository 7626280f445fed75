"""What a few noisy runs say: means with intervals, robust means, and the probability that one method beats another.

Scores are ``[runs, tasks]``, or ``[runs]`` for one task. Source: Agarwal et al., *Deep Reinforcement Learning at the
Edge of the Statistical Precipice*, NeurIPS 2021 (rliable); pass@k: Chen et al., arXiv 2107.03374, eq. 1.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

# The 97.5 % points of Student's t, by the number of runs: one more than its degrees of freedom.
_STUDENT_T = {
    2: 12.7062, 3: 4.30265, 4: 3.18245, 5: 2.77645, 6: 2.57058, 7: 2.44691, 8: 2.36462, 9: 2.306, 10: 2.26216,
    11: 2.22814, 12: 2.20099, 13: 2.17881, 14: 2.16037, 15: 2.14479, 16: 2.13145, 17: 2.11991, 18: 2.10982,
    19: 2.10092, 20: 2.09302,
}  # fmt: skip


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
    ordered = _real(torch.atleast_2d(scores)).flatten(-2).sort(dim=-1).values
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(dim=-1)


def student_interval(runs: Tensor) -> Interval:
    """Mean of a few runs with its 95 % interval by Student's t, which takes them for normally distributed.

    Args:
        runs: ``[runs]``, from 2 to 20. With more, see `bootstrap_interval`.

    Raises:
        ValueError: another number of runs.

    >>> [round(x, 2) for x in student_interval(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]))]
    [3.0, 1.04, 4.96]
    """
    if runs.dim() != 1 or len(runs) not in _STUDENT_T:
        raise ValueError(f"got runs of shape {tuple(runs.shape)}: expected one dimension of 2 to 20 runs.")
    mean = runs.double().mean().item()
    half = _STUDENT_T[len(runs)] * runs.double().std().item() / math.sqrt(len(runs))
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
    table = _two_dimensional(scores)
    runs, tasks = table.shape
    if runs < 2 or not 0 < confidence < 1:
        raise ValueError(f"{runs} runs, confidence {confidence}: expected at least 2 runs and a number in (0, 1).")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(runs, (resamples, runs, tasks), generator=generator)
    values = statistic(table.expand(resamples, runs, tasks).gather(1, drawn))
    tail = (1 - confidence) / 2
    low, high = values.quantile(torch.tensor([tail, 1 - tail], dtype=values.dtype)).tolist()
    return Interval(float(statistic(table)), low, high)


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
