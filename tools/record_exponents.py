"""Records what the exponent alone changes in the first rollouts: python tools/record_exponents.py RUNS_FOLDER

Thirty runs of the shipped model: p = -1, 0, 1, without a clip and with GMPO's wide one, five seeds. Resumable: a file
for each clip and seed.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hmpo_lib.lm import fine_tune, load_base_model
from hmpo_lib.teach.fine_tuning_with_ratio_means.comparison_live import room_to_differ
from hmpo_lib.teach.fine_tuning_with_ratio_means.exponents_recording import (
    CLIPS,
    EXPONENTS,
    RECORDED,
    ROLLOUTS,
    SEEDS,
    exponent_config,
)

DESTINATION = Path(__file__).resolve().parent.parent / "data" / "results" / RECORDED.name


def record_runs(clip: str, seed: int) -> dict[str, Tensor]:
    """All exponents with one seed: tables ``[exponents, rollouts]``."""
    rewards, rooms = torch.zeros(2, len(EXPONENTS), ROLLOUTS)
    for row, p in enumerate(EXPONENTS):
        model, tokenizer = load_base_model()
        for record in fine_tune(model, tokenizer, exponent_config(clip, p, seed=seed, rollouts=ROLLOUTS)):
            rewards[row, record.rollout] = record.metrics["reward_mean"]
            rooms[row, record.rollout] = room_to_differ(record)  # the last step's stays
    return {"rewards": rewards.clone(), "rooms": rooms.clone()}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    paths = [[folder / f"exponents_{row}_{seed}.safetensors" for seed in SEEDS] for row in range(len(CLIPS))]
    for clip, row in zip(CLIPS, paths, strict=True):
        for seed, path in zip(SEEDS, row, strict=True):
            if not path.is_file():
                save_file(record_runs(clip, seed), path)
                print(f"{clip}, seed {seed}", flush=True)
    runs = [[load_file(path) for path in row] for row in paths]
    tables = {
        name: torch.stack([torch.stack([run[name] for run in row], dim=1) for row in runs]) for name in runs[0][0]
    }
    save_file(tables, DESTINATION)
    print(f"{DESTINATION.name}: {DESTINATION.stat().st_size} B")
