"""Records what notebook 05 shows at once: python tools/record_bandits.py. About ten minutes on two cores.

Three tables over random worlds: bias and standard error of every mean's gradient, exactly; learning curves; and how
much is learned at ever larger learning rates. Worlds 1000 to 1003 were used to choose the learning rate, the range of
rates and what counts as collapse; none of them is recorded.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
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
    LEARNING_RATE,
    LENGTHS,
    RATE_LENGTH,
    RATE_METHODS,
    RATE_STALENESS,
    RATES,
    RECORDED,
    STALENESS,
)
from hmpo_lib.teach.bandits.worlds_experiment import KINDS, World, random_world, take_steps

BATCH = 64
BIAS_WORLDS, CURVE_WORLDS, RATE_WORLDS = range(20), range(12), range(16)
CURVE_SEEDS, RATE_SEEDS = 4, 8  # samplings of each world


def method(p: float | str, clip_range: tuple[float, float] | None = None) -> Method:
    """A mean with a token clip, whose window, unlike a sequence clip's, is the same for every p."""
    clip = None if clip_range is None else "token"
    if p == "pessimistic":
        return Method(Objective(None, clip, clip_range), "notebook 05", p_schedule=pessimistic_schedule)
    return Method(Objective(float(p), clip, clip_range), "notebook 05")


def gradient_errors(world: World, staleness: int) -> tuple[Tensor, Tensor]:
    """Bias and standard error of a batch ``[clips, EXPONENTS + pessimistic]``, and of the product ratio ``[2]``.

    Both are relative to the norm of the true gradient; the means' gradients are taken T times.
    """
    bandit, old = world
    new = take_steps(bandit, old, staleness, learning_rate=LEARNING_RATE)
    worth = (sequence_probabilities(bandit, old) * bandit.expected_rewards).sum()
    pessimistic = -(bandit.rewards - worth).sign()

    def errors(objective: Objective | None) -> Tensor:
        statistics = gradient_statistics(bandit, new, old, objective)
        factor = 1 if objective is None else bandit.length
        bias = (factor * statistics.expected - statistics.true).norm()
        error = factor * (statistics.variance / BATCH).sqrt()
        return torch.stack([bias, error]) / statistics.true.norm()

    table = [
        torch.stack([errors(Objective(p, None if r is None else "token", r)) for p in (*EXPONENTS, pessimistic)])
        for r in CLIPS.values()
    ]
    return torch.stack(table), errors(None)


def gain(world: World, rewards: Tensor) -> Tensor:
    """How much of the way from the first policy's expected reward to the best sequence's has been gone."""
    start = expected_reward(world.bandit, world.start)
    return (rewards - start) / (world.bandit.rewards.max() - start)


def learning_gains(world: World, seed: int, staleness: int) -> Tensor:
    """Curves ``[clips, EXPONENTS + pessimistic, CURVE_SEEDS, points]``, of staleness + 1 steps a rollout."""
    methods = {f"{p} {name}": method(p, r) for name, r in CLIPS.items() for p in (*EXPONENTS, "pessimistic")}
    if staleness == 0:  # then every ratio is 1, and all of them are the same method
        methods = {"any": method(0.0)}
    elif world.bandit.length == 1:  # then all means are the one ratio
        methods = {name: method(0.0, r) for name, r in CLIPS.items()}
    curves = learn(
        world.bandit,
        methods,
        seeds=range(100 * seed, 100 * seed + CURVE_SEEDS),
        steps=CURVE_STEPS[-1],
        batch=BATCH,
        minibatches=staleness + 1,
        learning_rate=LEARNING_RATE * world.bandit.length,
        start_logits=world.start,
    ).expected_reward[..., list(CURVE_STEPS)]
    gains = gain(world, curves)
    if len(methods) <= len(CLIPS):
        gains = gains.unsqueeze(1).expand(len(CLIPS), len(EXPONENTS) + 1, *gains.shape[1:])
    return gains.reshape(len(CLIPS), len(EXPONENTS) + 1, *gains.shape[-2:])


def rate_gains(world: World, seed: int, staleness: int, rate: float) -> Tensor:
    """Median over samplings of the gain at the end of unclipped learning, ``[RATE_METHODS]``."""
    curves = learn(
        world.bandit,
        {str(p): method(p) for p in RATE_METHODS},
        seeds=range(100 * seed, 100 * seed + RATE_SEEDS),
        steps=CURVE_STEPS[-1],
        batch=BATCH,
        minibatches=staleness + 1,
        learning_rate=rate * world.bandit.length,
        start_logits=world.start,
    ).expected_reward
    return gain(world, curves[..., -4:].mean(dim=-1)).median(dim=1).values


def record_kind(kind: str, seed: int) -> dict[str, Tensor]:
    """All tables of one world seed, without the dimensions of kind and world."""
    torch.set_num_threads(1)
    worlds = [random_world(kind, length, seed) for length in LENGTHS]
    tables: dict[str, Tensor] = {}
    if seed in BIAS_WORLDS:
        errors = [gradient_errors(world, s) for world, s in product(worlds, STALENESS)]
        tables["errors"] = shaped(first for first, _ in errors)
        tables["product_errors"] = shaped(second for _, second in errors)
    if seed in CURVE_WORLDS:
        tables["gains"] = shaped(learning_gains(world, seed, s) for world, s in product(worlds, STALENESS))
    if seed in RATE_WORLDS:
        world = random_world(kind, RATE_LENGTH, seed)
        rows = [rate_gains(world, seed, s, rate) for s, rate in product(RATE_STALENESS, RATES)]
        tables["rate_gains"] = torch.stack(rows).view(len(RATE_STALENESS), len(RATES), len(RATE_METHODS))
    return tables


def shaped(rows: Iterator[Tensor]) -> Tensor:
    """Rows by length and staleness, with these as the first dimensions."""
    table = torch.stack(list(rows))
    return table.view(len(LENGTHS), len(STALENESS), *table.shape[1:])


def collect(worlds: list[list[dict[str, Tensor]]]) -> dict[str, Tensor]:
    """Tables with the kinds first and the worlds last; of the curves the mean over samplings, and where it lies."""
    tables = {}
    for name in worlds[0][0]:
        parts = [torch.stack([world[name] for world in kind if name in world], dim=-1) for kind in worlds]
        tables[name] = torch.stack(parts)
    tables["gains"] = tables["gains"].mean(dim=-3)  # over a world's samplings: the worlds are what is independent
    return {name: table.to(torch.float16).contiguous() for name, table in tables.items()}


if __name__ == "__main__":
    seeds = sorted({*BIAS_WORLDS, *CURVE_WORLDS, *RATE_WORLDS})
    with ProcessPoolExecutor(max_workers=2) as pool:
        worlds = [list(pool.map(partial(record_kind, kind), seeds)) for kind in KINDS]
    tables = collect(worlds)
    save_file(tables, RECORDED)
    print({name: tuple(table.shape) for name, table in tables.items()}, f"{RECORDED.stat().st_size} B")
