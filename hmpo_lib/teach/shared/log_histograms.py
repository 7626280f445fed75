"""Histograms of log-ratios: bins that are even in the logarithm, with ratio 1 in the middle of one."""

import math

import torch
from torch import Tensor


def bin_edges(limit: float, bins: int) -> list[float]:
    """The bins' edges as ratios, from exp(−limit) to exp(limit).

    >>> [round(edge, 3) for edge in bin_edges(math.log(2), 3)]
    [0.5, 0.794, 1.26, 2.0]
    """
    return [math.exp(limit * (2 * k / bins - 1)) for k in range(bins + 1)]


def bin_shares(log_ratios: Tensor, weights: Tensor | None = None, *, limit: float, bins: int) -> tuple[float, ...]:
    """The share in each bin; the bins at the ends take whatever lies beyond ±limit.

    Args:
        log_ratios: ``[n]``.
        weights: ``[n]``, of any scale; default: all alike.
        limit: log-ratios up to here have bins of their own.
        bins: an odd number, so that a ratio of 1 that rounding has moved does not change its bin.

    >>> bin_shares(torch.tensor([-9.0, 0.0, 0.0, 9.0]), limit=1.0, bins=3)
    (0.25, 0.5, 0.25)
    """
    places = ((log_ratios + limit) / (2 * limit) * bins).floor().clamp(0, bins - 1).long()
    weights = torch.ones_like(log_ratios) if weights is None else weights
    return tuple((torch.bincount(places, weights, minlength=bins) / weights.sum()).tolist())
