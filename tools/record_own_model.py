"""Records other seeds of the runs that notebook 10 makes with a reward: python tools/record_own_model.py RUNS_FOLDER

A run for each of the rewards of `REWARDS` and each seed. Resumable: a file for each run. With OMP_NUM_THREADS=1, about
half a minute of one CPU core a run.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hmpo_lib.lm import fine_tune, load_base_model
from hmpo_lib.teach.your_own_model.recordings import RECORDED, REWARD_SEEDS
from hmpo_lib.teach.your_own_model.rewards_experiment import REWARDS, pay_of, reward_config

DESTINATION = Path(__file__).resolve().parent.parent / "data" / "results" / RECORDED.name


def record_reward(name: str, seed: int) -> dict[str, Tensor]:
    """One run: paid, honest and right ``[rollouts]``."""
    model, tokenizer = load_base_model()
    pays = []
    for record in fine_tune(model, tokenizer, reward_config(seed), reward_fn=REWARDS[name]):
        if record.step == 0:
            asked = [prompt for prompt in record.prompts for _ in range(len(record.texts) // len(record.prompts))]
            pays.append(pay_of((asked, record.texts, record.rewards), REWARDS[name]))
    return {column: torch.tensor([getattr(pay, column) for pay in pays]) for column in ("paid", "honest", "right")}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    runs = []
    for row, name in enumerate(REWARDS):
        for seed in REWARD_SEEDS:
            path = folder / f"reward_{row}_{seed}.safetensors"
            if not path.is_file():
                save_file(record_reward(name, seed), path)
                print(f"{name}, seed {seed}", flush=True)
            runs.append(load_file(path))
    tables = {
        column: torch.stack([run[column] for run in runs]).view(len(REWARDS), len(REWARD_SEEDS), -1)
        for column in runs[0]
    }
    save_file(tables, DESTINATION)
    print(f"{DESTINATION.name}: {DESTINATION.stat().st_size} B")
