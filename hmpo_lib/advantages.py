"""Group-relative advantages: how much better a completion did than its siblings on the same prompt."""

from typing import Literal

import torch
from torch import Tensor


def group_advantages(
    rewards: Tensor,
    group_size: int,
    *,
    scale: Literal["std", "none"] = "std",
    baseline: Literal["mean", "leave_one_out"] = "mean",
) -> Tensor:
    """Advantage of each completion within its group.

    A_i = (R_i − b) / std(R), with b the group's mean, or the mean of the others (leave one out)

    Source: GRPO (arXiv 2402.03300, section 4.1.2) for ``scale="std"``; Dr. GRPO (2503.20783) for ``scale="none"``;
    leave-one-out from RLOO (2402.14740).

    Args:
        rewards: ``[batch]``, groups one after the other.
        group_size: completions per prompt; must divide the batch.
        scale: divide by the unbiased standard deviation, or not at all.
        baseline: what is subtracted.

    Returns:
        ``[batch]``. A group whose rewards are all equal gets exactly 0: that is tested before dividing, since eight
        float32 rewards of 0.1 have a std of 8e-9, not 0.

    Raises:
        ValueError: the batch is not whole groups, or a group of one is to be compared with its others.

    >>> group_advantages(torch.tensor([1.0, 0.0, 0.0, 0.0]), 4)
    tensor([ 1.5000, -0.5000, -0.5000, -0.5000])
    """
    if rewards.dim() != 1 or group_size < 1 or len(rewards) % group_size:
        raise ValueError(
            f"rewards has shape {tuple(rewards.shape)} with group_size {group_size}: "
            "expected [batch] with batch a multiple of group_size."
        )
    if scale not in ("std", "none") or baseline not in ("mean", "leave_one_out"):
        raise ValueError(
            f"got scale={scale!r}, baseline={baseline!r}: "
            'expected scale "std" or "none" and baseline "mean" or "leave_one_out".'
        )
    if group_size == 1 and baseline == "leave_one_out":
        raise ValueError('baseline="leave_one_out" needs group_size >= 2, got 1: there is no other completion.')
    # Rewards may be counts or truth values; their mean is a float.
    groups = (rewards if rewards.is_floating_point() else rewards.float()).view(-1, group_size)
    centred = groups - groups.mean(dim=1, keepdim=True)
    if baseline == "leave_one_out":
        centred = centred * group_size / (group_size - 1)  # R_i − mean of the others
    all_equal = groups.amax(dim=1, keepdim=True) == groups.amin(dim=1, keepdim=True)
    if scale == "std" and group_size > 1:
        std = groups.std(dim=1, keepdim=True)
        centred = centred / torch.where(all_equal, torch.ones_like(std), std)
    return torch.where(all_equal, torch.zeros_like(centred), centred).flatten()
