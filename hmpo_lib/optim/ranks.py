"""What several ranks have seen, together: the ranks of data parallelism see different data and clip alike."""

import zlib

import torch
import torch.distributed as dist
from torch import Tensor


def is_parallel(group: "dist.ProcessGroup | None") -> bool:
    """Whether there are other ranks in a group; of all ranks, if it is None."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size(group) > 1


def maximum_over_ranks(maxima: Tensor, group: "dist.ProcessGroup | None") -> Tensor:
    """The largest of each entry over the ranks of a group, the same bits on each; infinite where one has a nan.

    Args:
        maxima: of the same shape and dtype on every rank; −inf where a rank saw nothing.
        group: of all ranks, if None.
    """
    # A nan would be lost or kept as the order of the ranks has it.
    whole = torch.where(maxima.isnan(), torch.inf, maxima)
    dist.all_reduce(whole, dist.ReduceOp.MAX, group)
    return whole


def require_same_on_all_ranks(what: object, device: torch.device, group: "dist.ProcessGroup | None") -> None:
    """Raises ValueError, on every rank, unless each gives something with the same repr.

    Without it ranks that differ would wait for each other for ever, or mix up heads.
    """
    mark = zlib.crc32(repr(what).encode())
    extremes = torch.tensor([mark, -mark], device=device)
    dist.all_reduce(extremes, dist.ReduceOp.MAX, group)
    if extremes[0] != -extremes[1]:
        raise ValueError(
            f"the ranks have different things to clip: this one has {what!r}; expected the same model and settings on "
            "all, and the state of the same step; give the ranks that share a part of the model as process_group."
        )
