"""What `token_logprobs` costs at a large vocabulary, beside a full log-softmax: forward and backward, memory and time.

python -m benchmarks.lm.logprobs plain     one measurement, as JSON; each in a process of its own, since a
                                               peak cannot be taken back
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from benchmarks.lm.peers import clock
from hmpo_lib.lm import Rollout, token_logprobs

ROOT = Path(__file__).resolve().parents[2]


class Sizes(NamedTuple):
    """A model of one layer under a large head, and completions that are all of one length."""

    vocabulary: int = 150_000
    width: int = 128
    completions: int = 16
    tokens: int = 64


class Cost(NamedTuple):
    """Bytes at the peak above what model and inputs hold, and seconds of a forward and backward pass."""

    peak: float
    seconds: float


def plain_logprobs(model: PreTrainedModel, rollout: Rollout) -> Tensor:
    """All logits, their log-softmax, and the sampled tokens' entries of it."""
    attention_mask = torch.cat([rollout.prompt_mask, rollout.completion_mask], dim=1).long()
    logits = model(
        input_ids=torch.cat([rollout.prompt_ids, rollout.completion_ids], dim=1),
        attention_mask=attention_mask,
        position_ids=(attention_mask.cumsum(dim=1) - 1).clamp(min=0),
        use_cache=False,
        logits_to_keep=rollout.completion_ids.shape[1] + 1,
    ).logits[:, :-1]
    return logits.float().log_softmax(dim=-1).gather(2, rollout.completion_ids.unsqueeze(2)).squeeze(2)


WAYS: dict[str, Callable[[PreTrainedModel, Rollout], Tensor]] = {"plain": plain_logprobs, "hmpo": token_logprobs}


def model_and_rollout(
    sizes: Sizes, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[PreTrainedModel, Rollout]:
    """Random weights, and random tokens without padding, so that neither way gains by leaving some out."""
    config = LlamaConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.width,
        intermediate_size=2 * sizes.width,
        num_hidden_layers=1,
        num_attention_heads=4,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).to(device=device, dtype=dtype).eval()
        prompt_ids = torch.randint(sizes.vocabulary, (sizes.completions, 8), device=device)
        completion_ids = torch.randint(sizes.vocabulary, (sizes.completions, sizes.tokens), device=device)
    everywhere = torch.ones_like(completion_ids, dtype=torch.bool)
    rollout = Rollout(
        prompt_ids=prompt_ids,
        prompt_mask=torch.ones_like(prompt_ids, dtype=torch.bool),
        completion_ids=completion_ids,
        completion_mask=everywhere,
        logprobs=torch.zeros(completion_ids.shape, device=device),
        truncated=everywhere[:, 0],
        texts=[""] * sizes.completions,
    )
    return model, rollout


def cost(way: str, sizes: Sizes, device: str, dtype: torch.dtype, repeats: int = 3) -> Cost:
    """Measures in this process; the peak is that of all repeats, the time their median."""
    model, rollout = model_and_rollout(sizes, device, dtype)
    _step(way, model, rollout.select(torch.arange(1)))  # warms up
    before = _high_water(device)
    seconds = []
    for _ in range(repeats):
        start = clock(model.device)
        _step(way, model, rollout)
        seconds.append(clock(model.device) - start)
    return Cost(_high_water(device) - before, statistics.median(seconds))


def _step(way: str, model: PreTrainedModel, rollout: Rollout) -> None:
    model.zero_grad()
    WAYS[way](model, rollout).mean().backward()


def _high_water(device: str) -> float:
    """The most bytes that this process has held: on the accelerator, or resident."""
    if device != "cpu":
        return float(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.exists():  # Linux; there, getrusage of a child would begin with its parent's high water
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return 1024.0 * int(line.split()[1])
    import resource  # not on Windows

    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # bytes on macOS


def compare(sizes: Sizes, device: str, dtype: torch.dtype, rounds: int) -> tuple[list[Cost], list[Cost]]:
    """Costs of ours and of the plain way, in turn, each in a fresh process."""
    costs: dict[str, list[Cost]] = {"hmpo": [], "plain": []}
    name = str(dtype).removeprefix("torch.")
    for _ in range(rounds):
        for way, measured in costs.items():
            command = [sys.executable, "-m", __name__, way, device, name, *map(str, sizes)]
            result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
            measured.append(Cost(**json.loads(result.stdout)))
    return costs["hmpo"], costs["plain"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("device", nargs="?", default="cpu")
    parser.add_argument("dtype", nargs="?", default="float32")
    parser.add_argument("sizes", nargs="*", type=int, help="vocabulary width completions tokens")
    options = parser.parse_args()
    result = cost(options.way, Sizes(*options.sizes), options.device, getattr(torch, options.dtype))
    print(json.dumps(result._asdict()))
