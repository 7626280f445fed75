"""What the library takes on a GPU: python -m benchmarks.gpu loss|memory|clip, for docs/results.md and memory.md.

A table of Markdown on stdout. `--tiny` makes all of it small, to see that it runs; so it does on a CPU, where no memory
is counted.
"""

import argparse
import gc
import time
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from hmpo_lib import METHODS, policy_loss
from hmpo_lib.lm import FineTuneConfig, Rollout
from hmpo_lib.lm.config import ComputeType
from hmpo_lib.lm.state import TrainingState
from hmpo_lib.lm.training import _optimizer_step
from hmpo_lib.optim import QKClip

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Qwen3-0.6B's. Its norms on queries and keys keep QK-Clip out, so that is measured on a Llama of this size.
QWEN = {
    "vocab_size": 151_936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
TINY = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8}
GROUP = 8


class Times(NamedTuple):
    """Milliseconds of some repeats: their median, and where 10 % and 90 % of them lie."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def timed(work: Callable[[], object], repeats: int, warm_up: int) -> Times:
    """How long it takes the device, by its own events where it has them."""
    for _ in range(warm_up):
        work()
    each = []
    for _ in range(repeats):
        if DEVICE == "cuda":
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            work()
            stop.record()
            stop.synchronize()
            each.append(start.elapsed_time(stop))
        else:
            began = time.perf_counter()
            work()
            each.append(1e3 * (time.perf_counter() - began))
    each.sort()
    return Times(each[len(each) // 2], each[len(each) // 10], each[-len(each) // 10 - 1])


def peak(work: Callable[[], object]) -> int:
    """Bytes that torch allocates at most beside what is allocated already; 0 on a CPU, where it does not count."""
    if DEVICE == "cpu":
        work()
        return 0
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def waits(work: Callable[[], object]) -> int:
    """How often the program waits for the GPU, by torch's own account."""
    if DEVICE == "cpu":
        return 0
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        work()
        torch.cuda.set_sync_debug_mode("default")
    return sum("called a synchronizing" in str(warning.message) for warning in seen)


def plain_loss(new: Tensor, old: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """GRPO as one would write it."""
    ratio = (new - old).exp()
    a = advantages.unsqueeze(1)
    surrogate = torch.minimum(ratio * a, ratio.clamp(0.8, 1.2) * a)
    return -((surrogate * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()


def loss(tiny: bool) -> Iterator[str]:
    """`policy_loss` beside the plain one, forward and backward, eager and compiled."""
    yield "| tokens | loss | ms | MB |\n|---|---|---|---|"
    for rows, columns in [(4, 64)] if tiny else [(64, 4096), (1024, 4096)]:
        generator = torch.Generator(DEVICE).manual_seed(0)
        old = -2 * torch.rand(rows, columns, generator=generator, device=DEVICE)
        new = (old + 0.3 * torch.randn(rows, columns, generator=generator, device=DEVICE)).requires_grad_()
        advantages = torch.randn(rows, generator=generator, device=DEVICE)
        lengths = torch.randint(columns // 4, columns + 1, (rows,), generator=generator, device=DEVICE)
        mask = torch.arange(columns, device=DEVICE) < lengths[:, None]
        numbers = mask.float()

        def ours(name: str, *, metrics: bool = False, given=(new, old, advantages, mask)) -> Callable[[], Tensor]:  # type: ignore[no-untyped-def]
            return lambda: policy_loss(*given, METHODS[name].objective, metrics=metrics).loss

        ways: dict[str, Callable[[], Tensor]] = {
            "plain GRPO": lambda given=(new, old, advantages, numbers): plain_loss(*given),  # type: ignore[misc]
            **{name: ours(name) for name in ("grpo", "gspo", "hmpo")},
            "hmpo with metrics": ours("hmpo", metrics=True),
        }
        backend = "inductor" if DEVICE == "cuda" else "aot_eager"
        ways |= {
            f"{name}, compiled": torch.compile(ways[name], fullgraph=True, backend=backend)
            for name in ("plain GRPO", "grpo", "hmpo")
        }
        for name, way in ways.items():

            def step(way: Callable[[], Tensor] = way, new: Tensor = new) -> None:
                new.grad = None
                way().backward()

            took = timed(step, 3 if tiny else 50, 1 if tiny else 5)
            yield f"| {rows} × {columns} | {name} | {took} | {peak(step) / 1e6:.4g} |"


def rollout_of(vocabulary: int, rows: int, tokens: int) -> Rollout:
    """Random completions, all of full length, in groups with random prompts of 16 tokens."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    prompts = torch.randint(3, vocabulary, (rows // GROUP, 16), generator=generator, device=DEVICE)
    prompts = prompts.repeat_interleave(GROUP, 0)
    ids = torch.randint(3, vocabulary, (rows, tokens), generator=generator, device=DEVICE)
    return Rollout(
        prompt_ids=prompts,
        prompt_mask=torch.ones_like(prompts, dtype=torch.bool),
        completion_ids=ids,
        completion_mask=torch.ones_like(ids, dtype=torch.bool),
        logprobs=torch.full(ids.shape, -11.9, device=DEVICE),
        truncated=torch.zeros(rows, dtype=torch.bool, device=DEVICE),
        texts=[""] * rows,
    )


def memory(tiny: bool) -> Iterator[str]:
    """The second optimizer step of `fine_tune` on a model of Qwen3-0.6B's shape, in passes or whole."""
    sizes = QWEN | (TINY if tiny else {})
    tokens = 16 if tiny else 512
    with torch.device(DEVICE):
        model = Qwen3ForCausalLM(Qwen3Config(**sizes)).eval()
    yield "| type | completions | tokens a pass | computed, GiB | measured, GiB | reserved, GiB | seconds |"
    yield "|---|---|---|---|---|---|---|"
    cases: list[tuple[ComputeType, int, int | None]] = [
        ("float32", 64, GROUP * tokens),
        ("bfloat16", 64, GROUP * tokens),
        ("float32", 16, None),
        ("float32", 64, None),
        ("bfloat16", 64, None),
    ]
    for dtype, rows, limit in cases:
        config = FineTuneConfig(
            "hmpo",
            prompts=rows // GROUP,
            group_size=GROUP,
            max_new_tokens=tokens,
            max_tokens_per_pass=limit,
            dtype=dtype,
            learning_rate=1e-6,
        )
        computed = f"{_computed(model, min(limit or rows * tokens, rows * tokens)) / 2**30:.1f}"
        case = f"| {dtype} | {rows} | {limit or 'all'} | {computed if dtype == 'float32' else ''} |"
        try:
            yield f"{case} {_second_step(model, config, rollout_of(sizes['vocab_size'], rows, tokens))} |"
        except torch.OutOfMemoryError:
            yield f"{case} out of memory | | |"


def _computed(model: PreTrainedModel, tokens: int) -> int:
    """Bytes by docs/memory.md, with what Qwen3's norms on queries and keys add."""
    c = model.config
    query, key = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
    floats = 6 * c.hidden_size + 2 * query + 2 * key + 4 * c.intermediate_size + 2 * query + 2 * key
    return 16 * sum(weight.numel() for weight in model.parameters()) + 4 * tokens * c.num_hidden_layers * floats


def _second_step(model: PreTrainedModel, config: FineTuneConfig, rollout: Rollout) -> str:
    model.zero_grad()
    state = TrainingState.start(model, config)
    rows = len(rollout.texts)
    advantages = torch.randn(rows, device=DEVICE)
    for step in range(2):  # AdamW has its moments from the first one on
        if DEVICE == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.synchronize()
        began = time.perf_counter()
        _optimizer_step(state, rollout, advantages, config, step, ["?"] * rows)
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    state.release()
    if DEVICE == "cpu":
        return f"| | {seconds:.1f}"
    held = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    return " | ".join(f"{size / 2**30:.1f}" for size in held) + f" | {seconds:.1f}"


def clip(tiny: bool) -> Iterator[str]:
    """A step with AdamW, without QK-Clip, with it, and with every head clipped."""
    yield "| type | padding | without, ms | with | every head clipped | waits a step |\n|---|---|---|---|---|---|"
    sizes = QWEN | (TINY if tiny else {})
    rows, tokens = (2, 16) if tiny else (16, 512)
    for half, padded in [(False, False), (True, False), (True, True)]:
        with torch.device(DEVICE):
            model = LlamaForCausalLM(LlamaConfig(**sizes)).eval()
        ids = torch.randint(3, sizes["vocab_size"], (rows, tokens), device=DEVICE)
        mask = torch.ones_like(ids)
        mask[: rows // 2, : tokens // 4] = 0
        inner = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)

        inputs = {"input_ids": ids, "attention_mask": mask if padded else None}

        def step_of(
            optimizer: torch.optim.Optimizer,
            model: PreTrainedModel = model,
            inputs: dict[str, Tensor | None] = inputs,
            half: bool = half,
        ) -> Callable[[], None]:
            def step() -> None:
                optimizer.zero_grad()
                with torch.autocast(DEVICE, torch.bfloat16, enabled=half):
                    hidden = model.base_model(**inputs, use_cache=False).last_hidden_state
                hidden.float().square().mean().backward()
                optimizer.step()

            return step

        repeats = (3, 1) if tiny else (5, 2)
        found = [str(timed(step_of(inner), *repeats))]
        for threshold in (1e-9, 100.0):
            optimizer = QKClip(inner, model, threshold)
            found.insert(1, str(timed(step_of(optimizer), *repeats)))
            waited = waits(step_of(optimizer))
            optimizer.remove()
        dtype = "bfloat16" if half else "float32"
        yield f"| {dtype} | {'yes' if padded else 'no'} | {' | '.join(found)} | {waited} |"


PARTS = {"loss": loss, "memory": memory, "clip": clip}


def main() -> None:
    """Prints the table of one part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{torch.cuda.get_device_name() if DEVICE == 'cuda' else 'CPU'}, torch {torch.__version__}")
    for line in PARTS[arguments.part](arguments.tiny):
        print(line, flush=True)


if __name__ == "__main__":
    main()
