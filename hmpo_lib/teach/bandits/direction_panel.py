"""Which way each mean's expected gradient points, how long it is and how much it scatters, beside the true gradient."""

import functools
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets

from hmpo_lib.teach.bandits.bandit_recording import (
    CLIPS,
    EXPONENTS,
    LENGTHS,
    STALENESS,
    BanditTraces,
    bias_of,
    cosine_of,
    mean_intervals,
)
from hmpo_lib.teach.bandits.flip_panel import exponent_slider
from hmpo_lib.teach.bandits.worlds_experiment import KINDS
from hmpo_lib.teach.panels import Panel, p_label, slider
from hmpo_lib.teach.plotting import (
    BLACK,
    GREY,
    MEAN_STYLES,
    ORANGE,
    PURPLE,
    Canvas,
    MeanStyle,
    exponent_colour,
    label_ticks,
    tidy_axes,
)

Interval = tuple[float, ...]  # mean, low, high

PESSIMISTIC = MeanStyle("pessimistic", -1.0, PURPLE, ":", "v")
STYLES = [*(MEAN_STYLES[name] for name in ("harmonic", "geometric", "arithmetic")), PESSIMISTIC]
PLACES = [*(EXPONENTS.index(style.p) for style in STYLES[:-1]), len(EXPONENTS)]  # of STYLES among the methods


@dataclass(frozen=True)
class DirectionView:
    """One setting of the panel; numbers are means over the worlds, in lengths of the true gradient.

    Attributes:
        tips: of every method, EXPONENTS and then the pessimistic mean: the part along the truth and across it.
        worlds: the same of the chosen p, world by world.
        cosines, biases, errors: of every method, intervals over the worlds.
        product_error: standard error of the product ratio, which has no bias.
    """

    kind: str
    length: int
    staleness: int
    clip: str
    p: float
    tips: tuple[tuple[float, float], ...]
    worlds: tuple[tuple[float, float], ...]
    cosines: tuple[Interval, ...]
    biases: tuple[Interval, ...]
    errors: tuple[Interval, ...]
    product_error: float

    def of(self, intervals: tuple[Interval, ...]) -> Interval:
        """The chosen p's."""
        return intervals[EXPONENTS.index(self.p)]


def view_direction(traces: BanditTraces, p: float, staleness: int, length: int, clip: str, kind: str) -> DirectionView:
    """Everything that one setting shows, from the traces."""
    place = (KINDS.index(kind), LENGTHS.index(length), STALENESS.index(staleness))
    here = traces.gradients[(*place, list(CLIPS).index(clip))]  # methods, 3, worlds
    chosen = here[EXPONENTS.index(p)]
    return DirectionView(
        kind,
        length,
        staleness,
        clip,
        p,
        tuple((along, across) for along, across in here[:, :2].mean(dim=-1).tolist()),
        tuple((along, across) for along, across in chosen[:2].T.tolist()),
        tuple(map(tuple, mean_intervals(cosine_of(here)).T.tolist())),
        tuple(map(tuple, mean_intervals(bias_of(here)).T.tolist())),
        tuple(map(tuple, mean_intervals(here[:, 2]).T.tolist())),
        traces.product_gradients[(*place, 2)].mean().item(),
    )


def within(interval: Interval) -> str:
    """An estimate and its interval in words."""
    mean, low, high = interval
    return f"{mean:.2f} ({low:.2f} to {high:.2f})".replace("-", "−")


def direction_caption(view: DirectionView) -> str:
    """Cosine, bias and standard error of the chosen p."""
    return (
        f"{p_label(view.p)}, {view.staleness} {'step' if view.staleness == 1 else 'steps'} old, T = {view.length}, "
        f"{view.clip}, rewards {view.kind}: cosine with the truth {within(view.of(view.cosines))}, bias "
        f"{within(view.of(view.biases))}, standard error {within(view.of(view.errors))}; the product ratio's 1, 0 and "
        f"{view.product_error:.2f}. 95 % intervals over {len(view.worlds)} worlds."
    )


def direction_alt(view: DirectionView) -> str:
    """The three plots in words."""
    arrows = ", ".join(
        f"{style.name} {view.tips[place][0]:.2f} along the truth and {view.tips[place][1]:.2f} across, cosine "
        f"{view.cosines[place][0]:.2f}, standard error {view.errors[place][0]:.2f}"
        for style, place in zip(STYLES, PLACES, strict=True)
    )
    return f"Arrows of expected gradients: {arrows}. {direction_caption(view)}"


def direction_explorer(
    traces: BanditTraces, *, p: float = -1.0, staleness: int = 15, kind: str = KINDS[0]
) -> Panel[DirectionView]:
    """Arrows of expected gradients beside the true one; cosine and standard error over the exponent."""
    canvas = Canvas(760, 400)
    axes = canvas.mosaic([["arrows", "cosine"], ["arrows", "error"]], width_ratios=[1.55, 1])
    movers = [_draw_arrows(canvas, axes["arrows"]), *_draw_exponents(canvas, axes["cosine"], axes["error"])]

    def draw(view: DirectionView) -> None:
        for move in movers:
            move(view)

    age = slider(
        widgets.SelectionSlider,
        "optimizer steps since sampling",
        options=[(f"{k:>2}", k) for k in STALENESS],
        value=staleness,
    )
    return Panel(
        {
            "p": exponent_slider(EXPONENTS, p),
            "staleness": age,
            "kind": widgets.ToggleButtons(
                options=[(f"rewards {name}", name) for name in KINDS], value=kind, style={"button_width": "15em"}
            ),
            "length": slider(widgets.SelectionSlider, "choices T", options=[(str(n), n) for n in LENGTHS], value=4),
            "clip": slider(
                widgets.SelectionSlider, "clip of tokens", options=[(name.center(14), name) for name in CLIPS]
            ),
        },
        functools.partial(view_direction, traces),
        canvas,
        draw=draw,
        caption=direction_caption,
        alt=direction_alt,
    )


def _draw_arrows(canvas: Canvas, axes: Any) -> Any:
    tidy_axes(
        axes, title="Expected gradients beside the true one", xlabel="along the true gradient", ylabel="across it"
    )
    axes.set(xlim=(-0.9, 1.6), ylim=(-0.12, 1.72), aspect="equal")
    label_ticks(axes, [-0.5, 0, 0.5, 1, 1.5], ["−0.5", "0", "0.5", "1", "1.5"], axis="x")
    label_ticks(axes, [0, 0.5, 1])
    look = {"arrowstyle": "simple,head_width=1.6,head_length=1.2,tail_width=0.6", "color": GREY, "alpha": 0.4, "lw": 0}
    look |= {"shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (1, 0), (0, 0), arrowprops=look)
    axes.text(1.03, -0.085, "the truth", color=GREY, fontsize=9)
    dots = canvas.animate(axes.plot([], [], ".", color=ORANGE, markersize=5, alpha=0.7, label="worlds, chosen p")[0])
    ring = canvas.animate(
        axes.plot([], [], "o", color="none", markeredgecolor=ORANGE, markersize=15, markeredgewidth=2.5)[0]
    )
    lines = [
        canvas.animate(
            axes.plot(
                [], [], style.marker, color=style.colour, linestyle=style.linestyle, linewidth=2.2, markersize=8,
                markevery=[1], label=style.name,
            )[0]
        )
        for style in STYLES
    ]  # fmt: skip
    axes.legend(loc="upper left", ncols=3, fontsize=8.5, frameon=False, handlelength=2.2, columnspacing=1)

    def move(view: DirectionView) -> None:
        dots.set_data(*zip(*view.worlds, strict=True))
        ring.set_data(*([x] for x in view.tips[EXPONENTS.index(view.p)]))
        for line, place in zip(lines, PLACES, strict=True):
            along, across = view.tips[place]
            line.set_data([0, along], [0, across])

    return move


def _draw_exponents(canvas: Canvas, cosine: Any, error: Any) -> list[Any]:
    """Two plots over the exponent, and what moves them."""
    spots = [*range(len(EXPONENTS)), len(EXPONENTS) + 0.4]
    names = [*(f"{p:g}".replace("-", "−") for p in EXPONENTS), "−sign A"]
    colours = [*map(exponent_colour, EXPONENTS), PURPLE]
    tidy_axes(cosine, title="Direction: cosine with the truth", ylim=(-1.1, 1.15), xlim=(-0.6, spots[-1] + 0.6))
    label_ticks(cosine, [-1, 0, 1], ["−1", "0", "1"])
    cosine.axhline(0, color=BLACK, linewidth=0.8)
    tidy_axes(error, title="Standard error, batch of 64", xlabel="exponent p", xlim=(-0.6, spots[-1] + 0.6))
    error.set(yscale="log", ylim=(0.08, 40))
    label_ticks(error, [0.1, 1, 10])
    movers = []
    for axes, name in ((cosine, "cosines"), (error, "errors")):
        label_ticks(axes, spots, names, axis="x")
        axes.tick_params(axis="x", labelsize=8.5)
        ring = canvas.animate(
            axes.plot([], [], "o", color="none", markeredgecolor=ORANGE, markersize=14, markeredgewidth=2)[0]
        )
        bars = [canvas.animate(axes.plot([], [], color=colour, linewidth=2)[0]) for colour in colours]
        points = [canvas.animate(axes.plot([], [], "o", color=colour, markersize=5)[0]) for colour in colours]

        def move(
            view: DirectionView, name: str = name, ring: Any = ring, bars: Any = bars, points: Any = points
        ) -> None:
            intervals = getattr(view, name)
            ring.set_data([EXPONENTS.index(view.p)], [view.of(intervals)[0]])
            for spot, bar, point, (mean, low, high) in zip(spots, bars, points, intervals, strict=True):
                bar.set_data([spot, spot], [low, high])
                point.set_data([spot], [mean])

        movers.append(move)
    product = canvas.animate(error.plot([], [], color=BLACK, linestyle=":", linewidth=1.5, label="product")[0])
    error.legend(loc="upper right", fontsize=8.5, frameon=False, borderaxespad=0.1)

    def move_product(view: DirectionView) -> None:
        product.set_data([-0.6, spots[-1] + 0.6], [view.product_error] * 2)

    return [*movers, move_product]
