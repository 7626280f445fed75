"""The panel of what two clips block at the same share."""

import math

import pytest
import torch

from hmpo_lib import Objective, policy_loss
from hmpo_lib.teach import load_recorded_ratios
from hmpo_lib.teach.calibrated_clips import blocked_explorer
from hmpo_lib.teach.calibrated_clips.blocked_panel import (
    SHARES,
    STAGES,
    STALENESS,
    blocked_caption,
    moved_in_the_wanted_direction,
    view_blocked,
    width_at,
)

RECORDED = load_recorded_ratios()


def of_stage(stage):
    sample = RECORDED.at(stage, STALENESS)
    return sample.select(sample.advantages != 0)


@pytest.mark.parametrize("clip", ["token", "sequence"])
@pytest.mark.parametrize(("stage", "share", "p"), [(STAGES[0], 0.4, -1.0), (STAGES[1], 0.05, 0.0)])
def test_blocked_are_the_tokens_without_a_gradient_and_as_many_as_asked_for(stage, share, p, clip):
    sample = of_stage(stage)
    moved, mask = moved_in_the_wanted_direction(sample, p, clip), sample.completion_mask
    c = width_at(moved, mask, share)
    d = sample.log_ratios.clone().requires_grad_()
    objective = Objective(p, clip, (math.exp(-c), math.exp(c)))
    loss, metrics = policy_loss(d, torch.zeros_like(d), sample.advantages, mask, objective, metrics=True)
    blocked = (moved > c) & mask
    assert torch.equal(blocked, (torch.autograd.grad(loss, d)[0] == 0) & mask)
    assert metrics["blocked_fraction"].item() == pytest.approx(blocked.sum().item() / mask.sum().item())
    assert share - 0.03 < metrics["blocked_fraction"].item() <= share


@pytest.mark.parametrize("stage", STAGES)
def test_a_clip_on_the_mean_takes_answers_whole_and_touches_fewer_of_them(stage):
    for share in SHARES[1:]:
        view = view_blocked(RECORDED, stage, share, 0.0)
        assert all(len(set(tokens)) == 1 for tokens in view.blocked["sequence"])
        assert any(len(set(tokens)) == 2 for tokens in view.blocked["token"])
        assert view.touched["sequence"] < view.touched["token"]
        assert f"in {view.touched['token']} of {view.answers} answers" in blocked_caption(view)


def test_a_letter_is_as_wide_as_the_cell_behind_it():
    panel = blocked_explorer(RECORDED)
    canvas = panel.picture._canvas
    for axes in canvas.figure.axes:
        longest = max((text for text in axes.texts), key=lambda text: len(text.get_text()))
        letters = len(longest.get_text())
        assert letters > 35
        drawn = longest.get_window_extent().width
        left, right = (axes.transData.transform((k - 0.5, 0))[0] for k in (0, letters))
        assert abs(drawn - (right - left)) < (right - left) / letters


def test_controls_move_what_is_shown():
    panel = blocked_explorer(RECORDED)
    first = panel.picture.caption_text
    panel.controls["share"].value = 0.05
    second = panel.picture.caption_text
    panel.controls["stage"].value = STAGES[0]
    assert "20 % of the tokens" in first
    assert "5 % of the tokens" in second
    assert "944 answers" in panel.picture.caption_text
    assert panel.status.text == ""
