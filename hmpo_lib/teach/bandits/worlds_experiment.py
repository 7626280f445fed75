"""The worlds of notebook 05: random sequence bandits, a stale policy made by exact steps, the two signs apart."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hmpo_lib.bandits import SequenceBandit, expected_reward, sequence_bandit, sequence_logprobs, sequence_probabilities
from hmpo_lib.losses import policy_surrogates
from hmpo_lib.objectives import Objective

KINDS = ("token by token", "as a whole")
TOKENS = 4
START_SPREAD = 0.5  # standard deviation of the first policy's logits


class World(NamedTuple):
    """A bandit and the policy from which learning starts, logits ``[T, 1, K]``."""

    bandit: SequenceBandit
    start: Tensor


def random_world(kind: str, length: int, seed: int) -> World:
    """A sequence bandit with normally distributed rewards, and a random first policy.

    "token by token": each token has a value at its place, and a sequence earns their sum over √T. "as a whole": each
    sequence has a value of its own, which says nothing about any other.

    Raises:
        ValueError: another kind.

    >>> random_world("as a whole", 2, seed=0).bandit.rewards.shape
    torch.Size([16])
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}: expected one of {', '.join(KINDS)}.")
    generator = torch.Generator().manual_seed(seed)
    start = START_SPREAD * torch.randn(length, 1, TOKENS, generator=generator, dtype=torch.float64)
    count = length * TOKENS if kind == "token by token" else TOKENS**length
    values = torch.randn(count, generator=generator, dtype=torch.float64)

    def rewards(sequences: Tensor, mask: Tensor) -> Tensor:
        if kind == "as a whole":
            return values  # sequences come in the order of their tokens, read as numbers
        places = torch.arange(length) * TOKENS + sequences
        return values[places].sum(dim=1) / math.sqrt(length)

    return World(sequence_bandit(rewards, tokens=TOKENS, length=length), start)


def take_steps(bandit: SequenceBandit, logits: Tensor, steps: int, *, learning_rate: float) -> Tensor:
    """The policy after so many steps along the exact policy gradient, in units of the rewards' first spread.

    Dividing by the standard deviation under the first policy is what advantages do in a sample.

    >>> world = random_world("token by token", 2, seed=0)
    >>> later = take_steps(world.bandit, world.start, 4, learning_rate=0.5)
    >>> bool(expected_reward(world.bandit, later) > expected_reward(world.bandit, world.start))
    True
    """
    probabilities = sequence_probabilities(bandit, logits)
    mean = (probabilities * bandit.expected_rewards).sum()
    spread = (probabilities * (bandit.expected_rewards - mean).square()).sum().sqrt()
    for _ in range(steps):
        leaf = logits.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(expected_reward(bandit, leaf), leaf)
        logits = logits + learning_rate * gradient / spread
    return logits.detach()


def signed_gradients(
    bandit: SequenceBandit, logits: Tensor, old_logits: Tensor, p: float | Tensor
) -> tuple[Tensor, Tensor]:
    """The expected gradient of A · M_p, unclipped, in two parts: from sequences with A > 0, and with A < 0.

    Args:
        bandit: a world without risk.
        logits, old_logits: ``[T, C, K]``, the policy being trained and the one that samples.
        p: one exponent, or ``[N]``, one a sequence.

    Returns:
        Two tensors ``[T, C, K]``, whose sum is `gradient_statistics`' expected gradient.
    """
    old_logprobs = sequence_logprobs(old_logits, bandit.sequences)
    old = sequence_probabilities(bandit, old_logits)
    leaf = logits.detach().requires_grad_()
    logprobs = sequence_logprobs(leaf, bandit.sequences)
    advantages = bandit.rewards - (old * bandit.rewards).sum()
    surrogates = old * policy_surrogates(logprobs, old_logprobs, advantages, bandit.mask, Objective(p))
    (good,) = torch.autograd.grad(surrogates[advantages > 0].sum(), leaf, retain_graph=True)
    (bad,) = torch.autograd.grad(surrogates[advantages < 0].sum(), leaf)
    return good, bad


def log_ratio_spread(bandit: SequenceBandit, logits: Tensor, old_logits: Tensor) -> Tensor:
    """How far the log-ratios within a sequence lie apart: the root of Σ over sequences of π_old · Var_t(d_t)."""
    d = sequence_logprobs(logits, bandit.sequences) - sequence_logprobs(old_logits, bandit.sequences)
    return (sequence_probabilities(bandit, old_logits) * d.var(dim=1, correction=0)).sum().sqrt()
