"""QK-Clip: after a step, the weights of the heads whose attention logits have grown too large are scaled down.

Kimi K2, arXiv 2507.20534, section 2.1: for each head h, with S_max[h] from the forward pass before the step,

    γ_h = min(1, τ / S_max[h])   (1 where S_max[h] ≤ 0),   W_q[h] ← √γ_h W_q[h],   W_k[h] ← √γ_h W_k[h],

biases with the weights. A key that several query heads share (grouped queries, the rotary part of latent attention)
stays as it is, and W_q[h] takes the whole γ_h: so the other heads keep their logits, bit for bit.

The logits of that forward pass become γ S exactly. Those of the next one differ by what the optimizer's own step, and
in later layers the other inputs, have changed. With several ranks, S_max is the largest of all: they clip alike.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hmpo_lib.optim.attention import attention_layouts
from hmpo_lib.optim.clip_record import ClipRecord, history_of
from hmpo_lib.optim.layouts import Layouts
from hmpo_lib.optim.linear_maps import linear_map
from hmpo_lib.optim.max_logits import MaxLogitMonitor, Trigger
from hmpo_lib.optim.muon import MuonAdamW
from hmpo_lib.optim.ranks import is_parallel, maximum_over_ranks, require_same_on_all_ranks
from hmpo_lib.optim.scaling import is_frozen, require_scalable, scale_logits

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def clip_factors(maxima: Tensor, threshold: float) -> Tensor:
    """γ = min(1, τ / S_max), and 1 where S_max ≤ 0 (Kimi K2, arXiv 2507.20534, section 2.1).

    >>> clip_factors(torch.tensor([250.0, -5.0, 100.0, -torch.inf]), threshold=100.0)
    tensor([0.4000, 1.0000, 1.0000, 1.0000])
    """
    return torch.where(maxima > threshold, threshold / maxima, torch.ones_like(maxima))


class QKClip(torch.optim.Optimizer):
    """Any torch optimizer, with QK-Clip after its step. While no logit exceeds the threshold it changes no bit.

    The clip hangs on the optimizer's own step, by torch's hooks: it happens whichever of the two makes the step, in a
    loop, a scheduler or a GradScaler, and its state is saved and loaded with either. This is an optimizer itself, whose
    parameter groups and state are those of the one it wraps. ``history`` has the last `ClipRecord`s for plots, some
    thousands; it is not part of the state_dict.

    With a process group, every rank makes every step, and one all-reduce a step takes the maxima over all of them: for
    DistributedDataParallel and fully_shard (FSDP2). A rank that saw nothing takes part.

    Args:
        optimizer: what makes the step.
        model: see `MaxLogitMonitor`. Queries and keys that are frozen are not clipped.
        threshold: τ; 100 in Kimi K2.
        trigger: "max_logit", or "norm_bound" to clip where a bound on the logits exceeds the threshold, which is far
            earlier; for models whose logits cannot be seen.
        every_n_steps: how often to look and clip. In between the forward passes cost nothing.
        layouts: see `MaxLogitMonitor`.
        process_group: the ranks that hold the same heads; default: all.

    Raises:
        ValueError: see `MaxLogitMonitor`; a threshold that is not positive; queries and keys of which a part is frozen.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
    ...                                      num_attention_heads=2))
    >>> optimizer = QKClip(torch.optim.AdamW(model.parameters(), lr=0.0), model, threshold=1e-6)
    >>> ids = torch.arange(9)[None]
    >>> model(input_ids=ids, labels=ids).loss.backward()
    >>> optimizer.step()
    >>> optimizer.history[-1].heads_clipped
    2
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        model: nn.Module,
        threshold: float = 100.0,
        *,
        trigger: Trigger = "max_logit",
        every_n_steps: int = 1,
        layouts: Layouts | None = None,
        process_group: "ProcessGroup | None" = None,
    ) -> None:
        # Optimizer.__init__ is not called: groups, state and hooks are the wrapped optimizer's, by __getattr__.
        if not threshold > 0:
            raise ValueError(f"threshold is {threshold}: expected a number above 0.")
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps is {every_n_steps}: expected a whole number from 1.")
        if trigger not in ("max_logit", "norm_bound"):
            raise ValueError(f"trigger is {trigger!r}: expected 'max_logit' or 'norm_bound'.")
        for name, (module, layout) in attention_layouts(model, layouts).items():
            require_scalable(name, module, layout)  # before the monitor changes the model
        self.optimizer = optimizer
        self.threshold = threshold
        self.trigger: Trigger = trigger
        self.every_n_steps = every_n_steps
        self.process_group = process_group
        self.monitor = MaxLogitMonitor(model, measure=trigger, layouts=layouts)
        self.steps = 0
        self._heads = {name: layout.heads for name, (_, layout) in self.monitor.attention.items()}
        self.history = history_of(self._heads)
        self._maxima: Tensor | None = None  # of the step that is being made
        self._ranks_agree = False
        self._hooks = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
            optimizer.register_state_dict_post_hook(self._save),
            optimizer.register_load_state_dict_pre_hook(self._load),
        ]

    def __getattr__(self, name: str) -> Any:
        # Private names are how torch speaks to the optimizer that it was given (GradScaler leaves the scale to one with
        # _step_supports_amp_scaling, and tells it by attributes): answered for another, they go astray. Hooks do not.
        if name == "optimizer" or (name.startswith("_") and not name.startswith("_optimizer_")):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.optimizer, name)

    def __getstate__(self) -> Any:
        raise TypeError(
            f"a {type(self).__name__} watches its model, and a copy of it would watch none: expected no copying or "
            "pickling; make a new one over the copied model, and give it this one's state_dict."
        )

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """The optimizer's step, then the clip; returns what the closure returned.

        Raises:
            ValueError: no forward pass with gradients since the last step, on any rank.
            FloatingPointError: a logit is infinite or nan. Without a closure nothing has moved then, in either case.
        """
        return self.optimizer.step() if closure is None else self.optimizer.step(closure)

    def remove(self) -> None:
        """Ends the clip: the optimizer inside and the model are what they were before."""
        for hook in self._hooks:
            hook.remove()
        self.monitor.remove()

    def _before(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._maxima = None  # of a step that was not finished
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is None and self.monitor.enabled and not _is_skipped(optimizer):
            self._maxima = self._look()  # before anything moves, so that an error leaves the weights as they were

    @torch.no_grad()
    def _after(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if _is_skipped(optimizer):
            return
        if self.monitor.enabled:
            maxima, self._maxima = self._look() if self._maxima is None else self._maxima, None
            if maxima is None:
                return
            self._clip(maxima)
            self.monitor.reset()
        self.steps += 1
        self.monitor.enabled = self.steps % self.every_n_steps == 0

    def _look(self) -> Tensor | None:
        """What was measured since the last step, ``[all heads]``, on all ranks together; None for no step at all."""
        seen, parts = self.monitor.seen(), []
        for name, (module, layout) in self.monitor.attention.items():
            weight = linear_map(module, layout.pairs[0][0].projection).weight
            dtype = torch.promote_types(weight.dtype, torch.float32)
            unseen = torch.full((layout.heads,), -torch.inf, device=weight.device)
            parts.append(seen.get(name, unseen).to(dtype=dtype))
        maxima = torch.cat([part.to(parts[0].device) for part in parts])
        if is_parallel(self.process_group):
            if not self._ranks_agree:
                settings = (self._heads, self.threshold, self.trigger, self.every_n_steps, self.steps)
                require_same_on_all_ranks(settings, maxima.device, self.process_group)
                self._ranks_agree = True
            maxima = maximum_over_ranks(maxima, self.process_group)
            nothing = bool((maxima == -torch.inf).all())
        else:
            nothing = not seen
        if nothing:
            # torch.distributed.checkpoint makes such a step, so that the optimizer has a state to load into.
            if all(float(group["lr"]) == 0 for group in self.optimizer.param_groups):
                return None
            raise self.monitor.nothing_captured()
        if not bool((maxima < torch.inf).all()):
            for name, part in zip(self._heads, maxima.split(list(self._heads.values())), strict=True):
                if not bool((part < torch.inf).all()):
                    raise FloatingPointError(f"{name} has the maximum logits {part.tolist()}: lower the learning rate.")
        return maxima

    def _clip(self, maxima: Tensor) -> None:
        gammas = clip_factors(maxima, self.threshold)
        for (module, layout), part in zip(
            self.monitor.attention.values(), gammas.split(list(self._heads.values())), strict=True
        ):
            if is_frozen(module, layout):
                part.fill_(1.0)
        record = ClipRecord(self.steps, self._heads, self.trigger, maxima.cpu(), gammas.cpu())
        self.history.append(record)
        for name, part in record.gammas.items():
            if bool((part < 1).any()):
                scale_logits(*self.monitor.attention[name], part)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """The wrapped optimizer's."""
        self.optimizer.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """The wrapped optimizer's."""
        self.optimizer.add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """The wrapped optimizer's, and under "qk_clip" the step and what the monitor has seen since the last one."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where `state_dict` was taken.

        Raises:
            ValueError: the state of an optimizer without QK-Clip.
        """
        if "qk_clip" not in state_dict:
            raise ValueError(
                "the state has no 'qk_clip': expected one of QKClip's; give another one to .optimizer.load_state_dict."
            )
        self.optimizer.load_state_dict(state_dict)

    def _save(self, optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
        return state_dict | {"qk_clip": {"steps": self.steps, "monitor": self.monitor.state_dict()}}

    def _load(self, optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]) -> None:
        if "qk_clip" in state_dict:
            self.monitor.load_state_dict(state_dict["qk_clip"]["monitor"])
            self.steps = state_dict["qk_clip"]["steps"]
            self._ranks_agree = False


def _is_skipped(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a GradScaler has told a fused optimizer to step, and at the same time to leave its weights alone."""
    found_inf = getattr(optimizer, "found_inf", None)
    return found_inf is not None and bool(found_inf)


class MuonClip(QKClip):
    """Kimi K2's optimizer: Muon for the matrices inside the blocks, AdamW for the rest, and QK-Clip over both.

    Args:
        model: a model of transformers, or one with its blocks in an nn.ModuleList.
        lr: see `MuonAdamW`, which takes the ``options`` too: adamw_lr, adjust_lr_fn, weight_decay, momentum, …
        threshold: of `QKClip`, as ``trigger``, ``every_n_steps``, ``layouts`` and ``process_group``.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float = 1e-3,
        *,
        threshold: float = 100.0,
        trigger: Trigger = "max_logit",
        every_n_steps: int = 1,
        layouts: Layouts | None = None,
        process_group: "ProcessGroup | None" = None,
        **options: Any,
    ) -> None:
        super().__init__(
            MuonAdamW(model, lr, layouts=layouts, **options),
            model,
            threshold,
            trigger=trigger,
            every_n_steps=every_n_steps,
            layouts=layouts,
            process_group=process_group,
        )
