"""The evidence: its plan came before its runs, its statistics are those of others, its verdicts follow from records."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from hmpo_lib.lm import load_base_model
from hmpo_lib.teach.what_the_evidence_says.add_a_run import add_a_run, pool, save_run
from hmpo_lib.teach.what_the_evidence_says.cells import Cell
from hmpo_lib.teach.what_the_evidence_says.comparisons import COMPARISONS
from hmpo_lib.teach.what_the_evidence_says.curves_panel import curves_explorer, view_curves
from hmpo_lib.teach.what_the_evidence_says.forest_drawing import forest_plot
from hmpo_lib.teach.what_the_evidence_says.plan import (
    CALIBRATED,
    FAMILIES,
    FIVE,
    GEOMETRIC,
    PESSIMISTIC,
    TUNING_SEEDS,
    bound_of_share,
    calibrated_cells,
    cell_of,
    design_runs,
    larger,
    measured_shares,
    tuned_cells,
    tuning_cells,
)
from hmpo_lib.teach.what_the_evidence_says.records import RECORDED, Evidence, RunRecord, load_evidence
from hmpo_lib.teach.what_the_evidence_says.runs import ROLLOUT_FIELDS, RolloutNumbers, round_once, take
from hmpo_lib.teach.what_the_evidence_says.settings import verdicts, whole_blocks
from hmpo_lib.teach.what_the_evidence_says.shares import FACTORS, levels, omega_squared, variance_shares
from hmpo_lib.teach.what_the_evidence_says.tables import cells_table, metrics_table, shares_table, verdict_table
from hmpo_lib.teach.what_the_evidence_says.theory_drawing import effects, theory_picture
from hmpo_lib.teach.what_the_evidence_says.verdict_drawing import gaps
from hmpo_lib.teach.what_the_evidence_says.verdicts import (
    equivalence_p_value,
    false_positives,
    holm,
    judge,
    sign_flip_p_value,
)
from hmpo_lib.teach.what_the_evidence_says.worlds_experiment import FLAT, exact_drift

from .scripts import load_script

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


def test_a_cell_of_the_larger_model_says_so_and_needs_its_folder():
    assert Cell(GEOMETRIC).name == "p=0"
    assert larger(GEOMETRIC, clipped=True).name == "p=0,token=0.8..1.25,learning_rate=2.5e-05,model=larger"
    with pytest.raises(ValueError, match="expected its folder as larger_model"):
        next(take(larger(GEOMETRIC), 500))


def test_each_comparison_is_of_planned_cells_with_the_same_seeds():
    for family, comparisons in COMPARISONS.items():
        for _, first, other in comparisons:
            for cell in (first, other):
                planned = {seed for runs in FAMILIES.values() for c, seed in runs if c == cell}
                assert {seed for _, seed in FAMILIES[family]} <= planned


def test_tuning_seeds_are_used_by_nothing_else():
    tuning = {seed for _, seed in FAMILIES["tuning"]}
    assert tuning.isdisjoint({seed for name, runs in FAMILIES.items() if name != "tuning" for _, seed in runs})


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


def test_calibrated_ranges_are_those_that_the_measured_shares_suggest():
    for (place, share), bounds in CALIBRATED.items():
        for exponents, bound in zip(FIVE, bounds, strict=True):
            measured = measured_shares(place, exponents)
            assert bound_of_share(measured, share) == pytest.approx(bound, rel=0.005)


def test_a_cell_of_its_own_exponent_by_sign_is_the_pessimistic_mean():
    schedule = Cell(PESSIMISTIC).method().p_schedule
    assert schedule(0.0, torch.zeros(3, 2), torch.ones(3, 2), torch.tensor([2.0, -1.0, 0.0])).tolist() == [-1, 1, 0]
    assert Cell(GEOMETRIC).method().p_schedule is None


def test_where_one_side_is_heard_the_advantages_of_the_other_are_nothing():
    rewards = torch.tensor([1.0, 0.0, 0.0, 0.0])
    both, bad, good = (Cell(GEOMETRIC, heard=heard).method() for heard in ("both", "bad", "good"))
    assert bad.advantages(rewards, 4).tolist() == [0.0, -0.5, -0.5, -0.5]
    assert good.advantages(rewards, 4).tolist() == [1.5, 0.0, 0.0, 0.0]
    assert torch.equal(bad.advantages(rewards, 4) + good.advantages(rewards, 4), both.advantages(rewards, 4))


# --- the records -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evidence():
    return load_evidence()


def test_every_record_is_of_a_planned_run_and_whole(evidence):
    cells = {cell.name: cell for runs in FAMILIES.values() for cell, _ in runs}
    for run in evidence.runs:
        lengths = {len(column) for column in run.columns.values()}
        assert len(lengths) == 1
        assert run.status != "finished" or lengths == {cells[run.cell].rollouts}


def test_the_plan_was_committed_before_the_code_that_made_any_run(evidence):
    added = git("log", "--diff-filter=A", "--format=%H", "--", PLAN).stdout.split()
    commits = {run.commit for run in evidence.runs}
    if not added or any(git("cat-file", "-e", f"{commit}^{{commit}}").returncode for commit in commits):
        pytest.skip("the history is not here: a shallow clone, or no repository")
    for commit in commits:
        assert len(commit) == 40, "a run was made from changed files"
        assert git("merge-base", "--is-ancestor", added[-1], commit).returncode == 0


def test_the_tables_of_the_results_page_are_those_that_the_records_give(evidence):
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert cells_table(evidence) in page
    assert metrics_table(evidence) in page
    assert verdict_table(evidence) in page
    assert shares_table(variance_shares(evidence, whole_blocks(evidence))) in page


def test_the_runs_and_hours_of_the_results_page_are_those_of_the_records(evidence):
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    broken = sum(run.status != "finished" for run in evidence.runs)
    hours = sum(run.cpu_seconds for run in evidence.runs) / 3600
    assert f"{len(evidence.runs)} runs, {broken} of which broke off, {hours:.1f} hours of one processor core" in page


def test_a_recorded_run_can_be_made_again(evidence):
    # Its first rollout; on another machine the last digits may differ, and with them what the later ones sample.
    numbers = next(take(Cell(PESSIMISTIC), 500))
    recorded = evidence.by_cell[Cell(PESSIMISTIC).name][500].columns
    assert numbers.rollout[0] == pytest.approx(recorded["reward"][0], abs=1e-4)
    assert numbers.rollout[ROLLOUT_FIELDS.index("gradient_norm")] == pytest.approx(
        recorded["gradient_norm"][0], rel=0.05
    )


def test_cells_with_the_same_seed_begin_with_the_same_answers(evidence):
    first = [evidence.curve(cell, 500)[0] for cell, _ in FAMILIES["no_clip"]]
    assert len(set(first)) == 1


def test_tuned_rates_are_those_with_the_largest_mean_reward_on_the_tuning_seeds(evidence):
    for name, cells in tuning_cells().items():
        assert tuned_cells()[name] == max(cells, key=lambda cell: evidence.mean_reward(cell, TUNING_SEEDS).sum())


def test_where_a_run_broke_off_its_missing_rollouts_earned_nothing():
    cell = Cell(GEOMETRIC)
    columns = {"reward": np.array([0.6, 0.4]), "worked": np.array([0.5, 0.5])}
    broken = Evidence([RunRecord(cell.name, 1, "x", "the loss is nan", "", 1.0, None, columns)])
    assert broken.mean_reward(cell) == pytest.approx([1.0 / cell.rollouts])
    assert np.isnan(broken.curve(cell, 1, "worked")[2:]).all()
    assert broken.collapsed(cell).all()


def test_a_twin_starts_one_rounding_away():
    model, other = load_base_model()[0], load_base_model()[0]
    round_once(other)
    for weight, moved in zip(model.parameters(), other.parameters(), strict=True):
        assert (moved > weight).all()
        assert ((moved - weight).abs() <= 2**-22 * weight.abs() + 1e-44).all()


# --- the pictures ----------------------------------------------------------------------------------------------------


def axes_of(still):
    return still.picture._canvas.figure.axes


def test_a_forest_plot_holds_every_interval_whole(evidence):
    judged = verdicts(evidence)
    for family, rows in judged.items():
        (ax,) = axes_of(forest_plot({family: rows}))
        low, high = ax.get_xlim()
        assert all(low < row.verdict.low <= row.verdict.high < high for row in rows)


def test_the_verdict_picture_has_the_words_and_differences_of_the_verdicts(evidence):
    planned = {
        (comparison.first, comparison.other): verdict
        for rows in verdicts(evidence).values()
        for comparison, verdict in rows
    }
    found = gaps(evidence)
    assert "no_clip" in found
    for setting, row in found.items():
        for gap in row:
            verdict = planned.get((cell_of(setting, gap.exponents), cell_of(setting, GEOMETRIC)))
            assert gap.word == (verdict and verdict.word)
            assert verdict is None or (gap.difference, gap.low, gap.high) == verdict[:3]


def test_the_theory_picture_has_each_stale_cell_once_and_leaves_the_controls_out(evidence):
    found = effects(evidence)
    assert any(effect.is_control for effect in found)
    assert len({effect.cell for effect in found}) == len(found)
    for ax in axes_of(theory_picture(found)):
        drawn = [line for line in ax.lines if line.get_marker() != "None" and len(line.get_xdata()) == 1]
        assert len(drawn) == sum(not effect.is_control for effect in found)


def test_the_theory_is_asked_of_all_cells_that_differ_from_the_geometric_one_in_the_exponent_alone(evidence):
    asked = {effect.cell for effect in effects(evidence)}
    planned = {cell for family in ("boundary", "amount", "halves", "bad_alone") for cell, _ in FAMILIES[family]}
    assert {cell.exponents for cell in planned - asked} == {GEOMETRIC}
    assert not any(cell.clip_range == calibrated_cells("token", 0.05)[0].clip_range for cell in asked)
    assert all(cell.exponents != GEOMETRIC and cell.model == "shipped" for cell in asked)


def test_the_explorer_opens_on_the_arithmetic_beside_the_geometric_mean(evidence):
    values = curves_explorer(evidence).values
    assert (values["exponents"].good, values["beside"].good) == (1.0, 0.0)
    view = view_curves(evidence, **values)
    (row,) = [row for row in verdicts(evidence)["no_clip"] if row.comparison.label == "p = 1 minus p = 0"]
    assert view.difference == pytest.approx(row.verdict[:3])


# --- one more run ----------------------------------------------------------------------------------------------------


def fake_records(reward, count=16):
    return [RolloutNumbers((reward,) * len(ROLLOUT_FIELDS), []) for _ in range(count)]


def test_runs_of_a_class_are_pooled_each_once(evidence, tmp_path):
    cell = Cell(PESSIMISTIC)
    save_run(tmp_path / "a.csv", cell, 1, fake_records(0.7))
    save_run(tmp_path / "a.csv", cell, 2, fake_records(0.8))
    save_run(tmp_path / "b.csv", cell, 2, fake_records(0.8))
    pooled = pool(evidence, [tmp_path / "a.csv", tmp_path / "b.csv"])
    assert len(pooled.seeds(cell)) == len(evidence.seeds(cell)) + 2
    assert pooled.mean_reward(cell, [1, 2]) == pytest.approx([0.7, 0.8])


def test_a_run_that_was_stopped_is_left_out_of_the_pool_with_a_warning(evidence, tmp_path):
    cell = Cell(PESSIMISTIC)
    save_run(tmp_path / "a.csv", cell, 1, fake_records(0.7, 3))
    with pytest.warns(UserWarning, match="left out: seed 1 of p=-1_1, 3 of 16 rollouts"):
        assert pool(evidence, [tmp_path / "a.csv"]).seeds(cell) == evidence.seeds(cell)


def test_a_run_saved_twice_counts_once_and_a_recorded_one_stays(evidence, tmp_path):
    cell = Cell(PESSIMISTIC)
    for seed in (1, 1, 500):
        save_run(tmp_path / "a.csv", cell, seed, fake_records(0.7))
    pooled = pool(evidence, [tmp_path / "a.csv"])
    assert pooled.mean_reward(cell, [1]) == pytest.approx([0.7])
    assert pooled.mean_reward(cell, [500]) == evidence.mean_reward(cell, [500])


@pytest.mark.parametrize("changed", ["", "\n", "a,b\n1,2\n", "cut"])
def test_a_changed_file_is_refused_by_its_name(evidence, tmp_path, changed):
    path = tmp_path / "mine.csv"
    save_run(path, Cell(PESSIMISTIC), 1, fake_records(0.7))
    text = path.read_text()
    path.write_text(text[: text.rindex(",")] if changed == "cut" else changed)
    with pytest.raises(ValueError, match=r"mine\.csv is no file of save_run"):
        pool(evidence, [path])


@pytest.mark.parametrize(
    ("field", "said"),
    [({"heard": "bda"}, "heard is 'bda'"), ({"task": "nope"}, "task is 'nope'"), ({"clip": "token"}, "give both")],
)
def test_a_cell_that_is_none_is_refused(field, said):
    with pytest.raises(ValueError, match=said):
        Cell(GEOMETRIC, **field)


def test_verdicts_refuse_runs_that_are_no_pairs():
    with pytest.raises(ValueError, match="the same two or more seeds"):
        judge([(np.array([0.5, 0.6]), np.array([0.5]))])


def test_packed_runs_without_steps_can_be_read_and_packed_again(evidence, tmp_path):
    pack = load_script("tools/pack_evidence.py")
    runs, rollouts, _ = pack.read_packed(RECORDED)
    key = (Cell(GEOMETRIC, minibatches=1).name, 500)
    for _ in range(2):
        pack.write(tmp_path, {key: runs[key] | {"family": "mine"}}, {key: rollouts[key]}, {})
        assert load_evidence(tmp_path).mean_reward(Cell(GEOMETRIC, minibatches=1)) == evidence.mean_reward(
            Cell(GEOMETRIC, minibatches=1), [500]
        )
        runs, rollouts, steps = pack.read_packed(tmp_path)
        assert (list(runs), steps) == ([key], {})


@pytest.mark.parametrize(
    ("cell", "seed", "said"),
    [(Cell(PESSIMISTIC), 500, "is recorded already"), (Cell(PESSIMISTIC, learning_rate=0.123), 1, "nothing of")],
)
def test_a_run_that_cannot_land_among_others_is_refused(evidence, cell, seed, said):
    with pytest.raises(ValueError, match=said):
        add_a_run(evidence, cell, seed)


# --- exactly ---------------------------------------------------------------------------------------------------------


def test_in_exact_worlds_the_pessimistic_mean_holds_the_drift_whatever_the_rate():
    worlds = range(3)
    slow, fast = (
        exact_drift(PESSIMISTIC, sharpness=FLAT, learning_rate=rate, worlds=worlds)[0] for rate in (4.0, 32.0)
    )
    free = exact_drift(GEOMETRIC, sharpness=FLAT, learning_rate=32.0, worlds=worlds)[0]
    assert fast < 1.5 * slow
    assert free > 3 * fast
