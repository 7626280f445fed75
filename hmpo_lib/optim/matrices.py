"""Which weights of a model are Muon's, and of which matrices each consists."""

from typing import Any, NamedTuple

from torch import Tensor, nn

from hmpo_lib.optim.attention import known_layouts
from hmpo_lib.optim.layouts import Layout, Layouts, Part, class_name, fused_parts
from hmpo_lib.optim.linear_maps import is_conv1d, is_linear, linear_map


class Matrices(NamedTuple):
    """The matrices ``[out, in]`` that a weight consists of.

    Attributes:
        turned: whether it stores ``[in, out]``.
        parts: that are apart from each other; empty if it is one matrix.
        per_head: whether each head of a part is apart from the others.
    """

    turned: bool
    parts: tuple[Part, ...] = ()
    per_head: bool = False

    def of(self, weight: Tensor) -> list[Tensor]:
        """Views ``[heads, out, in]``, one a part, of a weight or of what has its shape; a whole one is one head."""
        features_last = weight if self.turned else weight.T
        if not self.parts:
            return [features_last.T[None]]
        return [part.blocks(features_last).permute(1, 2, 0) for part in self.parts]


def muon_matrices(
    model: nn.Module, *, per_head: bool = False, layouts: Layouts | None = None
) -> dict[Tensor, Matrices]:
    """The weights for Muon: of linear maps (Linear, Conv1D) inside the blocks, which stand in an nn.ModuleList.

    Embeddings, head, norms and biases are not among them; nor are experts stored as one tensor of three dimensions. A
    fused projection that is not known counts as one matrix.

    Args:
        model: any module.
        per_head: whether the heads of q, k and v are apart; of latent attention, of its up-projections.
        layouts: see `MaxLogitMonitor`.

    Raises:
        ValueError: attention whose heads are not known, if they are to be apart.

    >>> block = nn.ModuleDict({"up": nn.Linear(2, 8), "norm": nn.LayerNorm(8)})
    >>> model = nn.ModuleDict({"embedding": nn.Embedding(5, 2), "layers": nn.ModuleList([block])})
    >>> [tuple(weight.shape) for weight in muon_matrices(model)]
    [(8, 2)]
    """
    blocks = [block for module in model.modules() if isinstance(module, nn.ModuleList) for block in module]
    inside: list[Any] = [module for block in blocks for module in block.modules()]
    matrices: dict[Tensor, Matrices] = {}
    for module in inside:
        if is_linear(module):
            matrices[module.weight] = Matrices(turned=is_conv1d(module))
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            matrices[module.in_proj_weight] = Matrices(turned=False)
    attention = known_layouts(model, layouts).items() if per_head else ()
    for module in inside if not per_head else ():
        if parts := fused_parts(module, layouts):
            weight = linear_map(module, parts[0].projection).weight
            if weight in matrices:
                matrices[weight] = matrices[weight]._replace(parts=parts)
    for name, (module, layout) in attention:
        if layout is None:
            raise ValueError(
                f"{name} ({class_name(module)}) has heads in a way that is not known: expected one that is, or a "
                "layout of the class in layouts; or per_head=False."
            )
        for parts in _by_projection(module, layout):
            weight = linear_map(module, parts[0].projection).weight
            if weight in matrices:
                matrices[weight] = matrices[weight]._replace(parts=parts, per_head=True)
    return matrices


def _by_projection(module: nn.Module, layout: Layout) -> list[tuple[Part, ...]]:
    """The parts of q, k and v in each projection that consists of them."""
    parts = dict.fromkeys((*(part for pair in layout.pairs for part in pair), *layout.values))
    found = []
    for name in dict.fromkeys(part.projection for part in parts):
        own = tuple(part for part in parts if part.projection == name)
        # Latent attention makes the shared key together with what k and v are made of: that one stays whole.
        if sum(part.heads * part.size for part in own) == linear_map(module, name).features:
            found.append(own)
    return found
