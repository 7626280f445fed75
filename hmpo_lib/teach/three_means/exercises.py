"""Exercises of notebook 01: the harmonic mean, the push on a token, and the exponent at which a verdict turns."""

# Without types, as the reader sees them in the stubs:
# mypy: allow-untyped-defs

import torch

from hmpo_lib.means import log_power_mean, power_mean, power_mean_weights
from hmpo_lib.teach.checks import exercise


def numbers(*values):
    """A tensor in the precision of the notebook."""
    return torch.tensor(values, dtype=torch.float64)


OUTLIER = numbers(0.1, 1.0, 1.0, 1.0, 1.0)
FALLEN = numbers(0.05, 1.0, 1.5).log()
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
    probes=[(OUTLIER,), (SIX,), (numbers(2.0, 6.0),)],
    mistakes={
        "That is the average of the reciprocals. Take the reciprocal of it once more.": lambda r: (1 / r).mean(),
        "That is 1 over the sum of the reciprocals. Average them, do not sum them.": lambda r: 1 / (1 / r).sum(),
        "That is the arithmetic mean: average the reciprocals instead.": lambda r: r.mean(),
        "Those are all n of them: average the reciprocals before you turn back.": lambda r: 1 / (1 / r),
        "That is the geometric mean. Here it is the reciprocals that are averaged.": lambda r: r.log().mean().exp(),
    },
    insight="Of 0.1, 1, 1, 1, 1 it is 0.357: nearer to the one small number than to the four ones.",
)
def harmonic_mean(r):
    """The harmonic mean of a tensor of positive numbers."""
    return 1 / (1 / r).mean()


@exercise(
    probes=[(FALLEN, -1, 1.0), (FALLEN, 0, 1.0), (FALLEN, 1, -1.0), (SIX.log(), 2, 0.5)],
    mistakes={
        "Those are the shares times A. They say how the total is shared out; the total, A M_p, is missing.": (
            lambda d, p, advantage: advantage * power_mean_weights(d, p)
        ),
        "`log_power_mean` gives the logarithm of the mean: take `.exp()` of it.": (
            lambda d, p, advantage: advantage * log_power_mean(d, p) * power_mean_weights(d, p)
        ),
        "The advantage is missing: its sign says up or down.": (
            lambda d, p, advantage: log_power_mean(d, p).exp() * power_mean_weights(d, p)
        ),
        "That is the total, A M_p. Share it out by the weights.": (
            lambda d, p, advantage: advantage * log_power_mean(d, p).exp()
        ),
        "The sign of p is the other one in the weights.": (
            lambda d, p, advantage: advantage * log_power_mean(d, p).exp() * power_mean_weights(d, -p)
        ),
    },
    insight="It is what torch's autograd gives for the derivative of A M_p with respect to each d_t.",
)
def pushes(d, p, advantage):
    """The push A M_p W_t on each token, from the log-ratios d."""
    return advantage * log_power_mean(d, p).exp() * power_mean_weights(d, p)


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
    """The exponent p between -5 and 5 at which the mean M_p of the ratios r is 1, to four digits."""
    low, high = -5.0, 5.0
    for _ in range(40):
        middle = (low + high) / 2
        if power_mean(r, middle) > 1:
            high = middle
        else:
            low = middle
    return (low + high) / 2
