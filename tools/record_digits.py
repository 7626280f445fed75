"""Records what models of notebook 06 can do at each kind of digit: python tools/record_digits.py RUNS.

The runs of the race again (seeds 0 to 4, as tools/record_optimizers.py chose their settings), read at each kind of
place after each ten steps; and the shipped model, with every subset of a layer's heads switched off. It goes on where
it was stopped, a file in RUNS for each run.
"""

import copy
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from hmpo_lib.evaluation import student_interval
from hmpo_lib.lm import load_base_model
from hmpo_lib.lm.model import make_model, make_tokenizer
from hmpo_lib.lm.tasks import sample_questions
from hmpo_lib.teach.a_language_model_from_scratch.digits_experiment import (
    LAYERS,
    MODES,
    SUBSETS,
    digit_scores,
    held_out_texts,
    mean_outputs,
    switched_off,
)
from hmpo_lib.teach.a_language_model_from_scratch.digits_recording import (
    LOOKS,
    RACE_TEXTS,
    RACE_TEXTS_SEED,
    RECORDED,
    TEXTS,
    TEXTS_SEED,
)
from hmpo_lib.teach.a_language_model_from_scratch.race_experiment import STEPS, Setting, race
from hmpo_lib.teach.a_language_model_from_scratch.race_recording import SEEDS, load_race_traces
from hmpo_lib.teach.a_language_model_from_scratch.worked_places import mean_weights, worked_places

START = time.perf_counter()

Tables = dict[str, Tensor]


def kept(path: Path, make: Callable[[], Tables]) -> Tables:
    """The tables from the folder, or made now and put there."""
    if not path.is_file():
        save_file(make(), path)
        print(f"{time.perf_counter() - START:5.0f} s: {path.stem}", flush=True)
    return load_file(path)


def race_scores(setting: Setting, seed: int) -> Tables:
    """Losses and shares of right tokens ``[records, kinds]`` of one run."""
    texts, model, found = held_out_texts(RACE_TEXTS, RACE_TEXTS_SEED), make_model(seed), []
    for _ in race(setting, seed=seed, model=model):
        found.append([values.mean(dim=-1) for values in digit_scores(model, texts)])
    return dict(zip(("losses", "right"), map(torch.stack, zip(*found, strict=True)), strict=True))


def head_scores() -> Tables:
    """Where the heads of the shipped model look, and what is left without them."""
    model, _ = load_base_model()
    texts, rows = held_out_texts(TEXTS, TEXTS_SEED), []
    for layer in range(1, LAYERS + 1):
        mean = mean_outputs(model, texts, layer)
        for stand_in in (torch.zeros_like(mean), mean):  # in the order of MODES
            for heads in SUBSETS:
                with switched_off(model, layer, heads, stand_in):
                    scores = digit_scores(model, texts)
                intervals = [student_interval(kind) for kind in scores.right]
                half_widths = torch.tensor([(high - low) / 2 for _, low, high in intervals])
                rows.append(torch.stack([scores.losses.mean(dim=-1), scores.right.mean(dim=-1), half_widths]))
    table = torch.stack(rows).view(LAYERS, len(MODES), len(SUBSETS), 3, -1)
    off = {name: table[..., k, :].contiguous() for k, name in enumerate(("losses", "right", "half_widths"))}
    return {f"off_{name}": values for name, values in off.items()} | {"looks": looks_of(model)}


@torch.no_grad()
def looks_of(model: PreTrainedModel) -> Tensor:
    """How much each head looks at the places of each of the LOOKS, ``[layers, heads, looks]``."""
    eager, tokenizer, seen = copy.deepcopy(model), make_tokenizer(), []
    eager.set_attn_implementation("eager")  # the slower way of computing the same, which hands out its weights
    questions = sample_questions(TEXTS, torch.Generator().manual_seed(TEXTS_SEED), held_out=True)
    for question in questions:
        ids = tokenizer(question.prompt + question.worked_answer, return_tensors="pt")["input_ids"]
        seen.append(torch.stack(eager(input_ids=ids, output_attentions=True).attentions)[:, 0])
    places = [worked_places(question) for question in questions]
    return torch.stack([mean_weights(seen, [getattr(text, which) for text in places]) for which in LOOKS], dim=-1)


def main(folder: Path) -> None:
    """Makes what is missing and writes the recording."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    runs = [
        [kept(folder / f"{name}-{STEPS}-{s}.safetensors", partial(race_scores, setting, s)) for s in SEEDS]
        for name, setting in load_race_traces().chosen.items()
    ]
    tables = {key: torch.stack([torch.stack([run[key] for run in seeds]) for seeds in runs]) for key in runs[0][0]}
    tables |= kept(folder / "heads.safetensors", head_scores)
    save_file(tables, RECORDED)
    print({name: tuple(table.shape) for name, table in tables.items()}, f"{RECORDED.stat().st_size} B")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
