"""Records what notebook 05 shows of random worlds: python tools/record_bandits.py. Two minutes on one core.

The direction, length and standard error of every mean's gradient, exactly; and learning curves at ever larger learning
rates. Rates are chosen on worlds of their own, which are not shown. Worlds 1000 to 1003 were used to choose the range
of rates and what counts as collapse; none of them is recorded.
"""

from collections.abc import Iterator
from itertools import product

import torch
from safetensors.torch import save_file
from torch import Tensor

from hmpo_lib import Method, Objective
from hmpo_lib.bandit_learning import learn
from hmpo_lib.bandits import expected_reward, gradient_statistics, sequence_probabilities
from hmpo_lib.schedules import pessimistic_schedule
from hmpo_lib.teach.bandits.bandit_recording import (
    CLIPS,
    CURVE_STEPS,
    EXPONENTS,
    LENGTHS,
    RATE_LENGTH,
    RATE_METHODS,
    RATE_STALENESS,
    RATES,
    RECORDED,
    STALENESS,
    STEP_RATE,
)
from hmpo_lib.teach.bandits.worlds_experiment import KINDS, World, random_world, take_steps

BATCH = 64
GRADIENT_WORLDS, RATE_WORLDS, CHOICE_WORLDS = range(20), range(16), range(100, 110)
RATE_SEEDS, CHOICE_SEEDS = 8, 4  # samplings of each world


def gradients(world: World, staleness: int) -> tuple[Tensor, Tensor]:
    """Of every mean ``[clips, EXPONENTS + pessimistic, 3]``, and of the product ratio ``[3]``: see `BanditTraces`."""
    bandit, old = world
    new = take_steps(bandit, old, staleness, learning_rate=STEP_RATE)
    worth = (sequence_probabilities(bandit, old) * bandit.expected_rewards).sum()
    pessimistic = -(bandit.rewards - worth).sign()

    def row(objective: Objective | None) -> Tensor:
        statistics = gradient_statistics(bandit, new, old, objective)
        factor = 1 if objective is None else bandit.length
        length = statistics.true.norm()
        expected = factor * statistics.expected / length
        direction = statistics.true / length
        along = (expected * direction).sum()
        across = (expected - along * direction).norm()
        return torch.stack([along, across, factor * (statistics.variance / BATCH).sqrt() / length])

    table = [
        torch.stack([row(Objective(p, None if r is None else "token", r)) for p in (*EXPONENTS, pessimistic)])
        for r in CLIPS.values()
    ]
    return torch.stack(table), row(None)


def curves(world: World, staleness: int, seeds: range) -> Tensor:
    """How much of the way to the best sequence is gone, ``[RATES, RATE_METHODS, seeds, steps + 1]``."""
    methods = {str(p): Method(Objective(float(p)), "notebook 05") for p in RATE_METHODS[:-1]}
    methods["pessimistic"] = Method(Objective(None), "notebook 05", p_schedule=pessimistic_schedule)
    if staleness == 0:  # then every ratio is 1, and all of them are the same method
        methods = {"any": Method(Objective(0.0), "notebook 05")}
    rewards = learn(
        world.bandit,
        methods,
        seeds=list(seeds) * len(RATES),
        steps=CURVE_STEPS[-1],
        batch=BATCH,
        minibatches=staleness + 1,
        learning_rate=(torch.tensor(RATES) * world.bandit.length).repeat_interleave(len(seeds)),
        start_logits=world.start,
    ).expected_reward.unflatten(1, (len(RATES), len(seeds)))
    start = expected_reward(world.bandit, world.start)
    gains = (rewards - start) / (world.bandit.rewards.max() - start)
    return gains.transpose(0, 1).expand(-1, len(RATE_METHODS), -1, -1)


def record_kind(kind: str, seed: int) -> dict[str, Tensor]:
    """All tables of one world seed, without the dimensions of kind and world."""
    tables: dict[str, Tensor] = {}
    if seed in GRADIENT_WORLDS:
        worlds = [random_world(kind, length, seed) for length in LENGTHS]
        found = [gradients(world, s) for world, s in product(worlds, STALENESS)]
        tables["gradients"] = shaped(first for first, _ in found)
        tables["product_gradients"] = shaped(second for _, second in found)
    chosen_on = seed in CHOICE_WORLDS
    if seed in RATE_WORLDS or chosen_on:
        count = CHOICE_SEEDS if chosen_on else RATE_SEEDS
        world, seeds = random_world(kind, RATE_LENGTH, seed), range(100 * seed, 100 * seed + count)
        gains = torch.stack([curves(world, s, seeds) for s in RATE_STALENESS])
        if chosen_on:
            tables["choice_gains"] = gains.mean(dim=(-2, -1))
        else:
            tables["curves"] = gains[..., list(CURVE_STEPS)].mean(dim=-2)  # over samplings: worlds are independent
            tables["final_gains"] = gains[..., -4:].mean(dim=-1).median(dim=-1).values
    return tables


def shaped(rows: Iterator[Tensor]) -> Tensor:
    """Rows by length and staleness, with these as the first dimensions."""
    table = torch.stack(list(rows))
    return table.view(len(LENGTHS), len(STALENESS), *table.shape[1:])


def collect(worlds: list[list[dict[str, Tensor]]]) -> dict[str, Tensor]:
    """Tables with the kinds first and the worlds last."""
    names = sorted({name for kind in worlds for world in kind for name in world})
    tables = {}
    for name in names:
        parts = [torch.stack([world[name] for world in kind if name in world], dim=-1) for kind in worlds]
        tables[name] = torch.stack(parts).to(torch.float16).contiguous()
    return tables


if __name__ == "__main__":
    seeds = sorted({*GRADIENT_WORLDS, *RATE_WORLDS, *CHOICE_WORLDS})
    torch.set_num_threads(1)
    tables = collect([[record_kind(kind, seed) for seed in seeds] for kind in KINDS])
    save_file(tables, RECORDED)
    print({name: tuple(table.shape) for name, table in tables.items()}, f"{RECORDED.stat().st_size} B")
