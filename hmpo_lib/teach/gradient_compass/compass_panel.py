"""The panel of the gradient compass: the gradient's direction and length, for every exponent and staleness."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets

from hmpo_lib.teach.gradient_compass.compass_experiment import EXPONENTS, STAGES, STALENESS, Compass
from hmpo_lib.teach.panels import P_LABEL_WIDTH, Panel, p_label, slider
from hmpo_lib.teach.plotting import GREY, ORANGE, Canvas, apart, label_ticks, tidy_axes

COSINE_LIMITS = (-0.66, 1.08)
NORM_LIMITS = (0.4, 10.0)  # of ‖g(p)‖ / ‖g(0)‖ in the plot
# The staler the darker, and never by colour alone; names in these colours have a contrast of 4.5 to 1 with white.
STYLES = ((GREY, ":", "o"), (ORANGE, "-", "s"), ("#A65E00", "--", "D"), ("#7A3E00", "-.", "^"), ("#2E1500", "-", "v"))
LEAST_APART = 0.066  # of an axis' height, between the names at the ends of lines

Curves = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class CompassView:
    """What one stage of training shows; medians over the runs, a row for each STALENESS, a column for each EXPONENTS.

    Attributes:
        stage: of training.
        p: the exponent at which the runs are shown one by one.
        cosines: with the gradient of p = 0.
        norms: over that of p = 0.
        runs: the cosines at ``p``, a row for each STALENESS, a column for each run.
        spreads: standard deviation of the tokens' log-ratios, for each STALENESS.
    """

    stage: str
    p: float
    cosines: Curves
    norms: Curves
    runs: Curves
    spreads: tuple[float, ...]


def view_compass(compass: Compass, stage: str, p: float) -> CompassView:
    """The recorded compass of one stage of training.

    Args:
        compass: of `load_compass`.
        stage: one of STAGES.
        p: one of EXPONENTS.
    """
    place = STAGES.index(stage)
    cosines = compass.cosines[place]

    def rows(table: Any) -> Curves:
        return tuple(map(tuple, table.tolist()))

    return CompassView(
        stage,
        p,
        cosines=rows(cosines.median(dim=1).values),
        norms=rows(compass.norms[place].median(dim=1).values),
        runs=rows(cosines[:, :, EXPONENTS.index(p)]),
        spreads=tuple(compass.spread[place].median(dim=1).values.tolist()),
    )


def age(staleness: int) -> str:
    """Optimizer steps since sampling, in words.

    >>> age(0), age(1), age(3)
    ('fresh', '1 step old', '3 steps old')
    """
    return "fresh" if staleness == 0 else f"{staleness} {'step' if staleness == 1 else 'steps'} old"


def compass_caption(view: CompassView) -> str:
    """The cosines at one exponent, with their range over the runs."""
    k = EXPONENTS.index(view.p)
    parts = [
        f"{view.cosines[row][k]:.2f} ({min(view.runs[row]):.2f} to {max(view.runs[row]):.2f}) {age(staleness)}"
        for row, staleness in enumerate(STALENESS)
        if staleness
    ]
    text = f"{view.stage}, {p_label(view.p)}: cosine with the gradient of p = 0 {', '.join(parts)}."
    return text[0].upper() + text[1:].replace("-", "−")


def compass_alt(view: CompassView) -> str:
    """The plots in words."""
    ends = [
        f"{age(staleness)}, log-ratios with standard deviation {view.spreads[row]:.4f}: cosine "
        f"{view.cosines[row][0]:.2f} at p = −4 and {view.cosines[row][-1]:.2f} at p = 4, norm {view.norms[row][0]:.2f} "
        f"and {view.norms[row][-1]:.2f}"
        for row, staleness in enumerate(STALENESS)
    ]
    return (
        f"Cosine and relative length of the whole model's gradient against the exponent, beside the gradient of p = 0, "
        f"a line for each staleness, medians of the runs, and each run at one exponent. {'; '.join(ends)}. "
        f"{compass_caption(view)}"
    )


def compass_explorer(compass: Compass, *, stage: str = STAGES[0], p: float = -1.0) -> Panel[CompassView]:
    """Cosine and length of the gradient against the exponent, a line for each staleness."""
    canvas = Canvas(760, 330)
    axes = canvas.mosaic([["direction", "runs", "length"]], width_ratios=[3.3, 1.4, 2.2])
    movers = [
        _draw_lines(canvas, axes["direction"], is_cosine=True),
        _draw_runs(canvas, axes["runs"]),
        _draw_lines(canvas, axes["length"], is_cosine=False),
    ]

    def draw(view: CompassView) -> None:
        for move in movers:
            move(view)

    return Panel(
        {
            "stage": widgets.ToggleButtons(options=list(STAGES), value=stage),
            "p": slider(
                widgets.SelectionSlider,
                "each run at the exponent",
                options=[(p_label(q).center(P_LABEL_WIDTH), q) for q in EXPONENTS],
                value=p,
            ),
        },
        lambda stage, p: view_compass(compass, stage, p),
        canvas,
        draw=draw,
        caption=compass_caption,
        alt=compass_alt,
    )


def _draw_lines(canvas: Canvas, axes: Any, *, is_cosine: bool) -> Callable[[CompassView], None]:
    title = "Direction: cosine with p = 0" if is_cosine else "Length, over that of p = 0"
    tidy_axes(axes, title=title, xlabel="exponent p", xlim=(-4.2, 8.4 if is_cosine else 6.2))
    label_ticks(axes, [-4, -2, -1, 0, 1, 2, 4], ["−4", "−2", "−1", "0", "1", "2", "4"], axis="x")
    if is_cosine:
        _cosine_axis(axes)
    else:
        axes.set(yscale="log", ylim=NORM_LIMITS)
        label_ticks(axes, [0.5, 1, 2, 5, 10])
    reading = canvas.animate(axes.axvline(0, color=GREY, linewidth=1))
    lines, names = [], []
    for staleness, (colour, dash, mark) in zip(STALENESS, STYLES, strict=True):
        style = {"color": colour, "linestyle": dash, "marker": mark, "markersize": 4, "linewidth": 1.8}
        lines.append(canvas.animate(axes.plot([], [], **style)[0]))
        words = age(staleness) if is_cosine else str(staleness)
        names.append(canvas.animate(axes.text(4.35, 1, words, va="center", fontsize=9, color=colour)))
        names[-1].set_in_layout(False)
    low, high = axes.get_ylim()
    transform, back = (float, float) if is_cosine else (math.log10, lambda height: 10**height)
    least = LEAST_APART * (transform(high) - transform(low))

    def draw(view: CompassView) -> None:
        reading.set_xdata([view.p, view.p])
        curves = view.cosines if is_cosine else view.norms
        # From the top down, so that no name leaves the axes.
        depths = apart([-transform(values[-1]) for values in curves], least)
        for line, name, values, depth in zip(lines, names, curves, depths, strict=True):
            line.set_data(EXPONENTS, values)
            name.set_y(back(-depth))

    return draw


def _cosine_axis(axes: Any) -> None:
    axes.set_ylim(*COSINE_LIMITS)
    label_ticks(axes, [-0.5, 0, 0.5, 1], ["−0.5", "0", "0.5", "1"])


def _draw_runs(canvas: Canvas, axes: Any) -> Callable[[CompassView], None]:
    tidy_axes(axes, xlabel="steps old", xlim=(-0.6, len(STALENESS) - 0.4))
    _cosine_axis(axes)
    axes.tick_params(labelleft=False)
    label_ticks(axes, range(len(STALENESS)), [str(staleness) for staleness in STALENESS], axis="x")
    title = canvas.animate(axes.set_title("Each run, p = −0.5", loc="left", fontsize=10, fontweight="bold"))
    dots = [
        canvas.animate(axes.plot([], [], color=colour, marker=mark, markersize=4.5, linestyle="", alpha=0.8)[0])
        for colour, _, mark in STYLES
    ]

    def draw(view: CompassView) -> None:
        title.set_text(f"Each run, p = {view.p:g}".replace("-", "−"))
        for place, (line, cosines) in enumerate(zip(dots, view.runs, strict=True)):
            beside = [place + 0.12 * (run - (len(cosines) - 1) / 2) for run in range(len(cosines))]
            line.set_data(beside, cosines)

    return draw
