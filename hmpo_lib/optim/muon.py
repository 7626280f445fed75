"""Muon for the matrices inside the blocks, AdamW for everything else: one optimizer, one state_dict.

Muon (Jordan, https://kellerjordan.github.io/posts/muon/): with the gradient G,

    B ← μ B + (1 − μ) G,   U = NewtonSchulz((1 − μ) G + μ B) ≈ the nearest semi-orthogonal matrix,
    W ← (1 − lr · decay) W − lr · factor(shape) · U.

The update is torch's own (torch.optim.Muon). Two things are added. A fused projection is three matrices in one: q, k
and v are orthogonalized apart, as Jordan advises. And a Conv1D stores [in, out]: it is turned before the factor, which
tells outputs from inputs.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim._muon import DEFAULT_A, DEFAULT_B, DEFAULT_C, muon  # the public class takes whole parameters only
from torch.optim.adamw import adamw

from hmpo_lib.optim.layouts import Part, fused_parts, is_conv1d, is_linear


class Matrices(NamedTuple):
    """The matrices ``[out, in]`` that a weight consists of: itself, turned if it is a Conv1D's, or its ``parts``."""

    turned: bool
    parts: tuple[Part, ...] = ()

    def of(self, weight: Any) -> list[Tensor]:
        """The matrices of a weight, of its gradient or of its momentum; views where memory allows."""
        features_last = weight if self.turned else weight.T
        if not self.parts:
            return [features_last.T]
        return [part.blocks(features_last).flatten(-2).T for part in self.parts]

    def write(self, weight: Tensor, matrices: list[Tensor]) -> None:
        """Puts the parts back; the matrix of a whole weight is a view and needs no writing."""
        features_last = weight if self.turned else weight.T
        for part, matrix in zip(self.parts, matrices if self.parts else [], strict=True):
            part.blocks(features_last).copy_(matrix.T.unflatten(-1, (part.heads, part.size)))


def muon_matrices(model: nn.Module) -> dict[Tensor, Matrices]:
    """The weights for Muon: of linear maps (Linear, Conv1D) inside the blocks, which stand in an nn.ModuleList.

    Embeddings, head, norms, biases and what is frozen are not among them; nor are experts stored as one tensor of
    three dimensions. A fused projection that `layouts` does not know counts as one matrix.

    >>> block = nn.ModuleDict({"up": nn.Linear(2, 8), "norm": nn.LayerNorm(8)})
    >>> model = nn.ModuleDict({"embedding": nn.Embedding(5, 2), "layers": nn.ModuleList([block])})
    >>> [tuple(weight.shape) for weight in muon_matrices(model)]
    [(8, 2)]
    """
    blocks = [block for module in model.modules() if isinstance(module, nn.ModuleList) for block in module]
    inside: list[Any] = [module for block in blocks for module in block.modules()]
    matrices: dict[Tensor, Matrices] = {}
    for module in inside:
        if is_linear(module) and (weight := module.weight).requires_grad:
            matrices[weight] = Matrices(turned=is_conv1d(module))
    for module in inside:
        if parts := fused_parts(module):
            weight = module.get_submodule(parts[0].projection).weight
            if weight in matrices:
                matrices[weight] = matrices[weight]._replace(parts=parts)
    return matrices


class MuonAdamW(torch.optim.Optimizer):
    """Muon for the matrices inside the blocks of a model (see `muon_matrices`), AdamW for its other parameters.

    Two parameter groups, ``rule`` "muon" and "adamw", over the model's own parameters: schedulers, gradient clipping
    and state_dict work as with any optimizer. A group that is added later is AdamW's.

    Args:
        model: its blocks stand in an nn.ModuleList, as in transformers.
        lr: of Muon.
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
        ValueError: no matrix in any block, or "original" without an ``adamw_lr``.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float = 1e-3,
        *,
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
        self._matrices = muon_matrices(model)
        if not self._matrices:
            raise ValueError(
                f"{type(model).__name__} has no matrix for Muon: expected Linear layers, not all frozen, in blocks "
                "that stand in an nn.ModuleList; use torch.optim.AdamW for a model without them."
            )
        muon_group: dict[str, Any] = {
            "params": list(self._matrices),
            "rule": "muon",
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        rest = [weight for weight in model.parameters() if weight.requires_grad and weight not in self._matrices]
        defaults = {
            "rule": "adamw",
            "lr": lr if adamw_lr is None else adamw_lr,
            "weight_decay": adamw_weight_decay,
            "betas": betas,
            "eps": eps,
        }
        super().__init__([muon_group, {"params": rest}], defaults)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_matrices": self._matrices}

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

    def _muon_step(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        for weight in weights:
            kind, state = self._matrices[weight], self.state[weight]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(weight, memory_format=torch.preserve_format)
            matrices, momenta = kind.of(weight), kind.of(state["momentum_buffer"])
            muon(
                matrices,
                [gradient.contiguous() for gradient in kind.of(weight.grad)],
                momenta,
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                momentum=group["momentum"],
                nesterov=True,
                ns_coefficients=(DEFAULT_A, DEFAULT_B, DEFAULT_C),
                ns_steps=group["ns_steps"],
                eps=1e-7,  # torch.optim.Muon's
                adjust_lr_fn=group["adjust_lr_fn"],
                has_complex=False,
            )
            kind.write(weight, matrices)
            kind.write(state["momentum_buffer"], momenta)

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
