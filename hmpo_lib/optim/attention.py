"""The attention modules of a model: which ones QK-Clip can treat, and why not the others."""

import re

from torch import nn

from hmpo_lib.optim.layouts import KNOWN, KNOWN_NAMES, Layout, Layouts, class_name, find_layout
from hmpo_lib.optim.linear_maps import is_instance, linear_map

_NORM = re.compile(r"(q|k|qk|query|key)_?(layer_?)?(norm|ln)|(layer_?)?(norm|ln)_?(q|k|qk|query|key)")


def known_layouts(model: nn.Module, layouts: Layouts | None = None) -> dict[str, tuple[nn.Module, Layout | None]]:
    """Every attention module of a model by name, with its layout, or None if that is not known."""
    found = {module: find_layout(module, layouts) for module in model.modules()}
    known = {}
    for name, module in model.named_modules():
        inside = any(found[other] is not None for other in module.modules())
        if found[module] is not None or ("Attention" in class_name(module) and not inside):
            known[name or class_name(module)] = module, found[module]
    return known


def attention_layouts(model: nn.Module, layouts: Layouts | None = None) -> dict[str, tuple[nn.Module, Layout]]:
    """Every attention module of a model with its layout, by the module's name.

    Args:
        model: any module.
        layouts: of the classes that the table does not know.

    Raises:
        ValueError: an attention module that QK-Clip cannot treat, by name and with the reason; or none at all.
    """
    sharded = {
        inner
        for module in model.modules()
        if is_instance(module, "torch.distributed.fsdp", "FSDPModule")
        for inner in module.modules()
    }
    treated = {}
    for name, (module, layout) in known_layouts(model, layouts).items():
        if reason := _refusal(module, layout):
            raise ValueError(f"{name} ({class_name(module)}) {reason}")
        assert layout is not None  # no layout is a reason
        for part in layout.parts:
            if is_tensor_parallel(module, part.projection, sharded):
                raise ValueError(
                    f"{name}.{part.projection} is split over ranks by tensor parallelism, so no rank sees all heads: "
                    "expected weights that are whole in a forward pass, as with DistributedDataParallel or "
                    "fully_shard (FSDP2); use the optimizer without QK-Clip."
                )
        treated[name] = module, layout
    if not treated:
        raise ValueError(
            f"{type(model).__name__} has no attention module: expected modules with a query and a key projection named "
            f"{', '.join(KNOWN_NAMES)}, torch's MultiheadAttention, or a layout of the class in layouts."
        )
    return treated


def is_tensor_parallel(module: nn.Module, name: str, sharded: set[nn.Module]) -> bool:
    """Whether a forward pass on one rank has a part of a projection only; FSDP2 gathers the whole of what it shards."""
    weight = linear_map(module, name).weight
    if not is_instance(weight, "torch.distributed.tensor", "DTensor"):
        return False
    owner = module if isinstance(module, nn.MultiheadAttention) else module.get_submodule(name)
    # Both at once split the weight twice.
    return owner not in sharded or sum(placement.is_shard() for placement in weight.placements) > 1  # type: ignore[attr-defined]


def _refusal(module: nn.Module, layout: Layout | None) -> str | None:
    """Why the clip would not do to this module's logits what it says, or None."""
    norms = [
        name for name, child in module.named_children() if _NORM.fullmatch(name) and not isinstance(child, nn.Identity)
    ]
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
    if getattr(module, "add_k_proj", None) is not None:
        return "projects other keys beside its own (add_k_proj), which the scaling would not reach."
    if isinstance(module, nn.MultiheadAttention):
        if module.in_proj_weight is None:
            return "has keys or values of another width (kdim, vdim): expected in_proj_weight, with q, k and v in one."
        if module.bias_k is not None or module.add_zero_attn:
            return "adds a key of its own (add_bias_kv, add_zero_attn), which the scaling would not reach."
    adapted = [name for name, child in module.named_children() if hasattr(child, "base_layer")]
    if layout is None and adapted:
        return (
            f"has adapters on {', '.join(adapted)} (PEFT), beside frozen weights, so that scaling either alone would "
            "not scale a logit: expected plain projections; merge the adapters, or use the optimizer without QK-Clip."
        )
    if layout is None:
        children = ", ".join(name for name, _ in module.named_children()) or "none"
        return (
            f"makes its queries and keys in a way that is not known (its submodules: {children}): expected "
            f"{', '.join(KNOWN)}, torch's MultiheadAttention, or a layout of the class in layouts."
        )
    return None
