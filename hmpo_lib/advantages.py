"""Group-relative advantages: how much better a completion did than its siblings on the same prompt."""

from typing import Literal

import torch
from torch import Tensor

AdvantageScale = Literal["std", "none"]
Baseline = Literal["mean", "leave_one_out"]

# Rewards of a group are equal when they differ by at most this many roundings of the largest of them, or of 1. Sums of
# a few parts in different orders differ by one or two; four keep rewards apart that differ by 1 near a million.
_ROUNDINGS = 4


def group_advantages(
    rewards: Tensor,
    group_size: int,
    *,
    scale: AdvantageScale = "std",
    baseline: Baseline = "mean",
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
        ``[batch]``. A group's sum to 0. A group whose rewards are equal up to rounding gets exactly 0: .1 + .1 + .5 and
        .5 + .1 + .1 differ in float32, and divided by their standard deviation they would be a success and a failure.

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
    # Counts and truth values are exact, and half precision has too few digits to tell rounding from a difference.
    rounded = rewards.is_floating_point() and torch.finfo(rewards.dtype).bits >= 32
    exact = rewards.float() if rewards.is_floating_point() else rewards.long()
    groups = (rewards if rounded else exact).view(-1, group_size)
    # From the smallest on: differences of large rewards are exact, their mean is not.
    smallest, largest = groups.amin(dim=1, keepdim=True), groups.amax(dim=1, keepdim=True)
    above = (groups - smallest).to(torch.promote_types(groups.dtype, torch.float32))
    spread = above.amax(dim=1, keepdim=True)
    size = torch.maximum(smallest.abs(), largest.abs()).clamp(min=1)
    slack = _ROUNDINGS * torch.finfo(rewards.dtype).eps * size if rounded else 0.0
    all_equal = (spread <= slack) & spread.isfinite()
    unit = above / torch.where(all_equal, torch.ones_like(spread), spread)  # in [0, 1]: no square overflows
    centred = unit - unit.mean(dim=1, keepdim=True)
    if scale == "std" and group_size > 1:
        std = unit.std(dim=1, keepdim=True)
        centred = centred / torch.where(all_equal, torch.ones_like(std), std)
    else:
        centred = centred * spread
    if baseline == "leave_one_out":
        centred = centred * group_size / (group_size - 1)  # R_i − mean of the others
    return torch.where(all_equal, torch.zeros_like(centred), centred).flatten()
