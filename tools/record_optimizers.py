"""Records the runs of notebook 06: python tools/record_optimizers.py RUNS. RUNS is a folder for the finished runs.

Muon and AdamW, each with five learning rates and four settings of a second number, tuned on seeds 100 and 101; then
both at their best on seeds 0 to 4, and AdamW for twice the steps, its rate tuned anew. It goes on where it was stopped.
"""

import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hmpo_lib.lm.model import make_model, make_tokenizer
from hmpo_lib.lm.pretrain import pretraining_batch
from hmpo_lib.teach.a_language_model_from_scratch.race_experiment import BATCH, STEPS, Setting, race, race_optimizer
from hmpo_lib.teach.a_language_model_from_scratch.race_recording import (
    DETAILS,
    LONG_RATES,
    OPTIMIZERS,
    RATES,
    RECORDED,
    SEEDS,
    TUNING_SEEDS,
    best,
    choose,
)

TIMED_STEPS = 60
START = time.perf_counter()


def recorded_run(folder: Path, setting: Setting, seed: int, steps: int = STEPS) -> dict[str, Tensor]:
    """A run from the folder, or made now and put there."""
    path = folder / f"{setting.optimizer}-{setting.rate:g}-{setting.detail:g}-{steps}-{seed}.safetensors"
    if not path.is_file():
        records = list(race(setting, seed=seed, steps=steps))
        tables = {
            "losses": torch.tensor([record.loss for record in records]),
            "held_out_losses": torch.tensor([record.held_out_loss for record in records]),
        }
        save_file(tables, path)
        print(f"{time.perf_counter() - START:5.0f} s: {path.stem} {records[-1].held_out_loss:.4f}", flush=True)
    return load_file(path)


def held_out(folder: Path, settings: list[Setting], steps: int = STEPS) -> Tensor:
    """Held-out losses of the tuning runs, ``[settings, tuning seeds, records]``."""
    runs = [[recorded_run(folder, setting, seed, steps) for seed in TUNING_SEEDS] for setting in settings]
    return torch.stack([torch.stack([run["held_out_losses"] for run in seeds]) for seeds in runs])


def best_within(optimizer: str, rates: Sequence[float], runs: Tensor) -> float:
    """The best rate.

    Raises:
        SystemExit: it is at an end of the grid, so that one beyond it may be better.
    """
    rate = best(rates, runs)
    if rate in (rates[0], rates[-1]):
        sys.exit(f"{optimizer} is best at {rate:g}, an end of its grid: extend it.")
    return rate


def tune(folder: Path, optimizer: str) -> tuple[Tensor, Tensor]:
    """The tuning runs of all rates, and those of all details at the best rate."""
    rates, details = RATES[optimizer], DETAILS[optimizer]
    tuning = held_out(folder, [Setting(optimizer, rate, details[0]) for rate in rates])
    rate = best_within(optimizer, rates, tuning)
    return tuning, held_out(folder, [Setting(optimizer, rate, detail) for detail in details])


def step_seconds(settings: list[Setting]) -> Tensor:
    """Seconds of single steps ``[settings, 60]``, taken by turns so that both meet the same state of the machine."""
    tokenizer, generator = make_tokenizer(), torch.Generator().manual_seed(0)
    models = [make_model(0) for _ in settings]
    optimizers = [race_optimizer(model, setting) for model, setting in zip(models, settings, strict=True)]
    seconds: list[list[float]] = [[] for _ in settings]
    for _ in range(TIMED_STEPS):
        input_ids, attention_mask, labels = pretraining_batch(tokenizer, BATCH, generator)
        for model, optimizer, taken in zip(models, optimizers, seconds, strict=True):
            begin = time.perf_counter()
            model(input_ids=input_ids, attention_mask=attention_mask, labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            taken.append(time.perf_counter() - begin)
    return torch.tensor(seconds)


def main(folder: Path) -> None:
    """Makes what is missing and writes the recording."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    tuned = [tune(folder, optimizer) for optimizer in OPTIMIZERS]
    chosen = [choose(name, *tables) for name, tables in zip(OPTIMIZERS, tuned, strict=True)]
    print("chosen:", *chosen, flush=True)
    reported = [[recorded_run(folder, setting, seed) for seed in SEEDS] for setting in chosen]
    adamw = chosen[OPTIMIZERS.index("AdamW")]
    long_tuning = held_out(folder, [adamw._replace(rate=rate) for rate in LONG_RATES], 2 * STEPS)
    adamw = adamw._replace(rate=best_within("AdamW", LONG_RATES, long_tuning))
    print("chosen for twice the steps:", adamw, flush=True)
    longer = [recorded_run(folder, adamw, seed, 2 * STEPS) for seed in SEEDS]
    tables = {
        "tuning": torch.stack([rates for rates, _ in tuned]),
        "detail_tuning": torch.stack([details for _, details in tuned]),
        "long_tuning": long_tuning,
        "step_seconds": step_seconds(chosen),
    }
    for name in ("losses", "held_out_losses"):
        tables[name] = torch.stack([torch.stack([run[name] for run in runs]) for runs in reported])
        tables[f"long_{name}"] = torch.stack([run[name] for run in longer])
    save_file(tables, RECORDED)
    ratio = statistics.median((tables["step_seconds"][0] / tables["step_seconds"][1]).tolist())
    print({name: tuple(table.shape) for name, table in tables.items()}, f"{RECORDED.stat().st_size} B, ratio {ratio}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
