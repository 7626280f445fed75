"""The sweep that other tests rely on notices what it should."""

import re
import zlib

import ipywidgets as widgets
import pytest

from hmpo_lib.teach import Canvas, Panel

CONTROLS = {
    "level": widgets.FloatSlider,
    "count": widgets.IntSlider,
    "scale": widgets.FloatLogSlider,
    "stop": lambda: widgets.SelectionSlider(options=[("low", 0.1), ("high", 0.9)]),
    "choice": lambda: widgets.ToggleButtons(options=["a", "b"]),
    "menu": lambda: widgets.Dropdown(options={"one": 1, "two": 2}),
    "flag": widgets.Checkbox,
    "name": widgets.Text,
}


def panel_of(*names, dead=(), silent=(), cut_off=False):
    """A panel whose controls each move a dot; dead ones move none, and the alt text leaves silent ones out."""
    canvas = Canvas(200, 60)
    axes = canvas.figure.add_axes((0.1, 0.1, 0.8, 0.8), xlim=(0, 1), ylim=(-1, len(names)))
    axes.set_axis_off()
    dots = {name: canvas.animate(axes.plot([0.5], [k], "o")[0]) for k, name in enumerate(names)}
    if cut_off:
        canvas.figure.text(0.9, 0.5, "longer than the picture")

    def draw(values):
        for name in set(names) - set(dead):
            dots[name].set_xdata([zlib.crc32(repr(values[name]).encode()) % 97 / 97])

    def say(values):
        return str({name: value for name, value in values.items() if name not in silent})

    controls = {name: CONTROLS[name]() for name in names}
    return Panel(controls, lambda **values: values, canvas, draw=draw, caption=str, alt=say)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("level", [0.0, *[5.0 * k for k in range(1, 20)], 100.0]),
        ("count", list(range(0, 101, 5))),
        ("stop", [0.1, 0.9]),
        ("choice", ["a", "b"]),
        ("menu", [1, 2]),
        ("flag", [False, True]),
    ],
)
def test_sweep_reaches_both_ends_of_a_range_and_every_option(sweep, name, expected):
    assert [view.values[name] for view in sweep(panel_of(name))] == expected


def test_sweep_of_powers_reaches_both_ends(sweep):
    shown = [view.values["scale"] for view in sweep(panel_of("scale"))]
    assert (shown[0], shown[-1]) == pytest.approx((1.0, 1e4))


def test_sweep_takes_every_combination_where_they_are_few(sweep):
    shown = [tuple(view.values.values()) for view in sweep(panel_of("choice", "menu", "flag"))]
    assert len(set(shown)) == len(shown) == 2 * 2 * 2


def test_sweep_of_many_controls_moves_each_alone_and_visits_all_corners(sweep):
    shown = [tuple(view.values.values()) for view in sweep(panel_of("level", "count", "flag"))]
    assert len(shown) == 21 + 21 + 2 + 2**3
    assert {(level, count, flag) for level in (0.0, 100.0) for count in (0, 100) for flag in (False, True)} <= set(
        shown
    )


def test_text_is_swept_over_the_samples_given_and_refused_without(sweep):
    shown = sweep(panel_of("name"), {"name": ["x", "y"]})
    assert [view.values["name"] for view in shown] == ["x", "y"]
    with pytest.raises(ValueError, match="give samples"):
        sweep(panel_of("name"))


def test_control_that_changes_no_picture_is_noticed(sweep):
    with pytest.raises(AssertionError, match="'flag' never changes the picture"):
        sweep(panel_of("choice", "flag", dead=["flag"]))
    sweep(panel_of("choice", "flag", dead=["flag"], silent=["flag"]), still=["flag"])


def test_control_that_changes_no_alt_text_is_noticed(sweep):
    with pytest.raises(AssertionError, match="'flag' never changes the alt"):
        sweep(panel_of("choice", "flag", silent=["flag"]))


def test_text_that_is_cut_off_is_noticed(sweep):
    with pytest.raises(AssertionError, match="cut off"):
        sweep(panel_of("choice", cut_off=True))


def test_error_at_one_setting_is_noticed(sweep):
    panel = panel_of("choice")
    panel.compute = lambda choice: {"choice": choice} if choice == "a" else {}["b"]
    with pytest.raises(AssertionError, match=re.escape("at {'choice': 'b'} the status line says: ⚠ KeyError")):
        sweep(panel)
