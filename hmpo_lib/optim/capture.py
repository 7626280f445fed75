"""Where attention logits are seen on their way to the softmax. What is seen goes into a `Record` of the module.

Models of transformers call their attention through a table of functions by name. A function of ours is entered there,
and its mask under the same name: without that the model hands over no mask, and padding counts. It sees the rotated
queries, the unrepeated keys and the model's own scaling, and passes everything on to the function that it stands for.
In other modules the call of softmax or scaled_dot_product_attention itself is seen.
"""

import inspect
import itertools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from hmpo_lib.optim.attention_logits import max_attention_logits
from hmpo_lib.optim.layouts import Layout, Part

if TYPE_CHECKING:  # whoever has such a model has transformers; plain modules need torch only
    from transformers import PreTrainedModel

PREFIX = "max_logits_"
_BESIDE_Q_AND_K = ("position_bias", "softcap", "s_aux")  # what else some models let their logits depend on
_SEEN = ("sdpa", "eager")  # the attention whose mask and logits can be seen
_SOFTMAXES = (F.softmax, torch.softmax, Tensor.softmax)


class Record:
    """The running maxima of one attention module: of its logits, of the norms of its parts of q and k, or of both."""

    def __init__(self, name: str, layout: Layout, *, sees_logits: bool, sees_norms: bool) -> None:
        self.name = name
        self.layout = layout
        self.heads = layout.heads
        self.sees_logits = sees_logits
        self.sees_norms = sees_norms
        self.enabled = True
        self.hooks: list[RemovableHandle] = []
        self.reset()

    def reset(self) -> None:
        """Forgets what was seen."""
        self.max_logits: Tensor | None = None
        self.norms: dict[Part, Tensor] = {}

    @property
    def watching(self) -> bool:
        """Whether a forward pass counts: one that is to be differentiated, not generation or evaluation."""
        return self.enabled and torch.is_grad_enabled()

    def see_logits(self, maxima: Tensor) -> None:
        """Takes the maxima of one forward pass, ``[heads]``."""
        if tuple(maxima.shape) != (self.heads,):
            raise ValueError(
                f"{self.name} shows maximum logits of shape {tuple(maxima.shape)}: expected its [heads] = "
                f"({self.heads},); its softmax has to see [batch, heads, queries, keys]."
            )
        self.max_logits = maxima if self.max_logits is None else torch.maximum(self.max_logits, maxima)

    def see_blocks(self, part: Part, blocks: Tensor) -> None:
        """Takes what a projection made of a part in one forward pass, ``[..., heads, size]``."""
        norms = torch.linalg.vector_norm(blocks, dim=-1).flatten(0, -2).amax(dim=0)
        self.norms[part] = torch.maximum(self.norms[part], norms) if part in self.norms else norms


# By module, and weakly: a copy of a model is not watched, and a model that is gone takes its entries with it.
_RECORDS: WeakKeyDictionary[nn.Module, Record] = WeakKeyDictionary()
_PROJECTIONS: WeakKeyDictionary[nn.Module, tuple[Record, list[Part]]] = WeakKeyDictionary()
_HOSTS: WeakKeyDictionary[nn.Module, RemovableHandle] = WeakKeyDictionary()


def watch(module: nn.Module, record: Record, *, softmax: bool) -> None:
    """Lets a record see an attention module from now on, in place of an earlier record.

    Args:
        module: the attention module.
        record: where its maxima go.
        softmax: whether to look at the softmax that the module calls; for logits that no interface shows.
    """
    if module in _RECORDS:
        forget(module, _RECORDS[module])
    _RECORDS[module] = record
    own = isinstance(module, nn.MultiheadAttention)  # has no module that makes its q and k
    if softmax or own:
        record.hooks.append(module.register_forward_pre_hook(_enter))
        record.hooks.append(module.register_forward_hook(_leave, always_call=True))
    if own or not record.sees_norms:
        return
    for name, of_projection in itertools.groupby(record.layout.parts, key=lambda part: part.projection):
        projection = module.get_submodule(name)
        _PROJECTIONS[projection] = record, list(of_projection)
        record.hooks.append(projection.register_forward_hook(_see_projection))


def forget(module: nn.Module, record: Record) -> bool:
    """Ends `watch`; false if another record has taken the module over, which stays."""
    for hook in record.hooks:
        hook.remove()
    record.hooks.clear()
    return _RECORDS.get(module) is record and _RECORDS.pop(module) is record


# --- models of transformers ------------------------------------------------------------------------------------------


def _watching(attention: Callable[..., Any] | None) -> Callable[..., Any]:
    """An attention function that looks at the logits' maxima and leaves the attention to ``attention``."""

    def watched(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
    ) -> Any:
        record = _RECORDS.get(module)
        if record is not None and record.watching and record.sees_logits:
            for name in _BESIDE_Q_AND_K:
                if options.get(name) is not None:
                    raise ValueError(f"{record.name} passes its attention a {name}: expected logits of q and k alone.")
            causal = options.get("is_causal")
            causal = getattr(module, "is_causal", True) if causal is None else causal
            with torch.no_grad():
                maxima = max_attention_logits(
                    query,
                    key,
                    scaling=options.get("scaling") or query.shape[-1] ** -0.5,
                    mask=attention_mask,
                    causal=bool(causal) and query.shape[2] > 1,
                )
            record.see_logits(maxima)
        # An eager function is no entry of the table: it stands beside the class that calls it.
        function = attention or sys.modules[type(module).__module__].eager_attention_forward
        return function(module, query, key, value, attention_mask, **options)

    return watched


def require_interface(model: "PreTrainedModel") -> None:
    """Raises ValueError if a model does not call its attention through the table, or calls one that shows no logits."""
    present = _present(model)
    if not model._can_set_attn_implementation():  # setting it regardless would only log a warning
        raise ValueError(
            f"{type(model).__name__} does not call its attention through transformers' AttentionInterface, so its "
            "logits cannot be seen: expected a model that does (Llama, Mistral, Qwen2, OPT, Phi, GPT-2, GPT-NeoX, …)."
        )
    if present not in _SEEN:
        raise ValueError(
            f"{type(model).__name__} has the attention {present!r}, which shows no logits: expected 'sdpa' or 'eager'; "
            "call model.set_attn_implementation('sdpa')."
        )


def set_interface(model: "PreTrainedModel") -> None:
    """Has a model call our function while a record of a module in it looks at logits, and else what it called before.

    Our function is entered into the table with the mask of the function that it stands for.
    """
    present = _present(model)
    records = (_RECORDS.get(module) for module in model.modules())
    if any(record is not None and record.sees_logits for record in records):
        _register(present)
        model.set_attn_implementation(PREFIX + present)
        if model not in _HOSTS:
            _HOSTS[model] = model.register_forward_pre_hook(_bring_the_table_along)
    elif model in _HOSTS:
        model.set_attn_implementation(present)
        _HOSTS.pop(model).remove()


def _register(present: str) -> None:
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(PREFIX + present, _watching(AttentionInterface().get(present)))
    AttentionMaskInterface.register(PREFIX + present, AttentionMaskInterface()[present])


def _bring_the_table_along(model: nn.Module, args: Any) -> None:
    """Does nothing; a pickled model names it, so that another process imports this module, and with it the table."""


def _present(model: "PreTrainedModel") -> str:
    return str(model.config._attn_implementation).removeprefix(PREFIX)


# --- other modules: hooks that are functions of this module, so that a copied or pickled model can carry them ---------


class _SeeingSoftmax(TorchFunctionMode):
    """Looks at what softmax and scaled_dot_product_attention get, as long as it is entered."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        if func is F.multi_head_attention_forward:
            with torch.no_grad():
                self._see_multi_head(_ARGUMENTS.bind(*args, **options).arguments)
        elif func is F.scaled_dot_product_attention or func in _SOFTMAXES:
            with torch.no_grad():
                see = self._of_softmax if func in _SOFTMAXES else self._of_attention
                self.record.see_logits(see(*args, **options))
        return func(*args, **options)

    def _see_multi_head(self, given: dict[str, Any]) -> None:
        """Looks at torch's own attention, whose softmax is out of sight: its q and k are made once more."""
        ((query_part, key_part),) = self.record.layout.pairs
        made = []
        for name, part, chunk in (("query", query_part, 0), ("key", key_part, 1)):
            x = given[name] if given[name].dim() == 3 else given[name].unsqueeze(1)  # [time, batch, width]
            bias = given["in_proj_bias"]
            projected = F.linear(
                x, given["in_proj_weight"].chunk(3)[chunk], None if bias is None else bias.chunk(3)[chunk]
            )
            blocks = projected.unflatten(-1, (part.heads, part.size))
            if self.record.sees_norms:
                self.record.see_blocks(part, blocks)
            made.append(blocks.permute(1, 2, 0, 3))
        if self.record.sees_logits:
            mask = _numbers_to_add(given.get("attn_mask"), given.get("key_padding_mask"), self.record.heads)
            self.record.see_logits(max_attention_logits(*made, scaling=query_part.size**-0.5, mask=mask))

    def _of_softmax(self, input: Tensor, *_: Any, **__: Any) -> Tensor:
        maxima = input.flatten(-2).amax(dim=-1)  # [batch, heads], or [batch · heads]
        if maxima.dim() == 1 and len(maxima) % self.record.heads == 0:
            maxima = maxima.view(-1, self.record.heads)
        return maxima.amax(dim=0) if maxima.dim() == 2 else maxima

    def _of_attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        scaling = query.shape[-1] ** -0.5 if scale is None else scale
        return max_attention_logits(query, key, scaling=scaling, mask=attn_mask, causal=is_causal)


_ARGUMENTS = inspect.signature(F.multi_head_attention_forward)


def _numbers_to_add(mask: Tensor | None, padding: Tensor | None, heads: int) -> Tensor | None:
    """The two masks of torch's attention, numbers or true where hidden, as one of numbers that broadcasts.

    Args:
        mask: ``[queries, keys]`` or ``[batch · heads, queries, keys]``.
        padding: ``[batch, keys]``, or ``[keys]`` of one sequence.
        heads: how many.
    """
    total: Tensor | None = None
    if mask is not None:
        total = _hiding(mask if mask.dim() == 2 else mask.unflatten(0, (-1, heads)))
    if padding is not None:
        added = _hiding(padding.reshape(-1, 1, 1, padding.shape[-1]))
        total = added if total is None else total + added
    return total


def _hiding(mask: Tensor) -> Tensor:
    return torch.where(mask, -torch.inf, 0.0) if mask.dtype == torch.bool else mask


_ENTERED: WeakKeyDictionary[nn.Module, _SeeingSoftmax] = WeakKeyDictionary()


def _enter(module: nn.Module, args: Any) -> None:
    record = _RECORDS.get(module)
    if record is not None and record.watching:
        _ENTERED[module] = _SeeingSoftmax(record)
        _ENTERED[module].__enter__()


def _leave(module: nn.Module, args: Any, output: Any) -> None:
    if (mode := _ENTERED.pop(module, None)) is not None:
        mode.__exit__(None, None, None)


def _see_projection(projection: nn.Module, args: Any, output: Tensor) -> None:
    record, parts = _PROJECTIONS.get(projection, (None, ()))
    if record is not None and record.watching:
        with torch.no_grad():
            for part in parts:
                record.see_blocks(part, part.blocks(output))


if sys.modules.get("transformers") is not None:  # a pickled model that was watched calls its attention by these names
    for _name in _SEEN:
        _register(_name)
