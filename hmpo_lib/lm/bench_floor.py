"""The least that a rollout can cost: the model's operations on its tokens, over how fast the machine multiplies."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hmpo_lib.lm.bench_peers import clock
from hmpo_lib.lm.rollouts import Rollout


class Flops(NamedTuple):
    """Floating-point operations of one rollout.

    Attributes:
        sampling: of the forward passes that draw the tokens.
        learning: of one forward and backward pass over every completion.
    """

    sampling: float
    learning: float


def rollout_flops(model: PreTrainedModel, rollout: Rollout, group_size: int) -> Flops:
    """Operations that the model needs for a rollout and one pass of updates over it; padding costs nothing.

    With B the weights in the blocks' matrices, H those of the head, and a token that sees t tokens (itself included),
    a forward pass takes 2 B + 4 t · layers · heads · head_dim per token that is read and 2 H per token that is scored;
    a backward pass takes twice the forward. A completion's last token is scored, never read, and a prompt is read once
    for its group.

    Args:
        model: the policy.
        rollout: what was sampled.
        group_size: completions per prompt.
    """
    prompts = rollout.prompt_mask.sum(dim=1).double()
    lengths = rollout.completion_mask.sum(dim=1).double()
    after_prompts = _blocks(model, prompts + lengths - 1) - _blocks(model, prompts)
    forward = float(_blocks(model, prompts[::group_size]).sum() + after_prompts.sum())
    forward += 2 * _head_weights(model) * float(lengths.sum())
    return Flops(sampling=forward, learning=3 * forward)


def _blocks(model: PreTrainedModel, tokens: Tensor) -> Tensor:
    """Operations of the blocks in a forward pass over sequences of so many tokens."""
    config = model.config
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    attention = 4 * config.num_hidden_layers * heads * head_dim
    return 2 * _block_weights(model) * tokens + attention * tokens * (tokens + 1) / 2


def _block_weights(model: PreTrainedModel) -> int:
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    tables.add(id(model.get_output_embeddings().weight))
    return sum(p.numel() for p in model.parameters() if p.dim() > 1 and id(p) not in tables)


def _head_weights(model: PreTrainedModel) -> int:
    return model.get_output_embeddings().weight.numel()


def multiply_rate(shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype) -> float:
    """The rate of [a, b] @ [b, c], in operations per second: the best of twenty blocks of 10 ms or more."""
    rows, inner, columns = shape
    left = torch.randn(rows, inner, device=device, dtype=dtype)
    right = torch.randn(inner, columns, device=device, dtype=dtype)
    out = left @ right
    start = clock(device)
    torch.mm(left, right, out=out)
    repeats = max(1, int(0.01 / max(1e-9, clock(device) - start)))
    best = float("inf")
    for _ in range(20):
        start = clock(device)
        for _ in range(repeats):
            torch.mm(left, right, out=out)
        best = min(best, (clock(device) - start) / repeats)
    return 2.0 * rows * inner * columns / best
