"""Trains on fixed completions, shared out among the ranks, and writes the weights of each rank and case.

    accelerate launch --cpu --num_processes 2 two_ranks.py OUT       # or plain python, for one process

Each case trains for 6 steps of SGD with two passes over each batch: every second step sees stale completions.
"""

import os
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

# No pytest here: this file's folder is on the path.
warnings.simplefilter("ignore")
os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from trl_tiny import inputs, trainer  # noqa: E402

from hmpo_lib import METHODS, Method, Objective  # noqa: E402
from hmpo_lib.integrations.trl import PowerMeanGRPOTrainer  # noqa: E402

ROWS, STEPS = 16, 6
HMPO = {"p": -1.0, "clip": "sequence", "clip_range": (0.9, 1.1)}


class Case(NamedTuple):
    """What a run does besides training on 8 completions a rank."""

    objective: Objective | Method
    masked: tuple[int, ...] = ()  # rows without tokens; rank 1 has rows 8 to 15
    accumulation: int = 1
    qk_clip_threshold: float | None = None


WEIGHTS = {weight: Objective(**HMPO, length_weight=weight) for weight in ("equal", "constant", "proportional")}
CASES = {
    **{name: Case(objective) for name, objective in WEIGHTS.items()},
    **{f"{name}, 8 and 3 completions": Case(cell, masked=(9, 10, 12, 13, 15)) for name, cell in WEIGHTS.items()},
    **{f"{name}, one rank without tokens": Case(cell, masked=tuple(range(8, 16))) for name, cell in WEIGHTS.items()},
    **{f"{name}, two micro-batches": Case(cell, accumulation=2) for name, cell in WEIGHTS.items()},
    "schedule of p": Case(METHODS["holder"]),
    "QK-Clip": Case(WEIGHTS["equal"], qk_clip_threshold=1.0),
}


class FixedCompletions(PowerMeanGRPOTrainer):
    """Generates the same completions whatever the number of ranks, and has each rank learn from its rows."""

    masked: tuple[int, ...]
    generated = 0

    def _generate_and_score_completions(self, _):
        whole = inputs(self, seed=self.generated, rows=ROWS, spread=0.0)
        self.generated += 1
        whole["completion_mask"][list(self.masked)] = 0
        tokens = whole.pop("num_items_in_batch") * 0 + whole["completion_mask"].sum()
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        share = slice(rank * ROWS // ranks, (rank + 1) * ROWS // ranks)
        return {name: tensor[share] for name, tensor in whole.items()} | {"num_items_in_batch": tokens}


def main(out: Path) -> None:
    """Every case, one after the other."""
    ranks = int(os.environ.get("WORLD_SIZE", 1))
    for name, case in CASES.items():
        made = trainer(
            {"objective": case.objective, "qk_clip_threshold": case.qk_clip_threshold},
            cls=FixedCompletions,
            folder=str(out),
            per_device_train_batch_size=ROWS // ranks // case.accumulation,
            gradient_accumulation_steps=case.accumulation,
            num_iterations=2,
            max_steps=STEPS,
            learning_rate=0.5,
            optim="sgd",
        )
        made.masked = case.masked
        before = {key: weight.detach().clone() for key, weight in made.model.named_parameters()}
        made.train()
        after = {key: weight.detach().contiguous().clone() for key, weight in made.model.named_parameters()}
        kept = {f"after/{key}": weight for key, weight in after.items()}
        kept |= {f"moved/{key}": weight - before[key] for key, weight in after.items()}
        clipped = -1 if made.qk_clip is None else sum(record.heads_clipped for record in made.qk_clip.history)
        kept["heads_clipped"] = torch.tensor(clipped)
        save_file(kept, out / f"{name} rank {made.accelerator.process_index} of {ranks}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
