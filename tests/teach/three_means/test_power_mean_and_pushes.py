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
from hmpo_lib.teach.start_here.start_panel import START_RATIOS
from hmpo_lib.teach.three_means import (
    power_mean_explorer,
    push_explorer,
    real_answer,
    real_pushes,
    semicircle,
    tangent,
)
from hmpo_lib.teach.three_means.answer_panel import view_answer
from hmpo_lib.teach.three_means.power_mean_panel import power_mean_alt, power_mean_caption
from hmpo_lib.teach.three_means.push_panel import push_caption, push_verdict, view_pushes
from hmpo_lib.teach.three_means.semicircle_panel import view_semicircle

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


def test_caption_names_the_mean_and_the_largest_share():
    view = view_power_mean([0.1, 1.0, 1.0, 1.0, 1.0], -1.0)
    said = "harmonic (HMPO), p = −1: the mean is 0.357; the largest share, 0.714, is that of 0.1."
    assert power_mean_caption(view) == said
    assert power_mean_alt(view).endswith(said)
    assert "0.1: 0.714, 1: 0.071" in power_mean_alt(view)
    assert "all shares are equal" in power_mean_caption(view_power_mean([0.5, 1.0, 1.5], 0.0))


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


def test_pushes_sum_to_the_advantage_times_the_mean():
    for ratios, p, advantage in itertools.product(RATIO_SETS, (-2.0, -1.0, 1.0, 3.0), (1.0, -1.0)):
        assert view_pushes(ratios, p, advantage).total == pytest.approx(advantage * pmean(ratios, p))


def test_fallen_token_is_pushed_harder_at_0_than_at_minus_1_although_its_share_is_smaller():
    assert push_caption(view_pushes([0.05, 1.0, 1.5], -1.0, 1.0)).startswith(
        "harmonic (HMPO), p = −1, A = +1: +0.128 on"
    )
    assert "+0.141 on 0.05" in push_caption(view_pushes([0.05, 1.0, 1.5], 0.0, 1.0))
    shares = [softmax(p * np.log([0.05, 1.0, 1.5]))[0] for p in (-1, 0)]
    assert shares[0] > shares[1]


@pytest.mark.parametrize("a", np.linspace(0.05, 1.95, 9))
def test_lengths_in_the_semicircle_are_the_means_and_the_shadow_ends_at_a_right_angle(a):
    view = view_semicircle(a)
    numbers = [view.a, view.b]
    assert [view.harmonic, view.geometric, view.arithmetic] == pytest.approx([pmean(numbers, p) for p in (-1, 0, 1)])
    top, foot, shadow = np.array([a - 1, view.geometric]), np.array([a - 1, 0]), np.array(view.projection)
    assert np.linalg.norm(top) == pytest.approx(view.arithmetic)  # the radius, from the middle at (0, 0)
    assert np.linalg.norm(top - shadow) == pytest.approx(view.harmonic)
    assert np.dot(foot - shadow, top) == pytest.approx(0, abs=1e-12)


def test_every_position_of_the_semicircle_draws_and_tells_what_it_shows(sweep):
    sweep(semicircle())


def test_tangent_says_that_on_average_the_logarithm_is_the_lower_one():
    caption = tangent([0.5, 1.0, 1.5])._repr_mimebundle_()["text/plain"]
    assert f"the logarithm at −{-np.log(pmean([0.5, 1.0, 1.5], 0) / 1.0):.3f}" in caption


def test_shares_and_pushes_of_the_real_answer_are_scipys():
    answer = real_answer()
    d = answer.ratios.log().numpy()
    for p in (-2.0, 1.0):
        view = view_answer(answer, p, -1.0)
        np.testing.assert_allclose(view.shares, softmax(p * d))
        np.testing.assert_allclose(np.mean(view.pushes), -pmean(answer.ratios.numpy(), p))


def test_every_position_of_the_answers_controls_draws_and_tells_what_it_shows(sweep):
    sweep(real_pushes(real_answer()))


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
