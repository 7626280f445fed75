"""Where each head's queries and keys stand in the weights of an attention module: one table, a row a layout.

A logit is a sum of products, S = scaling · Σ_pairs q_part · k_part. Most models have one pair; multi-head latent
attention has two, of which the second shares its key. The parts are said as blocks of a projection's output features,
so that the same few lines scale, split and measure every layout.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from hmpo_lib.optim.linear_maps import is_instance, is_linear, linear_map


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
        scaling: what q · k is multiplied by; for the bound by norms.
        pairs: (query part, key part), whose products sum to a logit. A key part with fewer heads is shared: query head
            h uses its head h // (heads / key heads).
        values: the value part, where it is known; for Muon head by head, and for q, k and v in one projection.
    """

    heads: int
    scaling: float
    pairs: tuple[tuple[Part, Part], ...]
    values: tuple[Part, ...] = ()

    @classmethod
    def separate(
        cls,
        query: str,
        key: str,
        value: str | None = None,
        *,
        heads: int,
        size: int,
        key_heads: int | None = None,
        value_size: int | None = None,
        scaling: float | None = None,
    ) -> "Layout":
        """Projections of their own, by their names in the module, head after head.

        Args:
            query, key, value: names of linear maps.
            heads: query heads.
            size: features a head of q and k.
            key_heads: of k and v, if several query heads share one (grouped queries).
            value_size: features a head of v; default: ``size``.
            scaling: default: 1 / √size.

        >>> Layout.separate("wq", "wk", heads=4, size=8, key_heads=2).pairs[0][1]
        Part(projection='wk', heads=2, size=8, stride=8, offset=0)
        """
        key_heads, value_size = key_heads or heads, value_size or size
        pair = Part(query, heads, size, size), Part(key, key_heads, size, size)
        values = () if value is None else (Part(value, key_heads, value_size, value_size),)
        return cls(heads, size**-0.5 if scaling is None else scaling, (pair,), values)

    @classmethod
    def stacked(
        cls, name: str, *, heads: int, size: int, key_heads: int | None = None, scaling: float | None = None
    ) -> "Layout":
        """One projection: all of q, then all of k, then all of v. The arguments are those of `separate`."""
        key_heads = key_heads or heads
        query = Part(name, heads, size, size)
        key, value = (Part(name, key_heads, size, size, (heads + i * key_heads) * size) for i in (0, 1))
        return cls(heads, size**-0.5 if scaling is None else scaling, ((query, key),), (value,))

    @classmethod
    def interleaved(cls, name: str, *, heads: int, size: int, scaling: float | None = None) -> "Layout":
        """One projection: for each head its q, k, v. The arguments are those of `separate`."""
        query, key, value = (Part(name, heads, size, 3 * size, i * size) for i in (0, 1, 2))
        return cls(heads, size**-0.5 if scaling is None else scaling, ((query, key),), (value,))

    @property
    def parts(self) -> list[Part]:
        """All parts of queries and keys, in the order of their projections."""
        return sorted(part for pair in self.pairs for part in pair)

    @property
    def split(self) -> tuple[Part, ...]:
        """The q, k and v of a fused projection; empty where they have projections of their own."""
        parts = (*self.pairs[0], *self.values)
        fused = self.values and len(self.pairs) == 1 and len({part.projection for part in parts}) == 1
        return parts if fused else ()


# By a user's class of attention modules: what makes the layout of such a module.
Layouts = Mapping[type[nn.Module], Callable[[Any], Layout]]


class _Row(NamedTuple):
    """Modules with all these ``projections`` (and one of these ``classes``, unless any will do) are built so."""

    projections: tuple[str, ...]
    build: Callable[[nn.Module, tuple[str, ...]], Layout]
    classes: tuple[str, ...] = ()


def _apart(module: nn.Module, names: tuple[str, ...]) -> Layout:
    """Projections of their own; with fewer key heads than query heads, each key serves several (GQA)."""
    query, key = names
    heads = _heads(module)
    size = _head_size(module, linear_map(module, query).features // heads)
    key_heads = max(1, linear_map(module, key).features // size)
    value = query.replace("query", "value").replace("q", "v")
    value_size = None
    if is_linear(getattr(module, value, None)):
        value_size, rest = divmod(linear_map(module, value).features, key_heads)
        value_size = None if rest else value_size
    return Layout.separate(
        query,
        key,
        None if value_size is None else value,
        heads=heads,
        size=size,
        key_heads=key_heads,
        value_size=value_size,
        scaling=_scaling(module),
    )


def _stacked(module: nn.Module, names: tuple[str, ...]) -> Layout:
    (name,) = names
    heads = _heads(module)
    key_heads = getattr(getattr(module, "config", None), "num_key_value_heads", None) or heads
    size = _head_size(module, linear_map(module, name).inputs // heads)
    return Layout.stacked(name, heads=heads, size=size, key_heads=key_heads, scaling=_scaling(module))


def _interleaved(module: nn.Module, names: tuple[str, ...]) -> Layout:
    (name,) = names
    heads = _heads(module)
    size = _head_size(module, linear_map(module, name).features // (3 * heads))
    return Layout.interleaved(name, heads=heads, size=size, scaling=_scaling(module))


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
    scaling = _scaling(module)
    values = (Part(key, heads, value, content + value, content),)
    return Layout(heads, stride**-0.5 if scaling is None else scaling, pairs, values)


# The names say enough where q and k have projections of their own. A fused one may be laid out in any way, so those
# rows hold for the classes whose code was read (transformers 5; CausalSelfAttention as in nanoGPT).
_ROWS = (
    _Row(("q_proj", "k_proj"), _apart),
    _Row(("W_q", "W_k"), _apart),
    _Row(("query", "key"), _apart),
    _Row(("q", "k"), _apart),
    _Row(("wq", "wk"), _apart),
    _Row(("to_q", "to_k"), _apart),
    _Row(("c_attn",), _stacked, ("GPT2Attention", "CausalSelfAttention")),
    _Row(("qkv_proj",), _stacked, ("Phi3Attention",)),
    _Row(("query_key_value",), _interleaved, ("GPTNeoXAttention",)),
    _Row(("q_b_proj", "kv_b_proj", "kv_a_proj_with_mqa"), _latent, ("DeepseekV3Attention",)),
)
KNOWN_NAMES = ["/".join(row.projections) for row in _ROWS if not row.classes]
KNOWN = ["/".join(row.projections) + "".join(f" of {name}" for name in row.classes) for row in _ROWS]


def find_layout(module: nn.Module, layouts: Layouts | None = None) -> Layout | None:
    """The layout of an attention module, or None for a module that fits neither the layouts given nor the table.

    Raises:
        ValueError: it fits, but not the sizes of the module's weights.
    """
    for kind, make in (layouts or {}).items():
        if isinstance(module, kind):
            _require_sizes(module, layout := make(module), whole=False)
            return layout
    layout_of_table = _find(module)
    if layout_of_table is not None:
        _require_sizes(module, layout_of_table, whole=True)
    return layout_of_table


def _find(module: nn.Module) -> Layout | None:
    if isinstance(module, nn.MultiheadAttention):
        known = module.in_proj_weight is not None
        return Layout.stacked("in_proj", heads=module.num_heads, size=module.head_dim) if known else None
    row = _find_row(module)
    return row.build(module, row.projections) if row else None


def _find_row(module: nn.Module) -> _Row | None:
    for row in _ROWS:
        known = not row.classes or class_name(module) in row.classes
        if known and all(is_linear(getattr(module, name, None)) for name in row.projections):
            return row
    return None


def fused_parts(module: nn.Module, layouts: Layouts | None = None) -> tuple[Part, ...]:
    """The q, k and v of a module's fused projection; empty if it has none, or one that is not known."""
    row = _find_row(module)
    given = isinstance(module, (nn.MultiheadAttention, *(layouts or {})))
    layout = find_layout(module, layouts) if given or (row and row.classes) else None
    return layout.split if layout else ()


def class_name(module: nn.Module) -> str:
    """The name of a module's class, under which fully_shard puts one of its own."""
    name = type(module).__name__
    return name.removeprefix("FSDP") if is_instance(module, "torch.distributed.fsdp", "FSDPModule") else name


def _require_sizes(module: nn.Module, layout: Layout, *, whole: bool) -> None:
    """Raises ValueError unless the parts are heads of their projections' features, and all of them if ``whole``."""
    for query, key in layout.pairs:
        if query.heads != layout.heads or layout.heads % key.heads or query.size != key.size:
            raise ValueError(
                f"{class_name(module)} pairs {query} with {key}: expected {layout.heads} query heads, a divisor of "
                "that of key heads, and heads of one size."
            )
    for name in dict.fromkeys(part.projection for pair in layout.pairs for part in pair):
        if not isinstance(module, nn.MultiheadAttention) and not is_linear(getattr(module, name, None)):
            raise ValueError(
                f"{class_name(module)} has no linear map {name!r}: expected the name of one in its layout."
            )
        parts = [part for part in (*layout.parts, *layout.values) if part.projection == name]
        features = linear_map(module, name).features
        last = max(part.offset + (part.heads - 1) * part.stride + part.size for part in parts)
        if last > features or (whole and last != features):
            heads = " and ".join(f"{part.heads} heads of {part.size}" for part in parts)
            raise ValueError(f"{class_name(module)}.{name} has {features} output features: expected {last}, {heads}.")


def _heads(module: nn.Module) -> int:
    config = getattr(module, "config", None)
    names = ("num_heads", "n_heads", "n_head", "heads")
    for owner, name in [(config, "num_attention_heads"), *((module, name) for name in names)]:
        if isinstance(count := getattr(owner, name, None), int):
            return count
    raise ValueError(
        f"{class_name(module)} does not say how many heads it has: expected an attribute {' or '.join(names)}, or a "
        "layout of the class in layouts."
    )


def _head_size(module: nn.Module, default: int) -> int:
    return int(getattr(module, "head_dim", getattr(module, "head_size", default)))


def _scaling(module: nn.Module) -> float | None:
    if class_name(module) == "GPTNeoSelfAttention":  # does not scale, and has no attribute that says so
        return 1.0
    for name in ("scaling", "scale"):
        if isinstance(scaling := getattr(module, name, None), int | float):
            return float(scaling)
    return None
