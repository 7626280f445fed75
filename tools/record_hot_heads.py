"""Records the runs of notebook 07: python tools/record_hot_heads.py. About 20 minutes of one CPU core; can be resumed.

Muon, AdamW and Muon head by head at 1, 2.5 and 10 times the rate that notebook 06 tuned, five seeds; Muon also with
five thresholds of QK-Clip. A run whose logits never exceed a threshold is, bit for bit, the run without a clip, and is
not made again. Rates, steps and batch were chosen on seeds 100 and 101.
"""

import math
import time
from collections.abc import Iterator
from itertools import product

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hmpo_lib.teach.muon_and_qk_clip.hot_heads_experiment import OPTIMIZERS, train_hot
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_recording import HEADS, RECORDED, RECORDS, SEEDS, THRESHOLDS, TIMES

SIZE = (len(TIMES), len(THRESHOLDS), len(SEEDS), RECORDS)
FREE_SIZE = (len(OPTIMIZERS), len(TIMES), len(SEEDS), RECORDS)
SHAPES = {
    "losses": SIZE,
    "max_logits": (*SIZE, HEADS),
    "entropies": (*SIZE, HEADS),
    "clipped": SIZE,
    "free_losses": FREE_SIZE,
    "free_max_logits": (*FREE_SIZE, HEADS),
    "free_entropies": (*FREE_SIZE, HEADS),
}
FREE, MUON = THRESHOLDS.index(math.inf), OPTIMIZERS.index("Muon")
START = time.perf_counter()
Place = tuple[int, ...]  # of a run in the tables


def record_run(optimizer: str, times: float, threshold: float, seed: int) -> dict[str, Tensor]:
    """The rows of one run."""
    records = list(train_hot(optimizer=optimizer, times=times, threshold=threshold, seed=seed, records=RECORDS))
    print(f"{time.perf_counter() - START:5.0f} s: {optimizer}, {times:g} times, {threshold:g}, seed {seed}", flush=True)
    rows = {
        "losses": torch.tensor([record.loss for record in records]),
        "max_logits": torch.stack([record.max_logits for record in records]),
        "entropies": torch.stack([record.entropies for record in records]),
        "clipped": torch.tensor([record.clipped for record in records]),
    }
    return {name: row.to(torch.float16) for name, row in rows.items()}


def empty_tables() -> dict[str, Tensor]:
    """Tables of nan: what has not been run yet."""
    return {name: torch.full(shape, math.nan, dtype=torch.float16) for name, shape in SHAPES.items()}


def free_to_do(tables: dict[str, Tensor]) -> Iterator[Place]:
    """The runs without a clip that are still to be made: optimizer, rate, seed."""
    for place in product(range(len(OPTIMIZERS)), range(len(TIMES)), range(len(SEEDS))):
        if tables["free_losses"][place].isnan().any():
            yield place


def clipped_to_do(tables: dict[str, Tensor]) -> Iterator[Place]:
    """Muon's runs still to be made: rate, threshold, seed; those that no clip would touch are copied."""
    for times, threshold, seed in product(range(len(TIMES)), range(len(THRESHOLDS)), range(len(SEEDS))):
        place, free = (times, threshold, seed), (MUON, times, seed)
        if not tables["losses"][place].isnan().any():
            continue
        # Without a clip nothing is clipped; a maximum that was rounded to the threshold may have been above it.
        if threshold == FREE or tables["free_max_logits"][free].max() < THRESHOLDS[threshold]:
            for name in ("losses", "max_logits", "entropies"):
                tables[name][place] = tables[f"free_{name}"][free]
            tables["clipped"][place] = 0.0
        else:
            yield place


def main() -> None:
    """Makes what is missing, and writes the recording after each run."""
    torch.set_num_threads(1)
    tables = load_file(RECORDED) if RECORDED.is_file() else empty_tables()
    for optimizer, times, seed in free_to_do(tables):
        rows = record_run(OPTIMIZERS[optimizer], TIMES[times], math.inf, SEEDS[seed])
        for name in ("losses", "max_logits", "entropies"):
            tables[f"free_{name}"][optimizer, times, seed] = rows[name]
        save_file(tables, RECORDED)
    for times, threshold, seed in clipped_to_do(tables):
        rows = record_run("Muon", TIMES[times], THRESHOLDS[threshold], SEEDS[seed])
        for name, row in rows.items():
            tables[name][times, threshold, seed] = row
        save_file(tables, RECORDED)
    save_file(tables, RECORDED)
    print({name: tuple(table.shape) for name, table in tables.items()}, f"{RECORDED.stat().st_size} B")


if __name__ == "__main__":
    main()
