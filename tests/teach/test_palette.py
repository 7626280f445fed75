"""Colours can be told from white: lines at 3 to 1, letters at 4.5 to 1 (WCAG 2.2, 1.4.11 and 1.4.3)."""

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from hmpo_lib.teach import plotting
from hmpo_lib.teach.plotting import BLACK, BLUE, GREEN, GREY, INKS, MEAN_STYLES, PURPLE, VERMILLION, Canvas

PALETTE = [getattr(plotting, name) for name in ("ORANGE", "SKY_BLUE", "YELLOW")] + [BLUE, GREEN, PURPLE, VERMILLION]


def luminance(colour):
    """Relative luminance of sRGB (WCAG 2.2)."""
    parts = np.array(to_rgb(colour))
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(colour, ground="white"):
    lighter, darker = sorted((luminance(colour), luminance(ground)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_that_of_the_standards_own_examples():
    assert contrast("black") == pytest.approx(21)
    assert contrast("#777777") == pytest.approx(4.48, abs=0.01)  # the grey that just fails, and
    assert contrast("#767676") == pytest.approx(4.54, abs=0.01)  # the one that just passes


@pytest.mark.parametrize("colour", [style.colour for style in MEAN_STYLES.values()] + [BLACK, GREY, PURPLE])
def test_a_line_that_stands_for_a_mean_can_be_told_from_white(colour):
    assert contrast(colour) >= 3


@pytest.mark.parametrize("colour", [*PALETTE, BLACK, GREY])
def test_letters_in_any_colour_of_the_palette_are_drawn_in_an_ink_that_can_be_read(colour):
    assert contrast(INKS.get(colour, colour)) >= 4.5
    canvas = Canvas(200, 100)
    axes = canvas.figure.subplots()
    still = axes.text(0.1, 0.5, "still", color=colour)
    moving = canvas.animate(axes.text(0.5, 0.5, "moving", color="black"))
    canvas.png()
    moving.set_color(colour)
    canvas.png()
    assert contrast(still.get_color()) >= 4.5
    assert contrast(moving.get_color()) >= 4.5


def test_letters_in_white_stay_white():
    canvas = Canvas(200, 100)
    letters = canvas.figure.text(0.5, 0.5, "on a dark patch", color="white")
    canvas.png()
    assert letters.get_color() == "white"


def test_no_letters_are_set_so_small_that_in_full_size_they_have_less_than_nine_pixels():
    package = Path(plotting.__file__).parent
    sizes = [
        float(size)
        for path in package.rglob("*.py")
        for size in re.findall(r"(?:fontsize|labelsize)=(\d+(?:\.\d+)?)", path.read_text(encoding="utf-8"))
    ]
    assert len(sizes) > 50
    assert min(sizes) * 100 / 72 >= 9  # points at 100 dots per inch
