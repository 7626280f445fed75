"""The panel that replays a recorded run under another exponent."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import ipywidgets as widgets
from matplotlib.axes import Axes

from hmpo_lib.lm.records import StepRecord
from hmpo_lib.objectives import Objective
from hmpo_lib.teach.fine_tuning_with_ratio_means.fine_tuning_drawings import draw_ratio_histograms, mean_limit
from hmpo_lib.teach.fine_tuning_with_ratio_means.replay_experiment import (
    CURVE_EXPONENTS,
    KINDS,
    ReplayView,
    replay_alt,
    replay_caption,
    see_step,
    view_replay,
)
from hmpo_lib.teach.panels import Panel, p_slider, slider
from hmpo_lib.teach.plotting import (
    BLACK,
    GREY,
    ORANGE,
    PURPLE,
    SKY_BLUE,
    Canvas,
    label_ticks,
    tidy_axes,
)

MOST_TOKENS = 40
WEIGHT_LIMITS = (1 / 16, 40)  # of n · W_t; n is at most 40
LARGEST_REACH = math.log(5000)  # of the axes of ratios; what lies beyond is drawn at the end


def replay_explorer(records: Sequence[StepRecord], objective: Objective) -> Panel[ReplayView]:
    """The recorded steps of a run of the shipped model, under any exponent.

    Args:
        records: of the run, at least one.
        objective: the run's; ``config.resolved_method().objective``.
    """
    by_place = {(record.rollout, record.step): record for record in records}
    rollouts, steps = (1 + max(place[k] for place in by_place) for k in range(2))
    seen = {(place, kind): see_step(record, kind) for place, record in by_place.items() for kind in KINDS}
    limit = mean_limit(objective)
    canvas = Canvas(760, 560)
    axes = canvas.mosaic([["tokens", "sequence", "curves"], ["ratios"] * 3, ["weights"] * 3], height_ratios=[1.7, 1, 1])
    movers = [
        _draw_histograms(canvas, [axes["tokens"], axes["sequence"]], objective),
        _draw_means(canvas, axes["curves"], _reach(curve for step in seen.values() for curve in step.curves)),
        _draw_answer(canvas, axes["ratios"], axes["weights"], _reach(step.ratios for step in seen.values())),
    ]

    def compute(p: float, rollout: int, step: int, kind: str) -> ReplayView:
        place = (rollout - 1, step - 1)
        if place not in by_place:  # the last rollout of a run that was stopped may be short
            place = (records[-1].rollout, records[-1].step)
        return view_replay(by_place[place], seen[place, kind], objective, p, limit)

    def draw(view: ReplayView) -> None:
        for move in movers:
            move(view)

    start = objective.p if isinstance(objective.p, float) else -1.0
    return Panel(
        {
            "p": p_slider(value=start),
            "rollout": slider(widgets.IntSlider, "rollout", value=1, min=1, max=rollouts),
            "step": slider(widgets.IntSlider, "step since sampling", value=steps, min=1, max=steps),
            "kind": widgets.ToggleButtons(options=KINDS, style={"button_width": "auto"}),
        },
        compute,
        canvas,
        draw=draw,
        caption=replay_caption,
        alt=replay_alt,
        book={"p": sorted({-1.0, 0.0, 1.0, start}), "step": sorted({1, steps})},
    )


def _reach(ratios: Iterable[Sequence[float]]) -> float:
    """Half the width of an axis that shows these ratios, as a log-ratio."""
    logs = [abs(math.log(value)) for row in ratios for value in row if value > 0]
    return min(1.1 * max([0.02, *logs]), LARGEST_REACH)


def _ratio_ticks(reach: float) -> list[float]:
    """1, and the roundest ratio on either side of it.

    >>> _ratio_ticks(0.1), _ratio_ticks(8.0)
    ([0.91, 1, 1.1], [0.001, 1, 1000])
    """
    step = max(ratio for ratio in (1.01, 1.02, 1.05, 1.1, 1.25, 1.5, 2, 4, 10, 100, 1000) if ratio < math.exp(reach))
    return [float(f"{1 / step:.2g}"), 1, step]


def _draw_histograms(canvas: Canvas, axes: list[Axes], objective: Objective) -> Callable[[ReplayView], None]:
    move = draw_ratio_histograms(canvas, axes, objective)
    return lambda view: move(view.seen.token_shares, view.mean_shares)


def _draw_means(canvas: Canvas, axes: Axes, reach: float) -> Callable[[ReplayView], None]:
    low, high = math.exp(-reach), math.exp(reach)
    tidy_axes(axes, title="Their average, by sign", xlabel="exponent p", xlim=(-5.6, 5.6), ylim=(low, high))
    axes.set_yscale("log")
    label_ticks(axes, _ratio_ticks(reach))
    label_ticks(axes, [-4, -2, 0, 2, 4], ["−4", "−2", "0", "2", "4"], axis="x")
    axes.text(0.03, 0.97, "A > 0 —●", transform=axes.transAxes, va="top", fontsize=9, color=PURPLE)
    axes.text(0.03, 0.86, "A < 0 - -■", transform=axes.transAxes, va="top", fontsize=9, color=BLACK)
    styles = ((PURPLE, "-", "o"), (BLACK, "--", "s"))
    curves = [canvas.animate(axes.plot([], [], color=colour, linestyle=dash)[0]) for colour, dash, _ in styles]
    markers = [canvas.animate(axes.plot([], [], color=colour, marker=mark)[0]) for colour, _, mark in styles]

    def draw(view: ReplayView) -> None:
        place = max(-5.3, min(5.3, view.p))  # ±∞ stand at the ends
        for curve, marker, values, now in zip(curves, markers, view.seen.curves, view.signed_means, strict=True):
            curve.set_data(CURVE_EXPONENTS if values else [], values)
            marker.set_data([place] if now else [], [max(low, min(high, *now, high))] if now else [])

    return draw


def _draw_answer(canvas: Canvas, upper: Axes, lower: Axes, reach: float) -> Callable[[ReplayView], None]:
    low, high = math.exp(-reach), math.exp(reach)
    for axes, label in ((upper, "ratio"), (lower, "n · W")):
        tidy_axes(axes, ylabel=label, xlim=(0.3, MOST_TOKENS + 0.7))
        axes.set_yscale("log")
        axes.grid(visible=False, axis="x")
        axes.axhline(1, color=GREY, linewidth=1)
        label_ticks(axes, [], axis="x")
    upper.set_ylim(low, high)
    label_ticks(upper, _ratio_ticks(reach))
    lower.set_ylim(*WEIGHT_LIMITS)
    label_ticks(lower, [0.1, 1, 10], ["1/10", "1", "10"])
    title = canvas.animate(upper.set_title("", loc="left", fontsize=10, fontweight="bold"))
    lower.set_xlabel("above 1: more than an even share; below 1: less", fontsize=9.5, color=GREY)
    places = range(1, MOST_TOKENS + 1)  # a shorter answer is spread over all of it
    dots = canvas.animate(upper.plot([], [], "o", color=SKY_BLUE, markersize=6)[0])
    mean = canvas.animate(upper.axhline(1, color=ORANGE, linewidth=1.8, linestyle="--"))
    bars = [canvas.animate(bar) for bar in lower.bar(places, [0.0] * MOST_TOKENS, bottom=1, width=0.7)]
    under: dict[str, Any] = {"transform": upper.get_xaxis_transform(), "ha": "center", "va": "top", "fontsize": 10}
    letters = [canvas.animate(upper.text(k, -0.05, "", **under)) for k in places]

    def draw(view: ReplayView) -> None:
        seen, n = view.seen, len(view.weights)
        sign = f"A = {seen.advantage:+.2f}".replace("-", "−")
        title.set_text(f"An answer to {seen.prompt}   ({sign}, dashed: its $M_p$)")
        step = MOST_TOKENS / n
        centres = [0.5 + step * (k + 0.5) for k in range(n)]
        dots.set_data(centres, [max(low, min(high, ratio)) for ratio in seen.ratios])
        mean.set_ydata([max(low, min(high, view.mean))] * 2)
        for k, (bar, letter) in enumerate(zip(bars, letters, strict=True)):
            weight = max(WEIGHT_LIMITS[0], min(WEIGHT_LIMITS[1], view.weights[k])) if k < n else 1.0
            width, centre = min(0.7 * step, 3.0), centres[min(k, n - 1)]
            bar.set(x=centre - width / 2, width=width, y=min(1.0, weight), height=abs(weight - 1.0))
            bar.set_facecolor(ORANGE if weight >= 1 else GREY)
            letter.set(text=seen.characters[k] if k < n else "", x=centre)

    return draw
