"""Exercises of notebook 01: how many numbers a mean hears, and the exponent at which its verdict turns."""

# Without types, as the reader sees them in the stubs:
# mypy: allow-untyped-defs

import torch

from hmpo_lib.means import log_power_mean, power_mean, power_mean_weights
from hmpo_lib.teach.checks import exercise


def numbers(*values):
    """A tensor in the precision of the notebook."""
    return torch.tensor(values, dtype=torch.float64)


OUTLIER = numbers(0.1, 1.0, 1.0, 1.0, 1.0)
SIX = numbers(0.3, 0.9, 1.1, 1.2, 1.3, 1.5)  # of notebook 00


def halve(rises_above):
    """The bisection of `turning_point`, with another question asked at the middle."""

    def wrong_turning_point(r):
        low, high = -5.0, 5.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (low, middle) if rises_above(r, middle) else (middle, high)
        return middle

    return wrong_turning_point


@exercise(
    probes=[(OUTLIER, -1), (OUTLIER, 0), (OUTLIER, 1), (SIX, -1), (SIX, 2)],
    mistakes={
        "The softmax needs p times the logarithms of the ratios; these are the ratios themselves.": (
            lambda r, p: 1 / power_mean_weights(r, p).square().sum()
        ),
        "The sign of p is turned round: for p < 0 the small ratios weigh most.": (
            lambda r, p: 1 / power_mean_weights(r.log(), -p).square().sum()
        ),
        "That is the sum of the squares itself. Take 1 over it.": (
            lambda r, p: power_mean_weights(r.log(), p).square().sum()
        ),
        "That is 1 over the largest weight, the count if all were like it. Sum the squares of all.": (
            lambda r, p: 1 / power_mean_weights(r.log(), p).max()
        ),
        "Those are the weights themselves. How many are heard is 1 over the sum of their squares.": (
            lambda r, p: power_mean_weights(r.log(), p)
        ),
        "That is 1 whatever the weights are, since they sum to 1. Square each weight first, then sum.": (
            lambda r, p: 1 / power_mean_weights(r.log(), p).sum().square()
        ),
        "The weights do not sum to 1 yet: divide each power by the sum of all of them.": (
            lambda r, p: 1 / (r**p).square().sum()
        ),
    },
    insight="Of the numbers 0.1, 1, 1, 1, 1 the harmonic mean hears fewer than two; the geometric mean hears all five.",
)
def tokens_heard(r, p):
    """How many of the numbers r does the mean M_p hear?

    Count them by 1 over the sum of the squared escort weights: n equal weights count as n, a single weight of 1
    counts as 1. r is a tensor, p a number.
    """
    W = power_mean_weights(r.log(), p)
    return 1 / (W**2).sum()


@exercise(
    probes=[(SIX,), (numbers(0.5, 1.0, 1.5),), (numbers(0.5, 2.0),), (1 / SIX,)],
    mistakes={
        "The wrong half is kept. Where the mean is above 1, p is too large.": halve(lambda r, p: power_mean(r, p) < 1),
        "That is the mean at the turning point, which is 1. Return the exponent.": lambda r: 1.0,
        "`log_power_mean` gives the logarithm of the mean: compare it with 0, the logarithm of 1.": (
            halve(lambda r, p: log_power_mean(r.log(), p) > 1)
        ),
        "`log_power_mean` takes the logarithms of the ratios; these are the ratios themselves.": (
            halve(lambda r, p: log_power_mean(r, p) > 0)
        ),
    },
    insight="The verdict on the six ratios turns at p = 0.483: GSPO's mean is on one side, GRPO's on the other.",
)
def turning_point(r):
    """The exponent p between -5 and 5 at which the mean M_p of the ratios r is 1.

    The mean never falls as p rises, so halve the interval. Where the mean at its middle is above 1, p is too large:
    keep the lower half. Else keep the upper half. Return the middle after 40 halvings.
    """
    low, high = -5.0, 5.0
    for _ in range(40):
        middle = (low + high) / 2
        if power_mean(r, middle) > 1:
            high = middle
        else:
            low = middle
    return (low + high) / 2
