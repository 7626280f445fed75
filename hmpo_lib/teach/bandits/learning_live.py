"""Learning on new bandits while one watches: world by world, the curves of three means and of a chosen one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hmpo_lib.bandit_learning import learn
from hmpo_lib.bandits import expected_reward
from hmpo_lib.methods import Method
from hmpo_lib.objectives import Clip, Objective
from hmpo_lib.teach.bandits.bandit_drawings import NAMED, draw_learning_curves
from hmpo_lib.teach.bandits.bandit_recording import CLIPS, CURVE_STEPS, LEARNING_RATE, mean_intervals
from hmpo_lib.teach.bandits.worlds_experiment import random_world
from hmpo_lib.teach.live import LiveRun
from hmpo_lib.teach.panels import p_label
from hmpo_lib.teach.plotting import Canvas

FIRST_WORLD = 2000  # none of these worlds was recorded or chosen on
SEEDS = 4  # samplings of each world


@dataclass(frozen=True)
class CurvesView:
    """Intervals of the gain over CURVE_STEPS, by the mean's name."""

    curves: dict[str, tuple[tuple[float, ...], ...]]


def learn_worlds(kind: str, length: int, staleness: int, clip: str, p: float, worlds: int) -> Iterator[Tensor]:
    """World by world the gain of the three named means and of p, ``[4, len(CURVE_STEPS)]``, a mean over samplings."""
    exponents = {**{style.name: style.p for style in NAMED}, "chosen": p}
    clip_range = CLIPS[clip]
    place: Clip | None = None if clip_range is None else "token"
    methods = {name: Method(Objective(q, place, clip_range), "notebook 05") for name, q in exponents.items()}
    for seed in range(FIRST_WORLD, FIRST_WORLD + worlds):
        bandit, start = random_world(kind, length, seed)
        curves = learn(
            bandit,
            methods,
            seeds=range(SEEDS * seed, SEEDS * (seed + 1)),
            steps=CURVE_STEPS[-1],
            minibatches=staleness + 1,
            learning_rate=LEARNING_RATE * length,
            start_logits=start,
        ).expected_reward.double()
        worth = expected_reward(bandit, start)
        yield ((curves - worth) / (bandit.rewards.max() - worth)).mean(dim=1)[:, list(CURVE_STEPS)]


def view_curves(gains: Sequence[Tensor]) -> CurvesView:
    """Means and intervals over the worlds so far."""
    names = [*(style.name for style in NAMED), "chosen"]
    intervals = mean_intervals(torch.stack(list(gains), dim=-1))  # [3, methods, points]
    return CurvesView({name: tuple(map(tuple, intervals[:, k].tolist())) for k, name in enumerate(names)})


def learning_live(*, p: float, staleness: int, length: int, clip: str, kind: str, worlds: int = 20) -> LiveRun[Tensor]:
    """A `LiveRun` over new random worlds; each one narrows the intervals. The arguments are the panel's values.

    The cell's last line is ``gains = await learning_live(**panel.values).run()``.
    """
    canvas = Canvas(760, 300)
    move = draw_learning_curves(canvas, canvas.figure.add_axes((0.075, 0.17, 0.905, 0.72)), "new worlds")

    def words(gains: Sequence[Tensor]) -> str:
        curves = view_curves(gains).curves
        ends = ", ".join(
            f"{p_label(p) if name == 'chosen' else name} {100 * mean[-1]:.0f} % ({100 * low[-1]:.0f} to "
            f"{100 * high[-1]:.0f} %)"
            for name, (mean, low, high) in curves.items()
        )
        return f"{len(gains)} new worlds, rewards {kind}, T = {length}, {staleness} steps old, {clip}: {ends}."

    return LiveRun(
        lambda: learn_worlds(kind, length, staleness, clip, p, worlds),
        total=worlds,
        canvas=canvas,
        draw=lambda gains: move(view_curves(gains)),
        caption=words,
        alt=lambda gains: f"Learning curves of three means and the chosen one, with their intervals. {words(gains)}",
    )
