"""Scaling the logits of single heads by their weights: plain ones, and ones that FSDP2 has spread over ranks."""

from typing import Any

import torch
from torch import Tensor, nn

from hmpo_lib.optim.layouts import Layout, Part
from hmpo_lib.optim.linear_maps import is_instance, linear_map


@torch.no_grad()
def scale_logits(module: nn.Module, layout: Layout, gammas: Tensor) -> None:
    """Scales weights and biases of q and k, in place, so that the logits of head h become γ_h times what they were.

    Both take √γ_h. The query takes all of it where the key is shared by several heads, and one of the two where the
    other is frozen: what no optimizer moves stays as it is.

    Args:
        module: the attention module; `require_scalable` does not refuse it.
        layout: its layout.
        gammas: ``[heads]``; 1 leaves a head as it is, bit for bit.
    """
    for query, key in layout.pairs:
        if key.heads != layout.heads or not _trainable(module, key):
            _scale(module, query, gammas)
        elif not _trainable(module, query):
            _scale(module, key, gammas)
        else:
            _scale(module, query, gammas.sqrt())
            _scale(module, key, gammas.sqrt())


def is_frozen(module: nn.Module, layout: Layout) -> bool:
    """Whether no part of q and k is trained: then no step makes these logits grow, and none is to scale them."""
    return not any(_trainable(module, part) for part in layout.parts)


def require_scalable(name: str, module: nn.Module, layout: Layout) -> None:
    """Raises ValueError if the logits cannot be scaled by what is trained, or not by what this process holds."""
    if is_frozen(module, layout):
        return
    for query, key in layout.pairs:
        # A fused projection is one weight: its parts are frozen together.
        if not _trainable(module, query) and (key.heads != layout.heads or not _trainable(module, key)):
            raise ValueError(
                f"{name} ({type(module).__name__}) trains part of its queries and keys, but its {query.projection}, "
                "which alone could scale the logits of single heads, is frozen: expected it trained, or all frozen."
            )
    for part in layout.parts:
        grads = {tensor.requires_grad for tensor in linear_map(module, part.projection).tensors}
        if len(grads) > 1:
            raise ValueError(
                f"{name}.{part.projection} has a weight and a bias of which one is frozen: expected both trained or "
                "both frozen, since a head's logits scale only if both are scaled."
            )


def _trainable(module: nn.Module, part: Part) -> bool:
    return all(tensor.requires_grad for tensor in linear_map(module, part.projection).tensors)


def _scale(module: nn.Module, part: Part, factors: Tensor) -> None:
    projection = linear_map(module, part.projection)
    for tensor in projection.tensors:
        # One number a feature, not a view of the heads: so a shard that ends inside a head takes its slice.
        rows = torch.ones(projection.features, dtype=factors.dtype, device=tensor.device)
        part.blocks(rows).copy_(factors.to(tensor.device)[:, None].expand(-1, part.size))
        turned = tensor.dim() == 2 and not projection.features_last
        tensor.mul_(replicated_beside(tensor, rows[:, None] if turned else rows))


def replicated_beside(tensor: Any, rows: Tensor) -> Tensor:
    """The rows as they can be multiplied into a tensor: whole on every rank if the tensor is spread over ranks."""
    if not is_instance(tensor, "torch.distributed.tensor", "DTensor"):
        return rows
    from torch.distributed.tensor import DTensor, Replicate

    # Every rank has made the same rows: nothing to send, and nothing to check.
    return DTensor.from_local(rows, tensor.device_mesh, [Replicate()] * tensor.device_mesh.ndim, run_check=False)
