"""What one step of `fine_tune` holds in memory: computed for models of several sizes, and measured on this machine.

python -m benchmarks.lm.memory              the table of docs/memory.md
python -m benchmarks.lm.memory check        two sizes, computed and measured; some minutes
"""

import dataclasses
import itertools
import subprocess
import sys
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from hmpo_lib.lm import FineTuneConfig, fine_tune, make_tokenizer

ROOT = Path(__file__).resolve().parents[2]
FLOAT = 4  # bytes


@dataclasses.dataclass(frozen=True)
class Shape:
    """A Llama: what decides its memory."""

    width: int
    inner: int
    layers: int
    heads: int
    key_value_heads: int
    vocabulary: int

    @property
    def parameters(self) -> int:
        """Weights; embeddings and head are one matrix."""
        kv = self.width * self.key_value_heads // self.heads
        block = 2 * self.width**2 + 2 * self.width * kv + 3 * self.width * self.inner + 2 * self.width
        return self.vocabulary * self.width + self.layers * block + self.width

    def activations(self) -> int:
        """Bytes that the backward pass needs of one position, in float32: layers · (8 d + 2 d_kv + 4 d_inner) floats.

        Counted in transformers' Llama (`saved_of_a_position`): what the norms, the projections, the attention and the
        gated feed-forward keep.
        """
        kv = self.width * self.key_value_heads // self.heads
        return FLOAT * self.layers * (8 * self.width + 2 * kv + 4 * self.inner)

    def step(self, tokens: int, *, copies: int = 0) -> int:
        """Bytes of a step: weights, gradients and AdamW's two moments, copies of the weights, one pass's activations.

        Args:
            tokens: completion tokens of a pass, padding included.
            copies: of the weights: one for a KL penalty's reference, k + 1 for a ``policy_lag`` of k.
        """
        return FLOAT * (4 + copies) * self.parameters + tokens * self.activations()


# Sizes that fit a small machine; the table's others are computed only.
CHECKED = {
    "50 M": Shape(512, 1536, 14, 8, 8, 8000),
    "110 M": Shape(768, 2048, 14, 12, 4, 20000),
}
TABLE = {
    "the shipped model": Shape(128, 384, 2, 4, 4, 20),
    "50 M": CHECKED["50 M"],
    "110 M": CHECKED["110 M"],
    "0.5 B (as Qwen2.5-0.5B)": Shape(896, 4864, 24, 14, 2, 151_936),
    "1.2 B (as Llama-3.2-1B)": Shape(2048, 8192, 16, 32, 8, 128_256),
    "1.5 B (as Qwen2.5-1.5B)": Shape(1536, 8960, 28, 12, 2, 151_936),
}


def saved_of_a_position(shape: Shape) -> float:
    """Bytes of one more position that torch keeps for the backward pass."""

    def total(rows: int) -> int:
        model = make(shape)
        weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        kept: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model.model(input_ids=torch.ones(rows, 64, dtype=torch.long), use_cache=False)
        return sum(kept.values())

    return (total(3) - total(1)) / (2 * 64)


def make(shape: Shape) -> LlamaForCausalLM:
    """A model of this shape with random weights."""
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config).eval()


def measured(name: str, tokens: int) -> int:
    """Bytes by which a process grows at most in two rollouts of 16 completions of 128 tokens, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.lm.memory", "measure", name, str(tokens)]
    return int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def _measure(shape: Shape, tokens: int) -> int:
    before = resident("VmRSS")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make(shape)
    config = FineTuneConfig(
        method="grpo", rollouts=2, prompts=2, group_size=8, max_new_tokens=128, max_tokens_per_pass=tokens
    )
    lengths = itertools.cycle(range(2))  # any reward that differs within a group
    for record in fine_tune(model, make_tokenizer(), config, reward_fn=lambda *_: -float(next(lengths))):
        assert record.metrics["gradient_norm"] > 0  # of the second step: AdamW has its moments from the first one on
    return resident("VmHWM") - before


def resident(field: str) -> int:
    """Bytes of this process that are in memory now (VmRSS) or were at most (VmHWM); Linux only."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def table() -> str:
    """The computed table, in Markdown."""
    sizes = (1024, 4096, 16_384)
    lines = [
        "| model | weights | a position of a pass | " + " | ".join(f"step, {n:,} tokens a pass" for n in sizes) + " |"
    ]
    lines.append("|---" * (3 + len(sizes)) + "|")
    for name, shape in TABLE.items():
        cells = [name, f"{shape.parameters / 1e6:,.4g} M", f"{shape.activations() / 2**20:.2g} MiB"]
        cells += [f"{shape.step(n) / 2**30:#.3g} GiB" for n in sizes]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        print(_measure(CHECKED[sys.argv[2]], int(sys.argv[3])))
    elif sys.argv[1:] == ["check"]:
        for name, shape in CHECKED.items():
            print(
                f"{name}: a position, computed {shape.activations():,}, counted {saved_of_a_position(shape):,.0f} bytes"
            )
            for tokens in (2048, 512):
                sizes = [size / 2**30 for size in (shape.step(tokens), measured(name, tokens))]
                print(
                    f"{name}, {tokens} tokens a pass: computed {sizes[0]:.2f} GiB, measured {sizes[1]:.2f} GiB",
                    flush=True,
                )
    else:
        print(table())
