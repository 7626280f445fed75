"""The figure of notebook 10: its numbers, its words, and every position of its controls."""

import math

import pytest
import torch
from scipy import stats

from hmpo_lib.teach.your_own_model.transfer_panel import Exam, interval, transfer_panel, view_transfer


def exams(score, worked):
    generator = torch.Generator().manual_seed(0)

    def draw(share):
        return (torch.rand(40, 4, generator=generator) < share).float()

    return [Exam(kind, draw(score), draw(worked)) for kind in ("as in training", "longer", "with minus")]


def test_interval_is_over_the_problems_and_not_over_the_answers():
    values = torch.tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0]])
    each = [0.75, 0.0, 0.5]
    mean, half = interval(values)
    assert mean == pytest.approx(sum(each) / 3)
    assert half == pytest.approx(stats.t.ppf(0.975, len(each) - 1) * stats.sem(each))
    doubled = interval(values.repeat(1, 100))
    assert doubled.half == pytest.approx(half)  # more answers to the same problems make nothing surer
    assert interval(torch.zeros(5, 4)) == (0, 0)


def test_each_measure_has_its_own_numbers():
    before, after = exams(0.3, 0.4), exams(0.8, 0.95)
    score, worked = (view_transfer(before, [before, after], 2, measure) for measure in ("score", "worked"))
    assert [i.mean for i in score.before] == pytest.approx([float(e.score.mean()) for e in before])
    assert [i.mean for i in worked.after] == pytest.approx([float(e.worked.mean()) for e in after])
    assert all(math.isfinite(i.half) for i in (*score.before, *worked.after))
    assert [len(means) for means in score.others] == [1, 1, 1]
    assert [mean for means in worked.others for mean in means] == [i.mean for i in worked.before]  # of run 1


def test_panel_shows_both_measures_of_every_run(sweep):
    shown = sweep(transfer_panel(exams(0.3, 0.4), [exams(0.8, 0.95), exams(0.5, 0.6)]))
    assert len(shown) == 4
    assert all("as in training" in view.caption and "with minus" in view.alt for view in shown)


def test_panel_holds_the_extremes(sweep):
    sweep(transfer_panel(exams(0.0, 0.0), [exams(1.0, 1.0)]), {"measure": ["score"], "run": [1]})
