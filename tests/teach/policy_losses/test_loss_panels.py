"""The panels of the policy losses: a strip of tokens under both clips, one exploding token, and the cube of methods."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import norm, pmean

from hmpo_lib import METHODS, Objective, policy_loss
from hmpo_lib.teach import load_recorded_ratios
from hmpo_lib.teach.calibrated_clips import method_cube
from hmpo_lib.teach.policy_losses import (
    answer_pushes_explorer,
    exploding_explorer,
    token_strip_explorer,
)
from hmpo_lib.teach.policy_losses import clipped_surrogate as clipped_surrogate_picture
from hmpo_lib.teach.policy_losses.answer_pushes_panel import view_answer_pushes
from hmpo_lib.teach.policy_losses.clipped_pushes import (
    autograd_pushes,
    strip_alt,
    strip_caption,
    strip_verdict,
    view_strip,
)
from hmpo_lib.teach.policy_losses.exploding_panel import (
    GRID,
    RANGE,
    TOKENS,
    exploding_alt,
    exploding_caption,
    view_exploding,
)
from hmpo_lib.teach.policy_losses.exploding_panel import value_and_share as exploding_value_and_share
from hmpo_lib.teach.policy_losses.length_range_panel import outside, range_by_length
from hmpo_lib.teach.policy_losses.range_drawing import cosine, gradient, range_picture
from hmpo_lib.teach.policy_losses.token_strip_panel import LARGEST_STALENESS, STRIP_RATIOS

EXPONENTS = [-5.0, -1.0, -0.25, 0.0, 0.25, 1.0, 5.0]
STOPS = [-math.inf, *EXPONENTS, math.inf]
STOPS_OF_THE_SLIDER = [-math.inf, *np.arange(-5, 5.25, 0.25).tolist(), math.inf]
PLACES = [None, "token", "sequence"]
SIGNS = [1.0, -1.0]


def clipped_surrogate(log_ratios, p, advantage, clip, clip_range):
    """min(A·r, A·clip(r)) before or after the mean, as the papers write it, in numpy and scipy."""
    ratios = np.exp(log_ratios)
    if clip == "token":
        ratios = np.minimum(advantage * ratios, advantage * ratios.clip(*clip_range)) / advantage
    mean = {math.inf: ratios.max(), -math.inf: ratios.min()}.get(p) or pmean(ratios, p)
    if clip == "sequence":
        return min(advantage * mean, advantage * np.clip(mean, *clip_range))
    return advantage * mean


def slopes(log_ratios, *setting, step=1e-6):
    """Central differences of the clipped surrogate by each log-ratio."""
    steps = step * np.eye(len(log_ratios))
    return [
        (clipped_surrogate(log_ratios + one, *setting) - clipped_surrogate(log_ratios - one, *setting)) / (2 * step)
        for one in steps
    ]


# --- the strip of tokens ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", PLACES)
@pytest.mark.parametrize("advantage", SIGNS)
@pytest.mark.parametrize("p", STOPS)
def test_pushes_of_the_strip_are_the_slopes_of_the_clipped_surrogate(p, advantage, clip):
    for width, staleness in ((0.1, 4), (0.2, 3), (0.8, 6)):
        view = view_strip(STRIP_RATIOS, p, width, staleness, advantage, clip)
        log_ratios = np.log(STRIP_RATIOS) * staleness / 4
        np.testing.assert_allclose(view.ratios, np.exp(log_ratios), rtol=1e-12)
        expected = slopes(log_ratios, p, advantage, clip, view.clip_range)
        np.testing.assert_allclose(view.pushes, expected, atol=1e-7)
        assert view.difference < 1e-14


@pytest.mark.parametrize("clip", PLACES)
@pytest.mark.parametrize("advantage", SIGNS)
@pytest.mark.parametrize("p", EXPONENTS)
def test_what_the_strip_says_is_left_makes_its_mean_and_its_pushes(p, advantage, clip):
    view = view_strip(STRIP_RATIOS, p, 0.2, 4, advantage, clip)
    assert view.mean == pytest.approx(pmean(view.kept, p), rel=1e-12)
    weights = softmax(p * np.log(view.kept))
    for push, weight, is_blocked in zip(view.pushes, weights, view.blocked, strict=True):
        assert push == pytest.approx(0.0 if is_blocked else advantage * view.mean * weight, abs=1e-12)


def test_formula_beside_the_strip_would_show_a_wrong_gradient(monkeypatch):
    def unclipped(log_ratios, advantage, objective):
        return autograd_pushes(log_ratios, advantage, dataclasses.replace(objective, clip=None, clip_range=None))

    monkeypatch.setattr("hmpo_lib.teach.policy_losses.clipped_pushes.autograd_pushes", unclipped)
    for p, advantage in itertools.product(EXPONENTS, SIGNS):
        assert view_strip(STRIP_RATIOS, p, 0.2, 4, advantage, "token").difference > 1e-3


def test_each_sign_has_its_own_wall_on_the_tokens():
    for p in STOPS:
        above = view_strip(STRIP_RATIOS, p, 0.2, 4, 1.0, "token")
        below = view_strip(STRIP_RATIOS, p, 0.2, 4, -1.0, "token")
        assert above.blocked == tuple(ratio > math.exp(0.2) for ratio in STRIP_RATIOS)
        assert below.blocked == tuple(ratio < math.exp(-0.2) for ratio in STRIP_RATIOS)
        assert 0 < sum(above.blocked) < len(STRIP_RATIOS) > sum(below.blocked) > 0


def test_clip_on_the_mean_blocks_all_or_none_and_the_exponent_decides():
    blocked = {p: set(view_strip(STRIP_RATIOS, p, 0.2, 4, -1.0, "sequence").blocked) for p in STOPS}
    assert all(len(kinds) == 1 for kinds in blocked.values())
    assert blocked[-5.0] == {True}
    assert blocked[1.0] == {False}


@pytest.mark.parametrize("clip", PLACES)
@pytest.mark.parametrize("advantage", SIGNS)
def test_on_policy_the_strip_looks_alike_for_every_exponent(clip, advantage):
    for p in STOPS:
        view = view_strip(STRIP_RATIOS, p, 0.05, 0, advantage, clip)
        assert view.ratios == view.kept == (1.0,) * 8
        assert view.pushes == pytest.approx([advantage / 8] * 8)
        assert strip_verdict(view) == "no token is blocked"


def test_caption_and_alt_of_the_strip_say_setting_mean_blocked_and_agreement():
    view = view_strip(STRIP_RATIOS, 1.0, 0.2, 4, 1.0, "token")
    caption = strip_caption(view)
    assert caption.startswith(
        "p = 1, A = +1, 4 steps old, tokens clipped above 1.221: mean after the clip 0.974, 2 of 8"
    )
    assert "Autograd minus formula: " in caption
    assert "2.20 after the clip 1.22, blocked" in strip_alt(view)
    assert "1.00, +0.125" in strip_alt(view)
    whole = view_strip(STRIP_RATIOS, 5.0, 0.2, 4, 1.0, "sequence")
    assert "all 8 tokens blocked" in strip_caption(whole)
    assert "of which 1.221 is left" in strip_alt(whole)


def test_exact_agreement_is_said_as_0():
    view = dataclasses.replace(view_strip(STRIP_RATIOS, 1.0, 0.2, 1, 1.0, None), difference=0.0)
    assert strip_caption(view).startswith("p = 1, A = +1, 1 step old, no clip")
    assert strip_caption(view).endswith("Autograd minus formula: 0.")


RISEN = [1.0] * 6 + [3.0, 1.0]


@pytest.mark.parametrize("ratios", [STRIP_RATIOS, RISEN, [0.5, 2.0]], ids=str)
def test_every_position_of_the_strips_controls_draws_and_tells_what_it_shows(ratios, sweep):
    sweep(token_strip_explorer(ratios, p=-1.0, staleness=LARGEST_STALENESS))


@pytest.mark.parametrize("clip", PLACES)
def test_either_sign_draws_at_every_exponent_under_every_clip(clip, sweep):
    shown = sweep(token_strip_explorer(), {"width": [0.2], "staleness": [4], "clip": [clip]})
    assert len(shown) == len(STOPS_OF_THE_SLIDER) * 2


def test_every_token_of_the_strip_keeps_its_number_within_the_figure():
    panel = token_strip_explorer(staleness=LARGEST_STALENESS, clip=None)
    low, high = panel.picture._canvas.figure.axes[0].get_ylim()
    for p in STOPS:
        view = view_strip(STRIP_RATIOS, p, 0.2, LARGEST_STALENESS, 1.0, None)
        assert low < 0.8 * min(*view.ratios, view.mean)
        assert 1.25 * max(*view.ratios, view.mean) < high


def test_ratios_without_a_logarithm_are_refused():
    with pytest.raises(ValueError, match="at least two positive, finite numbers"):
        token_strip_explorer([1.0, 0.0])


# --- one exploding token ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", PLACES)
@pytest.mark.parametrize("advantage", SIGNS)
def test_values_and_shares_of_the_exploding_token_are_those_of_the_clipped_surrogate(advantage, clip):
    for x in (-20.0, -3.0, -0.1, 0.0, 0.1, 1.5, 12.0):
        view = view_exploding(x, advantage, clip)
        log_ratios = np.array([x, *[0.0] * (TOKENS - 1)])
        for name, p in (("arithmetic", 1.0), ("geometric", 0.0), ("harmonic", -1.0)):
            value = clipped_surrogate(log_ratios, p, advantage, clip, RANGE)
            assert view.values[name] == pytest.approx(abs(value), rel=1e-9)
            pushes = np.abs(slopes(log_ratios, p, advantage, clip, RANGE))
            total = pushes.sum()
            assert view.shares[name] == pytest.approx(pushes[0] / total if total > 1e-9 else 0.0, abs=1e-4)


def test_curves_pass_through_the_values_beside_them():
    for x in GRID[::10].tolist():
        view = view_exploding(x, -1.0, "token")
        place = GRID.tolist().index(x)
        for name, (logs, shares) in view.curves.items():
            assert math.exp(logs[place]) == pytest.approx(view.values[name])
            assert shares[place] == pytest.approx(view.shares[name])


def test_exploding_token_carries_the_arithmetic_mean_and_leaves_the_harmonic_below_its_limit():
    for advantage in SIGNS:
        view = view_exploding(20.0, advantage, None)
        assert view.values["arithmetic"] == pytest.approx((TOKENS - 1 + math.exp(20)) / TOKENS)
        assert view.values["geometric"] == pytest.approx(math.exp(20 / TOKENS))
        assert 1 < view.values["harmonic"] < TOKENS / (TOKENS - 1)
        assert view.shares["arithmetic"] > 0.999
        assert view.shares["geometric"] == pytest.approx(1 / TOKENS)
        assert view.shares["harmonic"] < 1e-8


def test_clip_on_the_tokens_holds_an_exploding_token_for_one_sign_only():
    held, open_side = (view_exploding(20.0, advantage, "token") for advantage in SIGNS)
    assert max(held.values.values()) <= 1.2
    assert max(held.shares.values()) == 0
    assert open_side.values["arithmetic"] > 1e7
    assert open_side.shares["arithmetic"] > 0.999


def test_share_is_0_where_the_clip_blocks_every_token():
    _, share = exploding_value_and_share(torch.tensor([10.0]), 1.0, 1.0, "sequence")
    assert share.tolist() == [0.0]


def test_every_position_of_the_exploding_tokens_controls_draws_and_tells_what_it_shows(sweep):
    shown = sweep(exploding_explorer())
    assert len(shown) == 21 * 2 * 3
    assert len({view.caption for view in shown}) == len(shown)


def test_caption_and_alt_of_the_exploding_token_give_numbers_and_ends():
    view = view_exploding(-10.0, -1.0, "token")
    assert exploding_caption(view).startswith("One token at e^−10, A = −1, clip on the tokens: harmonic 0.97")
    assert "arithmetic from e^−0.0 to e^17.9, share from 0.00 to 1.00" in exploding_alt(view)


# --- the cube --------------------------------------------------------------------------------------------------------


FIRST = {"holder": 2, "pmpo": 1, "pessimistic": -1}  # the first p of those that move it


def test_every_method_stands_in_its_own_cell_and_nowhere_else():
    cells = method_cube(METHODS).cells
    for name, method in METHODS.items():
        objective = method.objective
        shown = f"{name} →" if method.p_schedule else name
        places = [cell for cell, names in cells.items() if shown in names]
        assert places == [(objective.length_weight, objective.clip, FIRST.get(name, objective.p))]


def test_cube_has_every_cell_once_and_counts_the_empty_ones():
    cube = method_cube(METHODS)
    assert cube.exponents == (-1, 0, 1, 2)
    assert len(cube.cells) == 3 * 3 * 4
    taken = {(m.objective.length_weight, m.objective.clip, FIRST.get(n, m.objective.p)) for n, m in METHODS.items()}
    assert cube.empty == 36 - len(taken)


def test_a_new_row_appears_in_the_table_as_page_and_as_text():
    new = dataclasses.replace(METHODS["grpo"], objective=Objective(-3.0, "sequence", (0.5, 2.0), "proportional"))
    page, text = method_cube({**METHODS, "new<": new})._repr_mimebundle_().values()
    assert ">new&lt;</td>" in page
    assert "p = −3</th>" in page
    assert page.count("</td>") == 3 * 3 * 5
    assert "length proportional, clip sequence, p = -3: new<" in text


# --- the notebook's measured claims ----------------------------------------------------------------------------------


def test_blocked_share_falls_as_the_range_widens_so_that_halving_finds_it():
    generator = torch.Generator().manual_seed(0)
    d = 0.3 * torch.randn(64, 6, generator=generator, dtype=torch.float64)
    advantages = torch.randn(64, generator=generator, dtype=torch.float64)
    for p, clip in itertools.product((-1.0, 0.0, 1.0), ("token", "sequence")):
        shares = [
            policy_loss(
                d,
                torch.zeros_like(d),
                advantages,
                torch.ones_like(d),
                Objective(p, clip, (math.exp(-c), math.exp(c))),
                metrics=True,
            ).metrics["blocked_fraction"]
            for c in np.linspace(0, 1.5, 40)
        ]
        assert all(after <= before for before, after in itertools.pairwise(shares))
        assert shares[0] > 0.3
        assert shares[-1] < 0.01


# --- a real answer ---------------------------------------------------------------------------------------------------


def test_pushes_on_a_real_answer_are_those_of_the_loss():
    recorded = load_recorded_ratios()
    sample = recorded.at("start of training", 16)
    row = 8
    for p, clip, advantage in itertools.product((-1.0, 0.0, 1.0), (None, "token", "sequence"), (1.0, -1.0)):
        view = view_answer_pushes(recorded, "start of training", row, p, 0.2, 16, advantage, clip)
        d = sample.log_ratios[row : row + 1].clone().requires_grad_()
        objective = Objective(p, clip, (math.exp(-0.2), math.exp(0.2)) if clip else None)
        batch = d, torch.zeros_like(d), torch.tensor([advantage]).double(), sample.completion_mask[row : row + 1]
        (gradient,) = torch.autograd.grad(policy_loss(*batch, objective).loss, d)
        np.testing.assert_allclose(view.step.pushes, -gradient[sample.completion_mask[row : row + 1]], atol=1e-12)


def test_panel_of_a_real_answer_shows_every_position(sweep):
    panel = answer_pushes_explorer(load_recorded_ratios(), "start of training", 736)
    samples = {"p": [-math.inf, -1.0, 0.0, 2.0], "width": [0.05, 0.8], "staleness": [0, 1, 16]}
    sweep(panel, samples, still=["width"])


def test_picture_of_the_clip_has_words():
    assert "flat above 1.2" in clipped_surrogate_picture()._repr_mimebundle_()["text/html"]


def test_picture_of_the_range_says_that_early_the_exponent_turns_more_than_any_range_and_late_it_does_not():
    recorded = load_recorded_ratios()
    for stage, is_early in (("start of training", True), ("after 40 rollouts", False)):
        sample = recorded.at(stage, 4)
        free = gradient(sample, Objective(0.0))
        exponent = cosine(gradient(sample, Objective(-1.0)), gradient(sample, Objective(1.0)))
        narrow = cosine(free, gradient(sample, Objective(0.0, "sequence", METHODS["gspo"].objective.clip_range)))
        assert (exponent < narrow) == is_early
    assert "no clip" not in range_picture({"one": sample}).picture.caption_text


def test_share_outside_a_fixed_range_falls_with_length_as_the_normal_law_says():
    for n in (4, 16, 64, 256):
        assert outside(n) == pytest.approx(2 * norm.sf(0.2 * n**0.5))
    assert "0.69, 0.42, 0.11, 0.001" in range_by_length().picture.caption_text


def test_every_position_of_the_ranges_slider_draws_and_tells_what_it_shows(sweep):
    sweep(range_by_length())
