"""Verdicts on pairs of cells, as the plan laid them down: differs, does not differ by more than x, or cannot tell."""

import functools
import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy import stats

from hmpo_lib.evaluation import probability_of_improvement, student_interval
from hmpo_lib.teach.what_the_evidence_says.records import Floats

BOUND, LEVEL = 0.02, 0.05  # of mean reward; of a family's error

Word = Literal["differs", "does not differ by more than 0.02", "cannot tell"]


class Verdict(NamedTuple):
    """What the runs say of one pair of cells, on the same seeds.

    Attributes:
        difference, low, high: mean over seeds of first minus other, with Student's 95 % interval.
        seeds: how many.
        better: the probability that a run of the first is above one of the other (ties count half).
        p_differs: of the exact sign-flip test of the mean, two-sided, corrected by Holm within the family.
        p_equivalent: the larger of the two one-sided t-tests against ±BOUND, corrected likewise.
        word: the verdict.
    """

    difference: float
    low: float
    high: float
    seeds: int
    better: float
    p_differs: float
    p_equivalent: float
    word: Word


def sign_flip_p_value(differences: Floats) -> Floats:
    """P(a mean as far from 0, when each sign is a coin's), over all 2ⁿ signs, exactly: ``[..., n] -> [...]``.

    >>> float(sign_flip_p_value(np.array([1.0, 2.0, 3.0])))
    0.25
    """
    sums = np.abs(differences @ _signs(differences.shape[-1]).T)
    return np.mean(sums >= np.abs(differences.sum(axis=-1))[..., None] - 1e-9, axis=-1)


@functools.cache
def _signs(count: int) -> Floats:
    return np.array(list(itertools.product((-1.0, 1.0), repeat=count)))


def equivalence_p_value(differences: Floats, bound: float = BOUND) -> Floats:
    """The larger p-value of two one-sided t-tests, for a mean above −bound and below bound: ``[..., n] -> [...]``.

    >>> round(float(equivalence_p_value(np.array([0.001, -0.002, 0.003, 0.0]))), 4)
    0.0002
    """
    n = differences.shape[-1]
    mean, error = differences.mean(axis=-1), differences.std(axis=-1, ddof=1) / np.sqrt(n)
    with np.errstate(divide="ignore"):  # no spread at all: infinitely sure
        nearest = (bound - np.abs(mean)) / error
    return stats.t.sf(nearest, n - 1)


def holm(p_values: Sequence[float]) -> Floats:
    """p-values corrected for their number (Holm 1979): the k-th smallest of m times m − k + 1, never falling.

    >>> holm([0.01, 0.04, 0.02])
    array([0.03, 0.04, 0.04])
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = values.argsort()
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)).clip(max=1.0)
    corrected = np.empty_like(values)
    corrected[order] = steps
    return corrected


def judge(pairs: Sequence[tuple[Floats, Floats]]) -> list[Verdict]:
    """The verdicts of one family of comparisons.

    Args:
        pairs: (first, other), each ``[seeds]``, the same seeds in the same order.
    """
    pairs = [(np.asarray(first, dtype=np.float64), np.asarray(other, dtype=np.float64)) for first, other in pairs]
    for first, other in pairs:
        if first.shape != other.shape or first.ndim != 1 or len(first) < 2:
            raise ValueError(
                f"shapes {first.shape} and {other.shape}: expected two of [seeds], the same two or more seeds."
            )
    differences = [first - other for first, other in pairs]
    p_differs = holm([float(sign_flip_p_value(d)) for d in differences])
    p_equivalent = holm([float(equivalence_p_value(d)) for d in differences])
    return [
        Verdict(
            *student_interval(torch.as_tensor(d)),
            len(d),
            probability_of_improvement(torch.as_tensor(first), torch.as_tensor(other)),
            float(differs),
            float(equivalent),
            "differs"
            if differs < LEVEL
            else "does not differ by more than 0.02"
            if equivalent < LEVEL
            else "cannot tell",
        )
        for (first, other), d, differs, equivalent in zip(pairs, differences, p_differs, p_equivalent, strict=True)
    ]


class FalsePositives(NamedTuple):
    """How often the procedure says that twins differ, and what else it says.

    Attributes:
        paired: shares of the verdicts over draws of ten pairs of twins, by word.
        unpaired: the same for two groups of ten different seeds, where common random numbers do not help.
    """

    paired: dict[Word, float]
    unpaired: dict[Word, float]


WORDS: tuple[Word, ...] = ("differs", "does not differ by more than 0.02", "cannot tell")


def false_positives(first: Floats, twin: Floats, *, size: int = 10, draws: int = 2000, seed: int = 0) -> FalsePositives:
    """The verdicts on cells that are the same, drawn from pairs of twins, ``[seeds]`` each; families of one.

    Paired: some of the pairs, each pair's roles at random. Unpaired: two groups out of all the runs.
    """
    generator = np.random.default_rng(seed)
    pairs = _drawn(generator, first - twin, draws, size)
    groups = _drawn(generator, np.concatenate([first, twin]), draws, 2 * size)
    signs = generator.choice([-1.0, 1.0], (draws, size))
    return FalsePositives(_said(signs * pairs), _said(groups[:, :size] - groups[:, size:]))


def _drawn(generator: np.random.Generator, values: Floats, draws: int, count: int) -> Floats:
    """So many of the values, without putting back, anew in each draw: ``[draws, count]``."""
    return generator.permuted(np.tile(values, (draws, 1)), axis=1)[:, :count]


def _said(differences: Floats) -> dict[Word, float]:
    differs = sign_flip_p_value(differences) < LEVEL
    within = ~differs & (equivalence_p_value(differences) < LEVEL)
    return dict(zip(WORDS, map(float, (differs.mean(), within.mean(), (~differs & ~within).mean())), strict=True))
