"""Panels and runs in the book: which pictures are drawn, and that they are the canvas's own, pixel by pixel."""

import asyncio
import base64
import io
import json
import math

import ipywidgets as widgets
import numpy as np
import pytest
from PIL import Image

from hmpo_lib.teach import Canvas, LiveRun, Panel, p_slider, predict, slider
from hmpo_lib.teach.frames import MOST_FRAMES, choices_of
from hmpo_lib.teach.panels import WIDGET_VIEW


@pytest.fixture
def book(tmp_path, monkeypatch):
    """The folder of the frames, while the book is built."""
    monkeypatch.setenv("HMPO_BOOK", str(tmp_path))
    return tmp_path


def toggle(*values):
    return widgets.ToggleButtons(options=[(f"the {value}", value) for value in values], value=values[0])


def bar_panel(controls=None, **options):
    canvas = Canvas(200, 100)
    axes = canvas.figure.subplots()
    axes.set(xlim=(-10, 10), ylim=(-1, 1))
    line = canvas.animate(axes.plot([0, 0], [-1, 1], linewidth=5)[0])
    return Panel(
        controls or {"x": slider(widgets.IntSlider, "place", value=1, min=-2, max=3)},
        lambda **values: sum(values.values()),
        canvas,
        draw=lambda total: line.set_xdata([total, total]),
        caption=lambda total: f"at {total:g}",
        alt=lambda total: f"a line at {total:g}",
        **options,
    )


def frames_in(folder):
    """The data that the page's script gets, of the only figure."""
    (script,) = folder.glob("*.js")
    head, data = script.read_text(encoding="utf-8").split("=", 1)
    assert head == f'hmpoFrames["{script.stem}"]'
    return json.loads(data.removesuffix(";"))


def decoded(url):
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def test_a_frame_over_the_background_is_the_canvas_pixel_by_pixel(book):
    panel = bar_panel()
    panel.static_bundle()
    data = frames_in(book)
    background = np.asarray(decoded(data["background"]).convert("RGBA"))
    for k, x in enumerate(range(-2, 4)):
        frame = np.asarray(decoded(data["frames"][data["order"][k]]).convert("RGBA"))
        shown = np.where(frame[..., 3:] > 0, frame, background)[..., :3]
        drawn, caption, alt = panel.picture.snapshot(x)
        assert (shown == drawn).all()
        assert (data["captions"][k], data["alts"][k]) == (caption, alt) == (f"at {x}", f"a line at {x}")


def test_every_stop_of_a_slider_is_one_of_the_book_and_the_start_is_the_panels(book):
    bar_panel().static_bundle()
    (control,) = frames_in(book)["controls"]
    assert control == {
        "label": "place", "kind": "range", "stops": ["−2", "−1", "0", "1", "2", "3"], "start": 3, "titled": True
    }  # fmt: skip


def test_the_last_control_moves_fastest_and_equal_pictures_are_stored_once(book):
    bar_panel({"x": slider(widgets.IntSlider, "x", value=0, min=0, max=2), "y": toggle(0, 1)}).static_bundle()
    data = frames_in(book)
    assert data["captions"] == ["at 0", "at 1", "at 1", "at 2", "at 2", "at 3"]
    assert data["order"] == [0, 1, 1, 2, 2, 3]
    assert len(data["frames"]) == 4
    assert [control["kind"] for control in data["controls"]] == ["range", "radio"]


def test_after_the_frames_the_panel_shows_what_it_showed(book):
    panel = bar_panel()
    before = panel.picture.image.value
    still = panel.static_bundle()["text/html"]
    assert panel.picture.image.value == before
    assert still == panel.static_bundle()["text/html"]  # the frames have the same name, too


def test_a_page_of_the_book_has_no_widgets_and_a_page_of_the_lab_no_frames(book, monkeypatch):
    assert WIDGET_VIEW not in bar_panel()._repr_mimebundle_()
    assert 'data-frames="' in predict("Where?", ["here", "there"], bar_panel())._repr_mimebundle_()["text/html"]
    monkeypatch.delenv("HMPO_BOOK")
    bundle = bar_panel()._repr_mimebundle_()
    assert WIDGET_VIEW in bundle
    assert "frames" not in bundle["text/html"]


def test_stops_of_the_authors_choice_are_the_only_ones_and_get_their_labels():
    controls = {"p": p_slider(value=0.0), "sign": toggle(1, -1)}
    initial = {"p": 0.0, "sign": 1}
    (p, sign), fixed = choices_of(controls, initial, {"p": [-math.inf, 0.0, 1.0]})
    assert p.stops == ["min, p = −∞", "geometric (GSPO), p = 0", "arithmetic (GRPO), p = 1"]
    assert (p.label, p.start, sign.stops, fixed) == ("exponent", 1, ["the 1", "the -1"], "")
    (p,), fixed = choices_of(controls, initial, {"sign": [1]})
    assert len(p.stops) == 43
    assert fixed == "sign the 1"


def test_a_slider_that_names_its_long_option_in_front_keeps_its_own_name():
    options = [("a long name of an option   ", 0), ("another name, as long     ", 1)]
    control = slider(widgets.SelectionSlider, "kind", options=options, value=0)
    assert control.description.strip() == "kind: a long name of an option"
    (choice,), _ = choices_of({"k": control}, {"k": 0}, {})
    assert (choice.label, choice.stops) == ("kind", ["a long name of an option", "another name, as long"])


def test_a_start_that_is_no_stop_becomes_one():
    control = slider(widgets.FloatSlider, "x", value=0.37, min=0.0, max=1.0, step=0.5)
    (choice,), _ = choices_of({"x": control}, {"x": 0.37}, {})
    assert (choice.stops, choice.start) == (["0", "0.37", "0.5", "1"], 1)


def test_examples_set_several_controls_at_once_free_text_included():
    controls = {"ratios": widgets.Text("1, 2", description="ratios"), "x": slider(widgets.IntSlider, "x", value=0)}
    examples = {"one far off": {"ratios": "1, 100"}, "all alike": {"ratios": "1, 1", "x": 3}}
    (choice,), fixed = choices_of(controls, {"ratios": "1, 2", "x": 0}, {"example": examples})
    assert choice.stops == ["as it opens", "one far off", "all alike"]
    assert choice.settings == [{"ratios": "1, 2", "x": 0}, {"ratios": "1, 100", "x": 0}, {"ratios": "1, 1", "x": 3}]
    assert (choice.kind, choice.start, fixed) == ("radio", 0, "")


@pytest.mark.parametrize(
    ("book", "said"),
    [
        ({"q": [1]}, "'q': expected a control, one of x"),
        ({"x": [1, 99]}, "99"),
        ({"example": {"a": {"q": 1}}}, "'a' sets"),
    ],
)
def test_stops_that_no_control_has_are_refused_when_the_panel_is_made(book, said):
    with pytest.raises(ValueError, match=said):
        bar_panel(book=book)


def test_too_many_pictures_are_thinned_evenly_and_keep_ends_and_start():
    controls = {
        "a": slider(widgets.FloatSlider, "a", value=3.0, min=0.0, max=20.0),
        "b": slider(widgets.FloatSlider, "b", value=7.0, min=0.0, max=20.0),
        "kind": toggle(0, 1),
    }
    initial = {"a": 3.0, "b": 7.0, "kind": 0}
    choices, fixed = choices_of(controls, initial, {})
    a, b, kind = choices
    assert math.prod(len(choice.stops) for choice in choices) <= MOST_FRAMES
    assert (a.stops[0], a.stops[a.start], a.stops[-1]) == ("0", "3", "20")
    assert (b.stops[b.start], kind.stops, fixed) == ("7", ["the 0", "the 1"], "")
    assert 6 <= len(a.stops) <= len(b.stops) + 3


@pytest.mark.parametrize("named", [{}, {"a": range(11), "b": range(11)}, {"a": range(11), "b": range(11), "x": [1]}])
def test_more_pictures_than_thinning_can_mend_are_refused(named):
    controls = {"a": toggle(*range(11)), "b": toggle(*range(11)), "x": slider(widgets.IntSlider, "x", value=1, max=9)}
    with pytest.raises(ValueError, match=r"a 11 × b 11 × x [13]\. Expected at most 120"):
        choices_of(controls, {"a": 0, "b": 0, "x": 1}, named)
    (a, x), fixed = choices_of(controls, {"a": 0, "b": 0, "x": 1}, {"b": [0]})
    assert (len(a.stops), len(x.stops), fixed) == (11, 10, "b the 0")


def test_a_control_that_takes_anything_is_fixed_and_said_to_be():
    _, fixed = choices_of({"word": widgets.Text("sum", description="word")}, {"word": "sum"}, {})
    assert fixed == "word sum"


def test_a_run_can_be_moved_through_in_the_book(book):
    canvas = Canvas(200, 100)
    axes = canvas.figure.subplots()
    axes.set(xlim=(0, 10), ylim=(0, 10))
    line = canvas.animate(axes.plot([], [])[0])
    live = LiveRun(
        lambda: iter([1, 5, 9]),
        total=3,
        canvas=canvas,
        draw=lambda records: line.set_data(range(len(records)), records),
        caption=lambda records: f"the last is {records[-1]}",
        alt=lambda records: f"{len(records)} points",
    )
    asyncio.run(live.run())
    html = live._repr_mimebundle_()["text/html"]
    data = frames_in(book)
    (control,) = data["controls"]
    assert (control["stops"], control["start"], data["play"]) == (["1 of 3", "2 of 3", "3 of 3"], 2, True)
    assert data["captions"] == ["the last is 1", "the last is 5", "the last is 9"]
    assert "the last is 9 (finished: 3 of 3)" in html
