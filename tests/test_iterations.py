"""Mean iterations against scipy, mpmath and the constants that Gauss knew."""

import math
from fractions import Fraction
from itertools import pairwise

import hypothesis.strategies as st
import mpmath
import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given
from scipy.stats import gmean, hmean

from hmpo_lib import arithmetic_geometric_mean, arithmetic_harmonic_mean, power_mean

ITERATIONS = [arithmetic_harmonic_mean, arithmetic_geometric_mean]
positive = st.floats(1e-300, 1e300)


@given(positive, positive)
def test_arithmetic_and_harmonic_meet_at_the_geometric_mean_of_the_two(a, b):
    assert arithmetic_harmonic_mean(a, b).value == pytest.approx(math.sqrt(a) * math.sqrt(b), rel=1e-12)


@given(positive, positive)
def test_arithmetic_and_geometric_meet_at_the_agm_of_scipy(a, b):
    assert arithmetic_geometric_mean(a, b).value == pytest.approx(scipy.special.agm(a, b), rel=1e-13)


def test_iterating_with_the_wrong_partner_would_be_seen():
    assert abs(arithmetic_geometric_mean(1, 2).value - math.sqrt(2)) > 0.04
    assert abs(arithmetic_harmonic_mean(1, 2).value - scipy.special.agm(1, 2)) > 0.04


@pytest.mark.parametrize("iterate", ITERATIONS)
@given(positive, positive)
def test_upper_falls_lower_rises_and_both_keep_the_limit_between_them(iterate, a, b):
    value, history, steps = iterate(a, b)
    assert steps == len(history) - 1
    assert history[0] == (a, b)
    slack = 1 + 1e-15
    for (upper, lower), (next_upper, next_lower) in pairwise(history[1:]):
        assert lower / slack <= next_lower <= next_upper * slack <= upper * slack**2
    assert abs(history[-1][0] - history[-1][1]) <= 1e-15 * max(history[-1])
    assert value == max(history[-1])


@pytest.mark.parametrize("iterate", ITERATIONS)
@given(positive, positive)
def test_order_of_the_start_values_does_not_matter(iterate, a, b):
    assert iterate(a, b).value == iterate(b, a).value


@pytest.mark.parametrize("iterate", ITERATIONS)
def test_any_two_floats_meet_within_the_default_steps(iterate):
    smallest, largest = math.ulp(0.0), np.finfo(float).max
    value, history, _ = iterate(smallest, largest)
    assert history[-1][0] == pytest.approx(history[-1][1], rel=1e-14)
    with mpmath.workdps(30):
        reference = mpmath.agm if iterate is arithmetic_geometric_mean else lambda a, b: mpmath.sqrt(a * b)
        assert value == pytest.approx(float(reference(mpmath.mpf(smallest), mpmath.mpf(float(largest)))), rel=1e-12)


def test_residual_of_the_arithmetic_harmonic_iteration_squares_at_each_step():
    with mpmath.workdps(60):
        a, b = mpmath.mpf(4), mpmath.mpf(9)
        _, history, _ = arithmetic_harmonic_mean(a, b, max_steps=5, tolerance=0)
        residuals = [(upper - 6) / (upper + 6) for upper, _ in history]
        expected = [-0.2, 0.04, 0.0016, 2.56e-6, 6.5536e-12, 4.2949673e-23]
        assert [float(r) for r in residuals] == pytest.approx(expected, rel=1e-7)
        for before, after in pairwise(residuals):
            assert abs(after / before**2 - 1) < mpmath.mpf(10) ** -30


def test_gap_of_the_agm_iteration_is_quadratic_as_gauss_found():
    with mpmath.workdps(300):
        _, history, steps = arithmetic_geometric_mean(mpmath.mpf(1), mpmath.sqrt(2), tolerance=mpmath.mpf(10) ** -100)
        half_gaps = [mpmath.sqrt(abs(a * a - g * g)) for a, g in history]
        for (a, _), (before, after) in zip(history[1:], pairwise(half_gaps), strict=True):
            assert abs(after * 4 * a / before**2 - 1) < mpmath.mpf(10) ** -40  # c_{n+1} = c_n² / (4 a_{n+1})
        assert steps == 7


@pytest.mark.parametrize("n", range(1, 6))
def test_fractions_stay_exact_and_are_newtons_square_root(n):
    newton = Fraction(1)
    for _ in range(n):
        newton = (newton + 2 / newton) / 2
    value, history, _ = arithmetic_harmonic_mean(Fraction(1), Fraction(2), max_steps=n)
    assert value == newton
    assert all(upper * lower == 2 for upper, lower in history)


def test_constants_of_gauss():
    with mpmath.workdps(40):
        agm, _, _ = arithmetic_geometric_mean(mpmath.mpf(1), mpmath.sqrt(2), tolerance=mpmath.mpf(10) ** -36)
        assert mpmath.nstr(agm, 25) == "1.198140234735592207439922"
        assert mpmath.nstr(1 / agm, 25) == "0.8346268416740731862814297"
        assert mpmath.nstr(mpmath.pi / agm, 25) == "2.62205755429211981046484"
        root = mpmath.sqrt(mpmath.mpf(1) / 2)
        k = mpmath.pi / (2 * arithmetic_geometric_mean(mpmath.mpf(1), root, tolerance=mpmath.mpf(10) ** -36).value)
        assert abs(k - mpmath.ellipk(mpmath.mpf(1) / 2)) < mpmath.mpf(10) ** -34


def test_of_1_1_8_the_means_meet_beside_the_geometric_mean():
    x = [1.0, 1.0, 8.0]
    assert gmean(x) == pytest.approx(2)
    meeting = arithmetic_harmonic_mean(np.mean(x), hmean(x)).value
    assert meeting == pytest.approx(2.169304578186562, rel=1e-14)
    symmetric = [0.25, 1.0, 4.0]
    assert arithmetic_harmonic_mean(np.mean(symmetric), hmean(symmetric)).value == pytest.approx(gmean(symmetric))


def test_agm_is_no_power_mean():
    def exponent_of_agm(b):
        target = torch.tensor(arithmetic_geometric_mean(1, b).value, dtype=torch.float64)
        low, high = 0.0, 1.0
        pair = torch.tensor([1.0, b], dtype=torch.float64)
        for _ in range(60):
            p = (low + high) / 2
            low, high = (p, high) if power_mean(pair, p) < target else (low, p)
        return p

    assert exponent_of_agm(1.01) == pytest.approx(0.5, abs=1e-3)
    assert abs(exponent_of_agm(1e6) - 0.5) > 0.1


@pytest.mark.parametrize("iterate", ITERATIONS)
@pytest.mark.parametrize(
    "bad", [0, -1, 1j, mpmath.mpc(1, 2), math.nan, math.inf, -2.5, torch.tensor(2.0), "2", None], ids=repr
)
def test_what_is_not_a_positive_number_is_refused_with_what_was_got(iterate, bad):
    for pair in ((bad, 1.0), (1.0, bad)):
        with pytest.raises(ValueError, match="expected a positive, finite, real number"):
            iterate(*pair)


def test_a_plain_number_beside_an_mpmath_one_costs_no_digits():
    with mpmath.workdps(50):
        one, tolerance = mpmath.mpf(1), mpmath.mpf(10) ** -45
        for pair in ((2, one), (one, 2.0)):
            value = arithmetic_geometric_mean(*pair, tolerance=tolerance).value
            assert abs(value - mpmath.agm(1, 2)) < mpmath.mpf(10) ** -44


def test_fractions_are_refused_where_a_root_leaves_them():
    with pytest.raises(ValueError, match="Fraction"):
        arithmetic_geometric_mean(Fraction(1), Fraction(2))


@pytest.mark.parametrize("wrong", [{"max_steps": -1}, {"tolerance": -1e-9}, {"tolerance": math.nan}])
def test_impossible_limits_are_refused(wrong):
    with pytest.raises(ValueError, match="not negative"):
        arithmetic_harmonic_mean(1, 2, **wrong)
