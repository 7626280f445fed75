"""What a completion's token ratios say together: four numbers that are all called "the ratio", and how many count.

Also the Rényi divergence, which is what a power mean of the ratio measures in expectation over the old distribution.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hmpo_lib.means import log_power_mean, power_mean_weights


class SequenceLogRatios(NamedTuple):
    """Logarithms of four ratios of each completion, ``[batch]`` each.

    Attributes:
        product: Σ_t d_t: how much more likely the whole completion has become (sequence importance sampling).
        arithmetic: log M_1: the ratio that GRPO hears.
        geometric: log M_0 = product / length: GSPO's.
        harmonic: log M_-1: HMPO's.
    """

    product: Tensor
    arithmetic: Tensor
    geometric: Tensor
    harmonic: Tensor


def sequence_log_ratios(log_ratios: Tensor, completion_mask: Tensor | None = None) -> SequenceLogRatios:
    """The product and the three named means of each completion's token ratios, as logarithms.

    Args:
        log_ratios: ``[..., time]``, d_t = logprob_new_t − logprob_old_t.
        completion_mask: true on completion tokens, broadcasts to ``log_ratios``. A completion without tokens has 0s.

    >>> sequence_log_ratios(torch.full((200,), 1.02).log()).product.exp()  # 1.02 to the power of 200
    tensor(52.48...)
    """
    means = [log_power_mean(log_ratios, p, completion_mask) for p in (1.0, 0.0, -1.0)]
    mask = torch.ones_like(log_ratios, dtype=torch.bool) if completion_mask is None else completion_mask.bool()
    length = mask.expand(log_ratios.shape).sum(dim=-1)
    return SequenceLogRatios(means[1] * length, *means)


def log_arithmetic_harmonic_mean(log_ratios: Tensor, steps: int, mask: Tensor | None = None, dim: int = -1) -> Tensor:
    """log a_k of the arithmetic-harmonic iteration that starts at the arithmetic and harmonic mean of the ratios.

    a, h → (a + h) / 2, 2 a h / (a + h). ``steps`` = 0 is log M_1; with more steps it falls to (log M_1 + log M_-1) / 2,
    which is log M_0 for two ratios, and in general not. Differentiable. In between it is no power mean.

    Args:
        log_ratios: as in `log_power_mean`, with ``mask`` and ``dim``.
        steps: how many, from 0.

    Raises:
        ValueError: a negative number of steps.

    >>> log_arithmetic_harmonic_mean(torch.tensor([1.0, 1.0, 8.0]).log(), 9).exp()  # the geometric mean is 2
    tensor(2.1693)
    """
    if steps < 0:
        raise ValueError(f"steps = {steps}: expected a number from 0; 0 is the arithmetic mean.")
    a, h = (log_power_mean(log_ratios, p, mask, dim) for p in (1.0, -1.0))
    for _ in range(steps):
        middle = torch.logaddexp(a, h) - math.log(2)
        a, h = middle, a + h - middle  # the product a h never changes
    return a


def effective_sample_size(log_weights: Tensor, mask: Tensor | None = None, dim: int = -1) -> Tensor:
    """How many equal weights are worth as much as these: (Σ w)² / Σ w², from 1 (one speaks) to n (all alike).

    With ``log_weights = p · d`` it counts the tokens that M_p hears, n (M_p / M_2p)^(2p); p = 1 is the effective sample
    size of importance sampling.

    Source: Kish, *Survey Sampling*, 1965; Kong, Liu and Wong, JASA 89 (1994).

    Args:
        log_weights: logarithms of positive weights of any scale; nothing overflows.
        mask: true where a weight counts, broadcasts to ``log_weights``.
        dim: the dimension to sum over.

    Returns:
        ``log_weights``' shape without ``dim``; 0 where nothing counts.

    >>> effective_sample_size(torch.tensor([0.0, 0.0, 0.0, -30.0]))
    tensor(3.0000)
    """
    squares = power_mean_weights(log_weights, 1.0, mask, dim).square().sum(dim)
    return torch.where(squares > 0, 1 / squares.clamp(min=torch.finfo(squares.dtype).tiny), 0.0)


def renyi_divergence(old_logprobs: Tensor, new_logprobs: Tensor, order: float, dim: int = -1) -> Tensor:
    """Rényi divergence D_α(old ‖ new) of two distributions on the same outcomes, in nats.

    D_α(old ‖ new) = log( Σ_x old(x)^α new(x)^(1−α) ) / (α − 1); α → 1: KL(old ‖ new).

    In expectation over the *old* distribution the power mean of the ratio new / old is exp(−D_{1−p}(old ‖ new)): p = 1
    is order 0, p = 0 is KL, p = −1 is order 2, which is log(1 + χ²). For p > 1 the order is negative, and so is D.

    Source: van Erven and Harremoës, arXiv 1206.2459, eq. 10, and section V for negative orders.

    Args:
        old_logprobs, new_logprobs: logarithms of two distributions that sum to 1 over ``dim``; −inf is probability 0.
        order: α, any real number or ±inf.
        dim: the dimension of the outcomes.

    Raises:
        ValueError: the order is nan, or the probabilities do not sum to 1 (to 1e-4).

    >>> old, new = torch.tensor([0.5, 0.3, 0.2]).log(), torch.tensor([0.4, 0.4, 0.2]).log()
    >>> renyi_divergence(old, new, 2.0).neg().exp()  # the harmonic mean of new / old
    tensor(0.9524)
    """
    if math.isnan(order):
        raise ValueError("order is nan: expected a real number or ±inf.")
    for name, logprobs in (("old_logprobs", old_logprobs), ("new_logprobs", new_logprobs)):
        total = logprobs.exp().sum(dim)
        if not bool(torch.isclose(total, torch.ones_like(total), rtol=0, atol=1e-4).all()):
            raise ValueError(
                f"{name} sum to a probability of {total.flatten()[0].item():g} over dim {dim}: expected 1; "
                "use log_softmax."
            )
    p = 1 - order
    old, new = old_logprobs, new_logprobs
    met = old > -torch.inf  # outcomes that a sample from old can be
    d = torch.where(met, new - torch.where(met, old, 0.0), 0.0)
    weights = old.exp()
    if math.isinf(p):
        log_mean = torch.where(met, d, -p).amin(dim) if p < 0 else torch.where(met, d, -p).amax(dim)
    else:
        centre = torch.where(met, weights * d, 0.0).sum(dim, keepdim=True)
        u = d - centre
        # Near p = 0 a logarithm of a sum near 1 has lost its digits: as in `log_power_mean`.
        is_small = torch.where(met, abs(p) * u.abs(), 0.0).amax(dim, keepdim=True) < 1
        near_zero = torch.where(met, weights * torch.expm1(p * torch.where(is_small, u, 0.0)), 0.0).sum(dim)
        scores = torch.where(met, old + p * d, -torch.inf)
        is_small, centre = is_small.squeeze(dim), centre.squeeze(dim)
        log_mean = torch.where(is_small, torch.log1p(near_zero), torch.logsumexp(scores, dim)) / (p or 1.0)
        log_mean = torch.where(is_small, centre + log_mean, log_mean) if p else centre
    # A negative order punishes without bound what old never samples and new does.
    unmet = (~met & (new > -torch.inf)).any(dim) & (order < 0)
    return torch.where(unmet, -torch.inf, -log_mean)
