"""The evidence: its plan came before its runs, its statistics are those of others, its verdicts follow from records."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from hmpo_lib.teach.what_the_evidence_says.cells import Cell
from hmpo_lib.teach.what_the_evidence_says.plan import (
    COMPARISONS,
    FAMILIES,
    GEOMETRIC,
    PESSIMISTIC,
    design_runs,
    tuned_comparisons,
    tuned_runs,
    tuning_cells,
)
from hmpo_lib.teach.what_the_evidence_says.shares import FACTORS, levels, omega_squared
from hmpo_lib.teach.what_the_evidence_says.verdicts import (
    equivalence_p_value,
    false_positives,
    holm,
    judge,
    sign_flip_p_value,
)

ROOT = Path(__file__).resolve().parent.parent
PLAN = "docs/evidence_plan.md"


def git(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)


# --- the statistics --------------------------------------------------------------------------------------------------


def test_sign_flips_are_those_of_scipy():
    values = np.random.default_rng(0).normal(0.4, 1, 9)
    there = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p_value(values) == pytest.approx(there.pvalue)


def test_equivalence_is_the_larger_of_scipys_two_one_sided_tests():
    values = np.random.default_rng(0).normal(0.005, 0.01, 10)
    above = stats.ttest_1samp(values, -0.02, alternative="greater").pvalue
    below = stats.ttest_1samp(values, 0.02, alternative="less").pvalue
    assert equivalence_p_value(values) == pytest.approx(max(above, below))
    assert equivalence_p_value(values + 0.03) > 0.5


def test_differences_without_any_spread_are_equivalent_where_they_are_within_the_bound():
    assert equivalence_p_value(np.full(3, 0.0)) == 0
    assert equivalence_p_value(np.full(3, 0.03)) == 1


def test_holm_is_the_worked_example_of_statsmodels():
    # statsmodels.stats.multitest.multipletests([.01, .02, .03, .04], method="holm")
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


@pytest.mark.parametrize(
    ("shift", "spread", "word"),
    [
        (0.1, 0.02, "differs"),
        (0.0, 0.005, "does not differ by more than 0.02"),
        (0.0, 0.2, "cannot tell"),
    ],
)
def test_each_verdict_is_reached(shift, spread, word):
    values = np.random.default_rng(1).normal(0, spread, 10)
    values -= values.mean() - shift
    (verdict,) = judge([(0.5 + values, np.full(10, 0.5))])
    assert verdict.word == word
    assert verdict.low < verdict.difference < verdict.high


def test_a_family_of_many_needs_more_than_one_alone():
    values = np.array([0.03, 0.02, 0.04, 0.01, 0.05, 0.03, -0.01, 0.02])  # p = 0.016
    alone = judge([(values, 0 * values)])
    among = judge([(values, 0 * values)] * 8)
    assert alone[0].word == "differs"
    assert among[0].word != "differs"


def test_twins_of_pure_noise_are_told_apart_in_about_a_twentieth_of_the_draws():
    # Over many sets of twins: within one, the draws share their runs.
    generator = np.random.default_rng(0)
    rates = [false_positives(*generator.normal(0.7, 0.05, (2, 20)), draws=100).paired["differs"] for _ in range(100)]
    assert 0.02 < np.mean(rates) < 0.09


# --- the plan --------------------------------------------------------------------------------------------------------


def test_each_cell_has_a_name_of_its_own_that_a_file_can_be_called_by():
    cells = {cell for runs in FAMILIES.values() for cell, _ in runs}
    assert len({cell.name for cell in cells}) == len(cells)
    assert all(not set(cell.name) & set("/\\|:*?") for cell in cells)


def test_each_comparison_is_of_planned_cells_with_the_same_seeds():
    for family, comparisons in COMPARISONS.items():
        for _, first, other in comparisons:
            for cell in (first, other):
                planned = {seed for runs in FAMILIES.values() for c, seed in runs if c == cell}
                assert {seed for _, seed in FAMILIES[family]} <= planned


def test_tuning_seeds_are_used_by_nothing_else():
    tuning = {seed for _, seed in FAMILIES["tuning"]}
    assert tuning.isdisjoint({seed for name, runs in FAMILIES.items() if name != "tuning" for _, seed in runs})


def test_tuning_takes_the_best_rate_of_each_and_waits_for_all():
    def score(cell, seed):
        return 1 - abs(cell.learning_rate - (5e-5 if cell.exponents == PESSIMISTIC else 2e-4))

    chosen = list(dict.fromkeys(cell for cell, _ in tuned_runs(score)))
    assert [cell.learning_rate for cell in chosen] == [
        5e-5 if cells[0].exponents == PESSIMISTIC else 2e-4 for cells in tuning_cells().values()
    ]
    assert len(tuned_comparisons(chosen)) == 10
    assert tuned_runs(lambda cell, seed: None if seed == 321 else 1.0) == []


@pytest.mark.parametrize("runs", [design_runs(), design_runs()[:72]], ids=["all", "first block"])
def test_the_design_is_balanced_and_its_factors_do_not_lean_on_one_another(runs):
    rows = [levels(run) for run in runs]
    names = [name for name in FACTORS if len({row[name] for row in rows}) > 1]
    for first in names:
        counts = [sum(row[first] == level for row in rows) for level in {row[first] for row in rows}]
        assert len(set(counts)) == 1
        for other in names:
            pairs = [(row[first], row[other]) for row in rows]
            assert first == other or len({pairs.count(pair) for pair in set(pairs)}) == 1


def test_the_first_half_of_a_block_is_nearly_balanced():
    rows = [levels(run) for run in design_runs()[:36]]
    for first, other in [(a, b) for a in FACTORS for b in FACTORS if a < b and "seed" not in (a, b)]:
        pairs = [(row[first], row[other]) for row in rows]
        even = 36 / len({row[first] for row in rows}) / len({row[other] for row in rows})
        assert all(abs(pairs.count(pair) - even) <= 1 for pair in set(pairs))


def test_in_the_whole_design_no_main_effect_is_that_of_two_others_together():
    rows = [levels(run) for run in design_runs()]
    names = [name for name in FACTORS if name != "seed"]
    for name in names:
        for first, other in [(a, b) for a in names for b in names if a < b and name not in (a, b)]:
            triples = [(row[name], row[first], row[other]) for row in rows]
            assert len({triples.count(triple) for triple in set(triples)}) == 1


def test_omega_squared_finds_the_share_of_a_factor_and_nothing_in_the_others():
    rows = [levels(run) for run in design_runs()]
    factors = {name: np.array([row[name] for row in rows]) for name in FACTORS}
    noise = np.random.default_rng(0).normal(0, 1, len(rows))
    effect = 2.0 * (factors["steps"] == 16)  # variance 1, so a half
    shares = omega_squared(factors, (effect + noise)[:, None])
    assert shares["steps"].item() == pytest.approx(0.5, abs=0.08)
    assert all(abs(share.item()) < 0.05 for name, share in shares.items() if name != "steps")


def test_in_a_balanced_design_the_sums_of_squares_are_those_between_the_means():
    rows = [levels(run) for run in design_runs()]
    factors = {name: np.array([row[name] for row in rows]) for name in FACTORS}
    response = np.random.default_rng(0).normal(0, 1, len(rows)) + 0.5 * factors["p"]
    groups = [response[factors["p"] == level] for level in (-1, 0, 1)]
    between = sum(len(group) * (group.mean() - response.mean()) ** 2 for group in groups)
    total = ((response - response.mean()) ** 2).sum()
    others = sum(
        (factors[name] == level).sum() * (response[factors[name] == level].mean() - response.mean()) ** 2
        for name in FACTORS
        for level in set(factors[name])
    )
    error = (total - others) / (len(rows) - 1 - sum(len(set(factors[name])) - 1 for name in FACTORS))
    expected = (between - 2 * error) / (total + error)
    assert omega_squared(factors, response[:, None])["p"].item() == pytest.approx(expected)


def test_a_cell_of_its_own_exponent_by_sign_is_the_pessimistic_mean():
    schedule = Cell(PESSIMISTIC).method().p_schedule
    assert schedule(0.0, torch.zeros(3, 2), torch.ones(3, 2), torch.tensor([2.0, -1.0, 0.0])).tolist() == [-1, 1, 0]
    assert Cell(GEOMETRIC).method().p_schedule is None
