"""A recorded step under another exponent: exactly what the run's own loss would have said of it."""

import asyncio
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import pmean

from hmpo_lib import METHODS, group_advantages
from hmpo_lib.lm import FineTuneConfig, is_worked, load_base_model
from hmpo_lib.teach.fine_tuning_with_ratio_means.fine_tuning_live import fine_tuning_live
from hmpo_lib.teach.fine_tuning_with_ratio_means.replay_experiment import (
    BAD_DIRECT,
    CURVE_EXPONENTS,
    KINDS,
    means_by_sign,
    most_moved,
    see_step,
    view_replay,
)
from hmpo_lib.teach.fine_tuning_with_ratio_means.replay_panel import replay_explorer

LIMIT = math.log(1.2)


def run(method, **settings):
    # A rate at which the ratios leave 1 within two steps.
    sizes = {"rollouts": 2, "prompts": 6, "group_size": 4, "minibatches": 3, "learning_rate": 3e-4}
    config = FineTuneConfig(method, **sizes | settings)
    return asyncio.run(fine_tuning_live(*load_base_model(), config).run()), config.resolved_method().objective


@pytest.fixture(scope="module")
def recorded():
    return run("hmpo")


def replay(record, objective, p):
    return view_replay(record, see_step(record), objective, p, LIMIT)


@pytest.mark.parametrize("method", ["hmpo", "grpo", "gspo", "gmpo"])
def test_under_its_own_exponent_a_step_is_what_the_run_logged(method):
    records, objective = run(method)
    for record in records:
        view = replay(record, objective, objective.p)
        assert view.heard == pytest.approx(record.metrics["effective_sample_size"], rel=1e-6)
        assert view.blocked == record.metrics["blocked_fraction"]
    assert any(record.metrics["blocked_fraction"] > 0 for record in records) or method == "gmpo"


@pytest.mark.parametrize("p", [-5.0, -1.0, -0.25, 0.0, 1.0, 4.0])
def test_means_and_weights_are_those_of_scipy(recorded, p):
    records, objective = recorded
    for record in records:
        view = replay(record, objective, p)
        ratios = [
            np.exp(d[mask].double().numpy()) for d, mask in zip(record.log_ratios, record.completion_mask, strict=True)
        ]
        means = np.array([pmean(row, p) for row in ratios])
        for side, mean in zip((1, -1), view.signed_means, strict=True):
            chosen = means[side * record.advantages.numpy() > 0]
            assert mean == (pytest.approx((chosen.mean(),), rel=1e-5) if len(chosen) else ())
        shown = ratios[view.seen.row]
        assert view.mean == pytest.approx(means[view.seen.row], rel=1e-5)
        assert view.weights == pytest.approx(len(shown) * softmax(p * np.log(shown)), rel=1e-4)


def test_a_replay_with_the_policies_swapped_would_be_noticed(recorded):
    records, objective = recorded
    stale = max(records, key=lambda record: record.log_ratios.abs().max())
    swapped = stale._replace(log_ratios=-stale.log_ratios)
    there, back = (torch.tensor(replay(record, objective, -1.0).signed_means) for record in (stale, swapped))
    assert (there - back).abs().min() > 1e-3


def test_the_averages_of_the_means_rise_with_the_exponent(recorded):
    for record in recorded[0]:
        for curve in see_step(record).curves:
            assert all(b >= a - 1e-6 for a, b in itertools.pairwise(curve))
            assert len(curve) in (0, len(CURVE_EXPONENTS))


def test_a_step_whose_answers_all_have_advantage_0_has_no_averages(recorded):
    record = recorded[0][0]
    assert means_by_sign(record._replace(advantages=torch.zeros_like(record.advantages)), [0.0]) == [(), ()]


def test_the_shown_answer_is_the_one_its_numbers_belong_to(recorded):
    for record, kind in itertools.product(recorded[0], KINDS):
        seen = see_step(record, kind)
        place = int(record.rows[most_moved(record, kind)])
        assert seen.characters.rstrip("⏎") == record.texts[place]
        assert len(seen.characters) == len(seen.ratios)
        assert seen.prompt == record.prompts[place // 4]
        assert seen.advantage == pytest.approx(float(group_advantages(record.rewards, 4)[place]))


def test_the_panel_opens_on_a_bad_direct_answer_if_the_step_has_one(recorded):
    records, objective = recorded
    assert replay_explorer(records, objective).values["kind"] == BAD_DIRECT
    for record in records:
        texts = [record.texts[place] for place in record.rows.tolist()]
        bad = [float(A) < 0 and not is_worked(text) for A, text in zip(record.advantages, texts, strict=True)]
        assert bad[most_moved(record, BAD_DIRECT)] == any(bad)


def test_on_the_first_step_no_exponent_changes_anything(recorded):
    records, objective = recorded
    first, other = (replay(records[0], objective, p) for p in (-4.0, 4.0))
    assert first.weights == pytest.approx(other.weights, abs=1e-3)
    assert first.mean == pytest.approx(other.mean, abs=1e-3)
    assert first.blocked == other.blocked == 0


@pytest.mark.parametrize("method", ["hmpo", "grpo", "pessimistic"])
def test_the_panel_shows_every_step_under_every_exponent(sweep, method):
    records, objective = run(method, minibatches=2)  # few enough settings for all combinations
    shown = sweep(replay_explorer(records, objective))
    assert {(view.values["rollout"], view.values["step"]) for view in shown} == {(1, 1), (1, 2), (2, 1), (2, 2)}


@pytest.mark.parametrize("method", METHODS)
def test_the_panel_of_every_method_starts_with_an_exponent_of_its_slider(recorded, method):
    objective = METHODS[method].with_max_length(40).objective
    start = replay_explorer(recorded[0], objective).values["p"]
    assert start == (objective.p if isinstance(objective.p, float) else -1.0)


def test_a_run_that_was_stopped_in_a_rollout_shows_its_last_step(recorded):
    records, objective = recorded
    panel = replay_explorer(records[:4], objective)
    panel.controls["rollout"].value, panel.controls["step"].value = 2, 3
    assert "rollout 2, step 1" in panel.picture.caption_text
    assert panel.status.text == ""


def test_a_run_of_a_single_step_has_its_panel(recorded):
    records, objective = recorded
    assert "rollout 1, step 1" in replay_explorer(records[:1], objective).picture.caption_text
