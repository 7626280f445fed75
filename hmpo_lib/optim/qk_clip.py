"""QK-Clip: after a step, the weights of the heads whose attention logits have grown too large are scaled down.

Kimi K2, arXiv 2507.20534, section 2.1: for each head h, with S_max[h] from the forward pass before the step,

    γ_h = min(1, τ / S_max[h])   (1 where S_max[h] ≤ 0),   W_q[h] ← √γ_h W_q[h],   W_k[h] ← √γ_h W_k[h],

biases with the weights. A key that several query heads share (grouped queries, the rotary part of latent attention)
stays as it is, and W_q[h] takes the whole γ_h: so the other heads keep their logits, bit for bit.

The logits of that forward pass become γ S exactly. Those of the next one differ by what the optimizer's own step, and
in later layers the other inputs, have changed.
"""

import dataclasses
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from hmpo_lib.optim.layouts import Layout, Part
from hmpo_lib.optim.max_logits import MaxLogitMonitor, Measure
from hmpo_lib.optim.muon import MuonAdamW

KEPT_RECORDS = 10_000  # steps of `QKClip.history`; older ones are dropped, so that a long run cannot fill the memory


@dataclasses.dataclass(frozen=True)
class ClipRecord:
    """What one step saw and did. The dictionaries have the attention modules' names and ``[heads]``, on the CPU.

    Attributes:
        step: the optimizer's step, from 0.
        max_logits: S_max; empty if only the bound is measured.
        norm_bounds: the bound on |S|, see `MaxLogitMonitor.norm_bounds`.
        gammas: what the logits were multiplied by; 1 where nothing was clipped.
    """

    step: int
    max_logits: dict[str, Tensor]
    norm_bounds: dict[str, Tensor]
    gammas: dict[str, Tensor]

    @property
    def heads_clipped(self) -> int:
        """The number of heads with γ < 1."""
        return sum(int((gamma < 1).sum()) for gamma in self.gammas.values())


class QKClip(torch.optim.Optimizer):
    """Any torch optimizer, with QK-Clip after its step. While no logit exceeds the threshold it changes no bit.

    It is an optimizer itself: parameter groups and state are those of the one it wraps, schedulers take either.
    ``history`` has the last `ClipRecord`s for plots; it is not part of the state_dict.

    Args:
        optimizer: what makes the step.
        model: see `MaxLogitMonitor`.
        threshold: τ; 100 in Kimi K2.
        trigger: "max_logit", or "norm_bound" to clip where a bound on the logits exceeds the threshold, which is far
            earlier; for models whose logits cannot be seen.
        every_n_steps: how often to look and clip. In between the forward passes cost nothing.

    Raises:
        ValueError: see `MaxLogitMonitor`; a threshold that is not positive.

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
        trigger: Measure = "max_logit",
        every_n_steps: int = 1,
    ) -> None:
        # Optimizer.__init__ is not called: groups, state and hooks are the wrapped optimizer's, by __getattr__.
        if not threshold > 0:
            raise ValueError(f"threshold is {threshold}: expected a number above 0.")
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps is {every_n_steps}: expected a whole number from 1.")
        self.optimizer = optimizer
        self.threshold = threshold
        self.every_n_steps = every_n_steps
        self.monitor = MaxLogitMonitor(model, measure=trigger)
        self.steps = 0
        self.history: deque[ClipRecord] = deque(maxlen=KEPT_RECORDS)

    def __getattr__(self, name: str) -> Any:
        if name == "optimizer":  # not there yet
            raise AttributeError(name)
        return getattr(self.optimizer, name)

    def __getstate__(self) -> Any:
        raise TypeError(
            f"a {type(self).__name__} watches its model, and a copy of it would watch none: expected no copying or "
            "pickling; make a new one over the copied model, and give it this one's state_dict."
        )

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """The optimizer's step, then the clip; returns what the closure returned.

        Raises:
            ValueError: no forward pass with gradients since the last step; nothing has moved then.
            FloatingPointError: a logit is infinite or nan.
        """
        if closure is None and self.monitor.enabled:
            self.monitor.measured()
        loss = self.optimizer.step() if closure is None else self.optimizer.step(closure)
        if self.monitor.enabled:
            self._clip()
            self.monitor.reset()
        self.steps += 1
        self.monitor.enabled = self.steps % self.every_n_steps == 0
        return loss

    @torch.no_grad()
    def _clip(self) -> None:
        gammas = {}
        for name, logits in self.monitor.measured().items():
            if not bool((logits < torch.inf).all()):
                raise FloatingPointError(f"{name} has the maximum logits {logits.tolist()}: lower the learning rate.")
            gammas[name] = torch.where(logits > self.threshold, self.threshold / logits, torch.ones_like(logits))
            if bool((gammas[name] < 1).any()):
                scale_logits(*self.monitor.attention[name], gammas[name])
        exact = self.monitor.measure == "max_logit"
        seen = (self.monitor.max_logits() if exact else {}, self.monitor.norm_bounds(), gammas)
        self.history.append(ClipRecord(self.steps, *({name: x.cpu() for name, x in part.items()} for part in seen)))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """The wrapped optimizer's."""
        self.optimizer.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """The wrapped optimizer's."""
        self.optimizer.add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """The wrapped optimizer's, and under "qk_clip" the step and what the monitor has seen since the last one."""
        return self.optimizer.state_dict() | {"qk_clip": {"steps": self.steps, "monitor": self.monitor.state_dict()}}

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
        self.steps = state_dict["qk_clip"]["steps"]
        self.monitor.load_state_dict(state_dict["qk_clip"]["monitor"])


class MuonClip(QKClip):
    """Kimi K2's optimizer: Muon for the matrices inside the blocks, AdamW for the rest, and QK-Clip over both.

    Args:
        model: a model of transformers, or one with its blocks in an nn.ModuleList.
        lr: see `MuonAdamW`, which takes the ``options`` too: adamw_lr, adjust_lr_fn, weight_decay, momentum, …
        threshold: of `QKClip`, as ``trigger`` and ``every_n_steps``.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float = 1e-3,
        *,
        threshold: float = 100.0,
        trigger: Measure = "max_logit",
        every_n_steps: int = 1,
        **options: Any,
    ) -> None:
        optimizer = MuonAdamW(model, lr, **options)
        super().__init__(optimizer, model, threshold, trigger=trigger, every_n_steps=every_n_steps)


def scale_logits(module: nn.Module, layout: Layout, gammas: Tensor) -> None:
    """Scales weights and biases of q and k, in place, so that the logits of head h become γ_h times what they were.

    Args:
        module: the attention module.
        layout: its layout.
        gammas: ``[heads]``; 1 leaves a head as it is, bit for bit.
    """
    for query, key in layout.pairs:
        if key.heads == layout.heads:
            _scale(module, query, gammas.sqrt())
            _scale(module, key, gammas.sqrt())
        else:
            _scale(module, query, gammas)


def _scale(module: nn.Module, part: Part, factors: Tensor) -> None:
    projection: Any = module.get_submodule(part.projection)
    for tensor in (projection.weight, projection.bias):
        if tensor is not None:
            turned = tensor.dim() == 2 and not isinstance(projection, Conv1D)
            part.blocks(tensor.T if turned else tensor).mul_(factors[:, None])
