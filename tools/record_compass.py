"""Records how the gradient turns with p: python tools/record_compass.py RUNS_FOLDER. Resumable: a file for each seed.

Before the first rollout of a fine-tuning run, and after 40, the policy also answers 16 prompts of its own, which no
step learns from. Training goes on, and after 1, 3, 7 and 15 further optimizer steps the gradient of those answers'
policy loss is computed for every exponent.
"""

import sys
import time
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hmpo_lib import group_advantages
from hmpo_lib.lm import FineTuneConfig, fine_tune, load_base_model, sample_completions
from hmpo_lib.lm.tasks import reward_correct, sample_prompts
from hmpo_lib.teach.gradient_compass.compass_experiment import (
    EXPONENTS,
    RECORDED,
    STAGES,
    STALENESS,
    Compass,
    gradient_compass,
)

SEEDS = range(5)
ROLLOUTS_BEFORE = dict(zip(STAGES, (0, 40), strict=True))
PROMPTS, GROUP_SIZE = 16, 8
METHOD, MINIBATCHES = "hmpo", 4  # all else is FineTuneConfig's default
PROMPT_SEED = 1000  # added to the seed: the recorded prompts and tokens are drawn apart from the training's
DESTINATION = Path(__file__).resolve().parent.parent / "data" / "results" / RECORDED.name


def record_run(seed: int) -> dict[str, Tensor]:
    """One training run: a Compass of tables ``[stages, staleness, ...]``."""
    last_rollout = ROLLOUTS_BEFORE[STAGES[-1]] + -(-STALENESS[-1] // MINIBATCHES)
    config = FineTuneConfig(METHOD, rollouts=last_rollout, minibatches=MINIBATCHES, seed=seed)
    model, tokenizer = load_base_model()
    steps, taken = fine_tune(model, tokenizer, config), 0
    stages = []
    for rollouts in ROLLOUTS_BEFORE.values():
        start = rollouts * MINIBATCHES
        taken += len(list(islice(steps, start - taken)))
        generator = torch.Generator().manual_seed(PROMPT_SEED + seed)
        prompts = sample_prompts(PROMPTS, generator)
        rollout = sample_completions(
            model, tokenizer, prompts, group_size=GROUP_SIZE, max_new_tokens=config.max_new_tokens, generator=generator
        )
        repeated = [prompt for prompt in prompts for _ in range(GROUP_SIZE)]
        rewards = torch.tensor([*map(reward_correct, repeated, rollout.texts)]).masked_fill(rollout.truncated, 0.0)
        advantages = group_advantages(rewards, GROUP_SIZE)
        rows = []
        for staleness in STALENESS:
            taken += len(list(islice(steps, start + staleness - taken)))
            rows.append(gradient_compass(model, rollout, advantages, EXPONENTS))
        stages.append([torch.stack(column) for column in zip(*rows, strict=True)])
    columns = [torch.stack(column) for column in zip(*stages, strict=True)]
    return Compass(*columns)._asdict()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS:
        path = folder / f"compass_{seed}.safetensors"
        if not path.is_file():
            started = time.perf_counter()
            save_file(record_run(seed), path)
            print(f"seed {seed}: {time.perf_counter() - started:.0f} s", flush=True)
    runs = [load_file(folder / f"compass_{seed}.safetensors") for seed in SEEDS]
    tables = {name: torch.stack([run[name] for run in runs], dim=2).float() for name in runs[0]}
    save_file(tables, DESTINATION)
    print(f"{DESTINATION.name}: {DESTINATION.stat().st_size} B")
