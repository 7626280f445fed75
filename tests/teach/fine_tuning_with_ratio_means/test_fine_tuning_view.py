"""What notebook 08 shows while a model learns, and what it lets one choose before."""

import asyncio
import dataclasses
import itertools
import math

import pytest
import torch

from hmpo_lib import METHODS, Method, Objective
from hmpo_lib.lm import FineTuneConfig, fine_tune, load_base_model
from hmpo_lib.teach import Canvas
from hmpo_lib.teach.fine_tuning_with_ratio_means.before_after_table import BeforeAfter
from hmpo_lib.teach.fine_tuning_with_ratio_means.comparison_live import (
    comparison_live,
    room_to_differ,
    view_comparison,
)
from hmpo_lib.teach.fine_tuning_with_ratio_means.fine_tuning_controls import OWN, FineTuningControls, with_exponent
from hmpo_lib.teach.fine_tuning_with_ratio_means.fine_tuning_drawings import LARGEST_LOGIT, draw_live, mean_limit
from hmpo_lib.teach.fine_tuning_with_ratio_means.fine_tuning_live import (
    completion_means,
    fine_tuning_alt,
    fine_tuning_caption,
    fine_tuning_live,
    last_of_each_rollout,
    view_live,
    worked_share,
)

from ...sweeps import ink_on_the_edge, stops

HEADS = {"model.layers.0.self_attn": 4, "model.layers.1.self_attn": 4}


def run(**settings):
    live = fine_tuning_live(*load_base_model(), FineTuneConfig(**{"prompts": 4, "group_size": 4} | settings))
    return live, asyncio.run(live.run())


@pytest.fixture(scope="module")
def finished():
    return run(method="hmpo", rollouts=2, minibatches=2, monitor_logits=True)


def test_the_live_run_gives_one_record_per_optimizer_step_and_a_picture(finished):
    live, records = finished
    assert [(r.rollout, r.step) for r in records] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert "rollout 2, step 2" in live.picture.caption_text
    assert live.picture.alt_text.startswith("Six plots after 2 rollouts")
    assert "data:image/png" in live.picture.static_bundle()["text/html"]


def test_each_rollout_is_shown_by_its_stalest_step(finished):
    _, records = finished
    assert [(r.rollout, r.step) for r in last_of_each_rollout(records)] == [(0, 1), (1, 1)]
    assert [(r.rollout, r.step) for r in last_of_each_rollout(records[:3])] == [(0, 1), (1, 0)]


def test_the_worked_share_counts_answers_with_work(finished):
    record = finished[1][0]._replace(texts=["24", "(7+12=19,19+5=24)24", "25", "("])
    assert worked_share(record) == 1 / 4


def test_completion_means_hear_no_padding(finished):
    record = finished[1][1]
    ratios = record.log_ratios.exp()
    by_hand = [1 / (1 / r[m]).mean() for r, m in zip(ratios, record.completion_mask, strict=True)]
    torch.testing.assert_close(completion_means(record), torch.stack(by_hand))


def test_every_head_has_a_line_with_a_point_for_each_rollout(finished):
    view = view_live(finished[1])
    assert {name: [len(heads) for heads in rows] for name, rows in view.max_logits.items()} == {
        name: [heads, heads] for name, heads in HEADS.items()
    }
    largest = max(max(heads) for rows in view.max_logits.values() for heads in rows[-1:])
    assert largest == pytest.approx(finished[1][-1].metrics["max_logit"])


def test_a_run_whose_logits_are_not_watched_says_so():
    live, _ = run(method="gspo", rollouts=1)
    assert "each head, not watched" in live.picture.alt_text
    assert "logit" not in live.picture.caption_text


def test_a_clipped_head_is_in_the_caption():
    _, records = run(method="hmpo", rollouts=1, optimizer="muonclip", qk_clip_threshold=5.0)
    assert records[0].metrics["heads_clipped"] > 0
    assert f"{records[0].metrics['heads_clipped']:.0f} heads clipped" in fine_tuning_caption(records)
    assert "attention logit of each head, from" in fine_tuning_alt(records)


def test_a_schedule_of_p_reaches_the_record():
    _, records = run(method="pessimistic", rollouts=1)
    torch.testing.assert_close(records[0].p, -records[0].advantages.sign())


@pytest.mark.parametrize("method", ["grpo", "gspo", "pessimistic", "holder"])
def test_every_kind_of_method_has_its_picture(method):
    assert len(run(method=method, rollouts=1, prompts=2, minibatches=2)[1]) == 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("optimizer", ["adamw", "muonclip"])
def test_nothing_is_cut_off_whatever_is_shown(method, optimizer, finished):
    config = FineTuneConfig(method=method, rollouts=2, optimizer=optimizer, qk_clip_threshold=15.0)
    canvas = Canvas(760, 450)
    move = draw_live(canvas, config)
    view = view_live(finished[1])
    far = torch.tensor([-50.0, 0.0, 50.0])
    extremes = dict.fromkeys(HEADS, ((0.0, 2 * LARGEST_LOGIT), (-1.0, 0.0)))
    for shown in (view, dataclasses.replace(view, token_log_ratios=far, log_means=far, max_logits=extremes)):
        move(shown)
        assert not ink_on_the_edge(canvas.png())


@pytest.mark.parametrize("method", METHODS)
def test_the_bounds_of_a_sequence_clip_are_inside_their_plot(method):
    objective = METHODS[method].objective
    if objective.clip == "sequence":
        assert mean_limit(objective) > max(abs(math.log(bound)) for bound in objective.clip_range)


def test_every_position_of_the_controls_is_a_run_that_can_be_made():
    panel = FineTuningControls()
    choices = {name: stops(control) for name, control in panel.controls.items()}
    for method, p, optimizer in itertools.product(choices["method"], choices["p"], choices["optimizer"]):
        for name, value in (("method", method), ("p", p), ("optimizer", optimizer)):
            panel.controls[name].value = value
        config = panel.config(rollouts=3)
        objective = config.resolved_method().objective
        assert objective.clip_range == METHODS[method].objective.clip_range
        assert objective.p == (METHODS[method].objective.p if p == OWN else p)
        assert config.optimizer == optimizer
    for minibatches, threshold in itertools.product(choices["minibatches"], choices["threshold"]):
        panel.controls["minibatches"].value, panel.controls["threshold"].value = minibatches, threshold
        config = panel.config(rollouts=3)
        assert (config.steps, config.qk_clip_threshold) == (3 * minibatches, threshold)


def test_the_threshold_can_be_moved_only_where_it_is_used():
    controls = FineTuningControls().controls
    assert controls["threshold"].disabled
    controls["optimizer"].value = "muonclip"
    assert not controls["threshold"].disabled


def test_a_page_without_a_kernel_says_what_was_chosen():
    panel = FineTuningControls()
    panel.controls["optimizer"].value = "muonclip"
    assert panel._repr_mimebundle_()["text/html"].endswith("4 optimizer steps per rollout, MuonClip at τ = 15</p>")


def test_an_exponent_of_ones_own_takes_the_place_of_a_schedule():
    assert with_exponent("pessimistic", None).p_schedule is not None
    chosen = with_exponent("pessimistic", 2.0)
    assert (chosen.objective.p, chosen.p_schedule) == (2.0, None)
    assert chosen.objective.clip_range == METHODS["pessimistic"].objective.clip_range


def test_before_and_after_stand_side_by_side_with_their_marks():
    table = BeforeAfter(["1+2=", "2+2="], ["4", "<4"], ["(1+2=3)3", "4"])
    assert table.rows == [("1+2=", "✗ 4", "✓ (1+2=3)3"), ("2+2=", "✗ <4", "✓ 4")]
    assert "✗ &lt;4" in table._repr_mimebundle_()["text/html"]


COMPARED = [
    FineTuneConfig(Method(Objective(p)), rollouts=2, prompts=4, group_size=4, minibatches=2) for p in (-1.0, 0.0, 1.0)
]


@pytest.fixture(scope="module")
def compared():
    live = comparison_live(*load_base_model(), COMPARED)
    return live, asyncio.run(live.run())


def test_compared_runs_are_the_runs_that_each_config_gives_alone(compared):
    for column, config in enumerate(COMPARED):
        alone = [record for record in fine_tune(*load_base_model(), config) if record.step == 1]
        for mine, expected in zip((rollout[column] for rollout in compared[1]), alone, strict=True):
            assert mine.texts == expected.texts
            torch.testing.assert_close(mine.log_ratios, expected.log_ratios)


def test_compared_runs_begin_with_the_same_answers_and_then_part(compared):
    first, second = compared[1]
    assert first[0].texts == first[1].texts == first[2].texts
    assert not torch.equal(second[0].log_ratios, second[2].log_ratios)


def test_the_room_to_differ_is_what_the_means_leave(compared):
    record = compared[1][0][0]
    ratios = [d[m].exp() for d, m in zip(record.log_ratios, record.completion_mask, strict=True)]
    by_hand = sum(r.mean() - 1 / (1 / r).mean() for r in ratios) / len(ratios)
    assert room_to_differ(record) == pytest.approx(float(by_hand), rel=1e-3, abs=1e-6)
    fresh = record._replace(log_ratios=torch.zeros_like(record.log_ratios))
    assert room_to_differ(fresh) == pytest.approx(0.0, abs=1e-6)


def test_the_comparison_says_where_its_runs_end_and_nothing_is_cut_off(compared):
    live, rollouts = compared
    view = view_comparison(rollouts)
    assert f"{sum(view.rewards[0]) / 2:.3f} right, {view.worked[0][-1]:.2f} worked" in live.picture.caption_text
    assert not ink_on_the_edge(live.picture._canvas.png())
