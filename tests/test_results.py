"""The figures that are quoted are those of the committed rows."""

import csv
import itertools
import math
from pathlib import Path

import pytest
import scipy.stats
import torch

from .scripts import load_script

REPOSITORY = Path(__file__).parent.parent


def tool():
    return load_script("tools/record_methods.py")


@pytest.fixture(scope="module")
def methods():
    return tool()


@pytest.fixture(scope="module")
def rows(methods):
    with methods.RESULTS.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["table", "differences"])
def test_the_tables_are_those_that_the_committed_rows_give(methods, rows, name):
    assert getattr(methods, name)(rows) in (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8")


def test_every_run_is_whole(methods, rows):
    settings = methods.by_setting(rows)
    assert len(settings) == 1 + 2 * len(methods.METHOD_NAMES)
    for runs in settings.values():
        assert [run[0]["seed"] for run in runs] == [str(seed) for seed in methods.SEEDS]
        assert all([int(row["rollout"]) for row in run] == list(range(methods.ROLLOUTS)) for run in runs)


def test_the_interval_is_that_of_a_t_test(methods):
    values = [0.81, 0.84, 0.86, 0.85, 0.88]
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert methods.interval(values)[1:] == pytest.approx((expected.low, expected.high))


def test_steps_to_the_goal_are_counted_up_to_the_first_window_that_reaches_it(methods):
    rewards = [0.7] * 8 + [0.9] * 8  # rollouts 8 to 11 lift a window of five to 0.86, 8 to 10 to 0.82, 8 and 9 to 0.78
    assert methods.steps_to_goal(rewards, minibatches=4) == 10 * 4
    assert methods.steps_to_goal([0.79] * 50, minibatches=4) == math.inf


def test_the_bound_leaves_the_share_of_the_weight_above_it(methods):
    values, weights = torch.tensor([0.3, 0.1, 0.2, -0.5]), torch.tensor([1.0, 1.0, 1.0, 7.0])
    assert methods.bound(values, weights, 0.15) == pytest.approx(0.2)


@pytest.fixture(scope="module")
def gaps(methods, rows):
    """(method, other, ranges, part) -> mean and interval of the difference, seed by seed."""
    settings = methods.by_setting(rows)

    def gap(method, other, ranges, part):
        pairs = zip(settings[method, ranges], settings[other, ranges], strict=True)
        return methods.interval([methods.mean_reward(a, part) - methods.mean_reward(b, part) for a, b in pairs])

    return gap


EXPONENTS = [("gmpo", "grpo"), ("hmpo", "gspo"), ("pessimistic", "gspo")]


@pytest.mark.parametrize(("method", "other"), EXPONENTS)
def test_with_equal_clipping_no_difference_between_exponents_is_found(methods, gaps, method, other):
    for part in (methods.FIRST, methods.LAST):
        _, low, high = gaps(method, other, "calibrated", part)
        assert -0.012 < low < 0 < high < 0.012


def test_these_pairs_and_no_others_end_apart(methods, gaps):
    def apart(ranges):
        pairs = itertools.permutations(methods.METHOD_NAMES, 2)
        return {(above, below) for above, below in pairs if gaps(above, below, ranges, methods.LAST)[1] > 0}

    assert apart("own") == {("pessimistic", "hmpo")}
    assert apart("calibrated") == set(itertools.product(["hmpo", "pessimistic"], ["grpo", "gmpo"]))


def test_the_place_of_the_clip_and_its_range_matter_early(methods, gaps):
    assert gaps("gspo", "gmpo", "calibrated", methods.FIRST)[1] > 0.01  # the place: answers, not tokens
    assert gaps("hmpo", "gspo", "own", methods.FIRST)[1] > 0.005  # the range: 0.4 % blocked, not 31 %
    assert gaps("gspo", "gmpo", "calibrated", methods.LAST)[1] < 0
