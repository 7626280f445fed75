"""Sequence bandits: worlds so small that every expectation is a sum over all sequences.

An episode is T choices among K tokens, and one reward for the whole sequence. With T = 1 it is the K-armed bandit. A
policy is a table of logits ``[T, C, K]``: C = 1 where the choices do not depend on each other, C = K where they depend
on the token before (the first choice uses row 0). So the bias and variance of each mean's gradient are exact here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hmpo_lib.losses import completion_weights, policy_surrogates
from hmpo_lib.objectives import Objective

MOST_SEQUENCES = 100_000


@dataclass(frozen=True, eq=False)
class SequenceBandit:
    """All sequences of a small world, and what each one earns. Make one with `sequence_bandit`.

    Attributes:
        tokens: K, how many there are to choose from.
        sequences: ``[N, T]``, every sequence once.
        rows: ``[K^T]``: where a sequence stands in ``sequences``, by its tokens read as a number in base K.
        mask: ``[N, T]``, true up to the end, the end symbol included.
        rewards: ``[N]``, what a sequence earns, unless its risk comes true.
        risk: ``[N]``, the probability that it earns ``disaster`` instead.
        disaster: a reward.
        ends: whether the last token ends a sequence.
    """

    tokens: int
    sequences: Tensor
    rows: Tensor
    mask: Tensor
    rewards: Tensor
    risk: Tensor
    disaster: float = 0.0
    ends: bool = False

    @property
    def length(self) -> int:
        """T, the largest number of choices."""
        return self.sequences.shape[1]

    @property
    def expected_rewards(self) -> Tensor:
        """``[N]``: the mean of what each sequence earns."""
        return (1 - self.risk) * self.rewards + self.risk * self.disaster


def sequence_bandit(
    reward_fn: Callable[[Tensor, Tensor], Tensor],
    *,
    tokens: int,
    length: int,
    ends: bool = False,
    risk_fn: Callable[[Tensor, Tensor], Tensor] | None = None,
    disaster: float = 0.0,
) -> SequenceBandit:
    """Enumerate all sequences and their rewards.

    Args:
        reward_fn: (sequences ``[N, T]``, mask ``[N, T]``) -> rewards ``[N]``.
        tokens: K.
        length: T.
        ends: whether the last token, K − 1, ends a sequence, so that lengths vary.
        risk_fn: like ``reward_fn``, the probability with which a sequence earns ``disaster`` in place of its reward.
        disaster: see ``risk_fn``.

    Raises:
        ValueError: more than 100,000 sequences, a reward that is not finite, or a risk outside [0, 1].

    >>> world = sequence_bandit(lambda x, mask: (x == 0).double().sum(dim=1), tokens=2, length=3)
    >>> world.sequences.shape, expected_reward(world, torch.zeros(3, 1, 2, dtype=torch.float64))
    (torch.Size([8, 3]), tensor(1.5000, dtype=torch.float64))
    """
    if tokens < 1 or length < 1 or tokens**length > MOST_SEQUENCES:
        raise ValueError(
            f"{tokens} tokens to the power of {length} choices is {tokens**length:,}: expected 1 to "
            f"{MOST_SEQUENCES:,} sequences; take fewer tokens or a shorter length."
        )
    sequences = torch.cartesian_prod(*[torch.arange(tokens)] * length).view(-1, length)
    # What follows an end is no choice: of sequences that differ only there, the one padded with ends stands for all.
    sequences = sequences.where(completion_mask(sequences, tokens - 1 if ends else None), tokens - 1)
    sequences, rows = sequences.unique(dim=0, return_inverse=True)
    mask = completion_mask(sequences, tokens - 1 if ends else None)
    rewards = reward_fn(sequences, mask).double()
    risk = torch.zeros_like(rewards) if risk_fn is None else risk_fn(sequences, mask).double()
    if not bool(rewards.isfinite().all()):
        raise ValueError(f"reward_fn gave {rewards[~rewards.isfinite()][0].item()}: expected finite rewards.")
    if not bool(((risk >= 0) & (risk <= 1)).all()):
        raise ValueError(f"risk_fn gave {risk.min().item():g} to {risk.max().item():g}: expected probabilities.")
    return SequenceBandit(tokens, sequences, rows, mask, rewards, risk, float(disaster), ends)


def bernoulli_bandit(probabilities: list[float]) -> SequenceBandit:
    """The K-armed bandit: one choice, which earns 1 with its arm's probability and else 0.

    >>> bernoulli_bandit([0.2, 0.9]).expected_rewards
    tensor([0.2000, 0.9000], dtype=torch.float64)
    """
    failing = 1 - torch.tensor(probabilities, dtype=torch.float64)  # what is no probability is refused as a risk
    return sequence_bandit(
        lambda x, mask: torch.ones(len(x)),
        tokens=len(probabilities),
        length=1,
        risk_fn=lambda x, mask: failing[x[:, 0]],
    )


def completion_mask(sequences: Tensor, end: int | None) -> Tensor:
    """``[..., T]``: true up to the first ``end`` symbol, which counts; true everywhere where there is none."""
    if end is None:
        return torch.ones_like(sequences, dtype=torch.bool)
    is_end = (sequences == end).long()
    return is_end.cumsum(dim=-1) - is_end == 0


def policy_logits(probabilities: Tensor) -> Tensor:
    """Logits of a policy given by its probabilities, ``[T, C, K]``.

    Raises:
        ValueError: probabilities that are negative or do not sum to 1 over the tokens.

    >>> policy_logits(torch.tensor([[[0.5, 0.5]]])).softmax(-1)
    tensor([[[0.5000, 0.5000]]])
    """
    total = probabilities.sum(-1)
    if bool((probabilities < 0).any()) or not torch.allclose(total, torch.ones_like(total), atol=1e-6):
        raise ValueError(
            f"probabilities sum to {total.min().item():g} to {total.max().item():g} over the tokens, the smallest is "
            f"{probabilities.min().item():g}: expected numbers from 0 that sum to 1."
        )
    return probabilities.log()


def sequence_logprobs(logits: Tensor, sequences: Tensor) -> Tensor:
    """Log-probability of each token under a policy, ``[..., N, T]``.

    Args:
        logits: ``[..., T, C, K]``.
        sequences: ``[..., N, T]``, with the leading dimensions of ``logits``.
    """
    length, contexts, tokens = logits.shape[-3:]
    rows = torch.arange(length) * contexts + context_rows(sequences, contexts)
    places = (rows * tokens + sequences).flatten(-2)
    return logits.log_softmax(-1).flatten(-3).gather(-1, places).view(sequences.shape)


def context_rows(sequences: Tensor, contexts: int) -> Tensor:
    """The row of the policy's table that each choice uses: 0, or the token before where the policy looks at it."""
    before = torch.cat([torch.zeros_like(sequences[..., :1]), sequences[..., :-1]], dim=-1)
    return before if contexts > 1 else torch.zeros_like(before)


def sequence_probabilities(bandit: SequenceBandit, logits: Tensor) -> Tensor:
    """``[N]``: how likely a policy is to produce each sequence; sums to 1."""
    return _masked_sum(sequence_logprobs(logits, bandit.sequences), bandit.mask).exp()


def _masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Over the choices; what stands after an end may be −inf, and 0 · inf is nan."""
    return torch.where(mask, values, 0.0).sum(dim=-1)


def expected_reward(bandit: SequenceBandit, logits: Tensor) -> Tensor:
    """E_π[R], exactly; its gradient by the logits is the policy gradient."""
    return (sequence_probabilities(bandit, logits) * bandit.expected_rewards).sum()


class GradientStatistics(NamedTuple):
    """What one sampled sequence tells about the gradient, in expectation, ``[T, C, K]`` where not said otherwise.

    Attributes:
        expected: of the surrogate's gradient, over sequences of the old policy.
        true: the policy gradient ∇ E_new[R].
        variance: the trace of the covariance of one sequence's gradient, a number; a batch of B has 1/B of it.
    """

    expected: Tensor
    true: Tensor
    variance: Tensor


def gradient_statistics(
    bandit: SequenceBandit, logits: Tensor, old_logits: Tensor, objective: Objective | None
) -> GradientStatistics:
    """The exact mean and variance of a surrogate's gradient, beside the true policy gradient, by enumeration.

    Advantages are R − E_old[R], not divided by a standard deviation. On-policy every mean's expected gradient is the
    true one over the length T (for sequences of one length and ``"equal"`` length weights).

    Args:
        bandit: the world.
        logits: ``[T, C, K]``, the policy being trained, *new*.
        old_logits: ``[T, C, K]``, the policy that samples.
        objective: a cell of the cube, or None for the product of the ratios, unclipped, whose gradient is unbiased.

    Raises:
        ValueError: the old policy never samples something that the new one may do.
    """
    leaf = logits.detach().double().requires_grad_()
    old_logprobs = sequence_logprobs(old_logits.detach().double(), bandit.sequences)
    old = _masked_sum(old_logprobs, bandit.mask).exp()
    logprobs = sequence_logprobs(leaf, bandit.sequences)
    if bool(((old == 0) & (_masked_sum(logprobs, bandit.mask) > -torch.inf)).any()):
        raise ValueError(
            "old_logits gives probability 0 to a sequence that logits may produce: expected a sampling policy that can "
            "produce all of them, since a ratio would be infinite; mix it with the uniform policy."
        )
    (true,) = torch.autograd.grad(expected_reward(bandit, leaf), leaf)
    # A sequence with a risk has two outcomes; both are summed over.
    outcomes = [(bandit.rewards, 1 - bandit.risk), (torch.full_like(bandit.rewards, bandit.disaster), bandit.risk)]
    baseline = (old * bandit.expected_rewards).sum()
    expected, square = torch.zeros_like(leaf), torch.zeros(())
    for rewards, chance in outcomes:
        push = _pushes(bandit, leaf, logprobs, old_logprobs, old, rewards - baseline, objective)
        weights = (old * chance).view(-1, 1, 1, 1)
        expected = expected + (weights * push).sum(dim=0)
        square = square + (weights * push.square()).sum()
    return GradientStatistics(expected, true, square - expected.square().sum())


def _pushes(
    bandit: SequenceBandit,
    logits: Tensor,
    logprobs: Tensor,
    old_logprobs: Tensor,
    old: Tensor,
    advantages: Tensor,
    objective: Objective | None,
) -> Tensor:
    """Each sequence's own gradient by the logits, ``[N, T, C, K]``."""
    tokens = logprobs.detach().requires_grad_()
    sampled = bandit.mask & (old > 0).unsqueeze(1)  # what neither policy does has no ratio
    if objective is None:
        surrogates = advantages * _masked_sum(tokens - old_logprobs, sampled).exp()
    else:
        lengths = bandit.mask.sum(dim=1).double()
        weights = length_weights(objective, lengths, (old * lengths).sum(), bandit.length)
        surrogates = weights * policy_surrogates(tokens, old_logprobs, advantages, sampled, objective)
    (by_token,) = torch.autograd.grad(surrogates.sum(), tokens)
    # d log π(x_t) / d logits = onehot(x_t) − π, in the row of x_t's context.
    contexts = logits.shape[1]
    context = context_rows(bandit.sequences, contexts)
    probabilities = logits.detach().softmax(-1)[torch.arange(bandit.length), context]
    scores = torch.nn.functional.one_hot(bandit.sequences, bandit.tokens) - probabilities
    rows = torch.nn.functional.one_hot(context, contexts)
    return (by_token.unsqueeze(-1) * scores).unsqueeze(2) * rows.unsqueeze(-1)


def length_weights(objective: Objective, lengths: Tensor, mean_length: Tensor, width: int) -> Tensor:
    """A completion's weight within the mean over completions; "proportional" is relative to the mean length."""
    weights = completion_weights(lengths, objective.length_weight, objective.max_length or width)
    return weights / mean_length if objective.length_weight == "proportional" else weights
