"""The four ratios, effective sample size and Rényi divergence against numpy, scipy and enumeration."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from scipy.special import logsumexp
from scipy.stats import pmean

from hmpo_lib import (
    arithmetic_harmonic_mean,
    effective_sample_size,
    log_arithmetic_harmonic_mean,
    log_power_mean,
    power_mean,
    power_mean_weights,
    renyi_divergence,
    sequence_log_ratios,
)

DOUBLE = torch.float64
logits = st.lists(st.floats(-8, 8), min_size=2, max_size=6)
orders = st.one_of(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0]), st.floats(-4, 5))


def distributions(*numbers):
    return torch.tensor(numbers, dtype=DOUBLE).log()


def reference_renyi(old, new, order):
    """van Erven and Harremoës, eq. 10, on probabilities above 0."""
    if order == 1:
        return float(np.sum(np.exp(old) * (old - new)))
    return float(logsumexp(order * old + (1 - order) * new) / (order - 1))


# --- the four ratios -------------------------------------------------------------------------------------------------


def test_the_four_ratios_of_a_completion_are_product_and_means_of_its_tokens():
    ratios = torch.tensor([[0.5, 1.0, 1.5, math.nan], [2.0, 1.25, math.inf, 0.0]], dtype=DOUBLE)
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    found = sequence_log_ratios(ratios.log(), mask)
    for row, length in ((0, 3), (1, 2)):
        own = ratios[row, :length].numpy()
        assert found.product[row].exp().item() == pytest.approx(np.prod(own))
        for mean, p in ((found.arithmetic, 1), (found.geometric, 0), (found.harmonic, -1)):
            assert mean[row].exp().item() == pytest.approx(pmean(own, p))


def test_the_product_grows_with_length_and_the_means_do_not():
    for length in (1, 10, 200):
        d = torch.full((length,), math.log(1.02), dtype=DOUBLE)
        found = sequence_log_ratios(d)
        assert found.product.exp().item() == pytest.approx(1.02**length)
        for mean in found[1:]:
            assert mean.exp().item() == pytest.approx(1.02)


def test_a_completion_without_tokens_has_ratios_of_one():
    found = sequence_log_ratios(torch.full((1, 3), math.nan), torch.zeros(1, 3))
    assert [x.item() for x in found] == [0, 0, 0, 0]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=10), st.integers(0, 8))
def test_the_stopped_arithmetic_harmonic_mean_is_the_iteration_of_the_two_means(d, steps):
    d = torch.tensor(d, dtype=DOUBLE)
    a, h = power_mean(d.exp(), 1).item(), power_mean(d.exp(), -1).item()
    expected = arithmetic_harmonic_mean(a, h, max_steps=steps, tolerance=0).value
    assert log_arithmetic_harmonic_mean(d, steps).exp().item() == pytest.approx(expected, rel=1e-9)


def test_the_stopped_arithmetic_harmonic_mean_refuses_negative_steps():
    with pytest.raises(ValueError, match="steps = -1"):
        log_arithmetic_harmonic_mean(torch.zeros(3), -1)


def test_the_stopped_arithmetic_harmonic_mean_has_a_gradient_and_respects_the_mask():
    d = torch.tensor([[0.0, 0.0, math.log(8), math.nan]], dtype=DOUBLE, requires_grad=True)
    mask = torch.tensor([[1, 1, 1, 0]])
    assert log_arithmetic_harmonic_mean(d, 0, mask).exp().item() == pytest.approx(10 / 3)
    limit = log_arithmetic_harmonic_mean(d, 30, mask)
    assert limit.exp().item() == pytest.approx(2.169304578186562)
    limit.sum().backward()
    weights = [(power_mean_weights(d, p, mask) / 2).detach() for p in (1, -1)]
    torch.testing.assert_close(d.grad, sum(weights))


# --- effective sample size -------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-300, 300), min_size=1, max_size=20), st.floats(-200, 200))
def test_effective_sample_size_is_that_of_the_weights_whatever_their_scale(log_weights, scale):
    w = np.exp(np.array(log_weights) - max(log_weights))
    expected = w.sum() ** 2 / (w**2).sum()
    found = effective_sample_size(torch.tensor(log_weights, dtype=DOUBLE) + scale).item()
    assert found == pytest.approx(expected, rel=1e-9)
    assert 1 - 1e-12 <= found <= len(w) * (1 + 1e-12)


def test_effective_sample_size_counts_what_the_mask_shows():
    weights = torch.tensor([[0.0, 0.0, math.nan], [0.0, -800.0, 0.0], [1.0, 2.0, 3.0]], dtype=DOUBLE)
    mask = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 0]])
    assert effective_sample_size(weights, mask).tolist() == [2, 1, 0]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12), st.floats(-3, 3))
def test_tokens_heard_by_a_mean_follow_from_the_mean_and_that_of_twice_the_exponent(d, p):
    d = torch.tensor(d, dtype=DOUBLE)
    identity = len(d) * torch.exp(2 * p * (log_power_mean(d, p) - log_power_mean(d, 2 * p)))
    torch.testing.assert_close(effective_sample_size(p * d), identity, rtol=1e-9, atol=0)


# --- Rényi divergence ------------------------------------------------------------------------------------------------

OLD, NEW = (0.5, 0.3, 0.2), (0.4, 0.4, 0.2)


@pytest.mark.parametrize(
    ("p", "mean"),
    [
        (-2, 0.9325048082403138),
        (-1, 0.9523809523809524),
        (0, 0.9750493889620165),
        (0.5, 0.9872881705020867),
        (1, 1.0),
        (2, 1.026320287889377),
        (-math.inf, 0.8),
        (math.inf, 4 / 3),
    ],
)
def test_renyi_identity_on_the_reference_distributions(p, mean):
    old, new = distributions(*OLD), distributions(*NEW)
    assert renyi_divergence(old, new, 1 - p).neg().exp().item() == pytest.approx(mean, rel=1e-14)


@given(logits, st.randoms(use_true_random=False), orders)
def test_renyi_divergence_is_that_of_the_definition(numbers, random, order):
    old = torch.tensor(numbers, dtype=DOUBLE).log_softmax(0)
    new = torch.tensor([random.uniform(-8, 8) for _ in numbers], dtype=DOUBLE).log_softmax(0)
    expected = reference_renyi(old.numpy(), new.numpy(), order) if abs(order - 1) > 1e-4 or order == 1 else None
    if expected is not None:
        assert renyi_divergence(old, new, order).item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(st.lists(st.integers(1, 9), min_size=2, max_size=5), st.randoms(use_true_random=False), st.floats(-4, 4))
def test_in_expectation_over_old_the_power_mean_of_the_ratio_is_a_renyi_divergence(counts, random, p):
    # A sample in which every outcome comes exactly as often as old says: the expectation, without chance.
    weights = torch.tensor([random.randint(1, 9) for _ in counts], dtype=DOUBLE)
    old = torch.tensor(counts, dtype=DOUBLE) / sum(counts)
    new = weights / weights.sum()
    sample = (new / old).repeat_interleave(torch.tensor(counts))
    expected = renyi_divergence(old.log(), new.log(), 1 - p).neg().exp()
    torch.testing.assert_close(power_mean(sample, p), expected, rtol=1e-10, atol=0)
    if not torch.allclose(old, new, atol=1e-3) and abs(p - 0.5) > 0.1:
        swapped = renyi_divergence(new.log(), old.log(), 1 - p).neg().exp()
        wrong_order = renyi_divergence(old.log(), new.log(), 1 + p).neg().exp()
        assert not (torch.allclose(expected, swapped) and torch.allclose(expected, wrong_order))


def test_swapped_policies_would_be_seen():
    old, new = distributions(0.9, 0.1), distributions(0.5, 0.5)
    assert abs(renyi_divergence(old, new, 2.0) - renyi_divergence(new, old, 2.0)) > 0.1


def test_named_orders_are_kl_and_chi_squared():
    old, new = distributions(*OLD), distributions(*NEW)
    kl = (old.exp() * (old - new)).sum()
    chi_squared = ((old.exp() - new.exp()) ** 2 / new.exp()).sum()
    torch.testing.assert_close(renyi_divergence(old, new, 1.0), kl)
    torch.testing.assert_close(renyi_divergence(old, new, 2.0), torch.log1p(chi_squared))


def test_no_digits_are_lost_near_kl():
    old, new = distributions(*OLD), distributions(*NEW)
    slope = -renyi_divergence(old, new, 1.0) + renyi_divergence(old, new, 1.0 - 1e-9)
    assert abs(slope.item()) < 1e-10
    single = renyi_divergence(old.float(), new.float(), 1.0 - 1e-6).item()
    assert single == pytest.approx(renyi_divergence(old, new, 1.0).item(), rel=1e-5)


def test_outcomes_that_one_policy_excludes():
    old, new = distributions(0.5, 0.5, 0.0), distributions(0.5, 0.25, 0.25)
    assert renyi_divergence(old, new, 0.0).item() == pytest.approx(-math.log(0.75))  # new's share of what old can do
    assert renyi_divergence(old, new, -1.0).item() == -math.inf
    assert renyi_divergence(new, old, 2.0).item() == math.inf
    assert renyi_divergence(new, old, 1.0).item() == math.inf
    assert renyi_divergence(new, old, 0.5).isfinite()


def test_each_row_has_its_own_divergence():
    old = torch.randn(4, 5, dtype=DOUBLE).log_softmax(1)
    new = torch.randn(4, 5, dtype=DOUBLE).log_softmax(1)
    rows = torch.stack([renyi_divergence(a, b, 2.0) for a, b in zip(old, new, strict=True)])
    torch.testing.assert_close(renyi_divergence(old, new, 2.0), rows)
    torch.testing.assert_close(renyi_divergence(old.T, new.T, 2.0, dim=0), rows)


def test_what_is_no_distribution_is_refused():
    good = distributions(*OLD)
    with pytest.raises(ValueError, match="new_logprobs sum to a probability of 3"):
        renyi_divergence(good, torch.zeros(3, dtype=DOUBLE), 1.0)
    with pytest.raises(ValueError, match="nan"):
        renyi_divergence(good, good, math.nan)


@pytest.mark.parametrize("order", [1 + 1e-12, 1 - 1e-12])
def test_renyi_near_order_1_is_kl_to_all_digits(order):
    old, new = distributions(0.5, 0.3, 0.2), distributions(0.4, 0.35, 0.25)
    kl = reference_renyi(old.numpy(), new.numpy(), 1)
    assert renyi_divergence(old, new, order).item() == pytest.approx(kl, rel=1e-9)
