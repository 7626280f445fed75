"""The ready-made panels, swept over every position of their controls."""

import itertools
import math

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import pmean

from hmpo_lib.teach.plotting import round_numbers
from hmpo_lib.teach.shared.power_mean_drawings import view_power_mean
from hmpo_lib.teach.start_here import start_panel
from hmpo_lib.teach.start_here.start_panel import START_RATIOS, start_verdict
from hmpo_lib.teach.three_means import power_mean_explorer, push_explorer
from hmpo_lib.teach.three_means.power_mean_panel import power_mean_alt, power_mean_caption
from hmpo_lib.teach.three_means.push_panel import push_verdict, view_pushes

STOPS = [-math.inf, *np.arange(-5, 5.25, 0.25).tolist(), math.inf]
RATIO_SETS = [
    [0.5, 1.0, 1.5],
    [0.1, 1.0, 1.0, 1.0, 1.0],
    list(START_RATIOS),
    [0.7, 0.7],
    [1e-3, 1.0, 40.0],
    [1.0, 1.001, 0.999] * 4,
]


@pytest.mark.parametrize("ratios", RATIO_SETS, ids=str)
def test_mean_and_weights_agree_with_scipy_at_every_stop(ratios):
    for p in STOPS:
        view = view_power_mean(ratios, p)
        expected = {math.inf: max(ratios), -math.inf: min(ratios)}.get(p) or pmean(ratios, p)
        assert view.mean == pytest.approx(expected, rel=1e-12)
        if math.isfinite(p):
            np.testing.assert_allclose(view.weights, softmax(p * np.log(ratios)), rtol=1e-11)
        assert sum(view.weights) == pytest.approx(1.0)


@pytest.mark.parametrize("make", [power_mean_explorer, start_panel, push_explorer])
@pytest.mark.parametrize("ratios", RATIO_SETS, ids=str)
def test_every_position_of_every_control_draws_whole_text_and_tells_what_it_shows(make, ratios, sweep):
    panel = make(ratios)
    assert [value for _, value in panel.controls["p"].options] == STOPS
    all_alike = len(set(ratios)) == 1  # then every p gives the same picture
    shown = sweep(panel, still=["p"] if all_alike else [])
    assert len(shown) == math.prod(len(control.options) for control in panel.controls.values())
    assert len({view.caption for view in shown}) == len(shown)  # each setting says something of its own


def test_caption_and_alt_name_the_mean_and_whom_it_hears():
    view = view_power_mean([0.1, 1.0, 1.0, 1.0, 1.0], -1.0)
    assert (
        power_mean_caption(view) == "harmonic (HMPO), p = −1: the mean is 0.357; it hears 0.1 most, with weight 0.714."
    )
    assert "their mean at 0.357" in power_mean_alt(view)
    assert "0.1: 0.714, 1: 0.071" in power_mean_alt(view)


def test_geometric_mean_is_said_to_hear_all_alike():
    assert "all ratios alike" in power_mean_caption(view_power_mean([0.5, 1.0, 1.5], 0.0))


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


@pytest.mark.parametrize("advantage", [1.0, -1.0])
@pytest.mark.parametrize("p", STOPS)
def test_ratios_are_drawn_together_exactly_where_advantage_times_p_is_negative(p, advantage):
    verdict = push_verdict(view_pushes([0.5, 1.0, 1.5], p, advantage))
    if p == 0:
        assert verdict == "the ratios keep their distance"
    else:
        assert verdict == f"the ratios are {'drawn together' if advantage * p < 0 else 'driven apart'}"


def test_pushes_are_the_derivative_of_advantage_times_the_mean():
    # 9/11 · (6, 3, 2)/11 = (54, 27, 18)/121, by hand.
    assert view_pushes([0.5, 1.0, 1.5], -1.0, 1.0).pushes == pytest.approx([54 / 121, 27 / 121, 18 / 121])
    assert view_pushes([0.5, 1.0, 1.5], -1.0, -1.0).pushes == pytest.approx([-54 / 121, -27 / 121, -18 / 121])


@pytest.mark.parametrize("make", [power_mean_explorer, start_panel, push_explorer])
@pytest.mark.parametrize("ratios", [[], [1.0], [0.5, 0.0], [0.5, -1.0], [1.0, math.inf], [1.0, math.nan]])
def test_bad_ratios_are_refused_with_what_to_give(make, ratios):
    with pytest.raises(ValueError, match="at least two positive, finite numbers"):
        make(ratios)


@pytest.mark.parametrize(("low", "high"), [(0.9, 1.1), (0.99, 1.01), (0.3, 3.0), (1e-4, 1e3), (0.5, 1.7)])
def test_ticks_are_in_range_and_neither_missing_nor_crowded(low, high):
    ticks = round_numbers(low, high)
    assert all(low <= tick <= high for tick in ticks)
    assert 2 <= len(ticks) <= 12
