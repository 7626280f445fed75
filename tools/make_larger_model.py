"""Makes the larger model of docs/evidence_plan.md: python tools/make_larger_model.py OUT [--device cuda] [--jobs 12].

A Llama of 4 layers, width 512 and 8 heads, 13.6 million weights, is made several times by the recipe of the shipped
model, each time in another number of optimizer steps from the same seed. Its weights are rounded to float16, as they
are stored. That number is taken whose model is right about as often as the shipped one, by the same measure: one sample
for each of 1,000 held-out sums. OUT/model is that model, and OUT/candidates.csv says how often each is right. What is
there already is not made again.
"""

import argparse
import csv
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from hmpo_lib.lm import load_base_model, load_model, make_tokenizer
from hmpo_lib.lm.model import make_model, save_model
from hmpo_lib.lm.pretrain import pretrain
from hmpo_lib.teach.what_the_evidence_says.cells import Cell
from hmpo_lib.teach.what_the_evidence_says.plan import GEOMETRIC, LARGER_STEPS, TUNING_SEEDS
from hmpo_lib.teach.what_the_evidence_says.runs import examine

SEED = 0  # of weights and data, as of the shipped model
LAYERS, WIDTH, HEADS = 4, 512, 8
SUMS = 1000


def candidate(folder: Path, steps: int, device: str) -> float:
    """How often the model is right that so many steps make; it is made if it is not in its folder."""
    torch.set_num_threads(1)
    path = folder / str(steps)
    if not path.is_dir():
        model, tokenizer = make_model(SEED, layers=LAYERS, width=WIDTH, heads=HEADS).to(device), make_tokenizer()
        for _ in pretrain(model, tokenizer, steps=steps, seed=SEED):
            pass
        save_model(model.half(), tokenizer, path)
    model, tokenizer = load_model(path)
    return examine(model.to(device), tokenizer, Cell(GEOMETRIC), count=SUMS, seed=TUNING_SEEDS[0])[0]


def main() -> None:
    """Makes the candidates, and takes the one that is nearest to the shipped model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1, help="how many are made at a time")
    parser.add_argument("--steps", type=int, nargs="+", default=LARGER_STEPS, help="numbers of steps to try")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    model, tokenizer = load_base_model()
    shipped = examine(model.to(arguments.device), tokenizer, Cell(GEOMETRIC), count=SUMS, seed=TUNING_SEEDS[0])[0]
    print(f"shipped {shipped:.3f}", flush=True)
    count = len(arguments.steps)
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        found = pool.map(candidate, [arguments.out] * count, arguments.steps, [arguments.device] * count)
        right = dict(zip(arguments.steps, found, strict=True))
    with (arguments.out / "candidates.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("steps", "right"), ("shipped", shipped), *right.items()])
    for steps, share in right.items():
        print(f"{steps} {share:.3f}", flush=True)
    taken = min(right, key=lambda steps: abs(right[steps] - shipped))
    shutil.copytree(arguments.out / str(taken), arguments.out / "model", dirs_exist_ok=True)
    print(f"taken: {taken} steps", flush=True)


if __name__ == "__main__":
    main()
