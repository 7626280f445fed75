"""The panels and the moving picture of the mean iterations."""

import base64
import decimal
import io
import itertools
import math
import re
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image, ImageSequence
from scipy.special import agm
from scipy.stats import gmean, hmean

from hmpo_lib import arithmetic_harmonic_mean
from hmpo_lib.teach import Canvas
from hmpo_lib.teach.animations import Animation
from hmpo_lib.teach.mean_iterations import balance_explorer, pincer_animation, pincer_explorer, rectangles
from hmpo_lib.teach.mean_iterations.balance_panel import STOPS, balance_caption, balance_verdict, view_balance
from hmpo_lib.teach.mean_iterations.pincer_animation import common_start, count_digits, decimals
from hmpo_lib.teach.mean_iterations.pincer_panel import STEPS, pincer_alt, pincer_caption, view_pincer

PAIRS = [(4.0, 9.0), (1.0, 2.0), (0.1, 20.0), (19.9, 20.0), (0.1, 0.2)]


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_pincer_meets_at_the_root_of_the_product_and_gausss_pair_at_scipys_agm(pair):
    assert view_pincer(*pair).limit == pytest.approx(math.sqrt(pair[0] * pair[1]), rel=1e-15)
    assert view_pincer(*pair, "geometric").limit == pytest.approx(agm(*pair), rel=1e-15)
    assert view_pincer(*pair, "geometric").limit > view_pincer(*pair).limit


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_right_digits_double_at_every_step_of_the_pincer(pair):
    digits = view_pincer(*pair).digits
    assert len(digits) == STEPS + 1
    assert digits[1:] == pytest.approx([2 * before for before in digits[:-1]], rel=1e-9)
    x, g = max(pair), math.sqrt(pair[0] * pair[1])
    assert digits[0] == pytest.approx(-math.log10((x - g) / (x + g)), rel=1e-9)


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_right_digits_of_gausss_pair_at_least_double_once_one_is_right(pair):
    digits = view_pincer(*pair, "geometric").digits
    late = [(before, after) for before, after in itertools.pairwise(digits) if before > 1]
    assert late
    assert all(2 * before < after < 2 * before + 1 for before, after in late)


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_jaws_never_open_and_the_order_of_the_start_values_does_not_matter(pair):
    for partner in ("harmonic", "geometric"):
        view = view_pincer(*pair, partner)
        assert all(after <= before for before, after in itertools.pairwise(view.upper))
        assert all(after >= before for before, after in itertools.pairwise(view.lower))
        assert view == view_pincer(*reversed(pair), partner)


def test_pincer_caption_and_alt_name_the_pair_the_meeting_point_and_the_digits():
    view = view_pincer(4.0, 9.0)
    assert pincer_caption(view) == (
        "With the arithmetic and the harmonic mean, 9 and 4 meet at 6. "
        "Right digits: 0.7, 1.4, 2.8, 5.6, 11, 22, 45, 89."
    )
    assert "close in on each other: 9 and 4; 6.5 and 5.5385" in pincer_alt(view)
    assert pincer_alt(view).endswith(pincer_caption(view))


def test_numbers_in_the_exercises_insights_are_the_iterations_own():
    # "From 4 and 9 it takes 5 steps for 15 digits, and 11 for a thousand."
    digits = view_pincer(4.0, 9.0).digits
    assert digits[4] < 15 <= digits[5]
    assert digits[0] * 2**10 < 1000 <= digits[0] * 2**11


def test_equal_numbers_are_said_to_have_met():
    assert pincer_caption(view_pincer(3.0, 3.0)) == "Both numbers are 3, and so is every mean of them."


def test_unknown_partner_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'arithmetic': expected one of harmonic, geometric"):
        view_pincer(1.0, 2.0, "arithmetic")


def test_every_position_of_the_pincers_controls_draws_and_tells_what_it_shows(sweep):
    shown = sweep(pincer_explorer(9.0, 4.0))
    assert any(view.values["a"] == view.values["b"] for view in shown)


def test_means_of_the_balance_panel_agree_with_scipy():
    rng = np.random.default_rng(0)
    for numbers in np.exp(rng.normal(size=(50, 3))).tolist():
        view = view_balance(numbers)
        assert view.harmonic == pytest.approx(hmean(numbers))
        assert view.geometric == pytest.approx(gmean(numbers))
        assert view.arithmetic == pytest.approx(np.mean(numbers))
        assert view.meeting_point == pytest.approx(math.sqrt(hmean(numbers) * np.mean(numbers)))


@pytest.mark.parametrize("tenths", [range(1, 16), range(82, 101)], ids=str)
def test_balance_is_claimed_for_log_symmetric_triples_of_the_sliders_and_for_no_others(tenths):
    found = 0
    for x, y, z in itertools.combinations_with_replacement(tenths, 3):
        e1, e2, e3 = x + y + z, x * y + y * z + z * x, x * y * z
        balanced = e1**3 * e3 == e2**3  # A · H = e₁ e₃ / e₂ against G² = e₃^(2/3), in whole numbers
        assert balanced == (x * z == y * y)
        assert (balance_verdict(view_balance((x / 10, y / 10, z / 10))) == "they meet at M₀") == balanced
        found += balanced
    assert found >= len(tenths)


def test_two_numbers_always_balance():
    for x, y in itertools.combinations(np.geomspace(0.1, 10, 30).tolist(), 2):
        assert balance_verdict(view_balance((x, y))) == "they meet at M₀"


def test_caption_of_one_one_eight_has_the_three_means_and_says_by_how_much_they_miss():
    assert balance_caption(view_balance((1.0, 1.0, 8.0))) == (
        "Of 1, 1, 8: M₋₁ = 1.4118, M₀ = 2.0000, M₁ = 3.3333. M₁ and M₋₁ iterate to 2.1693: they meet 8.5 % above M₀."
    )
    assert balance_verdict(view_balance((1.0, 8.0, 8.0))).endswith("below M₀")  # the mirror image


def test_of_1_1_100_they_meet_half_as_high_again_and_half_way_between_the_outer_means():
    view = view_balance((1.0, 1.0, 100.0))
    assert balance_verdict(view) == "they meet 53 % above M₀"
    assert [view.place(x) for x in view.numbers] == pytest.approx([0, 0, 1])  # the axis that they share
    assert view.place(view.geometric) == pytest.approx(1 / 3)  # the average of the three places
    outer = view.place(view.harmonic), view.place(view.arithmetic)
    assert view.place(view.meeting_point) == pytest.approx(sum(outer) / 2)


def test_sliders_of_the_balance_panel_hold_triples_that_balance_and_the_verdict_knows_each():
    found = 0
    for x, y, z in itertools.combinations_with_replacement([Fraction(str(stop)) for stop in STOPS], 3):
        balanced = x * z == y * y
        assert (balance_verdict(view_balance((float(x), float(y), float(z)))) == "they meet at M₀") == balanced
        found += balanced and x < z
    assert found > 20


def test_rectangles_keep_their_area_and_end_nearly_square():
    still = rectangles(2, 1, steps=2)._repr_mimebundle_()["text/plain"]
    sides = [(Fraction(a), Fraction(b)) for a, b in re.findall(r"([\d/]+) by ([\d/]+)", still)]
    assert sides == [(2, 1), (Fraction(3, 2), Fraction(4, 3)), (Fraction(17, 12), Fraction(24, 17))]
    assert {a * b for a, b in sides} == {2}


def test_every_position_of_the_balance_panels_controls_draws_and_tells_what_it_shows(sweep):
    sweep(balance_explorer(1.0, 1.0, 8.0))


def test_moving_picture_is_slow_small_and_comes_to_rest():
    film = pincer_animation(1, 2)
    picture = Image.open(io.BytesIO(film.png))
    durations = [frame.info["duration"] for frame in ImageSequence.Iterator(picture)]
    assert picture.info["loop"] == 3
    assert durations[-1] >= 3000
    assert min(durations) >= 80
    assert len(film.png) + len(film.last_frame) < 100_000


def test_frames_of_the_moving_picture_look_like_the_canvas_and_the_last_one_is_what_rests():
    canvas = Canvas(200, 100)
    axes = canvas.figure.add_axes((0.2, 0.2, 0.7, 0.7))
    axes.set(xlim=(0, 1), ylim=(0, 1))
    dot = canvas.animate(axes.plot([], [], "o", color="#0072B2")[0])
    places = [0.2, 0.5, 0.5, 0.8]

    def draw(x):
        dot.set_data([x], [0.5])

    film = Animation(canvas, draw, [(x, 100) for x in places], caption="c", alt="a")
    frames = [frame.convert("L") for frame in ImageSequence.Iterator(Image.open(io.BytesIO(film.png)))]
    end, *frames = frames
    assert end.tobytes() == frames[-1].tobytes()  # whoever sees a still sees the end
    assert len(frames) == len(set(places))  # a frame like the one before it lengthens that one
    for x, frame in zip(sorted(set(places)), frames, strict=True):
        draw(x)
        drawn = Image.open(io.BytesIO(canvas.png())).convert("L")
        difference = np.abs(np.asarray(frame, float) - np.asarray(drawn, float))
        assert difference.max() <= 24
        assert difference.mean() < 0.5
    assert Image.open(io.BytesIO(film.last_frame)).convert("L").tobytes() == frames[-1].tobytes()


def test_moving_picture_needs_no_script_has_alt_text_and_a_still_for_those_who_want_less_motion():
    bundle = pincer_animation(1, 2)._repr_mimebundle_()
    assert "<script" not in bundle["text/html"]
    source = re.search('<source media="([^"]*)" srcset="data:image/png;base64,([^"]*)">', bundle["text/html"])
    assert source.group(1) == "(prefers-reduced-motion: reduce)"
    assert getattr(Image.open(io.BytesIO(base64.b64decode(source.group(2)))), "n_frames", 1) == 1
    image = re.search('<img alt="([^"]*)" .*src="data:image/png;base64,([^"]*)">', bundle["text/html"])
    assert image.group(1).endswith("from the start on: 0, 1, 3, 6, 12.")
    assert Image.open(io.BytesIO(base64.b64decode(image.group(2)))).n_frames > 10
    assert bundle["text/plain"].startswith("4 steps of arithmetic and harmonic mean from 1 and 2")


def test_one_frame_is_no_animation():
    with pytest.raises(ValueError, match="at least two"):
        Animation(Canvas(100, 50), print, [(0, 100)], caption="", alt="")


@pytest.mark.parametrize(("a", "b"), [(2, 2), (0, 1), (1, 100), (1.5, 2)])
def test_moving_picture_refuses_what_does_not_fit_into_its_table(a, b):
    with pytest.raises(ValueError, match="two different whole numbers from 1 to 99"):
        pincer_animation(a, b)


def test_decimals_are_those_of_the_decimal_module_cut_off():
    history = arithmetic_harmonic_mean(Fraction(99), Fraction(1), max_steps=5).history
    for x in itertools.chain(*history):
        with decimal.localcontext(prec=40, rounding=decimal.ROUND_FLOOR):
            exact = decimal.Decimal(x.numerator) / decimal.Decimal(x.denominator)
            assert decimals(x).strip() == str(exact.quantize(decimal.Decimal("1e-14")))


@pytest.mark.parametrize(
    ("x", "y", "same", "digits"),
    [
        ("1.50", "1.33", "1.", 1),
        (" 9.9", "10.1", "", 0),
        ("12.34", "12.34", "12.34", 4),
        ("1.4142", "1.4139", "1.41", 3),
    ],
)
def test_common_start_ends_at_the_first_difference(x, y, same, digits):
    assert common_start(x, y) == same
    assert count_digits(same) == digits
