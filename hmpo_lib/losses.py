"""The policy loss: one cube of objectives, with the exponent p, the clip's place and the length weight as its axes."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from hmpo_lib.means import log_power_mean, power_mean_weights
from hmpo_lib.ratios import effective_sample_size

Clip = Literal["token", "sequence"]
LengthWeight = Literal["equal", "proportional", "constant"]


@dataclass(frozen=True)
class Objective:
    """A cell of the cube: the surrogate J_i = A_i · M_p(r_i) of one completion, its clip, and its weight in the batch.

    Attributes:
        p: exponent of the power mean of a completion's token ratios; any real number, ±inf, or ``[batch]``.
        clip: ``"token"``: min(r_t, hi) if A > 0, max(r_t, lo) if A < 0, before the mean; ``"sequence"``:
            min(A·M, A·clip(M, lo, hi)), after it; ``None``: no clip.
        clip_range: (lo, hi), ratios with 0 < lo <= 1 <= hi.
        length_weight: ``"equal"``: every completion counts the same; ``"proportional"``: by its share of the batch's
            tokens; ``"constant"``: by its length over ``max_length``.
        max_length: tokens, for ``"constant"``; None means the padded width.
        ratio_cap: the largest ratio of a completion with A < 0 (TRL's ``delta``, verl's ``clip_ratio_c``), or None.
    """

    p: float | Tensor
    clip: Clip | None = None
    clip_range: tuple[float, float] | None = None
    length_weight: LengthWeight = "equal"
    max_length: int | None = None
    ratio_cap: float | None = None

    def __post_init__(self) -> None:
        if bool(self.p.isnan().any()) if isinstance(self.p, Tensor) else math.isnan(self.p):
            raise ValueError("Objective: p is nan: expected a real number, ±inf, or a tensor [batch].")
        if self.clip not in (None, *get_args(Clip)):
            raise ValueError(f'Objective: clip is {self.clip!r}: expected "token", "sequence" or None.')
        if (self.clip is None) != (self.clip_range is None):
            raise ValueError(
                f"Objective: clip is {self.clip!r} and clip_range is {self.clip_range}: give both, or neither."
            )
        if self.clip_range is not None and not 0 < self.clip_range[0] <= 1 <= self.clip_range[1]:
            raise ValueError(f"Objective: clip_range is {self.clip_range}: expected (lo, hi) with 0 < lo <= 1 <= hi.")
        if self.length_weight not in get_args(LengthWeight):
            raise ValueError(
                f'Objective: length_weight is {self.length_weight!r}: expected "equal", "proportional" or "constant".'
            )
        if self.max_length is not None and (self.length_weight != "constant" or self.max_length < 1):
            raise ValueError(
                f'Objective: max_length is {self.max_length} with length_weight "{self.length_weight}": '
                'expected a positive number of tokens, with "constant" only.'
            )
        if self.ratio_cap is not None and not self.ratio_cap > 1:
            raise ValueError(f"Objective: ratio_cap is {self.ratio_cap}: expected a ratio above 1, or None.")


class PolicyLoss(NamedTuple):
    """A scalar to call ``backward()`` on, and detached scalars that describe the batch (docs/metrics.md)."""

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
) -> PolicyLoss:
    """Minus the weighted mean of the surrogates A_i · M_p(r_i), with r_t = exp(logprobs − old_logprobs).

    loss = − Σ_i w_i A_i M_p(r_i) / normalizer; without a clip its gradient by logprobs_t is
    − w_i A_i M_p W_t / normalizer, with W the escort weights.

    Source: p = 1 is GRPO (arXiv 2402.03300, eq. 3), p = 0 GSPO (2507.18071, eq. 5) and GMPO (2507.20673).

    Args:
        logprobs: ``[batch, time]``, natural logarithms, of the sampled tokens under the policy being trained.
        old_logprobs: ``[batch, time]``, under the policy that sampled. No gradient flows into it.
        advantages: ``[batch]``.
        completion_mask: ``[batch, time]``, true (or 1) on completion tokens, eos included. What stands elsewhere,
            inf and nan included, changes neither loss nor gradient.
        objective: the cell of the cube.
        normalizer: what the weighted sum is divided by; default: this batch's tokens for ``"proportional"``, its
            completions otherwise. Give the whole batch's when it is split into micro-batches.

    Returns:
        PolicyLoss. Completions without tokens are left out of the sum and of every denominator.

    Raises:
        ValueError: shapes that do not fit, or no completion token in the whole batch.

    >>> old = torch.zeros(1, 3)
    >>> new = torch.tensor([[0.5, 1.0, 1.5]]).log()
    >>> policy_loss(new, old, torch.ones(1), torch.ones(1, 3), Objective(p=-1.0)).loss  # minus 9/11
    tensor(-0.8182)
    """
    _check_shapes(logprobs, old_logprobs, advantages, completion_mask, objective.p)
    mask = completion_mask.bool()
    lengths = mask.sum(dim=1)
    work = torch.promote_types(torch.promote_types(logprobs.dtype, old_logprobs.dtype), torch.float32)
    zero = torch.zeros((), dtype=work, device=logprobs.device)
    token_log_ratios = torch.where(mask, logprobs.to(work), zero) - torch.where(mask, old_logprobs.to(work), zero)
    token_log_ratios = torch.where(mask, token_log_ratios, zero)
    advantages = torch.where(lengths > 0, advantages.to(work).detach(), zero)

    sign = advantages.sign()
    heard = _one_sided_clip(token_log_ratios, sign.unsqueeze(1), objective, "token")
    log_mean = log_power_mean(heard, objective.p, mask)
    log_ratio = _one_sided_clip(log_mean, sign, objective, "sequence")
    # A = 0 pushes nothing, even where its ratio overflows: 0 · inf would be nan, in the gradient too.
    surrogate = advantages * torch.where(sign != 0, log_ratio, zero).exp()

    loss = -batch_mean(surrogate, mask, objective.length_weight, max_length=objective.max_length, normalizer=normalizer)
    with torch.no_grad():
        metrics = _metrics(token_log_ratios, heard, log_mean, advantages, mask, objective)
    return PolicyLoss(loss, metrics)


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
        ValueError: no completion has a token.
    """
    mask = completion_mask.bool()
    lengths = mask.sum(dim=1).to(per_completion.dtype)  # a quotient of integers would be a float32
    if not bool(mask.any()):
        raise ValueError(
            f"completion_mask {tuple(mask.shape)} has no true entry: expected at least one completion token; skip "
            "the batch."
        )
    if normalizer is None:
        normalizer = lengths.sum() if length_weight == "proportional" else (lengths > 0).sum()
    weights = {
        "equal": (lengths > 0).to(lengths.dtype),
        "proportional": lengths,
        "constant": lengths / (max_length or mask.shape[1]),
    }[length_weight]
    return (weights * per_completion).sum() / normalizer


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


def _metrics(
    token_log_ratios: Tensor,
    heard: Tensor,
    log_mean: Tensor,
    advantages: Tensor,
    mask: Tensor,
    objective: Objective,
) -> dict[str, Tensor]:
    """Scalars over the batch's completion tokens; each is defined in docs/metrics.md."""
    tokens = mask.sum()
    ratios = token_log_ratios.exp()[mask]
    lengths = mask.sum(dim=1)
    weights = power_mean_weights(heard, objective.p, mask)
    effective = effective_sample_size(weights.log(), mask)
    by_sequence = objective.clip == "sequence"
    clipped = log_mean.unsqueeze(1).expand_as(token_log_ratios) if by_sequence else token_log_ratios
    sign = advantages.sign().unsqueeze(1).expand_as(clipped)
    lo, hi = objective.clip_range or (0.0, math.inf)
    cap = objective.ratio_cap or math.inf
    low = (sign < 0) & (clipped < (math.log(lo) if lo > 0 else -math.inf)) & mask
    high = (sign > 0) & (clipped > math.log(hi)) & mask
    capped = (sign < 0) & (clipped > math.log(cap)) & mask
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
        "kl_old_new": -token_log_ratios.sum() / tokens,
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
    if tuple(advantages.shape) != shape[:1]:
        raise ValueError(
            f"advantages has shape {tuple(advantages.shape)}: expected [batch] = {shape[:1]}, one number a completion."
        )
    if isinstance(p, Tensor) and p.dim() > 0 and tuple(p.shape) != shape[:1]:
        raise ValueError(f"objective.p has shape {tuple(p.shape)}: expected one number or [batch] = {shape[:1]}.")
