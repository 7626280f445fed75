"""What is a linear map, and where its weight, bias and output features stand; without importing transformers."""

import sys
from typing import Any, NamedTuple

from torch import Tensor, nn


def is_instance(thing: object, module: str, name: str) -> bool:
    """Whether something is an instance of a class whose module is not imported for the question.

    Without its module nothing can be one: so this package needs torch only, and what it knows of others costs nothing.

    >>> is_instance(nn.Linear(2, 2), "transformers.pytorch_utils", "Conv1D")
    False
    """
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(thing, getattr(loaded, name, ()))


def is_linear(module: object) -> bool:
    """Whether a module is a linear map: torch's, or a Conv1D."""
    return isinstance(module, nn.Linear) or is_conv1d(module)


def is_conv1d(module: object) -> bool:
    """Whether a module is a linear map of GPT-2's kind, whose weight is ``[in, out]``."""
    return is_instance(module, "transformers.pytorch_utils", "Conv1D")


class LinearMap(NamedTuple):
    """The parameters of one: ``features_last`` for a weight ``[in, out]``, else it is ``[out, in]``."""

    weight: Tensor
    bias: Tensor | None
    features_last: bool

    @property
    def features(self) -> int:
        """How many outputs it has."""
        return int(self.weight.shape[1 if self.features_last else 0])

    @property
    def inputs(self) -> int:
        """How many inputs it has."""
        return int(self.weight.shape[0 if self.features_last else 1])

    @property
    def tensors(self) -> list[Tensor]:
        """Its weight and, if it has one, its bias."""
        return [self.weight] if self.bias is None else [self.weight, self.bias]


def linear_map(module: nn.Module, name: str) -> LinearMap:
    """A linear map inside a module, by its name; "in_proj" for the q, k and v of torch's own attention.

    Raises:
        ValueError: a weight that is no matrix.

    >>> linear_map(nn.MultiheadAttention(4, 2), "in_proj").features
    12
    """
    if isinstance(module, nn.MultiheadAttention):
        found = LinearMap(module.in_proj_weight, module.in_proj_bias, features_last=False)
    else:
        projection: Any = module.get_submodule(name)
        found = LinearMap(projection.weight, projection.bias, is_conv1d(projection))
    if found.weight.dim() != 2:
        raise ValueError(
            f"{type(module).__name__}.{name} has a weight of shape {tuple(found.weight.shape)}: expected a matrix; "
            "FullyShardedDataParallel (FSDP1) and ZeRO-3 take matrices apart, fully_shard (FSDP2) does not."
        )
    return found
