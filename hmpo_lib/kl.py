"""KL penalties: three estimators of KL(new ‖ ref) from sampled tokens, and what their gradients are.

For tokens sampled from *new* itself, with x = logprob_new − logprob_ref:

    k1 = x                       unbiased; as a loss its expected gradient is 0: it penalizes nothing
    k2 = x² / 2                  biased; its expected gradient is that of KL(new ‖ ref)
    k3 = exp(−x) − 1 + x         unbiased and never negative; its expected gradient is that of KL(ref ‖ new)

Source: Schulman, *Approximating KL divergence* (2020), for the values. The expected gradients are enumerated in
tests/test_kl.py. On tokens of an older policy none of this holds exactly.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from hmpo_lib.losses import batch_mean
from hmpo_lib.objectives import LengthWeight

Estimator = Literal["k1", "k2", "k3"]


def kl_penalty(
    logprobs: Tensor,
    ref_logprobs: Tensor,
    completion_mask: Tensor,
    *,
    estimator: Estimator,
    length_weight: LengthWeight = "equal",
    max_length: int | None = None,
    normalizer: float | Tensor | None = None,
) -> Tensor:
    """Estimate of KL(new ‖ ref), nats per token, averaged over the batch as `policy_loss` averages surrogates.

    Add it to the policy loss, times a coefficient; what its *gradient* is depends on the estimator (see the module).

    Args:
        logprobs: ``[batch, time]``, of the sampled tokens under the policy being trained.
        ref_logprobs: ``[batch, time]``, under the reference. No gradient flows into it.
        completion_mask: ``[batch, time]``. What stands elsewhere, inf and nan included, changes nothing.
        estimator: ``"k1"``, ``"k2"`` or ``"k3"``.
        length_weight, max_length, normalizer: as in `Objective` and `policy_loss`.

    Raises:
        ValueError: an unknown estimator, shapes that differ, or no completion token.

    >>> logprobs, ref_logprobs = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, -2.0]])
    >>> kl_penalty(logprobs, ref_logprobs, torch.ones(1, 2), estimator="k2")
    tensor(0.0625)
    """
    if estimator not in get_args(Estimator):
        raise ValueError(f'estimator is {estimator!r}: expected "k1", "k2" or "k3".')
    if not logprobs.shape == ref_logprobs.shape == completion_mask.shape or logprobs.dim() != 2:
        raise ValueError(
            f"logprobs has shape {tuple(logprobs.shape)}, ref_logprobs {tuple(ref_logprobs.shape)}, completion_mask "
            f"{tuple(completion_mask.shape)}: expected the same [batch, time] for all three."
        )
    mask = completion_mask.bool()
    # Before any arithmetic: what stands at a masked place must not reach even a gradient.
    work = torch.promote_types(torch.promote_types(logprobs.dtype, ref_logprobs.dtype), torch.float32)
    x = torch.where(mask, logprobs.to(work), 0.0) - torch.where(mask, ref_logprobs.detach().to(work), 0.0)
    per_token = {"k1": lambda: x, "k2": lambda: x.square() / 2, "k3": lambda: torch.expm1(-x) + x}[estimator]()
    lengths = mask.sum(dim=1)
    per_completion = per_token.sum(dim=1) / lengths.clamp(min=1)
    return batch_mean(per_completion, mask, length_weight, max_length=max_length, normalizer=normalizer)
