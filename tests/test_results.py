"""The figures that are quoted are those of the committed rows."""

import csv
import importlib.util
from pathlib import Path

import pytest
import scipy.stats

REPOSITORY = Path(__file__).parent.parent


def first_runs():
    spec = importlib.util.spec_from_file_location("first_runs", REPOSITORY / "tools" / "first_runs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows():
    with first_runs().RESULTS.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_the_table_is_the_one_that_the_committed_rows_give(page):
    assert first_runs().table(rows()) in (REPOSITORY / page).read_text(encoding="utf-8")


def test_every_run_is_whole():
    runs = {}
    for row in rows():
        runs.setdefault((row["method"], row["minibatches"], row["seed"]), []).append(int(row["rollout"]))
    assert len(runs) == len(first_runs().SETTINGS) * len(first_runs().SEEDS)
    assert all(rollouts == list(range(50)) for rollouts in runs.values())


def test_the_interval_is_that_of_a_t_test():
    values = [0.81, 0.84, 0.86, 0.85, 0.88]
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert first_runs().interval(values)[1:] == pytest.approx((expected.low, expected.high))
