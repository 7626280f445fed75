"""Where each head's queries and keys stand in the weights of an attention module: one table, a row a layout.

A logit is a sum of products, S = scaling · Σ_pairs q_part · k_part. Most models have one pair; multi-head latent
attention has two, of which the second shares its key. The parts are said as blocks of a projection's output features,
so that the same few lines scale, split and measure every layout.
"""

import re
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn


def is_instance(thing: object, module: str, name: str) -> bool:
    """Whether something is an instance of a class whose module is not imported for the question.

    Without its module nothing can be one: so this package needs torch only, and what it knows of others costs nothing.

    >>> is_instance(nn.Linear(2, 2), "transformers.pytorch_utils", "Conv1D")
    False
    """
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(thing, getattr(loaded, name))


def is_conv1d(module: object) -> bool:
    """Whether a module is a linear map of GPT-2's kind, whose weight is ``[in, out]``."""
    return is_instance(module, "transformers.pytorch_utils", "Conv1D")


def is_linear(module: object) -> bool:
    """Whether a module is a linear map: torch's, or a Conv1D."""
    return isinstance(module, nn.Linear) or is_conv1d(module)


class Part(NamedTuple):
    """Output features of a projection: ``heads`` blocks of ``size``, ``stride`` apart, the first at ``offset``.

    >>> import torch
    >>> Part("query_key_value", heads=2, size=2, stride=6, offset=2).blocks(torch.arange(12)).tolist()
    [[2, 3], [8, 9]]
    """

    projection: str
    heads: int
    size: int
    stride: int
    offset: int = 0

    def blocks(self, features: Tensor) -> Tensor:
        """A view ``[..., heads, size]`` of a tensor whose last dimension is the projection's output features."""
        return features[..., self.offset :].unfold(-1, self.size, self.stride)[..., : self.heads, :]


class Layout(NamedTuple):
    """How an attention module makes its logits.

    Attributes:
        heads: query heads.
        scaling: what q · k is multiplied by.
        pairs: (query part, key part), whose products sum to a logit. A key part with fewer heads is shared: query head
            h uses its head h // (heads / key heads).
        split: the q, k and v of a fused projection; empty where they have projections of their own.
    """

    heads: int
    scaling: float
    pairs: tuple[tuple[Part, Part], ...]
    split: tuple[Part, ...] = ()

    @property
    def parts(self) -> list[Part]:
        """All parts of queries and keys, in the order of their projections."""
        return sorted(part for pair in self.pairs for part in pair)


class _Row(NamedTuple):
    """Modules with all these ``projections`` (and one of these ``classes``, unless any will do) are built so."""

    projections: tuple[str, ...]
    build: Callable[[nn.Module, tuple[str, ...]], Layout]
    classes: tuple[str, ...] = ()


def _apart(module: nn.Module, names: tuple[str, ...]) -> Layout:
    """Projections of their own; with fewer key heads than query heads, each key serves several (GQA)."""
    query, key = names
    heads = _heads(module)
    size = _head_size(module, _width(module, query) // heads)
    _expect(module, query, heads * size, f"{heads} heads of {size}")
    key_heads = max(1, _width(module, key) // size)
    _expect(module, key, key_heads * size, f"whole heads of {size}")
    if heads % key_heads:
        raise ValueError(
            f"{type(module).__name__}.{key} has {key_heads} heads for {heads} query heads: expected a divisor."
        )
    pair = (Part(query, heads, size, size), Part(key, key_heads, size, size))
    return Layout(heads, _scaling(module, size), (pair,))


def _stacked(module: nn.Module, names: tuple[str, ...]) -> Layout:
    """All of q, then all of k, then all of v."""
    (name,) = names
    heads = _heads(module)
    key_heads = getattr(getattr(module, "config", None), "num_key_value_heads", None) or heads
    size = _head_size(module, _width(module, name) // (heads + 2 * key_heads))
    _expect(module, name, (heads + 2 * key_heads) * size, f"q, k, v of {heads}, {key_heads}, {key_heads} heads")
    query = Part(name, heads, size, size)
    key, value = (Part(name, key_heads, size, size, (heads + i * key_heads) * size) for i in (0, 1))
    return Layout(heads, _scaling(module, size), ((query, key),), (query, key, value))


def _interleaved(module: nn.Module, names: tuple[str, ...]) -> Layout:
    """For each head its q, k, v."""
    (name,) = names
    heads = _heads(module)
    size = _head_size(module, _width(module, name) // (3 * heads))
    _expect(module, name, 3 * heads * size, f"{heads} heads of q, k, v")
    query, key, value = (Part(name, heads, size, 3 * size, i * size) for i in (0, 1, 2))
    return Layout(heads, _scaling(module, size), ((query, key),), (query, key, value))


def _latent(module: Any, names: tuple[str, ...]) -> Layout:
    """Multi-head latent attention: q^C · k^C of each head, and q^R of each head with the one shared k^R."""
    query, key, shared = names
    heads = _heads(module)
    content, rotary, value = (int(getattr(module, n)) for n in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"))
    stride = content + rotary
    pairs = (
        (Part(query, heads, content, stride), Part(key, heads, content, content + value)),
        (Part(query, heads, rotary, stride, content), Part(shared, 1, rotary, rotary, int(module.kv_lora_rank))),
    )
    return Layout(heads, _scaling(module, stride), pairs)


# The names say enough where q and k have projections of their own. A fused one may be laid out in any way, so those
# rows hold for the classes whose code was read (transformers 5).
_ROWS = (
    _Row(("q_proj", "k_proj"), _apart),
    _Row(("W_q", "W_k"), _apart),
    _Row(("query", "key"), _apart),
    _Row(("q", "k"), _apart),
    _Row(("c_attn",), _stacked, ("GPT2Attention",)),
    _Row(("qkv_proj",), _stacked, ("Phi3Attention",)),
    _Row(("query_key_value",), _interleaved, ("GPTNeoXAttention",)),
    _Row(("q_b_proj", "kv_b_proj", "kv_a_proj_with_mqa"), _latent, ("DeepseekV3Attention",)),
)


def find_layout(module: nn.Module) -> Layout | None:
    """The layout of an attention module, or None for a module that fits no row of the table."""
    row = _find_row(module)
    return row.build(module, row.projections) if row else None


def fused_parts(module: nn.Module) -> tuple[Part, ...]:
    """The q, k and v of a module's fused projection; empty if it has none, or one that the table does not know."""
    row = _find_row(module)
    return row.build(module, row.projections).split if row and row.classes else ()


def _find_row(module: nn.Module) -> _Row | None:
    for row in _ROWS:
        known = not row.classes or _class_name(module) in row.classes
        if known and all(is_linear(getattr(module, name, None)) for name in row.projections):
            return row
    return None


def attention_layouts(model: nn.Module) -> dict[str, tuple[nn.Module, Layout]]:
    """Every attention module of a model with its layout, by the module's name.

    Raises:
        ValueError: an attention module that QK-Clip cannot treat, by name and with the reason; or none at all.
    """
    sharded = {
        inner
        for module in model.modules()
        if is_instance(module, "torch.distributed.fsdp", "FSDPModule")
        for inner in module.modules()
    }
    found = {name or type(module).__name__: (module, find_layout(module)) for name, module in model.named_modules()}
    layouts = {}
    for name, (module, layout) in found.items():
        inside = (other for other_name, (_, other) in found.items() if other_name.startswith(f"{name}."))
        if layout is None and ("Attention" not in type(module).__name__ or any(inside)):
            continue
        if reason := _refusal(module, layout):
            raise ValueError(f"{name} ({type(module).__name__}) {reason}")
        assert layout is not None  # no layout is a reason
        for part in layout.parts:
            _require_whole_heads(f"{name}.{part.projection}", module.get_submodule(part.projection), sharded)
        layouts[name] = module, layout
    if not layouts:
        raise ValueError(
            f"{type(model).__name__} has no attention module: expected modules with a query and a key projection named "
            f"{', '.join('/'.join(row.projections) for row in _ROWS if not row.classes)}."
        )
    return layouts


def _require_whole_heads(name: str, projection: Any, sharded: set[nn.Module]) -> None:
    """Refuses weights of which a forward pass has a part only: then a rank sees some heads and has to scale others.

    FSDP2 gathers them for each pass; tensor parallelism does not. By its placements: the second splits too.
    """
    if not is_instance(projection.weight, "torch.distributed.tensor", "DTensor"):
        return
    splits = sum(placement.is_shard() for placement in projection.weight.placements)
    if splits > 1 or projection not in sharded:
        raise ValueError(
            f"{name} is split over ranks by tensor parallelism, so no rank sees all heads: expected weights that are "
            "whole in a forward pass, as with DistributedDataParallel or fully_shard (FSDP2); use the optimizer "
            "without QK-Clip."
        )


def _refusal(module: nn.Module, layout: Layout | None) -> str | None:
    """Why the clip would not do to this module's logits what it says, or None."""
    norms = [name for name, _ in module.named_children() if re.fullmatch(r"(q|k|qk|query|key)_?(layer_?)?norm", name)]
    config = getattr(module, "config", None)
    if norms:
        return (
            f"normalizes queries and keys ({', '.join(norms)}): scaling the weights before a norm changes no logit, so "
            "there is nothing to clip; QK-norm already bounds the logits; use the optimizer without QK-Clip."
        )
    if getattr(config, "attn_logit_softcapping", None):
        return "caps its logits (attn_logit_softcapping): they are bounded already; use the optimizer without QK-Clip."
    if getattr(module, "sinks", None) is not None:
        return "has attention sinks, logits without a query and a key, which no scaling of q and k reaches."
    if hasattr(module, "has_relative_attention_bias"):
        return "adds a position bias to its logits (T5), which no scaling of q and k reaches."
    if getattr(config, "clip_qkv", None):
        return "clamps q and k (clip_qkv): its logits do not scale with the weights."
    if layout is None:
        children = ", ".join(name for name, _ in module.named_children()) or "none"
        known = ["/".join(row.projections) + "".join(f" of {name}" for name in row.classes) for row in _ROWS]
        return (
            f"makes its queries and keys in a way that is not known (its submodules: {children}): expected "
            f"{', '.join(known)}."
        )
    return None


def _class_name(module: nn.Module) -> str:
    """The name of a module's class, under which fully_shard puts one of its own."""
    name = type(module).__name__
    return name.removeprefix("FSDP") if is_instance(module, "torch.distributed.fsdp", "FSDPModule") else name


def _heads(module: nn.Module) -> int:
    config = getattr(module, "config", None)
    for owner, name in [(config, "num_attention_heads"), *((module, n) for n in ("num_heads", "n_heads", "n_head"))]:
        if isinstance(count := getattr(owner, name, None), int):
            return count
    raise ValueError(f"{type(module).__name__} does not say how many heads it has: expected an attribute num_heads.")


def _head_size(module: nn.Module, default: int) -> int:
    return int(getattr(module, "head_dim", getattr(module, "head_size", default)))


def _scaling(module: nn.Module, size: int) -> float:
    if _class_name(module) == "GPTNeoSelfAttention":  # does not scale, and has no attribute that says so
        return 1.0
    scaling = getattr(module, "scaling", None)
    return float(scaling) if isinstance(scaling, int | float) else size**-0.5


def features_dim(projection: object) -> int:
    """Along which dimension of a projection's weight its output features stand; a Conv1D's is ``[in, out]``."""
    return 1 if is_conv1d(projection) else 0


def _width(module: nn.Module, name: str) -> int:
    """Output features of a projection."""
    projection: Any = module.get_submodule(name)
    if projection.weight.dim() != 2:
        raise ValueError(
            f"{type(module).__name__}.{name} has a weight of shape {tuple(projection.weight.shape)}: expected a "
            "matrix; FullyShardedDataParallel (FSDP1) and ZeRO-3 take matrices apart, fully_shard (FSDP2) does not."
        )
    return int(projection.weight.shape[features_dim(projection)])


def _expect(module: nn.Module, name: str, features: int, meaning: str) -> None:
    width = _width(module, name)
    if width != features:
        raise ValueError(f"{type(module).__name__}.{name} has {width} output features: expected {features}, {meaning}.")
