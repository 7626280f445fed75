"""The panel of notebook 05 on the largest learning rate that still learns, by mean and staleness."""

import functools
from dataclasses import dataclass

import ipywidgets as widgets

from hmpo_lib.teach.bandits.bandit_recording import (
    RATE_METHODS,
    RATE_STALENESS,
    RATES,
    BanditTraces,
    mean_intervals,
    stability_frontier,
)
from hmpo_lib.teach.bandits.worlds_experiment import KINDS
from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import GREY, MEAN_STYLES, PURPLE, Canvas, MeanStyle, label_ticks, tidy_axes

STYLES = [
    *(next(style for style in MEAN_STYLES.values() if style.p == p) for p in RATE_METHODS[:-1]),
    MeanStyle("pessimistic", -1.0, PURPLE, ":", "v"),
]


@dataclass(frozen=True)
class StabilityView:
    """One setting of the panel; by the mean's name, intervals (mean, low, high) over the worlds.

    Attributes:
        gains: what was gained at each of RATES, over the best that any setting of that world gained.
        frontier: the largest rate that still learns; the mean of its logarithm.
        to_the_end: in how many worlds that is the largest rate tried.
    """

    kind: str
    staleness: int
    worlds: int
    gains: dict[str, tuple[tuple[float, ...], ...]]
    frontier: dict[str, tuple[float, ...]]
    to_the_end: dict[str, int]


def view_stability(traces: BanditTraces, staleness: int, kind: str) -> StabilityView:
    """Gains over learning rates, and where they break down."""
    frontier = stability_frontier(traces.rate_gains)
    best = traces.rate_gains.amax(dim=(1, 2, 3), keepdim=True)
    here = (KINDS.index(kind), RATE_STALENESS.index(staleness))
    gains = mean_intervals((traces.rate_gains / best)[here])  # [3, rates, methods]
    rates = mean_intervals(frontier.holds[here]).exp2()  # [3, methods]
    names = [style.name for style in STYLES]
    return StabilityView(
        kind,
        staleness,
        traces.rate_gains.shape[-1],
        {name: tuple(map(tuple, gains[..., k].tolist())) for k, name in enumerate(names)},
        {name: tuple(rates[:, k].tolist()) for k, name in enumerate(names)},
        {name: int(frontier.to_the_end[here][k].sum()) for k, name in enumerate(names)},
    )


def stability_caption(view: StabilityView) -> str:
    """The frontier of each mean."""
    rates = "; ".join(
        f"{name} {mean:.0f} ({low:.0f} to {high:.0f}, {view.to_the_end[name]} to the end)"
        for name, (mean, low, high) in view.frontier.items()
    )
    return f"{view.staleness} steps old, rewards {view.kind}, {view.worlds} worlds. Largest rate that learns: {rates}."


def stability_alt(view: StabilityView) -> str:
    """The curves in words."""
    ends = ", ".join(
        f"{name} {100 * curve[0][0]:.0f} % at rate {RATES[0]:g}, {100 * curve[0][-1]:.0f} % at {RATES[-1]:g}"
        for name, curve in view.gains.items()
    )
    return f"What is gained, over the learning rate, as a share of the best: {ends}. Below, {stability_caption(view)}"


def stability_explorer(traces: BanditTraces, *, staleness: int = 15, kind: str = KINDS[1]) -> Panel[StabilityView]:
    """Gains over the learning rate for four means, and the largest rate that still learns, by staleness."""
    canvas = Canvas(760, 430)
    upper = canvas.figure.add_axes((0.115, 0.42, 0.865, 0.51))
    lower = canvas.figure.add_axes((0.115, 0.115, 0.865, 0.2))
    xlim = (RATES[0] / 1.2, RATES[-1] * 1.2)
    title = f"What is learned, as a share of the world's best (95 % intervals, {traces.rate_gains.shape[-1]} worlds)"
    tidy_axes(upper, title=title, xlim=xlim, ylim=(-0.1, 1.05))
    label_ticks(upper, [0, 0.5, 1], ["0", "50 %", "100 %"])
    upper.axhline(0.5, color=GREY, linestyle=(0, (1, 2)), linewidth=1.5, label="below: collapsed")
    tidy_axes(
        lower, title="Largest rate before the first collapse", xlabel="learning rate", xlim=xlim, ylim=(-0.6, 3.6)
    )
    label_ticks(lower, [3, 2, 1, 0], [style.name for style in STYLES])
    for axes in (upper, lower):
        axes.set_xscale("log", base=2)
        label_ticks(axes, RATES, axis="x")
    bands, lines, marks, bars = {}, {}, {}, {}
    for style in STYLES:
        flat = [0.0] * len(RATES)
        look = {"color": style.colour, "linewidth": 2}
        bands[style.name] = canvas.animate(
            upper.fill_between(RATES, flat, flat, color=style.colour, alpha=0.13, linewidth=0)
        )
        lines[style.name] = canvas.animate(
            upper.plot([], [], style.marker, linestyle=style.linestyle, markersize=5, label=style.name, **look)[0]
        )
        bars[style.name] = canvas.animate(lower.plot([], [], **look)[0])
        marks[style.name] = canvas.animate(lower.plot([], [], style.marker, color=style.colour, markersize=8)[0])
    upper.legend(loc="lower left", ncols=5, fontsize=9, frameon=False, handlelength=2.6, columnspacing=1.4)

    def draw(view: StabilityView) -> None:
        for k, (name, (mean, low, high)) in enumerate(view.gains.items()):
            bands[name].set_data(RATES, low, high)
            lines[name].set_data(RATES, mean)
            rate, *ends = view.frontier[name]
            bars[name].set_data(ends, [3 - k, 3 - k])
            marks[name].set_data([rate], [3 - k])

    age = slider(
        widgets.SelectionSlider,
        "optimizer steps since sampling",
        options=[(f"{k:>2}", k) for k in RATE_STALENESS],
        value=staleness,
    )
    kinds = widgets.ToggleButtons(
        options=[(f"rewards {name}", name) for name in KINDS], value=kind, style={"button_width": "15em"}
    )
    return Panel(
        {"staleness": age, "kind": kinds},
        functools.partial(view_stability, traces),
        canvas,
        draw=draw,
        caption=stability_caption,
        alt=stability_alt,
    )
