"""How fast is the loop? Beside `generate` of transformers, TRL's GRPOTrainer and the machine's floor, in one run.

Two that are compared take turns, and a figure is the median of the ratios of neighbours, with their 5 % and 95 %, so
that a busy machine slows both alike. The first turn of each warms up and is left out.
"""

import copy
import dataclasses
import os
import platform
import statistics
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.lm import logprobs
from benchmarks.lm.floor import multiply_rate, rollout_flops
from benchmarks.lm.peers import Turn, compare_sampling, our_rollouts, trl_rollouts
from hmpo_lib.lm import (
    FineTuneConfig,
    load_base_model,
    load_model,
    make_tokenizer,
    sample_completions,
    sample_prompts,
)

RANDOM_MODEL = "random-0.5b"
# So small a learning rate that the answers keep their lengths, whoever has learned how much by then.
CONFIG = FineTuneConfig(method="grpo", prompts=32, group_size=8, minibatches=2, max_new_tokens=40, learning_rate=1e-6)
SIZES = logprobs.Sizes()


def open_model(name: str | None, device: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The shipped model, a folder or hub name, or ``random-0.5b``: random weights in the shape of Qwen2.5-0.5B."""
    if name == RANDOM_MODEL:
        sizes = {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "vocab_size": 151_936}
        heads = {"num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True}
        config = LlamaConfig(**sizes, **heads, pad_token_id=0, bos_token_id=1, eos_token_id=2)
        with torch.device(device):
            model, tokenizer = LlamaForCausalLM(config).eval(), make_tokenizer()
    else:
        model, tokenizer = load_model(name) if name else load_base_model()
    return model.to(device), tokenizer


def report(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    rounds: int = 20,
    config: FineTuneConfig = CONFIG,
    sizes: logprobs.Sizes = SIZES,
) -> Iterator[str]:
    """The lines of the report, each as soon as it is measured; a few minutes in all.

    Args:
        model: the policy, on its device; it is not changed.
        tokenizer: its tokenizer.
        rounds: turns of each contestant that count.
        config: sizes of a rollout, and the type of everyone's arithmetic.
        sizes: of the comparison at a large vocabulary.
    """
    config = dataclasses.replace(config, rollouts=rounds + 1)
    yield machine(model, config.dtype)
    yield (
        f"{type(model).__name__} of {model.num_parameters() / 1e6:.3g} million parameters; {config.prompts} prompts x "
        f"{config.group_size} completions of at most {config.max_new_tokens} tokens, {config.minibatches} updates; "
        f"{rounds} rounds: median (5 % to 95 %)"
    )
    yield _sampling_line(*compare_sampling(model, tokenizer, config))
    ours, theirs = _rollouts(model, tokenizer, config)
    yield from _rollout_lines(ours, theirs)
    yield _floor_line(model, tokenizer, config, min(turn.seconds for turn in ours))
    yield _logprobs_line(model, config, sizes, rounds=min(rounds, 3))


def machine(model: PreTrainedModel, dtype: str) -> str:
    """What the figures were measured on; how busy it was."""
    cpuinfo = Path("/proc/cpuinfo")
    names = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    named = next((line.split(":", 1)[1].strip() for line in names if line.startswith("model name")), "")
    processor = named or platform.processor() or platform.machine()
    device = f", {torch.cuda.get_device_name(model.device)}" if model.device.type == "cuda" else ""
    load = f", load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores" if hasattr(os, "getloadavg") else ""
    return (
        f"{processor}, {torch.get_num_threads()} threads{device}, {dtype}, "
        f"torch {torch.__version__}, transformers {version('transformers')}{load}"
    )


def _sampling_line(ours: list[Turn], theirs: list[Turn]) -> str:
    rates = [[turn.tokens / turn.seconds for turn in side[1:]] for side in (ours, theirs)]
    return (
        f"sampling   hmpo {statistics.median(rates[0]):,.0f} tokens/s, generate {statistics.median(rates[1]):,.0f} "
        f"tokens/s: {_ratios(rates[0], rates[1])} times as fast"
    )


def _rollouts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: FineTuneConfig
) -> tuple[list[Turn], list[Turn]]:
    """Turns of ours and of TRL's, a rollout of ours after each of TRL's; none of TRL's where it is not installed."""
    prompts = sample_prompts(config.prompts * config.rollouts, torch.Generator().manual_seed(config.seed))
    contestant = our_rollouts(copy.deepcopy(model), tokenizer, config, prompts)
    ours: list[Turn] = []
    try:
        theirs = trl_rollouts(
            copy.deepcopy(model), tokenizer, config, prompts, between=lambda: ours.append(next(contestant))
        )
    except ModuleNotFoundError:
        ours, theirs = list(contestant), []
    return ours[1:], theirs[1:]


def _rollout_lines(ours: list[Turn], theirs: list[Turn]) -> Iterator[str]:
    times = [[turn.seconds for turn in side] for side in (ours, theirs)]
    begin = f"rollout    hmpo {statistics.median(times[0]):.3g} s"
    if not theirs:
        yield f'{begin}; to compare with TRL: pip install "hmpo-lib[peers]"'
        return
    ratios = _ratios(times[1], times[0])
    yield f"{begin}, TRL {version('trl')} {statistics.median(times[1]):.3g} s: {ratios} times as fast"
    tokens = [sum(turn.tokens for turn in side) for side in (ours, theirs)]
    updates = [sum(turn.updates for turn in side) for side in (ours, theirs)]
    yield f"           with {tokens[0]:,} tokens against {tokens[1]:,}, {updates[0]} updates against {updates[1]}"


def _floor_line(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: FineTuneConfig, seconds: float
) -> str:
    """The fastest rollout over the best rates: what remains when nobody else is at work on the machine."""
    prompts = sample_prompts(config.prompts, torch.Generator().manual_seed(config.seed))
    rollout = sample_completions(
        model, tokenizer, prompts, group_size=config.group_size, max_new_tokens=config.max_new_tokens
    )
    flops = rollout_flops(model, rollout, config.group_size)
    rows, tokens = len(rollout.texts), int(rollout.completion_mask.sum())
    width, inner = model.config.hidden_size, getattr(model.config, "intermediate_size", 4 * model.config.hidden_size)
    side = 8192 if model.device.type == "cuda" else 1024
    step, pass_, large = (
        multiply_rate(shape, model.device, getattr(torch, config.dtype))
        for shape in ((rows, width, inner), (tokens // config.minibatches, width, inner), (side, side, side))
    )
    own_floor = flops.sampling / step + flops.learning / pass_
    large_floor = sum(flops) / large
    return (
        f"floor      {sum(flops) / 1e9:.3g} GFLOP a rollout; the fastest is {seconds / own_floor:.3g} times the floor "
        f"at the model's shapes ({step / 1e9:.0f} and {pass_ / 1e9:.0f} GFLOP/s), {seconds / large_floor:.3g} times at "
        f"{side} x {side} ({large / 1e9:.0f} GFLOP/s)"
    )


def _logprobs_line(model: PreTrainedModel, config: FineTuneConfig, sizes: logprobs.Sizes, rounds: int) -> str:
    ours, plain = logprobs.compare(sizes, str(model.device), getattr(torch, config.dtype), rounds)
    peaks, times = ([[cost[field] for cost in side] for side in (ours, plain)] for field in (0, 1))
    tokens = sizes.completions * sizes.tokens
    return (
        f"log-probs  of {tokens:,} tokens at a vocabulary of {sizes.vocabulary:,}: peak "
        f"{statistics.median(peaks[0]) / 2**20:,.0f} MiB, full log-softmax {statistics.median(peaks[1]) / 2**20:,.0f} "
        f"MiB: {_ratios(peaks[1], peaks[0])} times less; its time {_ratios(times[0], times[1])} times the other's"
    )


def _ratios(above: list[float], below: list[float]) -> str:
    """Median and 5 % to 95 % of the ratios of neighbours."""
    values = torch.tensor(above).double() / torch.tensor(below).double()
    low, middle, high = values.quantile(torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)).tolist()
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"
