"""The first page's slider turns its verdict once, and its answer is one that was recorded."""

import itertools
import math

import numpy as np

from hmpo_lib.teach.shared.power_mean_drawings import view_power_mean
from hmpo_lib.teach.shared.recorded_ratios import load_recorded_ratios
from hmpo_lib.teach.start_here import real_answer
from hmpo_lib.teach.start_here.start_panel import START_RATIOS, start_verdict

STOPS = [-math.inf, *np.arange(-5, 5.25, 0.25).tolist(), math.inf]


def test_verdict_of_the_start_panel_turns_once_and_between_the_geometric_and_the_arithmetic_mean():
    verdicts = [start_verdict(view_power_mean(START_RATIOS, p)) for p in STOPS]
    turns = [p for (before, after), p in zip(itertools.pairwise(verdicts), STOPS[1:], strict=True) if before != after]
    assert len(turns) == 1
    assert 0 < turns[0] <= 1
    assert verdicts[0] == "less likely than before"
    assert verdicts[-1] == "more likely than before"


def test_verdict_of_the_geometric_mean_is_the_products():
    rng = np.random.default_rng(0)
    for ratios in np.exp(rng.normal(size=(200, 7))):
        verdict = start_verdict(view_power_mean(ratios.tolist(), 0.0))
        assert verdict == ("more likely than before" if ratios.prod() > 1 else "less likely than before")


def test_mean_of_exactly_one_is_no_change():
    assert start_verdict(view_power_mean([0.5, 2.0], 0.0)) == "as likely as before"


def test_real_answer_is_recorded_opens_its_work_and_earned_what_its_number_is_worth():
    answer = real_answer()
    assert len(answer.tokens) == len(answer.ratios)
    assert answer.tokens[0] == "("
    assert answer.tokens[-1] == "⏎"
    written = int("".join(answer.tokens).rpartition(")")[2].rstrip("⏎"))
    asked = sum(map(int, answer.prompt.rstrip("=").split("+")))
    assert answer.reward == float(written == asked)
    assert answer.staleness in load_recorded_ratios().staleness.tolist()
