"""Canvases, panels and predictions, without a browser."""

import gc
import io
import math
import re
import subprocess
import sys
import threading
import tracemalloc

import ipywidgets as widgets
import numpy as np
import pytest
from PIL import Image

from hmpo_lib.teach import MEAN_STYLES, Canvas, Panel, Still, label_ticks, p_label, p_slider, predict, slider, tidy_axes
from hmpo_lib.teach.panels import FIGURE_SPACE, WIDGET_VIEW
from hmpo_lib.teach.plotting import quick_png, signed

VIEW = "application/vnd.jupyter.widget-view+json"


def line_canvas():
    canvas = Canvas(300, 120)
    axes = canvas.figure.subplots()
    tidy_axes(axes, title="t", xlim=(0, 1), ylim=(-10, 10))
    return canvas, canvas.animate(axes.plot([0, 1], [0, 0])[0])


def square_panel(compute=lambda x: x * x):
    canvas, line = line_canvas()
    return Panel(
        {"x": slider(widgets.FloatSlider, "x", value=1.0, min=-3.0, max=3.0)},
        compute,
        canvas,
        draw=lambda square: line.set_ydata([0, square]),
        caption=lambda square: f"x² = {square:g} & more",
        alt=lambda square: f'a line "up" to {square:g}',
    )


def test_words_for_what_is_drawn_stand_before_the_captions_numbers():
    canvas, line = line_canvas()
    control = slider(widgets.FloatSlider, "x", value=1.0, min=-3.0, max=3.0)
    draw = line.set_ydata
    panel = Panel({"x": control}, lambda x: [0, x], canvas, draw=draw, caption=lambda y: f"at {y[1]:g}", alt="A line.")
    control.value = 2.0
    assert panel.picture.alt_text == "A line. at 2"


def refuse_negative(x):
    if x < 0:
        raise ValueError(f"x = {x}: give a positive number")
    return x * x


def image_source(panel):
    return re.search('src="([^"]*)"', panel.picture.image.value).group(1)


def test_redraw_over_the_cached_background_equals_a_first_draw():
    moved, line = line_canvas()
    moved.png()
    line.set_ydata([0, 5])
    fresh, other = line_canvas()
    other.set_ydata([0, 5])
    assert moved.png() == fresh.png()


def test_moving_parts_can_be_left_out_and_come_back():
    canvas, _ = line_canvas()
    with_line = canvas.png()
    assert canvas.png(moving=False) != with_line
    assert canvas.png() == with_line


def test_changed_background_shows_once_the_old_one_is_forgotten():
    canvas, _ = line_canvas()
    before = canvas.png()
    canvas.figure.axes[0].set_title("another")
    assert canvas.png() == before
    canvas.forget_background()
    assert canvas.png() != before


@pytest.mark.parametrize("small", [False, True])
def test_png_has_the_promised_size(small):
    canvas = Canvas(301, 97, scale=2.0)
    assert Image.open(io.BytesIO(canvas.png(small=small))).size == (602, 194)


def test_quick_png_is_the_same_pixel_by_pixel_as_pillow_reads_it():
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 4), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(quick_png(pixels)))), pixels)


def test_small_png_is_smaller_and_looks_the_same():
    canvas, _ = line_canvas()
    large, small = canvas.png(), canvas.png(small=True)
    assert len(small) < len(large)
    pixels = (Image.open(io.BytesIO(png)).convert("L").tobytes() for png in (large, small))
    assert max(abs(a - b) for a, b in zip(*pixels, strict=True)) <= 8


def test_drawing_leaves_pyplot_alone():
    program = (
        "import sys, hmpo_lib.teach.start_here as t; t.start_panel(); sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_named_means_differ_by_more_than_colour():
    looks = [(style.linestyle, style.marker) for style in MEAN_STYLES.values()]
    assert len(set(looks)) == len(looks)
    inner = [MEAN_STYLES[name] for name in ("harmonic", "geometric", "arithmetic")]
    assert len({style.colour for style in inner}) == len({style.linestyle for style in inner}) == 3


def test_ticks_stand_exactly_where_they_were_put():
    axes = Canvas(300, 120).figure.subplots()
    axes.set_xscale("log")
    tidy_axes(axes, xlim=(0.3, 3))
    label_ticks(axes, [0.5, 1, 2], axis="x")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.5", "1", "2"]
    assert len(axes.get_xticks(minor=True)) == 0


def test_moving_a_control_changes_picture_caption_and_alt_and_moving_back_restores_them():
    panel = square_panel()
    first = panel.picture.image.value, panel.picture.caption.value
    panel.controls["x"].value = 2.0
    assert panel.picture.caption_text == "x² = 4 & more"
    assert panel.picture.alt_text == 'a line "up" to 4'
    second = panel.picture.image.value, panel.picture.caption.value
    assert all(a != b for a, b in zip(first, second, strict=True))
    panel.controls["x"].value = 1.0
    assert (panel.picture.image.value, panel.picture.caption.value) == first


def test_thousand_moves_leave_nothing_behind():
    panel = square_panel()
    figure, x = panel.picture._canvas.figure, panel.controls["x"]

    def held():
        gc.collect()
        models = len(widgets.Widget.get_manager_state()["state"])
        return len(figure.findobj()), models, len(gc.get_objects()), tracemalloc.get_traced_memory()[0]

    def move(times):
        for k in range(times):
            x.value = (k % 21 - 10) / 4
        panel.reset_button.click()

    tracemalloc.start()
    try:
        move(100)
        artists, models, objects, memory = held()
        move(1000)
        artists_after, models_after, objects_after, memory_after = held()
    finally:
        tracemalloc.stop()
    assert (artists_after, models_after) == (artists, models)
    assert objects_after - objects < 100  # callbacks, artists or lists: not one in ten moves
    assert memory_after - memory < 300_000  # bytes, which Python's own cache of names may fill; a picture has 5,000


def test_image_has_a_fixed_size_and_its_words_are_escaped():
    panel = square_panel()
    assert 'width="300" height="120"' in panel.picture.image.value
    assert 'alt="a line &quot;up&quot; to 1"' in panel.picture.image.value
    assert panel.picture.caption.value == "x² = 1 &amp; more"


def test_the_last_picture_is_that_of_the_controls_whichever_thread_computes_longer():
    begun, going = threading.Event(), threading.Event()

    def compute(x):
        if x == 2.0:  # the first move takes long
            begun.set()
            going.wait(timeout=10)
        return x

    panel = square_panel(compute)

    def move(value):
        panel.controls["x"].value = value

    first = threading.Thread(target=move, args=(2.0,))
    first.start()
    assert begun.wait(timeout=10)
    second = threading.Thread(target=move, args=(3.0,))
    second.start()
    second.join(timeout=0.3)  # where it could overtake the first
    going.set()
    first.join()
    second.join()
    assert panel.picture.caption_text == "x² = 3 & more"


def test_first_draw_raises():
    with pytest.raises(ZeroDivisionError):
        square_panel(lambda x: x / 0)


def test_direct_redraw_raises_and_a_callback_shows_the_error_instead():
    panel = square_panel(refuse_negative)
    before = image_source(panel)
    panel.controls["x"].value = -1.0
    assert panel.status.text == "⚠ ValueError: x = -1.0: give a positive number"
    assert "⚠ ValueError" in panel.status.widget.value
    assert image_source(panel) == before
    with pytest.raises(ValueError, match="positive"):
        panel.redraw()


def test_next_good_move_clears_the_status_line():
    panel = square_panel(refuse_negative)
    panel.controls["x"].value = -1.0
    panel.controls["x"].value = 2.0
    assert panel.status.text == panel.status.widget.value == ""
    assert panel.picture.caption_text == "x² = 4 & more"


def test_error_while_drawing_does_not_block_the_next_draw():
    panel = square_panel(lambda x: "word" if x < 0 else x)
    panel.controls["x"].value = -1.0
    assert "ValueError" in panel.status.text
    panel.controls["x"].value = 2.0
    assert panel.status.text == ""


def test_interrupt_is_not_swallowed_by_the_status_line():
    def interrupted(x):
        if x < 0:
            raise KeyboardInterrupt
        return x

    panel = square_panel(interrupted)
    with pytest.raises(KeyboardInterrupt):
        panel.controls["x"].value = -1.0


def test_reset_restores_every_control_with_one_draw():
    drawn = []

    def compute(x, y):
        drawn.append((x, y))
        return x + y

    canvas, line = line_canvas()
    panel = Panel(
        {name: slider(widgets.FloatSlider, name, value=value) for name, value in (("x", 1.0), ("y", 2.0))},
        compute,
        canvas,
        draw=lambda total: line.set_ydata([0, total]),
        caption=str,
        alt=str,
    )
    panel.controls["x"].value, panel.controls["y"].value = 5.0, 6.0
    drawn.clear()
    panel.reset_button.click()
    assert drawn == [(1.0, 2.0)]
    assert panel.values == {"x": 1.0, "y": 2.0}
    assert panel.picture.caption_text == "3.0"


def test_reset_clears_an_error():
    panel = square_panel(refuse_negative)
    panel.controls["x"].value = -1.0
    panel.reset_button.click()
    assert panel.status.text == ""


def test_page_without_a_kernel_gets_picture_alt_and_caption():
    panel = square_panel()
    panel.controls["x"].value = 2.0
    bundle = panel._repr_mimebundle_()
    assert set(bundle) == {VIEW, "text/html", "text/plain"}
    assert bundle[VIEW]["model_id"] == panel.widget.model_id
    assert 'alt="a line &quot;up&quot; to 4" width="300" height="120"' in bundle["text/html"]
    assert 'src="data:image/png;base64,iVBOR' in bundle["text/html"]
    assert "x² = 4 &amp; more" in bundle["text/html"]
    assert bundle["text/plain"] == "x² = 4 & more"


def test_controls_are_sixty_percent_wide():
    assert square_panel().controls["x"].layout.width == "60%"
    assert p_slider().layout.width == "60%"


def test_p_slider_reaches_both_infinities_and_names_its_stops():
    stops = {value: label.strip("\u2007") for label, value in p_slider().options}
    assert list(stops) == sorted(stops)
    assert {value: stops[value] for value in (-math.inf, -1.0, 0.0, 1.0, math.inf)} == {
        -math.inf: "min, p = −∞",
        -1.0: "harmonic (HMPO), p = −1",
        0.0: "geometric (GSPO), p = 0",
        1.0: "arithmetic (GRPO), p = 1",
        math.inf: "max, p = +∞",
    }
    assert stops[-0.25] == p_label(-0.25) == "p = −0.25"


def test_name_of_an_exponent_stands_whole_in_front_of_the_track_which_stays_where_it_is():
    control = p_slider()
    widths = set()
    for label, value in control.options:
        control.value = value
        assert control.description == f"exponent: {label.strip(FIGURE_SPACE)}"
        widths.add(control.style.description_width)
    assert len(widths) == 1
    assert not control.readout
    assert slider(widgets.SelectionSlider, "steps", options=[("4", 4), ("8", 8)]).readout


def test_p_slider_refuses_a_value_between_its_stops():
    with pytest.raises(ValueError, match=r"0\.3 is no stop"):
        p_slider(value=0.3)


@pytest.mark.parametrize("value", [0.3, -0.7, 0.6])
def test_p_slider_stops_at_every_multiple_of_its_step_as_one_writes_it(value):
    assert p_slider(value=value, largest=1.0, step=0.1).value == value


def test_a_push_that_is_no_number_is_not_shown_as_0():
    assert signed(math.nan) == "+nan"


@pytest.fixture
def slow_mode(monkeypatch):
    monkeypatch.delenv("HMPO_FAST", raising=False)


@pytest.mark.usefixtures("slow_mode")
def test_prediction_hides_the_answer_until_one_is_chosen_and_shows_it_once():
    panel = square_panel()
    question = predict("How much?", ["1", "2"], panel)
    assert panel.widget not in question.widget.children
    question.choice.value = "2"
    question.choice.value = "1"
    assert question.widget.children.count(panel.widget) == 1


@pytest.mark.usefixtures("slow_mode")
def test_a_prediction_may_reveal_a_drawing_that_does_not_move():
    still = Still(Canvas(40, 30), caption="Two.", alt="Nothing.")
    question = predict("How much?", ["1", "2"], still)
    question.choice.value = "2"
    assert question.widget.children[-1] is still.widget
    assert "Two." in still.picture.caption.value


def test_choice_stands_in_words_beside_the_answer_and_follows_the_buttons():
    question = predict("How much?", ["<1", "2"], "Two.")
    question.choice.value = "<1"
    assert question.widget.children[2] is question.chosen
    assert "You chose: <b>&lt;1</b>" in question.chosen.value
    question.choice.value = "2"
    assert "You chose: <b>2</b>" in question.chosen.value


def test_prediction_is_revealed_in_fast_mode(monkeypatch):
    monkeypatch.setenv("HMPO_FAST", "1")
    assert predict("How much?", ["1", "2"], "Two.").answered


@pytest.mark.usefixtures("slow_mode")
def test_prediction_on_a_page_without_a_kernel_is_folded_away():
    bundle = predict("How <much>?", ["1", "2"], square_panel())._repr_mimebundle_()
    question, folded = bundle["text/html"].split("<details>")
    assert "How &lt;much&gt;?" in question
    assert "<img" not in question
    assert "<img" in folded
    assert WIDGET_VIEW in bundle
    assert bundle["text/plain"] == "How <much>? 1 / 2"


def test_a_drawing_that_does_not_move_has_picture_caption_and_words_without_a_kernel():
    canvas = Canvas(200, 100)
    canvas.figure.subplots().plot([0, 1], [0, 1])
    bundle = Still(canvas, caption="A < B", alt="a line")._repr_mimebundle_()
    assert bundle["text/plain"] == "A < B"
    assert 'alt="a line"' in bundle["text/html"]
    assert "<figcaption>A &lt; B</figcaption>" in bundle["text/html"]
    assert "data:image/png;base64," in bundle["text/html"]
