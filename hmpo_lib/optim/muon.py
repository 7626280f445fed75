"""Muon for the matrices inside the blocks, AdamW for everything else: one optimizer, one state_dict.

Muon (Jordan, https://kellerjordan.github.io/posts/muon/): with the gradient G,

    B ← μ B + (1 − μ) G,   U = NewtonSchulz((1 − μ) G + μ B) ≈ the nearest semi-orthogonal matrix,
    W ← (1 − lr · decay) W − lr · factor(shape) · U.

The update is that of torch.optim.Muon, to the bit, which takes whole parameters only. A weight here can be several
matrices: a fused projection is three, since Jordan advises to orthogonalize q, k and v apart; head by head they are as
many as heads (``per_head``: Kimi K3, arXiv 2607.24653, section 2.5; GLM-5, arXiv 2602.15763). And a Conv1D stores
[in, out]: it is turned before the factor, which tells outputs from inputs.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from hmpo_lib.optim.layouts import Layouts
from hmpo_lib.optim.linear_maps import is_instance
from hmpo_lib.optim.matrices import Matrices, muon_matrices
from hmpo_lib.optim.newton_schulz import orthogonalized
from hmpo_lib.optim.scaling import replicated_beside


def _factor(adjust_lr_fn: str, out: int, inputs: int) -> float:
    """What the learning rate is multiplied by, see `MuonAdamW`."""
    return 0.2 * math.sqrt(max(out, inputs)) if adjust_lr_fn == "match_rms_adamw" else math.sqrt(max(1, out / inputs))


class MuonAdamW(torch.optim.Optimizer):
    """Muon for the matrices inside the blocks of a model (see `muon_matrices`), AdamW for its other parameters.

    Parameter groups have a ``rule``, "muon" or "adamw", and are over the model's own parameters: schedulers, gradient
    clipping and state_dict work as with any optimizer. A group without a rule becomes two.

    Args:
        model: its blocks stand in an nn.ModuleList, as in transformers.
        lr: of Muon.
        per_head: whether q, k and v are orthogonalized head by head (Kimi K3, arXiv 2607.24653, section 2.5; GLM-5,
            arXiv 2602.15763).
        param_groups: groups as other optimizers take them, dictionaries with "params" and settings of their own, which
            hold for Muon's matrices and for the rest of the group alike; one with a "rule" is not divided. Default: all
            parameters that are trained.
        layouts: see `MaxLogitMonitor`; for fused projections and ``per_head``.
        adamw_lr: of AdamW; default: ``lr``, which suits "match_rms_adamw" alone.
        adjust_lr_fn: the factor of an [A, B] matrix. "match_rms_adamw" (Moonlight, arXiv 2502.16982, eq. 4):
            0.2 √max(A, B), steps as large as AdamW's, so one learning rate serves both; "original" (Jordan):
            √max(1, A / B), with a rate of its own, such as 0.02.
        weight_decay: of Muon, decoupled.
        momentum: μ.
        ns_steps: Newton-Schulz iterations.
        betas: of AdamW.
        eps: of AdamW.
        adamw_weight_decay: of AdamW; these are embeddings, norms and biases.

    Raises:
        ValueError: no matrix in any block, or "original" without an ``adamw_lr``; heads that are not known.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float = 1e-3,
        *,
        per_head: bool = False,
        param_groups: Iterable[dict[str, Any]] | None = None,
        layouts: Layouts | None = None,
        adamw_lr: float | None = None,
        adjust_lr_fn: Literal["original", "match_rms_adamw"] = "match_rms_adamw",
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        ns_steps: int = 5,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        adamw_weight_decay: float = 0.0,
    ) -> None:
        if adjust_lr_fn not in ("original", "match_rms_adamw"):
            raise ValueError(f"adjust_lr_fn is {adjust_lr_fn!r}: expected 'original' or 'match_rms_adamw'.")
        if adamw_lr is None and adjust_lr_fn == "original":
            raise ValueError("adjust_lr_fn is 'original', whose lr does not suit AdamW: expected an adamw_lr too.")
        for name, value in {"lr": lr, "adamw_lr": adamw_lr or 0.0, "weight_decay": weight_decay}.items():
            if not value >= 0:
                raise ValueError(f"{name} is {value}: expected 0 or more.")
        self._matrices = muon_matrices(model, per_head=per_head, layouts=layouts)
        if not any(weight.requires_grad for weight in self._matrices):
            raise ValueError(
                f"{type(model).__name__} has no matrix for Muon: expected Linear layers, not all frozen, in blocks "
                "that stand in an nn.ModuleList; use torch.optim.AdamW for a model without them."
            )
        self._settings: dict[str, dict[str, Any]] = {
            "muon": {
                "lr": lr,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "ns_steps": ns_steps,
                "adjust_lr_fn": adjust_lr_fn,
            },
            "adamw": {
                "lr": lr if adamw_lr is None else adamw_lr,
                "weight_decay": adamw_weight_decay,
                "betas": betas,
                "eps": eps,
            },
        }
        if param_groups is None:
            param_groups = [{"params": [weight for weight in model.parameters() if weight.requires_grad]}]
        super().__init__(param_groups, {})

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_matrices": self._matrices, "_settings": self._settings}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group: with a "rule" as it is, without one as Muon's matrices and the rest, which is AdamW's.

        Raises:
            ValueError: a rule that is unknown; one of Muon for what is no matrix.
        """
        group = dict(param_group)
        params = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        if "rule" not in group:
            is_matrix = [_weight(param) in self._matrices for param in params]
            for rule in ("muon", "adamw"):
                own = [param for param, matrix in zip(params, is_matrix, strict=True) if matrix == (rule == "muon")]
                if own:
                    self.add_param_group(group | {"params": own, "rule": rule})
            return
        if group["rule"] not in self._settings:
            raise ValueError(f"a parameter group has the rule {group['rule']!r}: expected 'muon' or 'adamw'.")
        if group["rule"] == "muon":
            for param in params:
                if (weight := _weight(param)).dim() != 2:
                    raise ValueError(f"a weight for Muon has the shape {tuple(weight.shape)}: expected a matrix.")
                self._matrices.setdefault(weight, Matrices(turned=False))
        super().add_param_group(self._settings[group["rule"]] | group | {"params": params})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both; returns what the closure returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            (self._muon_step if group["rule"] == "muon" else self._adamw_step)(weights, group)
        return loss

    def _muon_step(self, weights: list[Any], group: dict[str, Any]) -> None:
        for weight in weights:
            state = self.state[weight]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(weight, memory_format=torch.preserve_format)
            momentum = state["momentum_buffer"].lerp_(weight.grad, 1 - group["momentum"])
            update = weight.grad.lerp(momentum, group["momentum"])
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            if not is_instance(weight, "torch.distributed.tensor", "DTensor"):
                self._move(weight, weight, update, group)
                continue
            # Shards are no matrices: each rank makes the whole step and takes its slice.
            whole = torch.zeros(weight.shape, dtype=weight.dtype, device=update.device)
            self._move(whole, weight, update.full_tensor(), group)
            weight.add_(replicated_beside(weight, whole))

    def _move(self, moved: Tensor, weight: Tensor, update: Tensor, group: dict[str, Any]) -> None:
        """Adds the step of a weight, from its update before it is orthogonalized, to what has its shape."""
        if (kind := self._matrices.get(weight)) is None:
            raise ValueError(
                f"a weight of shape {tuple(weight.shape)} has taken the place of one of this optimizer: expected "
                "it to be made after fully_shard, or whatever else has put new parameters into the model."
            )
        for part, part_update in zip(kind.of(moved), kind.of(update), strict=True):
            apart = part_update if kind.per_head else part_update.flatten(0, 1)[None]
            step = orthogonalized(apart, group["ns_steps"])
            factor = _factor(group["adjust_lr_fn"], *step.shape[1:])
            part.add_(step.reshape(part.shape), alpha=-group["lr"] * factor)

    def _adamw_step(self, weights: list[Any], group: dict[str, Any]) -> None:
        for weight in weights:
            if not self.state[weight]:
                self.state[weight] = {
                    "step": torch.zeros(()),
                    "exp_avg": torch.zeros_like(weight, memory_format=torch.preserve_format),
                    "exp_avg_sq": torch.zeros_like(weight, memory_format=torch.preserve_format),
                }
        states = [self.state[weight] for weight in weights]
        adamw(
            weights,
            [weight.grad for weight in weights],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def _weight(param: Any) -> Tensor:
    """A parameter, or the one in a pair of name and parameter."""
    return param[1] if isinstance(param, tuple) else param
