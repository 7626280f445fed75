"""Learning curves of the means, each at its best rate; what every other rate gives, and where learning breaks down."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets

from hmpo_lib.teach.bandits.bandit_recording import (
    CURVE_STEPS,
    RATE_STALENESS,
    RATES,
    BanditTraces,
    best_rates,
    collapsed,
    mean_intervals,
)
from hmpo_lib.teach.bandits.direction_panel import STYLES, Interval
from hmpo_lib.teach.bandits.worlds_experiment import KINDS
from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import FONT_SIZE, PALE_GREY, Canvas, label_ticks, tidy_axes

AFTER = (16, 64)  # optimizer steps
BEST = 0.0  # in place of a rate: each mean's best
Curve = tuple[tuple[float, ...], ...]  # means, lows, highs


@dataclass(frozen=True)
class RatesView:
    """One setting of the panel, by the mean's name; intervals are over the worlds.

    Attributes:
        best: the rate that was best on the worlds for choosing.
        gains: over RATES, the share of the way to the best sequence after so many steps.
        collapsed: over RATES, the share of the worlds in which the mean has collapsed.
        rates: at which the curves are drawn.
        curves: over CURVE_STEPS, the share of the way.
    """

    kind: str
    staleness: int
    rate: float
    after: int
    worlds: int
    best: dict[str, float]
    rates: dict[str, float]
    gains: dict[str, Curve]
    collapsed: dict[str, tuple[float, ...]]
    curves: dict[str, Curve]

    def reached(self, name: str) -> Interval:
        """Where a mean's curve is after so many steps."""
        at = CURVE_STEPS.index(self.after)
        return tuple(row[at] for row in self.curves[name])


def view_rates(traces: BanditTraces, kind: str, staleness: int, rate: float, after: int) -> RatesView:
    """Everything that one setting shows."""
    here = (KINDS.index(kind), RATE_STALENESS.index(staleness))
    chosen = best_rates(traces.choice_gains)[here].tolist()
    recorded = traces.curves[here]  # rates, methods, points, worlds
    gains = mean_intervals(recorded[:, :, CURVE_STEPS.index(after)])  # 3, rates, methods
    gone = collapsed(traces.final_gains)[here].double().mean(dim=-1)  # rates, methods
    names = [style.name for style in STYLES]
    best = {name: RATES[chosen[k]] for k, name in enumerate(names)}
    rates = best if rate == BEST else dict.fromkeys(names, rate)
    shown = {name: recorded[RATES.index(rates[name]), k] for k, name in enumerate(names)}
    return RatesView(
        kind,
        staleness,
        rate,
        after,
        recorded.shape[-1],
        best,
        rates,
        {name: as_curve(gains[..., k]) for k, name in enumerate(names)},
        {name: tuple(gone[:, k].tolist()) for k, name in enumerate(names)},
        {name: as_curve(mean_intervals(curves)) for name, curves in shown.items()},
    )


def as_curve(intervals: Any) -> Curve:
    """``[3, points]`` as plain numbers."""
    return tuple(map(tuple, intervals.tolist()))


def percents(interval: Interval) -> str:
    """An estimate and its interval in words."""
    mean, low, high = (f"{100 * x:.0f}".replace("-", "−") for x in interval)
    return f"{mean} % ({low} to {high} %)"


def rates_caption(view: RatesView) -> str:
    """How far each mean is."""
    if view.rate == BEST:
        setting = "each at its best rate"
        reached = ", ".join(f"{name} {percents(view.reached(name))} at {rate:g}" for name, rate in view.best.items())
    else:
        setting = f"all at rate {view.rate:g}"
        reached = ", ".join(f"{name} {percents(view.reached(name))}" for name in view.best)
    return (
        f"Rewards {view.kind}, {view.staleness} steps old at most, {view.worlds} worlds, 95 % intervals. After "
        f"{view.after} steps, {setting}: {reached}."
    )


def rates_alt(view: RatesView) -> str:
    """The three plots in words."""
    gone = ", ".join(f"{name} {100 * shares[-1]:.0f} %" for name, shares in view.collapsed.items())
    return (
        f"What is gained over the learning rate; the share of the worlds that have collapsed, at rate {RATES[-1]:g}: "
        f"{gone}; and learning curves. {rates_caption(view)}"
    )


def draw_curves(canvas: Canvas, axes: Any, title: str) -> Callable[[Mapping[str, Curve]], None]:
    """Learning curves with their intervals; returns what moves them."""
    tidy_axes(axes, title=title, xlabel="optimizer steps", xlim=(0, CURVE_STEPS[-1]), ylim=(-0.22, 1.1))
    label_ticks(axes, [0, 0.5, 1], ["0", "50 %", "100 %"])
    label_ticks(axes, range(0, 65, 16), axis="x")
    move = _draw_lines(canvas, axes, CURVE_STEPS, markers=False)
    axes.legend(loc="lower right", ncols=4, fontsize=9, frameon=False, handlelength=3, borderaxespad=0.1)
    return move


def _draw_lines(
    canvas: Canvas, axes: Any, places: tuple[float, ...], *, markers: bool
) -> Callable[[Mapping[str, Curve]], None]:
    flat = [0.0] * len(places)
    bands, lines = {}, {}
    for style in STYLES:
        bands[style.name] = canvas.animate(
            axes.fill_between(places, flat, flat, color=style.colour, alpha=0.13, linewidth=0)
        )
        marker = style.marker if markers else ""
        look = {"color": style.colour, "linestyle": style.linestyle, "linewidth": 2, "marker": marker, "markersize": 4}
        lines[style.name] = canvas.animate(axes.plot([], [], label=style.name, **look)[0])

    def move(curves: Mapping[str, Curve]) -> None:
        for name, (mean, low, high) in curves.items():
            bands[name].set_data(places, low, high)
            lines[name].set_data(places, mean)

    return move


def rates_explorer(
    traces: BanditTraces, *, kind: str = KINDS[0], staleness: int = 15, rate: float = 8.0, after: int = AFTER[0]
) -> Panel[RatesView]:
    """Gains over the learning rate, the share of worlds that collapse, and curves at a rate or at the best ones."""
    canvas = Canvas(760, 520)
    axes: dict[str, Any] = canvas.mosaic([["curves", "curves"], ["rates", "collapse"]], height_ratios=[1.15, 1])
    move_curves = draw_curves(canvas, axes["curves"], "Share of the way to the best sequence, step by step")
    tidy_axes(axes["rates"], title="Share of the way, by the learning rate", ylim=(-0.05, 1.08))
    tidy_axes(axes["collapse"], title="Share of the worlds that have collapsed", ylim=(-0.05, 1.08))
    for name in ("rates", "collapse"):
        label_ticks(axes[name], [0, 0.5, 1], ["0", "50 %", "100 %"])
        axes[name].set_xscale("log", base=2)
        axes[name].set(xlim=(RATES[0] / 1.25, RATES[-1] * 1.25))
        axes[name].set_xlabel("learning rate", fontsize=FONT_SIZE)
        label_ticks(axes[name], RATES, axis="x")
        axes[name].tick_params(axis="x", labelsize=8.5)
    here = [
        canvas.animate(axes[name].axvline(RATES[0], color=PALE_GREY, linewidth=9, alpha=0.6))
        for name in ("rates", "collapse")
    ]
    move_gains = _draw_lines(canvas, axes["rates"], RATES, markers=True)
    rings, gone = {}, {}
    for style in STYLES:
        look = {"color": "none", "markeredgecolor": style.colour, "markersize": 12, "mew": 2}
        rings[style.name] = canvas.animate(axes["rates"].plot([], [], "o", **look)[0])
        look = {"color": style.colour, "linestyle": style.linestyle, "linewidth": 2, "markersize": 4}
        gone[style.name] = canvas.animate(axes["collapse"].plot([], [], marker=style.marker, **look)[0])

    def draw(view: RatesView) -> None:
        move_curves(view.curves)
        move_gains(view.gains)
        for line in here:
            line.set_xdata([view.rate or RATES[0]] * 2)
            line.set_visible(view.rate != BEST)
        for name, best in view.best.items():
            rings[name].set_data([best], [view.gains[name][0][RATES.index(best)]])
            rings[name].set_visible(view.rate == BEST)
            gone[name].set_data(RATES, view.collapsed[name])

    def buttons(options: list[tuple[str, Any]], value: Any) -> Any:
        return widgets.ToggleButtons(options=options, value=value, style={"button_width": "15em"})

    ages = [(f"{k:>2}", k) for k in RATE_STALENESS]
    rates = [("each its best", BEST), *((f"{chosen:g}", chosen) for chosen in RATES)]
    return Panel(
        {
            "rate": slider(widgets.SelectionSlider, "learning rate", options=rates, value=rate),
            "staleness": slider(
                widgets.SelectionSlider, "optimizer steps since sampling, at most", options=ages, value=staleness
            ),
            "kind": buttons([(f"rewards {name}", name) for name in KINDS], kind),
            "after": buttons([(f"after {steps} steps", steps) for steps in AFTER], after),
        },
        functools.partial(view_rates, traces),
        canvas,
        draw=draw,
        caption=rates_caption,
        alt=rates_alt,
    )
