"""The recorded runs that differ in the exponent alone."""

import pytest
import torch

from hmpo_lib.teach.fine_tuning_with_ratio_means.exponents_recording import (
    CLIPS,
    EXPONENTS,
    ROLLOUTS,
    SEEDS,
    exponent_config,
    load_exponent_runs,
)

from ...scripts import load_script


def test_the_recording_is_whole():
    for table in load_exponent_runs():
        assert table.shape == (len(CLIPS), len(EXPONENTS), len(SEEDS), ROLLOUTS)
        assert table.isfinite().all()
        assert table.min() >= 0


def test_runs_of_one_seed_begin_with_the_same_answers():
    first = load_exponent_runs().rewards[..., 0].flatten(0, 1)  # neither exponent nor clip has changed anything yet
    assert (first == first[0]).all()
    assert len(set(first[0].tolist())) > 1


def test_the_runs_differ_in_the_exponent_and_the_clip_alone():
    free, wide = (exponent_config(clip, -1.0).resolved_method().objective for clip in CLIPS)
    assert (free.p, free.clip, free.clip_range) == (-1.0, None, None)
    assert (wide.p, wide.clip) == (-1.0, "token")
    assert wide.clip_range == pytest.approx((0.67, 1.49), abs=0.01)
    assert free.length_weight == wide.length_weight


def test_beginning_of_a_recorded_run_can_be_made_again(monkeypatch):
    tool = load_script("tools/record_exponents.py")
    monkeypatch.setattr(tool, "ROLLOUTS", 2)
    monkeypatch.setattr(tool, "EXPONENTS", EXPONENTS[:1])
    made = tool.record_runs(CLIPS[0], 0)
    recorded = load_exponent_runs()
    # Sums of floats differ from machine to machine in their last digits, and so may single tokens of 256 answers.
    torch.testing.assert_close(made["rewards"].double()[0], recorded.rewards[0, 0, 0, :2], rtol=0, atol=0.02)
    torch.testing.assert_close(made["rooms"].double()[0], recorded.rooms[0, 0, 0, :2], rtol=0.1, atol=0.01)
