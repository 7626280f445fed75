"""What dividing by a standard deviation does to a learner that should be indifferent: worlds, divisions, learning."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from hmpo_lib.bandit_learning import draw_rewards, learn, sample_sequences
from hmpo_lib.bandits import SequenceBandit, sequence_bandit, sequence_probabilities
from hmpo_lib.methods import Method
from hmpo_lib.objectives import Objective

CHANCE = 0.05
EVENTS: Mapping[str, float] = MappingProxyType({"disaster of −10": -10.0, "jackpot of +10": 10.0, "nothing": 0.0})
RISKY = 1  # the token at the first place that carries the event
SMALLEST_STD = 0.5  # of the others' rewards, so that nothing is divided by 0
STEPS, RATE = 96, 2.0


def rare_event_world(chance: float, amount: float) -> SequenceBandit:
    """Four choices of three tokens: 1 for each token 0 after the first; token 1 at first is neither better nor worse.

    With the given chance a sequence that begins with token 1 earns the amount; otherwise its reward is shifted and
    stretched so that its expected reward is as without the event.

    >>> worlds = [rare_event_world(0.05, -10.0), rare_event_world(0.0, 0.0)]
    >>> bool(torch.isclose(worlds[0].expected_rewards, worlds[1].expected_rewards).all())
    True
    """

    def rewards(x: Tensor, mask: Tensor) -> Tensor:
        calm = (x[:, 1:] == 0).sum(dim=1).double()
        return torch.where(x[:, 0] == RISKY, (calm - chance * amount) / (1 - chance), calm)

    return sequence_bandit(
        rewards, tokens=3, length=4, risk_fn=lambda x, mask: chance * (x[:, 0] == RISKY).double(), disaster=amount
    )


def event_world(event: str) -> SequenceBandit:
    """The world of one of EVENTS."""
    return rare_event_world(CHANCE if EVENTS[event] else 0.0, EVENTS[event])


def reward_std(bandit: SequenceBandit, logits: Tensor) -> float:
    """The exact standard deviation of the rewards under a policy, what is left to chance included."""
    chances = sequence_probabilities(bandit, logits)
    mean = (chances * bandit.expected_rewards).sum()
    squares = (1 - bandit.risk) * (bandit.rewards - mean).square() + bandit.risk * (bandit.disaster - mean) ** 2
    return float((chances * squares).sum().sqrt())


def centred(rewards: Tensor) -> Tensor:
    """Rewards minus their rollout's mean, ``[seeds, sequences]``."""
    return rewards - rewards.mean(dim=1, keepdim=True)


def std_of_the_others(rewards: Tensor) -> Tensor:
    """For each sequence the standard deviation of its rollout's other rewards, at least SMALLEST_STD.

    >>> std_of_the_others(torch.tensor([[-10.0, 1.0, 3.0, 5.0]]))[0, 0]
    tensor(2.)
    """
    others = rewards.shape[1] - 1
    mean = (rewards.sum(dim=1, keepdim=True) - rewards) / others
    # Around the rollout's mean, so that the squares stay small: Σ(x − m)² of the others = Σ all − own, shifted.
    around = centred(rewards).square()
    shift = (mean - rewards.mean(dim=1, keepdim=True)).square()
    squares = around.sum(dim=1, keepdim=True) - around - others * shift
    return (squares.clamp(min=0) / (others - 1)).sqrt().clamp(min=SMALLEST_STD)


def divisions(bandit: SequenceBandit) -> dict[str, Callable[[Tensor], Tensor]]:
    """Ways to scale advantages, by name; the fixed number is the first policy's standard deviation in this world."""
    fixed = reward_std(bandit, first_policy(bandit))

    def by_own(rewards: Tensor) -> Tensor:
        # Where all rewards are equal the advantages are 0, whatever they are divided by.
        return centred(rewards) / rewards.std(dim=1, keepdim=True).clamp(min=1e-6)

    return {
        "not divided": centred,
        "its own std": by_own,
        "std of the others": lambda rewards: centred(rewards) / std_of_the_others(rewards),
        "a fixed number": lambda rewards: centred(rewards) / fixed,
    }


def first_policy(bandit: SequenceBandit) -> Tensor:
    """All tokens alike."""
    return torch.zeros(bandit.length, 1, bandit.tokens)


class Chosen(NamedTuple):
    """How much of the first choice a learner gives to the risky token in the end, ``[methods, seeds]`` each.

    Attributes:
        share: its probability.
        margin: its logit minus the average of the other two: 0 is indifferent. A probability is not linear in it, so
            chance alone moves the mean share, and not the mean margin.
    """

    share: Tensor
    margin: Tensor


def learn_risk(
    bandit: SequenceBandit,
    advantages_fn: Callable[[Tensor], Tensor],
    *,
    size: int,
    seeds: range,
    exponents: tuple[float, ...] = (0.0,),
    steps_per_rollout: int = 1,
) -> Chosen:
    """Learn from rollouts of ``size`` sequences and see what becomes of the risky token.

    Args:
        bandit: a world of `rare_event_world`.
        advantages_fn: see `learn`.
        size: of a rollout, a multiple of ``steps_per_rollout``.
        seeds: of the sampling.
        exponents: of the means; with one step per rollout all ratios are 1, and they are one method.
        steps_per_rollout: of which each has its share of the rollout.
    """
    logits = learn(
        bandit,
        {str(p): Method(Objective(p), "notebook 05") for p in exponents},
        seeds=seeds,
        steps=STEPS,
        batch=size // steps_per_rollout,
        minibatches=steps_per_rollout,
        learning_rate=RATE,
        advantages_fn=advantages_fn,
    ).logits[:, :, 0, 0]
    others = [token for token in range(bandit.tokens) if token != RISKY]
    return Chosen(logits.softmax(dim=-1)[..., RISKY], logits[..., RISKY] - logits[..., others].mean(dim=-1))


def average_advantages(
    bandit: SequenceBandit, advantages_fn: Callable[[Tensor], Tensor], *, size: int, rollouts: int, seed: int = 0
) -> tuple[float, float]:
    """What the usual and the rare outcome add to the average advantage of the risky token, in the first rollout.

    A sum of 0 is indifference. Both are averages over all sequences of many rollouts that begin with the risky token,
    of the advantage minus that of all sequences: a number that all have in common pushes nowhere.
    """
    generator = torch.Generator().manual_seed(seed)
    uniforms = torch.rand(rollouts, size, bandit.length + 1, generator=generator, dtype=torch.float32)
    sequences = sample_sequences(bandit, first_policy(bandit).expand(rollouts, -1, -1, -1), uniforms[..., :-1])
    rewards = draw_rewards(bandit, sequences, uniforms[..., -1]).float()
    advantages = advantages_fn(rewards).double()
    advantages = advantages - advantages.mean()
    risky = sequences[..., 0] == RISKY
    rare = risky & (uniforms[..., -1] < bandit.risk.max())
    usual = risky & ~rare
    return tuple(((advantages * rows).sum() / risky.sum()).item() for rows in (usual, rare))  # type: ignore[return-value]
