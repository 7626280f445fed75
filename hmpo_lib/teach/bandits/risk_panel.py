"""The panel on rare events: what dividing an advantage by a standard deviation makes of them, by the rollout's size."""

import functools
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets

from hmpo_lib.teach.bandits.bandit_recording import mean_intervals
from hmpo_lib.teach.bandits.direction_panel import Interval, within
from hmpo_lib.teach.bandits.risk_experiment import EVENTS
from hmpo_lib.teach.bandits.risk_recording import DIVISIONS, SIZES, RiskTraces
from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import BLACK, GREY, ORANGE, PURPLE, SKY_BLUE, Canvas, label_ticks, tidy_axes

SHOWN_EVENTS = tuple(event for event, amount in EVENTS.items() if amount)
LOOKS = dict(
    zip(DIVISIONS, ((BLACK, "-", "o"), (ORANGE, "-", "s"), (PURPLE, "--", "^"), (GREY, ":", "v")), strict=True)
)
CALM = "nothing"


@dataclass(frozen=True)
class RiskView:
    """One setting of the panel, by the name of the division.

    Attributes:
        parts: in the first rollout, what the usual and the rare outcome add to the risky token's average advantage.
        shares: over SIZES, intervals over seeds of the risky token's probability after learning.
        calm: the same without the event, advantages not divided.
    """

    event: str
    size: int
    seeds: int
    parts: dict[str, tuple[float, float]]
    shares: dict[str, tuple[Interval, ...]]
    calm: tuple[Interval, ...]


def view_risk(traces: RiskTraces, size: int, event: str) -> RiskView:
    """Everything that one setting shows."""
    here = list(EVENTS).index(event)
    parts = traces.parts[here, :, SIZES.index(size)].tolist()
    intervals = mean_intervals(traces.shares)  # 3, events, divisions, sizes
    by_size = intervals.permute(1, 2, 3, 0)

    def rows(event: int, division: int) -> tuple[Interval, ...]:
        return tuple(map(tuple, by_size[event, division].tolist()))

    return RiskView(
        event,
        size,
        traces.shares.shape[-1],
        {name: (usual, rare) for name, (usual, rare) in zip(DIVISIONS, parts, strict=True)},
        {name: rows(here, k) for k, name in enumerate(DIVISIONS)},
        rows(list(EVENTS).index(CALM), 0),
    )


def risk_caption(view: RiskView) -> str:
    """The probability of the risky token, by the division."""
    at = SIZES.index(view.size)
    shares = "; ".join(f"{name} {within(intervals[at])}" for name, intervals in view.shares.items())
    return (
        f"Rollouts of {view.size}, a {view.event} in 5 of 100 cases: after learning the risky token has probability "
        f"{shares}; without the event {within(view.calm[at])}. An indifferent learner: 0.33. 95 % intervals, "
        f"{view.seeds} seeds."
    )


def risk_alt(view: RiskView) -> str:
    """The two plots in words."""
    parts = "; ".join(
        f"{name}: usual {usual:+.2f}, rare {rare:+.2f}, sum {usual + rare:+.2f}"
        for name, (usual, rare) in view.parts.items()
    )
    return f"Bars of the risky token's average advantage in the first rollout: {parts}. {risk_caption(view)}"


def risk_explorer(traces: RiskTraces, *, size: int = 16, event: str = SHOWN_EVENTS[0]) -> Panel[RiskView]:
    """What the usual and the rare outcome add to an average advantage, and the risky token's probability by size."""
    canvas = Canvas(760, 370)
    axes: dict[str, Any] = canvas.mosaic([["parts", "shares"]], width_ratios=[1, 1.15])
    bars = axes["parts"]
    tidy_axes(bars, title="Average advantage of the risky token", xlabel="in the first rollout", xlim=(-0.72, 0.72))
    label_ticks(bars, [-0.5, 0, 0.5], ["−0.5", "0", "+0.5"], axis="x")
    places = [3, 2, 1, 0]
    bars.set_ylim(-1.7, 3.6)
    label_ticks(bars, places, [name.replace(" of", "\nof").replace("fixed ", "fixed\n") for name in DIVISIONS])
    bars.grid(visible=False, axis="y")
    bars.axvline(0, color=BLACK, linewidth=1)
    usual = [canvas.animate(bars.barh(y, 0, height=0.5, color=SKY_BLUE)[0]) for y in places]
    rare = [canvas.animate(bars.barh(y, 0, height=0.5, color="white", edgecolor=BLACK, hatch="//")[0]) for y in places]
    sums = [
        canvas.animate(bars.plot([], [], "D", color=BLACK, markersize=8, markerfacecolor="white", mew=2)[0])
        for _ in places
    ]
    labels = ("usual outcome", "rare outcome", "sum: 0 is indifferent")
    bars.legend([usual[0], rare[0], sums[0]], labels, loc="lower center", ncols=2, fontsize=8.5, frameon=False)

    plot = axes["shares"]
    tidy_axes(plot, title="Its probability after learning", xlabel="sequences in a rollout", ylim=(-0.03, 1.32))
    plot.set_xscale("log", base=2)
    plot.set_xlim(SIZES[0] / 1.2, SIZES[-1] * 1.2)
    label_ticks(plot, SIZES, axis="x")
    label_ticks(plot, [0, 1 / 3, 1], ["0", "1/3", "1"])
    marker = canvas.animate(plot.axvline(SIZES[0], ymax=0.76, color=GREY, linewidth=7, alpha=0.25))
    calm = canvas.animate(plot.plot([], [], color=SKY_BLUE, linewidth=5, alpha=0.5, label="no event")[0])
    bands, lines = {}, {}
    for name, (colour, linestyle, symbol) in LOOKS.items():
        flat = [0.0] * len(SIZES)
        bands[name] = canvas.animate(plot.fill_between(SIZES, flat, flat, color=colour, alpha=0.15, linewidth=0))
        look = {"color": colour, "linestyle": linestyle, "marker": symbol, "linewidth": 2, "markersize": 5}
        lines[name] = canvas.animate(plot.plot([], [], label=name, **look)[0])
    plot.legend(loc="upper center", ncols=2, fontsize=8.5, frameon=False, handlelength=2.4, borderaxespad=0.1)

    def draw(view: RiskView) -> None:
        for name, first, second, total in zip(DIVISIONS, usual, rare, sums, strict=True):
            small, large = view.parts[name]
            first.set_width(small)
            second.set_width(large)
            total.set_data([small + large], [first.get_y() + 0.25])
        marker.set_xdata([view.size, view.size])
        calm.set_data(SIZES, [mean for mean, _, _ in view.calm])
        for name, intervals in view.shares.items():
            mean, low, high = zip(*intervals, strict=True)
            bands[name].set_data(SIZES, low, high)
            lines[name].set_data(SIZES, mean)

    sizes = [(f"{size:>3}", size) for size in SIZES]
    events = widgets.ToggleButtons(options=list(SHOWN_EVENTS), value=event, style={"button_width": "15em"})
    return Panel(
        {
            "size": slider(widgets.SelectionSlider, "sequences in a rollout", options=sizes, value=size),
            "event": events,
        },
        functools.partial(view_risk, traces),
        canvas,
        draw=draw,
        caption=risk_caption,
        alt=risk_alt,
    )
