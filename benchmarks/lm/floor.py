"""The least that a rollout can cost: the model's operations on its tokens, over how fast the machine multiplies."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache, PreTrainedModel

from benchmarks.lm.peers import clock
from hmpo_lib.lm import Rollout


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

    A token that sees t tokens (itself included) costs a + b t in the blocks, with a and b from torch's own counter, and
    the head's product once it is scored; a backward pass costs twice the forward. A completion's last token is scored,
    never read, and a prompt is read once for its group.

    Args:
        model: the policy.
        rollout: what was sampled.
        group_size: completions per prompt.
    """
    first, second, head = _operations_of_a_token(model)
    prompts = rollout.prompt_mask.sum(dim=1).double()
    lengths = rollout.completion_mask.sum(dim=1).double()

    def blocks(tokens: Tensor) -> Tensor:
        return first * tokens + (second - first) * tokens * (tokens - 1) / 2

    after_prompts = blocks(prompts + lengths - 1) - blocks(prompts)
    forward = float(blocks(prompts[::group_size]).sum() + after_prompts.sum() + head * lengths.sum())
    return Flops(sampling=forward, learning=3 * forward)


@torch.no_grad()
def _operations_of_a_token(model: PreTrainedModel) -> tuple[int, int, int]:
    """Of the blocks for a token that sees itself alone, for one that sees one more, and of the head."""
    cache, token = DynamicCache(config=model.config), torch.zeros(1, 1, dtype=torch.long, device=model.device)
    counted = []
    for _ in range(2):
        # As plain products, which the counter knows on every device; on a CPU it misses the fused attention.
        with FlopCounterMode(display=False) as blocks, sdpa_kernel(SDPBackend.MATH):
            features = model.base_model(input_ids=token, past_key_values=cache, use_cache=True).last_hidden_state
        counted.append(blocks.get_total_flops())
    with FlopCounterMode(display=False) as head:
        model.get_output_embeddings()(features)
    return counted[0], counted[1], head.get_total_flops()


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
