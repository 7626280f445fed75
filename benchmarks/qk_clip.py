"""What QK-Clip costs: a training step of the shipped model with it, beside the same step without.

    python benchmarks/qk_clip.py [--rounds 30] [--optimizer adamw | muon]

Two copies of the model take turns, step by step, in random order; the numbers are the quantiles of the ratios of
neighbours, so that a busy machine slows both alike. "nothing" is the step against itself: what can be told apart here.
The rows are left-padded by up to a quarter where it says so, which gives the attention a mask to carry.
"""

import argparse
import copy
import random
import statistics
import time

import torch
from torch import Tensor, nn

from hmpo_lib.lm import load_base_model
from hmpo_lib.optim import MuonAdamW, QKClip

SHAPES = ((128, 43), (5, 1024))


def batch(shape: tuple[int, int], padded: bool) -> dict[str, Tensor]:
    """Random tokens; which ones they are changes no time."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 20, shape, generator=generator)
    lengths = torch.randint(0, shape[1] // 4, (shape[0], 1), generator=generator) if padded else torch.zeros(1, 1)
    mask = torch.arange(shape[1]) >= lengths
    return {"input_ids": ids, "attention_mask": mask.expand(shape).long(), "labels": ids.masked_fill(~mask, -100)}


def seconds(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: dict[str, Tensor]) -> float:
    """Processor time of one training step, which a neighbour on the machine disturbs less than the clock's."""
    start = time.process_time()
    model(**inputs, use_cache=False).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return time.process_time() - start


def main(rounds: int, name: str) -> None:
    """Prints a line for each shape and setting."""
    settings: dict[str, dict[str, float] | None] = {
        "nothing": None,
        "every step": {"threshold": 100.0},
        "every step, all clipped": {"threshold": 1e-3},
        "every 10 steps": {"threshold": 100.0, "every_n_steps": 10},
    }
    if name == "muon":
        settings["no clip, head by head"] = None
    base = load_base_model()[0]
    order = random.Random(0)
    print(
        f"{name}, {torch.get_num_threads()} threads, {rounds} rounds; median (5 % to 95 %) of the time with / without"
    )
    for shape in SHAPES:
        for padded in (False, True):
            inputs = batch(shape, padded)
            for setting, options in settings.items():
                pair = []
                for watched in (False, True):
                    model = copy.deepcopy(base)
                    if name == "muon":
                        inner = MuonAdamW(model, 1e-5, per_head=watched and setting.endswith("head by head"))
                    else:
                        inner = torch.optim.AdamW(model.parameters(), lr=1e-5)
                    clip = watched and options is not None
                    pair.append((model, QKClip(inner, model, **options) if clip else inner))  # type: ignore[arg-type]
                ratios, plain = [], []
                for _ in range(rounds + 1):  # the first round warms up
                    turn = [0, 1]
                    order.shuffle(turn)
                    took = {side: seconds(*pair[side], inputs) for side in turn}
                    ratios.append(took[1] / took[0])
                    plain.append(took[0])
                low, middle, high = (statistics.quantiles(ratios[1:], n=20)[k] for k in (0, 9, 18))
                print(
                    f"{shape[0]:4} x {shape[1]:4}  {'padded' if padded else '      '}  {setting:24}  {middle:5.3f}  "
                    f"({low:.3f} to {high:.3f})  of {1000 * statistics.median(plain[1:]):.0f} ms"
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw")
    arguments = parser.parse_args()
    main(arguments.rounds, arguments.optimizer)
