"""KL penalties: four estimators of KL(new ‖ ref) from sampled tokens, and what their gradients are.

For tokens sampled from *new* itself, with x = logprob_new − logprob_ref:

    k1 = x                       unbiased; as a loss its expected gradient is 0: it penalizes nothing
    k2 = x² / 2                  biased; its expected gradient is that of KL(new ‖ ref)
    k3 = exp(−x) − 1 + x         unbiased and never negative; its expected gradient is that of KL(ref ‖ new)
    k3_weighted = r · k3         unbiased, in value and gradient: its expected gradient is that of KL(new ‖ ref)

with r the token's importance ratio new / old, through which the gradient flows; of new's own tokens it is 1. Source:
Schulman, *Approximating KL divergence* (2020), for the values of the first three; DeepSeek-V3.2 (arXiv 2512.02556) for
the fourth. The expected gradients are enumerated in tests/test_kl.py. Of tokens of an older policy the fourth alone is
right, token by token.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from hmpo_lib.losses import batch_mean
from hmpo_lib.objectives import LengthWeight

Estimator = Literal["k1", "k2", "k3", "k3_weighted"]


def kl_penalty(
    logprobs: Tensor,
    ref_logprobs: Tensor,
    completion_mask: Tensor,
    *,
    estimator: Estimator,
    old_logprobs: Tensor | None = None,
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
        estimator: ``"k1"``, ``"k2"``, ``"k3"`` or ``"k3_weighted"``.
        old_logprobs: ``[batch, time]``, under the policy that sampled; ``"k3_weighted"`` alone looks at them. None: the
            tokens are those of the policy being trained. No gradient flows into them.
        length_weight, max_length, normalizer: as in `Objective` and `policy_loss`.

    Raises:
        ValueError: an unknown estimator, shapes that differ, or no completion token.

    >>> logprobs, ref_logprobs = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, -2.0]])
    >>> kl_penalty(logprobs, ref_logprobs, torch.ones(1, 2), estimator="k2")
    tensor(0.0625)
    """
    if estimator not in get_args(Estimator):
        raise ValueError(f"estimator is {estimator!r}: expected one of {', '.join(get_args(Estimator))}.")
    old_logprobs = logprobs if old_logprobs is None else old_logprobs
    shapes = [tuple(x.shape) for x in (logprobs, ref_logprobs, old_logprobs, completion_mask)]
    if len(set(shapes)) > 1 or logprobs.dim() != 2:
        raise ValueError(
            f"logprobs has shape {shapes[0]}, ref_logprobs {shapes[1]}, old_logprobs {shapes[2]}, completion_mask "
            f"{shapes[3]}: expected the same [batch, time] for all of them."
        )
    mask = completion_mask.bool()
    # Before any arithmetic: what stands at a masked place must not reach even a gradient.
    work = torch.promote_types(torch.promote_types(logprobs.dtype, ref_logprobs.dtype), torch.float32)
    new, ref, old = (
        torch.where(mask, y.to(work), 0.0) for y in (logprobs, ref_logprobs.detach(), old_logprobs.detach())
    )
    x = new - ref
    if estimator == "k1":
        per_token = x
    elif estimator == "k2":
        per_token = x.square() / 2
    else:
        per_token = torch.expm1(-x) + x
        if estimator == "k3_weighted":
            per_token = (new - old).exp() * per_token
    lengths = mask.sum(dim=1)
    per_completion = per_token.sum(dim=1) / lengths.clamp(min=1)
    return batch_mean(per_completion, mask, length_weight, max_length=max_length, normalizer=normalizer)
