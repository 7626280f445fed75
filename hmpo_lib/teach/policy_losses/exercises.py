"""Exercises of notebook 04: the one-sided clip in log space, and the pushes that a token clip leaves."""

# Without types, as the reader sees them in the stubs:
# mypy: allow-untyped-defs

import math

import torch

from hmpo_lib.means import log_power_mean, power_mean_weights
from hmpo_lib.teach.checks import exercise


def numbers(*values):
    """A tensor in the precision of the notebook."""
    return torch.tensor(values, dtype=torch.float64)


LOG_RATIOS = numbers(0.3, -0.5, 0.0, 0.9, 0.1)
FAR = numbers(-900.0, -0.1, 0.05, 800.0)  # beyond what exp can hold


def by_way_of_the_ratios(d, A, lo, hi):
    """min(A r, A clip(r)) as it stands in the papers, and its logarithm."""
    r = d.exp()
    return (torch.minimum(A * r, A * r.clamp(lo, hi)) / A).log()


@exercise(
    probes=[
        (LOG_RATIOS, 1.0, 0.8, 1.2),
        (LOG_RATIOS, -2.0, 0.8, 1.2),
        (FAR, 0.5, 0.95, 1.5),
        (FAR, -1.0, 0.95, 1.5),
    ],
    mistakes={
        "That clips on both sides for either sign. One side is open: only one of the two bounds holds.": (
            lambda d, A, lo, hi: d.clamp(math.log(lo), math.log(hi))
        ),
        "The bounds are exchanged, as if the larger of the two were taken. For A > 0 the smaller one is min(r, hi).": (
            lambda d, A, lo, hi: d.clamp(min=math.log(lo)) if A > 0 else d.clamp(max=math.log(hi))
        ),
        "Right for A > 0. For A < 0 the smaller *surrogate* has the larger ratio: there the bound is lo.": (
            lambda d, A, lo, hi: d.clamp(max=math.log(hi))
        ),
        "The numbers in d are log-ratios, and lo and hi are ratios: clip at their logarithms.": (
            lambda d, A, lo, hi: d.clamp(max=hi) if A > 0 else d.clamp(min=lo)
        ),
        "Right as long as exp can hold it, but exp(800) is infinite. Clip the log-ratios themselves.": (
            by_way_of_the_ratios
        ),
        "That is A times what is left: divide by A.": (
            lambda d, A, lo, hi: torch.minimum(A * d, A * d.clamp(math.log(lo), math.log(hi)))
        ),
        "That is the ratio that is left. Return its logarithm, and stay in log space: exp(800) is infinite.": (
            lambda d, A, lo, hi: by_way_of_the_ratios(d, A, lo, hi).exp()
        ),
    },
    insight="Each sign has one bound, and in log space nothing overflows on the way to it.",
)
def clipped_log_ratios(d, A, lo, hi):
    """What a clip on the tokens leaves of the log-ratios d, for an advantage A.

    For each ratio r = exp(d) the clip takes the smaller one of A r and A clip(r, lo, hi). Return
    the logarithm of the ratio that is left. Stay in log space: exp(800) is infinite.
    """
    if A > 0:
        return d.clamp(max=math.log(hi))
    return d.clamp(min=math.log(lo))


def _pushes_of(d, p):
    """Without a clip."""
    return log_power_mean(d, p).exp() * power_mean_weights(d, p)


@exercise(
    probes=[
        (LOG_RATIOS, -1.0, 1.2),
        (LOG_RATIOS, 1.0, 1.2),
        (LOG_RATIOS, 0.0, 1.2),
        (LOG_RATIOS, 2.0, 1.05),
        (LOG_RATIOS, -1.0, 3.0),
    ],
    mistakes={
        "The blocked tokens must not be pushed: where d is above log(hi), the push is 0.": (
            lambda d, p, hi: (
                log_power_mean(d.clamp(max=math.log(hi)), p).exp() * power_mean_weights(d.clamp(max=math.log(hi)), p)
            )
        ),
        "Mean and weights are those of the clipped log-ratios, not of the ones before the clip.": (
            lambda d, p, hi: torch.where(d > math.log(hi), 0.0, log_power_mean(d, p).exp() * power_mean_weights(d, p))
        ),
        "The blocked tokens were left out of the mean. They get no push, but stay in n and in the weights.": (
            lambda d, p, hi: torch.where(
                d > math.log(hi),
                0.0,
                log_power_mean(d, p, d <= math.log(hi)).exp() * power_mean_weights(d, p, d <= math.log(hi)),
            )
        ),
        "The blocked tokens were left out. Return one push for each token, 0 for those; in the mean they stay.": (
            lambda d, p, hi: _pushes_of(d[d <= math.log(hi)], p)
        ),
        "The numbers in d are log-ratios, and hi is a ratio: clip at log(hi).": (
            lambda d, p, hi: torch.where(
                d > hi, 0.0, log_power_mean(d.clamp(max=hi), p).exp() * power_mean_weights(d.clamp(max=hi), p)
            )
        ),
        "Those are the weights alone. The push is the mean times the weight.": (
            lambda d, p, hi: torch.where(d > math.log(hi), 0.0, power_mean_weights(d.clamp(max=math.log(hi)), p))
        ),
    },
    insight="A blocked token is not pushed, but it counts: in n always, and by its clipped ratio at every p but 1.",
)
def clipped_pushes(d, p, hi):
    """The push on each token of a completion with A = 1, whose tokens are clipped at hi.

    d holds the log-ratios, p is the exponent. Clip first. The push is the mean of what is left,
    times the token's weight in it, and 0 for a token above hi.
    """
    left = d.clamp(max=math.log(hi))
    push = log_power_mean(left, p).exp() * power_mean_weights(left, p)
    return torch.where(d > math.log(hi), 0.0, push)
