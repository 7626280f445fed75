"""Interquartile mean, bootstrap intervals and probability of improvement against scipy and enumeration."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from hmpo_lib.evaluation import (
    bootstrap_interval,
    interquartile_mean,
    pass_at_k,
    probability_of_improvement,
    student_interval,
)


def scores(runs=10, tasks=3, seed=0):
    return torch.randn(runs, tasks, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(10, 3), (5, 1), (3, 1), (7, 4)])
def test_interquartile_mean_leaves_out_the_lowest_and_the_highest_quarter(shape):
    table = scores(*shape)
    ordered = sorted(table.flatten().tolist())
    cut = len(ordered) // 4
    assert interquartile_mean(table).item() == pytest.approx(np.mean(ordered[cut : len(ordered) - cut]))
    both = interquartile_mean(torch.stack([table, -table]))
    torch.testing.assert_close(both, interquartile_mean(table) * torch.tensor([1, -1]))


@pytest.mark.parametrize("runs", [2, 3, 5, 20, 100])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_student_interval_is_that_of_a_t_test(runs, confidence):
    values = scores(runs, 1)[:, 0]
    expected = values.mean().item(), *stats.ttest_1samp(values, 0.0).confidence_interval(confidence)
    assert student_interval(values, confidence=confidence) == pytest.approx(expected)


def test_student_interval_of_five_runs_uses_the_number_in_the_tables():
    values = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64)
    assert student_interval(values).high - 3 == pytest.approx(2.776445 * values.std().item() / 5**0.5, rel=1e-6)


def test_student_interval_of_equal_runs_has_no_width():
    assert student_interval(torch.full((4,), 0.5)) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(("shape", "confidence"), [((1,), 0.95), ((5, 2), 0.95), ((), 0.95), ((5,), 1.0)])
def test_student_interval_refuses_what_has_none(shape, confidence):
    with pytest.raises(ValueError, match="expected one dimension of at least 2 runs"):
        student_interval(torch.zeros(shape), confidence=confidence)


# Ten and eight runs on three tasks, and what rliable 1.2.0 says of them (bootstrap with 50,000 resamples). It cannot
# be asked live: its dependency arch does not start with the pandas that TRL brings.
FIRST = torch.tensor(
    [[-2.31, -0.37, -1.06], [1.0, -0.88, -1.28], [-0.62, -0.87, -1.3], [1.52, 0.32, 2.02], [1.14, -1.23, 0.52],
     [-0.95, -0.09, 0.56], [-0.01, -1.22, -1.27], [-1.12, -1.75, 1.04], [0.65, 0.15, -1.15], [1.87, -0.31, 0.24]],
    dtype=torch.float64,
)  # fmt: skip
SECOND = torch.tensor(
    [[0.67, 0.11, -2.85], [0.19, 2.0, -0.37], [-0.29, 3.13, -1.46], [1.31, 0.43, -1.06], [0.19, 0.62, -0.22],
     [-0.29, 0.35, 1.77], [1.31, 1.15, 0.41], [1.0, 0.68, 0.23]],
    dtype=torch.float64,
)  # fmt: skip


def test_numbers_are_those_of_rliable():
    assert interquartile_mean(FIRST).item() == pytest.approx(-0.3525)
    assert interquartile_mean(SECOND).item() == pytest.approx(0.38833333333333336)
    assert probability_of_improvement(FIRST, SECOND) == pytest.approx(0.3375)
    estimate, low, high = bootstrap_interval(FIRST, resamples=20_000)
    assert estimate == pytest.approx(-0.3525)
    assert (low, high) == pytest.approx((-0.8125, 0.1525), abs=0.02)
    pooled = bootstrap_interval(FIRST.flatten(), resamples=20_000)  # tasks mixed up: another interval
    assert abs(pooled.low - low) > 0.02 or abs(pooled.high - high) > 0.02


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float16])
def test_counts_and_truth_values_are_scores_too(dtype):
    right, other = torch.tensor([1, 0, 1, 1, 0]), torch.tensor([0, 0, 1, 0, 1])
    assert interquartile_mean(right.to(dtype)) == interquartile_mean(right.float())
    assert bootstrap_interval(right.to(dtype), resamples=50) == bootstrap_interval(right.float(), resamples=50)
    assert probability_of_improvement(right.to(dtype), other.to(dtype)) == pytest.approx((9 + 12 / 2) / 25)


def test_one_wild_run_moves_the_mean_and_not_the_interquartile_mean():
    table = scores(12, 1)
    wild = table.clone()
    wild[table.argmax()] = 1e6
    assert interquartile_mean(wild) == interquartile_mean(table)
    assert wild.mean() > 1e4


def test_bootstrap_interval_is_about_that_of_drawing_runs_anew():
    table = scores(30, 1)
    ours = bootstrap_interval(table, resamples=5000)
    drawn = np.random.default_rng(0).choice(table[:, 0].numpy(), (5000, 30))
    low, high = np.quantile(stats.trim_mean(drawn, 0.25, axis=1), [0.025, 0.975])
    assert ours.low == pytest.approx(low, abs=0.05 * (high - low))
    assert ours.high == pytest.approx(high, abs=0.05 * (high - low))
    assert ours.low <= ours.estimate <= ours.high


def test_bootstrap_is_stratified_a_task_keeps_its_own_runs():
    table = torch.stack([torch.zeros(8), 100 + torch.zeros(8)], dim=1)
    interval = bootstrap_interval(table, lambda x: x.mean(dim=(-2, -1)))
    assert (interval.low, interval.estimate, interval.high) == (50, 50, 50)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(200):
        low, high = bootstrap_interval(scores(20, 1, seed=seed), lambda x: x.mean(dim=(-2, -1)), resamples=500)[1:]
        covered += low <= 0 <= high
    assert 0.86 <= covered / 200 <= 0.99


def test_probability_of_improvement_is_the_mann_whitney_statistic():
    first, second = scores(9, 1).round(decimals=1), scores(7, 1, seed=1).round(decimals=1)
    expected = stats.mannwhitneyu(first[:, 0].numpy(), second[:, 0].numpy()).statistic / 63
    assert probability_of_improvement(first, second) == pytest.approx(expected)
    assert probability_of_improvement(second, first) == pytest.approx(1 - expected)
    assert probability_of_improvement(first, first) == 0.5


def test_pass_at_k_is_the_share_of_k_subsets_with_a_right_answer():
    answers = [1, 1, 0, 0, 0]
    for k in range(1, 6):
        subsets = list(itertools.combinations(answers, k))
        assert pass_at_k(5, 2, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_bad_input_is_refused_with_what_was_got():
    with pytest.raises(ValueError, match="1 runs"):
        bootstrap_interval(torch.ones(1))
    with pytest.raises(ValueError, match=r"shape \(1, 1, 1\)"):
        bootstrap_interval(torch.ones(1, 1, 1))
    with pytest.raises(ValueError, match="same tasks"):
        probability_of_improvement(torch.ones(2, 2), torch.ones(2, 3))
    with pytest.raises(ValueError, match="k = 6"):
        pass_at_k(5, 2, 6)
