"""Exact expectations on sequence bandits against finite differences, autograd, other enumerations and sampling."""

import itertools
import math

import numpy as np
import pytest
import torch

from hmpo_lib import METHODS, Objective, policy_loss
from hmpo_lib.bandits import (
    bernoulli_bandit,
    completion_mask,
    expected_reward,
    gradient_statistics,
    policy_logits,
    sequence_bandit,
    sequence_logprobs,
    sequence_probabilities,
)

DOUBLE = torch.float64
OBJECTIVES = [
    Objective(1.0),
    Objective(-1.0),
    Objective(0.0, "sequence", (0.9, 1.1)),
    Objective(1.0, "token", (0.8, 1.2)),
    Objective(-2.0, length_weight="constant", max_length=5),
]


def world(*, ends=False, length=3, tokens=3, risky=False):
    def reward(x, mask):
        return ((x * mask) * torch.arange(1, length + 1)).sum(dim=1).double() % 4 + (x[:, 0] == x[:, -1])

    def risk(x, mask):
        return 0.3 * (x[:, 0] == 1).double()

    return sequence_bandit(
        reward, tokens=tokens, length=length, ends=ends, risk_fn=risk if risky else None, disaster=-5.0
    )


def policies(bandit, *, contexts=1, apart=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (bandit.length, contexts, bandit.tokens)
    new = torch.randn(shape, generator=generator, dtype=DOUBLE)
    return new, new + apart * torch.randn(shape, generator=generator, dtype=DOUBLE)


@pytest.mark.parametrize("contexts", [1, 3])
@pytest.mark.parametrize("ends", [False, True])
def test_probabilities_of_all_sequences_sum_to_1_and_are_products_of_softmaxes(contexts, ends):
    bandit = world(ends=ends)
    logits, _ = policies(bandit, contexts=contexts)
    found = sequence_probabilities(bandit, logits)
    assert found.sum().item() == pytest.approx(1)
    probabilities = logits.softmax(-1).numpy()
    for row, sequence in enumerate(bandit.sequences.tolist()):
        expected, before = 1.0, 0
        for t, token in enumerate(sequence):
            expected *= probabilities[t, before if contexts > 1 else 0, token]
            before = token
            if ends and token == bandit.tokens - 1:
                break
        assert found[row].item() == pytest.approx(expected)


def test_sequences_with_an_end_are_those_of_a_tree():
    bandit = world(ends=True)
    tree = {
        sequence[: sequence.index(2) + 1] if 2 in sequence else sequence
        for sequence in itertools.product(range(3), repeat=3)
    }
    found = {tuple(x[m].tolist()) for x, m in zip(bandit.sequences, bandit.mask, strict=True)}
    assert found == tree
    assert len(bandit.sequences) == len(tree)
    for sequence in itertools.product(range(3), repeat=3):
        row = bandit.rows[int("".join(map(str, sequence)), 3)]
        cut = sequence[: sequence.index(2) + 1] if 2 in sequence else sequence
        assert tuple(bandit.sequences[row][bandit.mask[row]].tolist()) == cut


def surrogate_mean(bandit, logits, old_logits, objective):
    """The expected surrogate as a function of the logits, by the loss itself, a sequence at a time."""
    old_logprobs = sequence_logprobs(old_logits, bandit.sequences)
    old = sequence_probabilities(bandit, old_logits)
    logprobs = sequence_logprobs(logits, bandit.sequences)
    baseline = (old * bandit.expected_rewards).sum()
    total = torch.zeros((), dtype=DOUBLE)
    for row in range(len(old)):
        for reward, chance in ((bandit.rewards[row], 1 - bandit.risk[row]), (bandit.disaster, bandit.risk[row])):
            one = slice(row, row + 1)
            loss = policy_loss(
                logprobs[one],
                old_logprobs[one],
                (reward - baseline).view(1),
                bandit.mask[one],
                objective,
                normalizer=1.0,
            ).loss
            total = total - old[row] * chance * loss
    return total


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
@pytest.mark.parametrize(("ends", "contexts", "risky"), [(False, 1, False), (True, 3, True)])
def test_expected_gradient_is_that_of_autograd_and_of_finite_differences(objective, ends, contexts, risky):
    bandit = world(ends=ends, risky=risky)
    new, old = policies(bandit, contexts=contexts)
    found = gradient_statistics(bandit, new, old, objective).expected
    leaf = new.clone().requires_grad_()
    (by_autograd,) = torch.autograd.grad(surrogate_mean(bandit, leaf, old, objective), leaf)
    torch.testing.assert_close(found, by_autograd, rtol=1e-9, atol=1e-12)
    step = 1e-5
    for place in [(0, 0, 0), (1, 0, 1), (2, contexts - 1, 2)]:
        up, down = new.clone(), new.clone()
        up[place] += step
        down[place] -= step
        numeric = (surrogate_mean(bandit, up, old, objective) - surrogate_mean(bandit, down, old, objective)) / (
            2 * step
        )
        assert found[place].item() == pytest.approx(numeric.item(), abs=1e-9)


@pytest.mark.parametrize(("ends", "contexts"), [(False, 1), (True, 1), (True, 3)])
def test_the_product_ratio_is_unbiased_and_the_means_are_not(ends, contexts):
    bandit = world(ends=ends, risky=True)
    new, old = policies(bandit, contexts=contexts)
    product = gradient_statistics(bandit, new, old, None)
    torch.testing.assert_close(product.expected, product.true, rtol=1e-10, atol=1e-12)
    for p in (-1.0, 0.0, 1.0):
        mean = gradient_statistics(bandit, new, old, Objective(p, length_weight="constant", max_length=1))
        assert (mean.expected - mean.true).norm() > 1e-3 * mean.true.norm()


def test_on_policy_every_mean_has_the_policy_gradient_over_the_length():
    bandit = world(length=4)
    new, _ = policies(bandit)
    for p in (-2.0, 0.0, 1.0):
        statistics = gradient_statistics(bandit, new, new, Objective(p))
        torch.testing.assert_close(4 * statistics.expected, statistics.true, rtol=1e-10, atol=1e-12)


def test_the_policy_gradient_is_the_derivative_of_the_expected_reward():
    bandit = world(ends=True, risky=True)
    new, old = policies(bandit)
    true = gradient_statistics(bandit, new, old, None).true
    step = 1e-6
    up, down = new.clone(), new.clone()
    up[1, 0, 1] += step
    down[1, 0, 1] -= step
    numeric = (expected_reward(bandit, up) - expected_reward(bandit, down)) / (2 * step)
    assert true[1, 0, 1].item() == pytest.approx(numeric.item(), abs=1e-8)


def test_variance_is_that_of_sampled_gradients_within_their_error():
    bandit = world(risky=True)
    new, old = policies(bandit)
    objective = Objective(-1.0, "token", (0.8, 1.2))
    exact = gradient_statistics(bandit, new, old, objective)
    generator = torch.Generator().manual_seed(5)
    count = 60_000
    rows = torch.multinomial(sequence_probabilities(bandit, old), count, replacement=True, generator=generator)
    unlucky = torch.rand(count, generator=generator) < bandit.risk[rows]
    rewards = torch.where(unlucky, bandit.disaster, bandit.rewards[rows])
    baseline = (sequence_probabilities(bandit, old) * bandit.expected_rewards).sum()
    leaf = new.expand(count, *new.shape).clone().requires_grad_()
    logprobs = sequence_logprobs(leaf, bandit.sequences[rows].unsqueeze(1)).squeeze(1)
    old_logprobs = sequence_logprobs(old, bandit.sequences[rows])
    loss = policy_loss(logprobs, old_logprobs, rewards - baseline, torch.ones(count, 3), objective, normalizer=1.0).loss
    (samples,) = torch.autograd.grad(-loss, leaf)
    samples = samples.flatten(1)
    standard_error = samples.std(dim=0) / math.sqrt(count)
    assert ((samples.mean(dim=0) - exact.expected.flatten()).abs() <= 4.5 * standard_error).all()
    assert samples.var(dim=0).sum().item() == pytest.approx(exact.variance.item(), rel=0.05)


def test_with_one_choice_all_means_coincide():
    bandit = bernoulli_bandit([0.2, 0.5, 0.9])
    new, old = policies(bandit)
    first = gradient_statistics(bandit, new, old, Objective(1.0))
    for p in (-math.inf, -1.0, 0.0, 3.0):
        other = gradient_statistics(bandit, new, old, Objective(p))
        torch.testing.assert_close(other.expected, first.expected)
        torch.testing.assert_close(other.variance, first.variance)
    torch.testing.assert_close(first.expected, first.true)  # and the mean of one ratio is the product


def test_length_weights_differ_only_where_lengths_do():
    def expected(bandit, weight):
        new, old = policies(bandit)
        return gradient_statistics(bandit, new, old, Objective(0.0, length_weight=weight)).expected

    same, varied = world(), world(ends=True)
    torch.testing.assert_close(expected(same, "equal"), expected(same, "proportional"))
    assert not torch.allclose(expected(varied, "equal"), expected(varied, "proportional"), rtol=0.02)


def test_published_methods_can_be_looked_at():
    bandit = world()
    new, old = policies(bandit)
    for name in ("grpo", "gspo", "gmpo", "hmpo"):
        statistics = gradient_statistics(bandit, new, old, METHODS[name].objective)
        assert statistics.variance >= 0


def test_completion_mask_counts_the_end():
    sequences = torch.tensor([[0, 2, 2], [0, 1, 0], [2, 2, 2]])
    assert completion_mask(sequences, 2).tolist() == [[True, True, False], [True] * 3, [True, False, False]]
    assert completion_mask(sequences, None).all()


def test_too_large_a_world_is_refused_with_its_size():
    with pytest.raises(ValueError, match="4 tokens to the power of 9 choices is 262,144"):
        sequence_bandit(lambda x, mask: x.sum(dim=1), tokens=4, length=9)


def test_probabilities_that_do_not_sum_to_1_are_refused():
    with pytest.raises(ValueError, match=r"sum to 1 to 1\.1"):
        policy_logits(torch.tensor([[[0.5, 0.5]], [[0.6, 0.5]]]))
    with pytest.raises(ValueError, match="expected numbers from 0"):
        policy_logits(torch.tensor([[[1.5, -0.5]]]))
    with pytest.raises(ValueError, match="expected probabilities"):
        bernoulli_bandit([0.2, 1.2])


def test_a_sampling_policy_that_excludes_what_the_new_one_does_is_refused():
    bandit = world()
    new, _ = policies(bandit)
    old = policy_logits(torch.tensor([[[0.5, 0.5, 0.0]]] * 3, dtype=DOUBLE))
    with pytest.raises(ValueError, match="probability 0"):
        gradient_statistics(bandit, new, old, Objective(1.0))
    assert gradient_statistics(bandit, old, new, Objective(1.0)).variance.isfinite()


def test_a_policy_that_cannot_end_later_still_has_probabilities():
    bandit = world(ends=True)
    never_late = torch.tensor([[[0.3, 0.3, 0.4]], [[0.5, 0.5, 0.0]], [[0.2, 0.3, 0.5]]], dtype=DOUBLE)
    policy = policy_logits(never_late)
    found = sequence_probabilities(bandit, policy)
    probabilities = dict(zip(map(tuple, bandit.sequences.tolist()), found, strict=True))
    assert probabilities[2, 2, 2].item() == pytest.approx(0.4)  # it ends at once: what it would do next is not asked
    assert probabilities[0, 2, 2] == 0
    assert sum(probabilities.values()).item() == pytest.approx(1)
    product = gradient_statistics(bandit, policy, policy, None)
    torch.testing.assert_close(product.expected, product.true)


@pytest.mark.parametrize("objective", [None, Objective(-1.0), Objective(1.0, "token", (0.8, 1.2))])
def test_what_neither_policy_does_changes_nothing(objective):
    def reward(x, mask):
        return (x == 0).sum(dim=1).double()

    small, large = (sequence_bandit(reward, tokens=k, length=2) for k in (2, 3))
    new, old = (torch.tensor([[row], [[0.3, 0.7]]], dtype=DOUBLE) for row in ([0.4, 0.6], [0.5, 0.5]))
    expected = gradient_statistics(small, policy_logits(new), policy_logits(old), objective)
    wider = [policy_logits(torch.nn.functional.pad(policy, (0, 1))) for policy in (new, old)]
    found = gradient_statistics(large, *wider, objective)
    torch.testing.assert_close(found.expected[..., :2], expected.expected)
    torch.testing.assert_close(found.variance, expected.variance)
    assert (found.expected[..., 2] == 0).all()


def test_rewards_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="expected finite rewards"):
        sequence_bandit(lambda x, mask: torch.full((len(x),), np.inf), tokens=2, length=2)
