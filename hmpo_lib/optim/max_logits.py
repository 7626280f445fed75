"""The exact largest attention logit of each head in the forward passes of training, and a bound on it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from hmpo_lib.optim.attention import attention_layouts
from hmpo_lib.optim.capture import Record, forget, require_interface, set_interface, watch
from hmpo_lib.optim.layouts import Layouts, Part
from hmpo_lib.optim.linear_maps import is_instance, linear_map

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Trigger = Literal["max_logit", "norm_bound"]
Measure = Trigger | Literal["both"]


class MaxLogitMonitor:
    """Watches a model's attention: the largest logit of each head since the last `reset`, exactly.

    S_max[h] = max over batch and allowed (i, j) of  scaling · q_i · k_j, what the softmax gets: signed, after rotation,
    with the model's own mask and scaling (Kimi K2, arXiv 2507.20534, section 2.1). Only forward passes with gradients
    count, and several of them, as in micro-batches, give their maximum. The model computes what it computed before, bit
    for bit. A second monitor on the same model takes the first one's place.

    Args:
        model: a model of transformers that calls its attention through AttentionInterface, with "sdpa" or "eager"; or
            modules whose attention calls softmax or scaled_dot_product_attention, torch's MultiheadAttention too. The
            table of those that are known is in `hmpo_lib.optim.layouts`.
        measure: "max_logit"; "norm_bound" for the bound, which needs no view of the logits; or "both".
        layouts: where q and k are in a class of attention modules that the table does not know: the class -> a
            function of the module that gives its `Layout`.

    Raises:
        ValueError: attention that is not known, cannot be seen, or whose logits q and k do not decide (QK-norm, …).
    """

    def __init__(self, model: nn.Module, *, measure: Measure = "both", layouts: Layouts | None = None) -> None:
        if measure not in ("max_logit", "norm_bound", "both"):
            raise ValueError(f"measure is {measure!r}: expected 'max_logit', 'norm_bound' or 'both'.")
        self.measure = measure
        sees_logits, sees_norms = measure != "norm_bound", measure != "max_logit"
        self._hosts = list(_outermost(model))
        for host in self._hosts if sees_logits else ():
            require_interface(host)
        self.attention = attention_layouts(model, layouts)
        # A rotation leaves norms alone, but some rotary embeddings (YaRN's) also stretch.
        stretches: list[Any] = [getattr(module, "attention_scaling", 1.0) for module in model.modules()]
        self._stretch = max(stretches) ** 2
        self._records = {
            name: Record(name, layout, sees_logits=sees_logits, sees_norms=sees_norms)
            for name, (_, layout) in self.attention.items()
        }
        inside = {module for host in self._hosts for module in host.modules()}
        for name, (module, _) in self.attention.items():
            watch(module, self._records[name], softmax=sees_logits and module not in inside)
        for host in self._hosts:
            set_interface(host)

    @property
    def enabled(self) -> bool:
        """Whether forward passes are watched; set it to False where they should not count or cost."""
        return all(record.enabled for record in self._records.values())

    @enabled.setter
    def enabled(self, value: bool) -> None:
        for record in self._records.values():
            record.enabled = value

    def max_logits(self) -> dict[str, Tensor]:
        """S_max of each head since the last `reset`: the attention module's name -> ``[heads]``.

        Raises:
            ValueError: nothing was captured.
        """
        if not (seen := self._seen_logits()):
            raise self.nothing_captured()
        return seen

    def _seen_logits(self) -> dict[str, Tensor]:
        return {name: record.max_logits for name, record in self._records.items() if record.max_logits is not None}

    def norm_bounds(self) -> dict[str, Tensor]:
        """A bound on |S| of each head by norms: scaling · max_i ‖q_i‖ · max_j ‖k_j‖, summed over pairs of parts.

        It holds for every mask, and is larger than S_max: by how much depends on the angles between q and k.

        Raises:
            ValueError: nothing was captured.
        """
        if not (bounds := self._seen_bounds()):
            raise self.nothing_captured("queries and keys")
        return bounds

    def _seen_bounds(self) -> dict[str, Tensor]:
        bounds = {}
        for name, (_, layout) in self.attention.items():
            norms = self._records[name].norms
            if not norms:
                continue
            products = [
                norms[query] * norms[key].repeat_interleave(layout.heads // key.heads) for query, key in layout.pairs
            ]
            bounds[name] = torch.stack(products).sum(dim=0) * (layout.scaling * self._stretch)
        return bounds

    def nothing_captured(self, what: str = "attention logits") -> ValueError:
        """The error to raise where something should have been seen."""
        return ValueError(
            f"no {what} were captured in {', '.join(self.attention)}: expected a forward pass with gradients since the "
            "last reset, while this monitor is enabled and no later one has taken the model over."
        )

    def measured(self) -> dict[str, Tensor]:
        """What a clip would go by: `max_logits`, or `norm_bounds` of a monitor that sees nothing else."""
        return self.norm_bounds() if self.measure == "norm_bound" else self.max_logits()

    def seen(self) -> dict[str, Tensor]:
        """As `measured`, without the modules that saw nothing; empty if none did."""
        return self._seen_bounds() if self.measure == "norm_bound" else self._seen_logits()

    def reset(self) -> None:
        """Forgets what was seen: the next forward pass begins anew."""
        for record in self._records.values():
            record.reset()

    def remove(self) -> None:
        """Ends the watching and gives the model its attention back, unless a later monitor has taken it over."""
        for name, (module, _) in self.attention.items():
            forget(module, self._records[name])
        for host in self._hosts:
            set_interface(host)

    def state_dict(self) -> dict[str, Any]:
        """What was seen since the last reset, and whether the monitor is enabled; plain dictionaries of tensors."""
        seen = {
            name: {
                "max_logits": self._records[name].max_logits,
                "norms": [self._records[name].norms.get(p) for p in parts],
            }
            for name, parts in self._parts().items()
        }
        return {"enabled": self.enabled, "seen": seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` gave.

        Raises:
            ValueError: it is of a model with other attention modules.
        """
        if state["seen"].keys() != self._records.keys():
            raise ValueError(
                f"the state is of attention modules {', '.join(state['seen'])}: expected {', '.join(self._records)}."
            )
        self.enabled = state["enabled"]
        for name, parts in self._parts().items():
            seen, module = state["seen"][name], self.attention[name][0]
            device = linear_map(module, parts[0].projection).weight.device  # a state may have been read on a CPU
            maxima = seen["max_logits"]
            self._records[name].max_logits = None if maxima is None else maxima.to(device)
            norms = zip(parts, seen["norms"], strict=True)
            self._records[name].norms = {part: norm.to(device) for part, norm in norms if norm is not None}

    def _parts(self) -> dict[str, list[Part]]:
        return {name: layout.parts for name, (_, layout) in self.attention.items()}


def _outermost(module: Any) -> Iterator["PreTrainedModel"]:
    """The models of transformers in a module that are in no other one."""
    if is_instance(module, "transformers.modeling_utils", "PreTrainedModel"):
        yield module
    else:
        for child in module.children():
            yield from _outermost(child)
