"""The recorded runs under two length weights, and why a third is not among them."""

import pytest
import torch

from hmpo_lib import Objective, policy_loss
from hmpo_lib.teach.fine_tuning_with_ratio_means.length_panel import (
    length_caption,
    length_weight_explorer,
    view_lengths,
)
from hmpo_lib.teach.fine_tuning_with_ratio_means.length_recording import (
    PAYMENTS,
    ROLLOUTS,
    SEEDS,
    WEIGHTS,
    load_length_runs,
    reward_short,
)

from ...scripts import load_script


def test_the_recording_is_whole():
    runs = load_length_runs()
    for table in runs:
        assert table.shape == (len(PAYMENTS), len(WEIGHTS), len(SEEDS), ROLLOUTS)
        assert table.isfinite().all()
    for share in (runs.worked, runs.rewards):
        assert share.min() >= 0
        assert share.max() <= 1


def test_beginning_of_a_recorded_run_can_be_made_again(monkeypatch):
    tool = load_script("tools/record_length_weights.py")
    monkeypatch.setattr(tool, "ROLLOUTS", 3)
    made = tool.record_run(PAYMENTS[1], "proportional", 0)
    for name, table in load_length_runs()._asdict().items():
        # Sums of floats differ from machine to machine in their last digits, and so may single tokens of 256 answers.
        torch.testing.assert_close(made[name].double(), table[1, 1, 0, :3], rtol=0.05, atol=0.02)


def test_runs_of_one_seed_begin_with_the_same_answers():
    runs = load_length_runs()
    first = runs.tokens[..., 0].flatten(0, 1)  # neither payment nor weight has changed anything yet
    assert (first == first[0]).all()


def test_short_right_answers_alone_are_paid():
    assert [reward_short("7+12+5=", text) for text in ("24", "25", "(7+12=19,19+5=24)24", "024", "0024")] == [
        1.0,
        0.0,
        0.0,
        1.0,
        0.0,
    ]


def gradient(weight):
    generator = torch.Generator().manual_seed(0)
    logprobs = torch.zeros(4, 9, requires_grad=True)
    mask = torch.arange(9) < torch.tensor([9, 3, 1, 5]).unsqueeze(1)
    advantages = torch.randn(4, generator=generator)
    objective = Objective(0.0, length_weight=weight, max_length=9 if weight == "constant" else None)
    policy_loss(logprobs, torch.zeros(4, 9), advantages, mask, objective).loss.backward()
    return logprobs.grad.flatten()


def test_in_a_batch_the_constant_weight_points_where_the_proportional_one_does():
    cosine = torch.cosine_similarity(gradient("constant"), gradient("proportional"), dim=0)
    assert float(cosine) == pytest.approx(1.0, abs=1e-6)
    assert float(torch.cosine_similarity(gradient("equal"), gradient("proportional"), dim=0)) < 0.99


def test_the_panel_shows_both_payments(sweep):
    assert len(sweep(length_weight_explorer(load_length_runs()))) == len(PAYMENTS)


def test_the_caption_reads_off_the_recording():
    runs = load_length_runs()
    ends = runs.worked[1, 0, :, -1]
    expected = f"equal: {100 * ends.mean():.1f} % worked ({100 * ends.min():.1f} to {100 * ends.max():.1f} %)"
    assert expected in length_caption(view_lengths(runs, PAYMENTS[1]))
