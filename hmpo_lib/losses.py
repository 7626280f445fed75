"""The policy loss: minus the weighted mean of the surrogates A · M_p(ratios), for every cell of the cube."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hmpo_lib.means import log_power_mean, power_mean_weights
from hmpo_lib.objectives import Clip, LengthWeight, Objective
from hmpo_lib.ratios import effective_sample_size


class PolicyLoss(NamedTuple):
    """A scalar to call ``backward()`` on, and detached ones that describe the batch, if asked for (docs/metrics.md)."""

    loss: Tensor
    metrics: dict[str, Tensor]


def policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    completion_mask: Tensor,
    objective: Objective,
    *,
    normalizer: float | Tensor | None = None,
    metrics: bool = False,
) -> PolicyLoss:
    """Minus the weighted mean of the surrogates A_i · M_p(r_i), with r_t = exp(logprobs − old_logprobs).

    loss = − Σ_i w_i A_i M_p(r_i) / normalizer; without a clip its gradient by logprobs_t is
    − w_i A_i M_p W_t / normalizer, with W the escort weights.

    Source: p = 1 is GRPO (arXiv 2402.03300, eq. 3), p = 0 GSPO (2507.18071, eq. 5) and GMPO (2507.20673).

    Args:
        logprobs: ``[batch, time]``, natural logarithms, of the sampled tokens under the policy being trained.
        old_logprobs: ``[batch, time]``, under the policy that sampled. No gradient flows into it.
        advantages: ``[batch]``. No gradient flows into them.
        completion_mask: ``[batch, time]``, true (or 1) on completion tokens, eos included. What stands elsewhere,
            inf and nan included, changes neither loss nor gradient.
        objective: the cell of the cube.
        normalizer: what the weighted sum is divided by; default: this batch's tokens for ``"proportional"``, its
            completions otherwise. Give the whole batch's when it is split into micro-batches, or over data-parallel
            ranks: one without any token then has loss 0 and a gradient of zeros.
        metrics: whether to compute the metrics, which takes longer than the loss. Never under `torch.compile`.

    Returns:
        PolicyLoss. Completions without tokens are left out of the sum and of every denominator.

    Raises:
        ValueError: shapes or devices that do not fit; no completion token and no normalizer; an objective whose p is a
            schedule's, or whose constant length weight has no ``max_length``.

    `torch.compile` takes it without a graph break. `torch.func.grad` takes it too, and `vmap` over any of the tensors,
    if the ``normalizer`` is given; the objective is the same for all that is mapped. There are first derivatives only:
    `torch.func.jvp` and `hessian` and a second ``backward()`` say so.

    >>> old = torch.zeros(1, 3)
    >>> new = torch.tensor([[0.5, 1.0, 1.5]]).log()
    >>> policy_loss(new, old, torch.ones(1), torch.ones(1, 3), Objective(p=-1.0)).loss  # minus 9/11
    tensor(-0.8182)
    """
    parts = _surrogates(logprobs, old_logprobs, advantages, completion_mask, objective)
    loss = -batch_mean(
        parts.surrogates,
        parts.mask,
        objective.length_weight,
        max_length=objective.max_length,
        normalizer=normalizer,
    )
    if not metrics or torch.compiler.is_compiling():
        return PolicyLoss(loss, {})
    with torch.no_grad():
        return PolicyLoss(loss, _metrics(parts, objective))


def policy_surrogates(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, completion_mask: Tensor, objective: Objective
) -> Tensor:
    """The surrogates A_i · M_p(r_i) themselves, clipped, ``[batch]``: what `policy_loss` averages.

    Args and errors as in `policy_loss`; the objective's length weight plays no part. 0 for completions without tokens.

    >>> new = torch.tensor([[0.5, 1.0, 1.5]]).log()
    >>> policy_surrogates(new, torch.zeros(1, 3), torch.ones(1), torch.ones(1, 3), Objective(p=-1.0))
    tensor([0.8182])
    """
    return _surrogates(logprobs, old_logprobs, advantages, completion_mask, objective).surrogates


class _Surrogates(NamedTuple):
    """The surrogates and, for the metrics, the steps on the way to them."""

    surrogates: Tensor
    log_ratios: Tensor  # of the tokens, before any clip
    clipped_log_ratios: Tensor  # after a token clip
    log_mean: Tensor  # before a sequence clip
    advantages: Tensor
    mask: Tensor
    p: float | Tensor


def _surrogates(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, completion_mask: Tensor, objective: Objective
) -> _Surrogates:
    p = _exponent(objective)
    _check_shapes(logprobs, old_logprobs, advantages, completion_mask, p)
    mask = completion_mask.bool()
    work = torch.promote_types(torch.promote_types(logprobs.dtype, old_logprobs.dtype), torch.float32)
    # Before any arithmetic: what stands at a masked place must not reach even a gradient.
    new, old = (torch.where(mask, x.to(work), 0.0) for x in (logprobs, old_logprobs.detach()))
    log_ratios = new - old
    advantages = torch.where(mask.any(dim=1), advantages.to(work).detach(), 0.0)

    sign = advantages.sign()
    clipped_log_ratios = _one_sided_clip(log_ratios, sign.unsqueeze(1), objective, "token")
    log_mean = log_power_mean(clipped_log_ratios, p, mask)
    log_ratio = _one_sided_clip(log_mean, sign, objective, "sequence")
    # A = 0 pushes nothing, even where its ratio overflows: 0 · inf would be nan, in the gradient too.
    surrogates = advantages * torch.where(sign != 0, log_ratio, 0.0).exp()
    return _Surrogates(surrogates, log_ratios, clipped_log_ratios, log_mean, advantages, mask, p)


def _exponent(objective: Objective) -> float | Tensor:
    """The objective's p, which must be there."""
    if objective.p is None:
        raise ValueError(
            "objective.p is None, since a schedule gives it anew at each step: expected the objective of one step, as "
            "method.step_objective(progress, log_ratios, completion_mask, advantages) gives it."
        )
    return objective.p


def batch_mean(
    per_completion: Tensor,
    completion_mask: Tensor,
    length_weight: LengthWeight,
    *,
    max_length: int | None = None,
    normalizer: float | Tensor | None = None,
) -> Tensor:
    """One number for the batch from one a completion, ``[batch]``: Σ_i w_i x_i / normalizer.

    Args as in `Objective` and `policy_loss`; ``per_completion`` is finite. Completions without tokens are left out.

    Raises:
        ValueError: no completion has a token, and there is no normalizer; "constant" without its ``max_length``.

    >>> mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    >>> batch_mean(torch.tensor([1.0, 5.0]), mask, "proportional")  # (3 · 1 + 1 · 5) / 4
    tensor(2.)
    """
    mask = completion_mask.bool()
    lengths = mask.sum(dim=1).to(per_completion.dtype)  # a quotient of integers would be a float32
    # With a normalizer nothing is asked of the mask: a rank without tokens must still take part in the backward pass.
    if normalizer is None and not torch.compiler.is_compiling() and not bool(mask.any()):
        raise ValueError(
            f"completion_mask {tuple(mask.shape)} has no true entry: expected at least one completion token; skip "
            "the batch, or give the normalizer of the whole one."
        )
    if normalizer is None:
        normalizer = lengths.sum() if length_weight == "proportional" else (lengths > 0).sum()
    weights = completion_weights(lengths, length_weight, max_length)
    return (weights * per_completion).sum() / normalizer


def completion_weights(lengths: Tensor, length_weight: LengthWeight, max_length: int | None) -> Tensor:
    """w_i of each completion by its length, before any normalizer: 1 (0 if empty), L_i, or L_i / max_length."""
    if length_weight == "equal":
        return (lengths > 0).to(lengths.dtype)
    if length_weight == "proportional":
        return lengths
    if max_length is None:
        raise ValueError(
            'max_length is None with length_weight "constant": expected the limit of new tokens of the run, the same '
            "for every batch; give it to the Objective, or take method.with_max_length(...)."
        )
    return lengths / max_length


def _one_sided_clip(log_ratio: Tensor, sign: Tensor, objective: Objective, place: Clip) -> Tensor:
    """min(A·r, A·clip(r)) is A·min(r, hi) for A > 0 and A·max(r, lo) for A < 0; clamping in log space cannot overflow.

    The same function serves both places of the clip. What is clipped gets no gradient.
    """
    if objective.ratio_cap is not None and (objective.clip or "token") == place:
        log_ratio = torch.where(sign < 0, log_ratio.clamp(max=math.log(objective.ratio_cap)), log_ratio)
    if objective.clip != place or objective.clip_range is None:
        return log_ratio
    lo, hi = (math.log(bound) for bound in objective.clip_range)
    upper = torch.where(sign > 0, log_ratio.clamp(max=hi), log_ratio)
    return torch.where(sign < 0, upper.clamp(min=lo), upper)


def _metrics(parts: _Surrogates, objective: Objective) -> dict[str, Tensor]:
    """Scalars over the batch's completion tokens; each is defined in docs/metrics.md."""
    mask, log_ratios = parts.mask, parts.log_ratios
    tokens = mask.sum()
    ratios = log_ratios.exp()[mask]
    if len(ratios) == 0:  # a rank without tokens has a loss; what would describe it is nan
        ratios = ratios.new_full((1,), math.nan)
    lengths = mask.sum(dim=1)
    weights = power_mean_weights(parts.clipped_log_ratios, parts.p, mask)
    effective = effective_sample_size(weights.log(), mask)
    by_sequence = objective.clip == "sequence"
    compared = parts.log_mean.unsqueeze(1).expand_as(log_ratios) if by_sequence else log_ratios
    sign = parts.advantages.sign().unsqueeze(1).expand_as(compared)
    lo, hi = objective.clip_range or (0.0, math.inf)
    cap = objective.ratio_cap or math.inf
    low = (sign < 0) & (compared < (math.log(lo) if lo > 0 else -math.inf)) & mask
    high = (sign > 0) & (compared > math.log(hi)) & mask
    capped = (sign < 0) & (compared > math.log(cap)) & mask
    return {
        "ratio_mean": ratios.mean(),
        "ratio_min": ratios.min(),
        "ratio_max": ratios.max(),
        "ratio_std": ratios.std(correction=0),
        "clip_fraction_low": low.sum() / tokens,
        "clip_fraction_high": high.sum() / tokens,
        "blocked_fraction": (low | high | capped).sum() / ((sign != 0) & mask).sum().clamp(min=1),
        "effective_sample_size": (effective / lengths)[lengths > 0].mean(),
        "weight_entropy": torch.special.entr(weights).sum(dim=1)[lengths > 0].mean(),
        "kl_old_new": -log_ratios.sum() / tokens,
    }


def _check_shapes(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, completion_mask: Tensor, p: float | Tensor
) -> None:
    shape = tuple(logprobs.shape)
    if logprobs.dim() != 2 or tuple(old_logprobs.shape) != shape or tuple(completion_mask.shape) != shape:
        raise ValueError(
            f"logprobs has shape {shape}, old_logprobs {tuple(old_logprobs.shape)}, completion_mask "
            f"{tuple(completion_mask.shape)}: expected the same [batch, time] for all three."
        )
    devices = [x.device for x in (logprobs, old_logprobs, advantages, completion_mask)]
    if len(set(devices)) > 1:
        raise ValueError(
            f"logprobs is on {devices[0]}, old_logprobs on {devices[1]}, advantages on {devices[2]}, completion_mask "
            f"on {devices[3]}: expected one device for all four."
        )
    if tuple(advantages.shape) != shape[:1]:
        raise ValueError(
            f"advantages has shape {tuple(advantages.shape)}: expected [batch] = {shape[:1]}, one number a completion."
        )
    if isinstance(p, Tensor) and p.dim() > 0 and tuple(p.shape) != shape[:1]:
        raise ValueError(f"objective.p has shape {tuple(p.shape)}: expected one number or [batch] = {shape[:1]}.")
