"""Learning on new bandits while one watches: world by world, the curves of the means."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from hmpo_lib.bandit_learning import learn
from hmpo_lib.bandits import expected_reward
from hmpo_lib.methods import Method
from hmpo_lib.objectives import Objective
from hmpo_lib.schedules import pessimistic_schedule
from hmpo_lib.teach.bandits.bandit_recording import CURVE_STEPS, RATE_LENGTH, BanditTraces, mean_intervals
from hmpo_lib.teach.bandits.direction_panel import STYLES
from hmpo_lib.teach.bandits.rates_panel import BEST, Curve, as_curve, draw_curves, percents, view_rates
from hmpo_lib.teach.bandits.worlds_experiment import random_world
from hmpo_lib.teach.live import LiveRun
from hmpo_lib.teach.plotting import Canvas

FIRST_WORLD = 2000  # none of these worlds was recorded or chosen on
SEEDS = 4  # samplings of each world


def learn_worlds(rates: Mapping[str, float], kind: str, staleness: int, worlds: int) -> Iterator[Tensor]:
    """World by world the gain of each mean at its rate, ``[4, CURVE_STEPS]``, a mean over samplings."""
    methods = {style.name: Method(Objective(style.p), "notebook 05") for style in STYLES[:-1]}
    methods[STYLES[-1].name] = Method(Objective(None), "notebook 05", p_schedule=pessimistic_schedule)
    for seed in range(FIRST_WORLD, FIRST_WORLD + worlds):
        bandit, start = random_world(kind, RATE_LENGTH, seed)
        worth = expected_reward(bandit, start)
        gains = []
        for name, method in methods.items():
            curves = learn(
                bandit,
                {name: method},
                seeds=range(SEEDS * seed, SEEDS * (seed + 1)),
                steps=CURVE_STEPS[-1],
                minibatches=staleness + 1,
                learning_rate=rates[name] * RATE_LENGTH,
                start_logits=start,
            ).expected_reward[0, :, list(CURVE_STEPS)]
            gains.append(((curves.double() - worth) / (bandit.rewards.max() - worth)).mean(dim=0))
        yield torch.stack(gains)


def curves_of(gains: Sequence[Tensor]) -> dict[str, Curve]:
    """Means and intervals over the worlds so far, by the mean's name."""
    intervals = mean_intervals(torch.stack(list(gains), dim=-1))  # 3, methods, points
    return {style.name: as_curve(intervals[:, k]) for k, style in enumerate(STYLES)}


def learning_live(
    traces: BanditTraces, *, kind: str, staleness: int, rate: float, after: int, worlds: int = 12
) -> LiveRun[Tensor]:
    """A `LiveRun` over new random worlds; each one narrows the intervals. The arguments are `rates_explorer`'s values.

    The cell's last line is ``gains = await learning_live(traces, **panel.values).run()``.
    """
    rates = view_rates(traces, kind, staleness, rate, after).rates
    at_rate = "each at its best rate" if rate == BEST else f"rate {rate:g}"
    canvas = Canvas(760, 300)
    move = draw_curves(canvas, canvas.mosaic("a")["a"], "Share of the way to the best sequence, on new worlds")

    def words(gains: Sequence[Tensor]) -> str:
        at = CURVE_STEPS.index(after)
        reached = {name: tuple(row[at] for row in curve) for name, curve in curves_of(gains).items()}
        ends = ", ".join(f"{name} {percents(interval)}" for name, interval in reached.items())
        setting = f"{len(gains)} new worlds, rewards {kind}, {staleness} steps old at most, {at_rate}"
        return f"{setting}. After {after} steps: {ends}."

    return LiveRun(
        lambda: learn_worlds(rates, kind, staleness, worlds),
        total=worlds,
        canvas=canvas,
        draw=lambda gains: move(curves_of(gains)),
        caption=words,
        alt=lambda gains: f"Learning curves of four means. {words(gains)}",
    )
