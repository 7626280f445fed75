"""Exercises of notebook 04: the one-sided clip by hand, and the pushes that a token clip leaves."""

# Without types, as the reader sees them in the stubs:
# mypy: allow-untyped-defs

import math

import torch

from hmpo_lib.means import log_power_mean, power_mean_weights
from hmpo_lib.teach.checks import exercise


def numbers(*values):
    """A tensor in the precision of the notebook."""
    return torch.tensor(values, dtype=torch.float64)


RATIOS = numbers(0.5, 0.9, 1.0, 1.1, 2.0)
LOG_RATIOS = numbers(0.3, -0.5, 0.0, 0.9, 0.1)


@exercise(
    probes=[
        (RATIOS, 1.0, 0.8, 1.2),
        (RATIOS, -1.0, 0.8, 1.2),
        (RATIOS, 0.5, 0.95, 1.5),
        (RATIOS, -2.0, 0.95, 1.5),
    ],
    mistakes={
        "That clips on both sides for either sign. Only the side on which the surrogate would gain is to be cut.": (
            lambda r, A, lo, hi: A * r.clamp(lo, hi)
        ),
        "The larger of the two is taken. A careful surrogate takes the smaller one.": (
            lambda r, A, lo, hi: torch.maximum(A * r, A * r.clamp(lo, hi))
        ),
        "Right for A > 0. For A < 0 the smaller *ratio* is the larger surrogate: multiply by A first, then compare.": (
            lambda r, A, lo, hi: A * torch.minimum(r, r.clamp(lo, hi))
        ),
        "The advantage is missing: compare A times the ratio with A times the clipped ratio.": (
            lambda r, A, lo, hi: torch.minimum(r, r.clamp(lo, hi))
        ),
    },
    insight="For A > 0 this is A · min(r, hi), for A < 0 it is A · max(r, lo): each sign has one wall.",
)
def one_sided_clip(r, A, lo, hi):
    """The clipped surrogate of each token ratio, min(A r, A clip(r, lo, hi)).

    r is a tensor of ratios, A one advantage of either sign. clip(r, lo, hi) moves a ratio below lo up to lo and one
    above hi down to hi. The minimum is taken for each ratio by itself.
    """
    return torch.minimum(A * r, A * r.clamp(lo, hi))


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
        "Mean and weights hear the clipped log-ratios, not the ones before the clip.": (
            lambda d, p, hi: torch.where(d > math.log(hi), 0.0, log_power_mean(d, p).exp() * power_mean_weights(d, p))
        ),
        "The blocked tokens were left out of the mean. They get no push, but stay in n and in the weights.": (
            lambda d, p, hi: torch.where(
                d > math.log(hi),
                0.0,
                log_power_mean(d, p, d <= math.log(hi)).exp() * power_mean_weights(d, p, d <= math.log(hi)),
            )
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
    insight="A blocked token is not pushed, yet its clipped ratio still decides how hard the others are.",
)
def clipped_pushes(d, p, hi):
    """The push on each token of a completion with A = 1, whose tokens are clipped at hi before the mean.

    d holds the log-ratios, p is the exponent. Clip first; the push is then the mean of what is left times the token's
    weight in it, and 0 for a token above hi. `log_power_mean` and `power_mean_weights` take log-ratios.
    """
    heard = d.clamp(max=math.log(hi))
    push = log_power_mean(heard, p).exp() * power_mean_weights(heard, p)
    return torch.where(d > math.log(hi), 0.0, push)
