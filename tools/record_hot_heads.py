"""Records the runs of notebook 07: python tools/record_hot_heads.py. About 20 minutes of one CPU core; can be resumed.

Three learning rates, six thresholds of QK-Clip and five seeds. A run whose logits never exceed a threshold is, bit for
bit, the run without a clip, and is not made again. Rates, steps and batch were chosen on seeds 100 and 101.
"""

import math
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hmpo_lib.teach.muon_and_qk_clip.hot_heads_experiment import train_hot
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_recording import HEADS, RATES, RECORDED, RECORDS, SEEDS, THRESHOLDS

SHAPES = {"losses": (), "max_logits": (HEADS,), "entropies": (HEADS,), "clipped": ()}
Place = tuple[int, int, int]  # of a run in the tables: rate, threshold, seed


def record_run(place: Place) -> dict[str, Tensor]:
    """The rows of one run."""
    torch.set_num_threads(1)
    rate, threshold, seed = RATES[place[0]], THRESHOLDS[place[1]], SEEDS[place[2]]
    records = list(train_hot(rate=rate, threshold=threshold, seed=seed, records=RECORDS))
    return {
        "losses": torch.tensor([record.loss for record in records]),
        "max_logits": torch.stack([record.max_logits for record in records]),
        "entropies": torch.stack([record.entropies for record in records]),
        "clipped": torch.tensor([record.clipped for record in records]),
    }


def empty_tables() -> dict[str, Tensor]:
    """Tables of nan: what has not been run yet."""
    size = (len(RATES), len(THRESHOLDS), len(SEEDS), RECORDS)
    return {name: torch.full((*size, *rest), math.nan, dtype=torch.float16) for name, rest in SHAPES.items()}


def to_do(tables: dict[str, Tensor], threshold: int) -> list[Place]:
    """The runs with a threshold that are still to be made; those that no clip would touch are copied."""
    free, places = len(THRESHOLDS) - 1, []
    for rate, seed in product(range(len(RATES)), range(len(SEEDS))):
        if not tables["losses"][rate, threshold, seed].isnan().any():
            continue
        if threshold != free and tables["max_logits"][rate, free, seed].max() < THRESHOLDS[threshold]:
            for table in tables.values():
                table[rate, threshold, seed] = table[rate, free, seed]
        else:
            places.append((rate, threshold, seed))
    return places


if __name__ == "__main__":
    start = time.perf_counter()
    tables = load_file(RECORDED) if RECORDED.is_file() else empty_tables()
    with ProcessPoolExecutor(max_workers=2) as pool:
        for threshold in reversed(range(len(THRESHOLDS))):  # without a clip first
            places = to_do(tables, threshold)
            for place, rows in zip(places, pool.map(record_run, places), strict=True):
                for name, row in rows.items():
                    tables[name][place] = row.to(torch.float16)
                save_file(tables, RECORDED)
                print(f"{time.perf_counter() - start:5.0f} s: rate, threshold, seed {place}", flush=True)
    save_file(tables, RECORDED)
    print({name: tuple(table.shape) for name, table in tables.items()}, f"{RECORDED.stat().st_size} B")
