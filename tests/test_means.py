"""Power means against scipy, mpmath and autograd."""

import math

import hypothesis.strategies as st
import mpmath
import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from torch.autograd import gradcheck

from hmpo_lib import log_power_mean, power_mean, power_mean_weights

EXPONENTS = (0.0, 1e-12, -1e-6, 1e-3, -0.1, 0.5, 1.0, -1.0, 2.0, -5.0, 30.0, -1e3, 1e3)

finite_exponents = st.one_of(st.sampled_from(EXPONENTS), st.floats(-20, 20))
log_ratios = st.lists(st.floats(-30, 30), min_size=1, max_size=12).map(lambda d: torch.tensor(d, dtype=torch.float64))


def reference(d: list[float], p: float) -> tuple[mpmath.mpf, list[mpmath.mpf], mpmath.mpf]:
    """log M_p, its escort weights and d log M_p / dp with 60 digits."""
    with mpmath.workdps(60):
        d, p, n = [mpmath.mpf(x) for x in d], mpmath.mpf(p), len(d)
        centre = mpmath.fsum(d) / n
        if p == 0:
            return centre, [mpmath.mpf(1) / n] * n, mpmath.fsum((x - centre) ** 2 for x in d) / (2 * n)
        powers = [mpmath.exp(p * x) for x in d]
        total = mpmath.fsum(powers)
        weights = [x / total for x in powers]
        slope = mpmath.fsum(w * mpmath.log(w * n) for w in weights) / p**2
        return mpmath.log(total / n) / p, weights, slope


@pytest.mark.parametrize("p", EXPONENTS)
@pytest.mark.parametrize("scale", [1e-3, 0.3, 1.0, 20.0, 700.0])
def test_value_and_both_gradients_agree_with_mpmath(p, scale):
    d = (torch.rand(9, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1) * scale
    value, weights, slope = reference(d.tolist(), p)
    d.requires_grad_()
    exponent = torch.tensor(p, dtype=torch.float64, requires_grad=True)
    result = log_power_mean(d, exponent)
    result.backward()
    assert abs(result.item() - value) <= 1e-13 * max(1, scale)
    assert max(abs(a - b) for a, b in zip(d.grad.tolist(), weights, strict=True)) <= 1e-12 * max(weights)
    assert abs(exponent.grad.item() - slope) <= 1e-8 * slope


@pytest.mark.parametrize("p", EXPONENTS)
def test_float32_is_accurate_near_p_0_where_plain_logsumexp_is_not(p):
    d = torch.tensor([-1.0, 0.3, 0.2])
    value, _, _ = reference(d.tolist(), p)
    assert abs(log_power_mean(d, p).item() - value) <= 1e-6
    if p == -1e-6:
        naive = (torch.logsumexp(p * d, 0) - math.log(3)) / p
        assert abs(naive.item() - value) > 1e-3


@pytest.mark.parametrize("p", [-2, -1, 0, 1, 2])
def test_the_means_of_1_2_4_8_are_those_of_scipy(p):
    x = torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=torch.float64)
    assert power_mean(x, p).item() == pytest.approx(scipy.stats.pmean(x.numpy(), p), rel=1e-14)


@given(log_ratios, finite_exponents)
def test_any_power_mean_is_that_of_scipy(d, p):
    expected = scipy.stats.pmean(np.exp(d.numpy()), p) if abs(p) * 60 < 500 and (p == 0 or abs(p) > 1e-3) else None
    if expected is not None:
        assert log_power_mean(d, p).item() == pytest.approx(math.log(expected), abs=1e-9)


@given(log_ratios, finite_exponents, finite_exponents)
def test_a_larger_exponent_never_gives_a_smaller_mean(d, p, q):
    low, high = sorted((p, q))
    assert log_power_mean(d, low) <= log_power_mean(d, high) + 1e-12 * (1 + d.abs().max())


@given(log_ratios, finite_exponents, st.floats(-5, 5))
def test_scaling_every_ratio_scales_the_mean(d, p, shift):
    torch.testing.assert_close(log_power_mean(d + shift, p), log_power_mean(d, p) + shift, rtol=0, atol=1e-11)


@given(log_ratios, finite_exponents)
def test_the_mean_of_the_inverses_is_the_inverse_of_the_dual_mean(d, p):
    torch.testing.assert_close(log_power_mean(-d, -p), -log_power_mean(d, p), rtol=0, atol=1e-12)


@given(log_ratios, finite_exponents, st.randoms(use_true_random=False))
def test_padding_and_order_change_nothing_whatever_stands_under_the_mask(d, p, random):
    order = list(range(len(d)))
    random.shuffle(order)
    padded = torch.cat([d[order], torch.tensor([math.nan, math.inf, -math.inf], dtype=d.dtype)]).requires_grad_()
    mask = torch.arange(len(padded)) < len(d)
    result = log_power_mean(padded, p, mask)
    result.backward()
    torch.testing.assert_close(result, log_power_mean(d, p), rtol=0, atol=1e-12)
    assert padded.grad[len(d) :].tolist() == [0, 0, 0]
    torch.testing.assert_close(padded.grad[: len(d)], power_mean_weights(d, p)[order], rtol=0, atol=1e-12)


def test_a_shifted_mask_is_another_mean():
    d = torch.tensor([0.1, 0.5, -0.3, 0.0])
    mask = torch.tensor([True, True, True, False])
    assert not torch.isclose(log_power_mean(d, -1.0, mask), log_power_mean(d, -1.0, mask.roll(1)))


@pytest.mark.parametrize(("p", "expected"), [(math.inf, 0.5), (-math.inf, -1.0)])
def test_infinite_p_is_the_extreme_and_ties_share_its_weight(p, expected):
    d = torch.tensor([0.5, -1.0, 0.5, -1.0, 0.0])
    assert log_power_mean(d, p).item() == expected
    assert power_mean_weights(d, p)[d == expected].tolist() == [0.5, 0.5]
    exponent = torch.tensor(p, requires_grad=True)
    log_power_mean(d, exponent).backward()
    assert exponent.grad.item() == 0


def test_a_tensor_p_gives_each_row_its_own_mean():
    d = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = torch.tensor([-math.inf, -1.0, 0.0, 2.0, math.inf], dtype=torch.float64)
    torch.testing.assert_close(
        log_power_mean(d, p), torch.stack([log_power_mean(row, float(q)) for row, q in zip(d, p, strict=True)])
    )
    torch.testing.assert_close(log_power_mean(d.T, p, dim=0), log_power_mean(d, p))


def test_derivatives_pass_gradcheck():
    generator = torch.Generator().manual_seed(0)
    d = torch.randn(4, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    p = torch.tensor([-2.0, -0.3, 0.4, 3.0], dtype=torch.float64, requires_grad=True)
    mask = torch.rand(4, 6, generator=generator) < 0.7
    assert gradcheck(lambda d, p: log_power_mean(d, p, mask), (d, p))


def test_a_row_with_nothing_to_average_is_0_without_a_gradient():
    d = torch.tensor([[1.0, 2.0], [math.nan, 3.0]], requires_grad=True)
    result = log_power_mean(d, -1.0, torch.tensor([[True, True], [False, False]]))
    result.sum().backward()
    assert result[1].item() == 0
    assert d.grad[1].tolist() == [0, 0]
    assert d.grad.isfinite().all()


@pytest.mark.parametrize("p", [-math.inf, -1.0, 0.0, math.inf])
def test_nothing_to_average_gives_the_exponent_no_gradient(p):
    exponent = torch.full((2,), p, requires_grad=True)
    log_power_mean(torch.tensor([[1.0, 1.0], [1.0, 2.0]]), exponent, torch.tensor([[1, 1], [0, 0]])).sum().backward()
    assert exponent.grad.tolist() == [0, 0]


@pytest.mark.parametrize(("shape", "dim"), [((2, 0), -1), ((0, 2), 0), ((0, 3), -1), ((0,), 0), ((2, 0, 3), 1)])
def test_a_dimension_without_entries_has_means_of_0(shape, dim):
    d = torch.zeros(shape, requires_grad=True)
    result = log_power_mean(d, -1.0, dim=dim)
    result.sum().backward()
    assert torch.equal(result, torch.zeros(shape).sum(dim))
    assert d.grad.shape == power_mean_weights(d, -1.0, dim=dim).shape == shape


def test_one_outlier_among_many_does_not_cost_the_slope_its_digits():
    d = torch.cat([torch.tensor([-3.0]), torch.zeros(20_000)])
    exponent = torch.tensor(1.0, requires_grad=True)
    log_power_mean(d, exponent).backward()
    weights = np.exp(d.numpy().astype(float))
    assert exponent.grad.item() == pytest.approx(scipy.stats.entropy(weights, np.ones_like(weights)), rel=2e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    d = torch.linspace(-1, 1, 9).to(dtype)
    torch.testing.assert_close(log_power_mean(d, -1.0), log_power_mean(d.float(), -1.0), rtol=0, atol=0)
    assert power_mean(torch.tensor([8.0, 8.0], dtype=dtype), -1.0).item() == pytest.approx(8, rel=1e-6)


def test_at_p_0_even_an_impossible_token_is_heard_like_the_others():
    d = torch.tensor([-math.inf, 0.0], requires_grad=True)
    result = log_power_mean(d, 0.0)
    result.backward()
    assert result.item() == -math.inf
    assert d.grad.tolist() == [0.5, 0.5]


def test_a_floor_added_to_the_ratios_would_be_seen():
    d = torch.tensor([-30.0, 0.0, 0.0], dtype=torch.float64)
    harmonic = log_power_mean(d, -1.0).exp().item()
    assert harmonic == pytest.approx(3 * math.exp(-30), rel=1e-9)
    assert 1 / (1 / (d.exp() + 1e-8)).mean().item() > 1e4 * harmonic


def test_bad_input_is_refused_with_what_was_got():
    with pytest.raises(ValueError, match="p is nan"):
        log_power_mean(torch.zeros(3), math.nan)
    with pytest.raises(ValueError, match=r"p has shape \(3,\)"):
        log_power_mean(torch.zeros(2, 3), torch.zeros(3))
    with pytest.raises(ValueError, match=r"mask has shape \(4,\)"):
        log_power_mean(torch.zeros(2, 3), 1.0, torch.ones(4))
    with pytest.raises(ValueError, match=r"mask has shape \(2, 3\)"):
        power_mean(torch.ones(3), 1.0, torch.ones(2, 3))
    with pytest.raises(IndexError, match="expected to be in range"):
        log_power_mean(torch.zeros(2, 3), 1.0, dim=2)
    with pytest.raises(ValueError, match="positive"):
        power_mean(torch.tensor([1.0, 0.0]), 1.0)
