"""Records how far real importance ratios move: python tools/record_ratios.py. About three minutes on two cores.

Before the first rollout of a fine-tuning run, and after 40, the policy also answers prompts of its own, which no step
learns from. Training goes on, and after k further optimizer steps the log-ratios of those answers are computed again:
what a minibatch meets that was sampled k steps ago and has not been learned from yet.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hmpo_lib import group_advantages
from hmpo_lib.lm import (
    FineTuneConfig,
    StepRecord,
    fine_tune,
    load_base_model,
    reward_correct,
    sample_completions,
    token_logprobs,
)
from hmpo_lib.lm.tasks import sample_prompts

SEEDS = range(4)
STAGES = (0, 40)  # rollouts learned from before the policy is recorded; further apart than the longest staleness
STALENESS = (0, 1, 2, 4, 8, 16)  # optimizer steps since sampling
METHOD, MINIBATCHES = "hmpo", 4  # all else is FineTuneConfig's default
LONGEST_PROMPT = 15  # characters of "10+11+12+13+14="
PROMPT_SEED = 1000  # added to the seed: the recorded prompts and tokens are drawn apart from the training's
RECORDED = Path(__file__).resolve().parent.parent / "data" / "results" / "recorded_ratios.safetensors"


def record_run(seed: int) -> list[dict[str, Tensor]]:
    """One training run: for each stage its recorded answers, their tokens one after the other."""
    last_rollout = STAGES[-1] + -(-STALENESS[-1] // MINIBATCHES)
    config = FineTuneConfig(METHOD, rollouts=last_rollout, minibatches=MINIBATCHES, seed=seed)
    model, tokenizer = load_base_model()
    steps, taken = fine_tune(model, tokenizer, config), 0
    parts = []
    for stage, rollouts in enumerate(STAGES):
        taken += take(steps, rollouts * MINIBATCHES - taken)
        generator = torch.Generator().manual_seed(PROMPT_SEED + seed)
        prompts = sample_prompts(config.prompts, generator)
        rollout = sample_completions(
            model,
            tokenizer,
            prompts,
            group_size=config.group_size,
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            generator=generator,
        )
        log_ratios, start = [], taken
        for staleness in STALENESS:
            taken += take(steps, start + staleness - taken)
            with torch.no_grad():
                d = token_logprobs(model, rollout, temperature=config.temperature) - rollout.logprobs
            log_ratios.append(d[rollout.completion_mask])
        repeated = [prompt for prompt in prompts for _ in range(config.group_size)]
        rewards = torch.tensor([*map(reward_correct, repeated, rollout.texts)]).masked_fill(rollout.truncated, 0.0)
        parts.append(
            {
                "log_ratios": torch.stack(log_ratios, dim=1).half(),
                "old_logprobs": rollout.logprobs[rollout.completion_mask].half(),
                "characters": characters_of(rollout.completion_ids[rollout.completion_mask], tokenizer),
                "prompts": torch.tensor([[*prompt.ljust(LONGEST_PROMPT, "\0").encode()] for prompt in repeated]).byte(),
                "lengths": rollout.completion_mask.sum(dim=1).to(torch.uint8),
                "rewards": rewards.to(torch.uint8),
                "advantages": group_advantages(rewards, config.group_size),
                "stages": torch.full_like(rewards, stage).to(torch.uint8),
                "seeds": torch.full_like(rewards, seed).to(torch.uint8),
            }
        )
    return parts


def characters_of(ids: Tensor, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """The ASCII code of each token, which is a character here; 0 for an answer's end, 1 for another special one."""
    texts = tokenizer.convert_ids_to_tokens(ids.tolist())
    codes = [0 if text == tokenizer.eos_token else ord(text) if len(text) == 1 else 1 for text in texts]
    return torch.tensor(codes, dtype=torch.uint8)


def take(steps: Iterator[StepRecord], count: int) -> int:
    """Takes so many optimizer steps, and says how many."""
    return len(list(islice(steps, count)))


if __name__ == "__main__":
    parts = [part for seed in SEEDS for part in record_run(seed)]
    tensors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    tensors["staleness"] = torch.tensor(STALENESS, dtype=torch.uint8)
    save_file(tensors, RECORDED)
    print(f"{len(tensors['lengths'])} completions of {len(tensors['log_ratios'])} tokens: {RECORDED.stat().st_size} B")
