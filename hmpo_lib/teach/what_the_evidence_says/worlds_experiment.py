"""The same question where every expectation is a sum: how far do the ratios drift apart in sixteen exact steps?"""

import statistics

import torch
from torch import Tensor

from hmpo_lib.bandits import (
    SequenceBandit,
    expected_reward,
    sequence_bandit,
    sequence_logprobs,
    sequence_probabilities,
)
from hmpo_lib.losses import policy_surrogates
from hmpo_lib.objectives import Objective
from hmpo_lib.teach.what_the_evidence_says.cells import Exponents

TOKENS, LENGTH, STEPS = 4, 4, 16
FLAT, PEAKED = (
    0.5,
    3.0,
)  # standard deviation of the first policy's logits: many choices open; few, as in a language model


def exact_drift(
    exponents: Exponents, *, sharpness: float, learning_rate: float, worlds: range = range(8)
) -> tuple[float, float]:
    """What sixteen exact gradient steps on one rollout do, without a clip: medians over random worlds.

    Each sequence of four tokens earns a normally distributed reward of its own. The expected gradient of A · M_p is a
    sum over all 256 sequences; nothing is sampled.

    Args:
        exponents: by the sign of A.
        sharpness: standard deviation of the first policy's logits.
        learning_rate: of the logits.
        worlds: their seeds.

    Returns:
        The spread of the log-ratios inside sequences, and the share of the way to the best sequence that was gone.
    """
    spreads, gains = [], []
    for world in worlds:
        generator = torch.Generator().manual_seed(world)
        start = sharpness * torch.randn(LENGTH, 1, TOKENS, generator=generator, dtype=torch.float64)
        values = torch.randn(TOKENS**LENGTH, generator=generator, dtype=torch.float64)
        bandit = _bandit(values)
        old = sequence_probabilities(bandit, start)
        old_logprobs = sequence_logprobs(start, bandit.sequences)
        advantages = values - (old * values).sum()
        advantages = advantages / (old * advantages.square()).sum().sqrt()
        objective = Objective(exponents(0.0, old_logprobs, bandit.mask, advantages).double())
        logits = start
        for _ in range(STEPS):
            leaf = logits.detach().requires_grad_()
            logprobs = sequence_logprobs(leaf, bandit.sequences)
            surrogates = policy_surrogates(logprobs, old_logprobs, advantages, bandit.mask, objective)
            (gradient,) = torch.autograd.grad((old * surrogates).sum(), leaf)
            logits = leaf.detach() + learning_rate * gradient
        d = sequence_logprobs(logits, bandit.sequences) - old_logprobs
        spreads.append(float((old * d.var(dim=1, correction=0)).sum().sqrt()))
        first = expected_reward(bandit, start)
        gains.append(float((expected_reward(bandit, logits) - first) / (values.max() - first)))
    return statistics.median(spreads), statistics.median(gains)


def _bandit(values: Tensor) -> SequenceBandit:
    def rewards(sequences: Tensor, mask: Tensor) -> Tensor:
        return values  # sequences come in the order of their tokens, read as numbers

    return sequence_bandit(rewards, tokens=TOKENS, length=LENGTH)
