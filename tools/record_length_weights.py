"""Records what the length weight changes: python tools/record_length_weights.py RUNS_FOLDER. Resumable, a file a run.

One step a rollout, so that the ratios are 1 and neither the mean nor the clip can matter: the length weight is all that
differs. Two payments, as in notebook 08: for the right number, and for the right number in at most three characters.
The learning rate is the one that such runs bore in the project's first trials, on other seeds; nothing was chosen on
these. "constant" is left out: in a batch its gradient is a multiple of that of "proportional".
"""

import sys
import time
from itertools import product
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hmpo_lib import Method, Objective
from hmpo_lib.lm import FineTuneConfig, fine_tune, load_base_model
from hmpo_lib.lm.tasks import is_worked, reward_correct
from hmpo_lib.teach.fine_tuning_with_ratio_means.length_recording import (
    LEARNING_RATE,
    PAYMENTS,
    RECORDED,
    ROLLOUTS,
    SEEDS,
    WEIGHTS,
    reward_short,
)

DESTINATION = Path(__file__).resolve().parent.parent / "data" / "results" / RECORDED.name


def record_run(payment: str, weight: str, seed: int) -> dict[str, Tensor]:
    """Share of worked answers, tokens an answer and share of right answers, rollout by rollout."""
    method = Method(Objective(0.0, length_weight=weight), "notebook 08")
    config = FineTuneConfig(method, rollouts=ROLLOUTS, learning_rate=LEARNING_RATE, seed=seed)
    reward_fn = {PAYMENTS[0]: reward_correct, PAYMENTS[1]: reward_short}[payment]
    rows = [
        (
            sum(map(is_worked, record.texts)) / len(record.texts),
            record.metrics["completion_length_mean"],
            record.metrics["reward_mean"],
        )
        for record in fine_tune(*load_base_model(), config, reward_fn=reward_fn)
    ]
    worked, tokens, rewards = torch.tensor(rows).T
    return {"worked": worked.contiguous(), "tokens": tokens.contiguous(), "rewards": rewards.contiguous()}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for setting in product(SEEDS, WEIGHTS, PAYMENTS):
        seed, weight, payment = setting
        paths[setting] = folder / f"{weight}_{PAYMENTS.index(payment)}_{seed}.safetensors"
        if not paths[setting].is_file():
            started = time.perf_counter()
            save_file(record_run(payment, weight, seed), paths[setting])
            print(f"{weight}, {payment}, seed {seed}: {time.perf_counter() - started:.0f} s", flush=True)
    tables = {}
    for name in ("worked", "tokens", "rewards"):
        runs = [[[load_file(paths[s, w, p])[name] for s in SEEDS] for w in WEIGHTS] for p in PAYMENTS]
        tables[name] = torch.stack([torch.stack([torch.stack(seeds) for seeds in kinds]) for kinds in runs])
    save_file(tables, DESTINATION)
    print(f"{DESTINATION.name}: {DESTINATION.stat().st_size} B")
