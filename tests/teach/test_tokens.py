"""Shaded tokens say by colour what the numbers say, as text and in a canvas."""

import io

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from hmpo_lib.teach import Canvas, draw_tokens, shaded_tokens, stacked
from hmpo_lib.teach.plotting import ORANGE, PURPLE
from hmpo_lib.teach.tokens import shade


def test_shade_is_the_sign_by_hue_and_the_size_by_strength():
    assert shade(0.3, 0.3) == ORANGE.lower()
    assert shade(-0.3, 0.3) == PURPLE.lower()
    assert shade(9.0, 0.3) == shade(0.3, 0.3)
    strength = [1 - min(to_rgb(shade(value, 1.0))) for value in (0.0, 0.25, 0.5, 1.0)]
    assert strength == sorted(strength)
    assert strength[0] == 0


def test_black_letters_stand_out_on_every_shade():
    for value in np.linspace(-1, 1, 21):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(shade(value, 1.0))]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]  # WCAG 2.1, relative luminance
        assert (luminance + 0.05) / 0.05 >= 4.5


def test_text_of_an_answer_is_escaped_and_read_without_colour():
    bundle = shaded_tokens(["<", "b"], [0.1, -0.1], limit=0.1, prompt="1&2=", note="wrong")._repr_mimebundle_()
    assert bundle["text/plain"] == "1&2=<b  wrong"
    assert "&lt;</span>" in bundle["text/html"]
    assert "1&amp;2=" in bundle["text/html"]


def test_answers_are_stacked_in_order():
    lines = [shaded_tokens([word], [0.0], limit=1.0) for word in ("one", "two")]
    assert stacked(lines)._repr_mimebundle_()["text/plain"] == "one\ntwo"


@pytest.mark.parametrize(("values", "limit"), [([1.0], 1.0), ([1.0, 2.0], 0.0)])
def test_what_cannot_be_shaded_is_refused(values, limit):
    with pytest.raises(ValueError, match="expected"):
        shaded_tokens(["a", "b"], values, limit=limit)


def pixels(canvas):
    return np.asarray(Image.open(io.BytesIO(canvas.png())).convert("RGB"), dtype=int)


def test_strip_moves_its_shades_arrows_and_strikes():
    canvas = Canvas(400, 120)
    move = draw_tokens(canvas, canvas.figure.add_axes((0, 0, 1, 1)), list("ab"), limit=1.0, arrow_limit=1.0)
    move([1.0, -1.0], [1.0, -1.0])
    first = pixels(canvas)
    height, width, _ = first.shape
    reddest = lambda box: np.abs(box - np.array([int(255 * c) for c in to_rgb(ORANGE)])).sum(axis=2).min()  # noqa: E731
    assert reddest(first[:, : width // 2]) < 10 < reddest(first[:, width // 2 :])
    dark = first.sum(axis=2) < 60
    assert dark[: height // 3, : width // 2].any()  # an arrow up over the first
    assert not dark[: height // 3, width // 2 :].any()
    assert dark[-height // 3 :, width // 2 :].any()  # and down under the second
    move([1.0, -1.0], [1.0, -1.0], struck=[1])
    assert (pixels(canvas) != first).any()
    move([1.0, -1.0], [1.0, -1.0])
    assert (pixels(canvas) == first).all()
