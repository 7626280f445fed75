"""The panel for the collection's through-line: which token is pushed hardest turns round with the advantage's sign."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import ipywidgets as widgets

from hmpo_lib.means import log_power_mean, power_mean_weights
from hmpo_lib.teach.panels import Panel, p_label, p_slider
from hmpo_lib.teach.plotting import BLACK, BLUE, GREY, VERMILLION, Canvas, label_ticks, round_numbers, signed, tidy_axes
from hmpo_lib.teach.shared.power_mean_drawings import log_of

STEP = 0.4  # how far a push of 1 moves a log-ratio in the figure


@dataclass(frozen=True)
class PushView:
    """What one setting shows: each token's ratio, the push on its log-probability, and the ratio one step later."""

    ratios: tuple[float, ...]
    p: float
    advantage: float
    pushes: tuple[float, ...]
    moved: tuple[float, ...]


def view_pushes(ratios: Sequence[float], p: float, advantage: float) -> PushView:
    """The push on each log-probability, d(A · M_p) / d d_t = A · M_p · W_t, and where one step takes the ratios.

    >>> [round(push, 3) for push in view_pushes([0.5, 1.0, 1.5], -1.0, 1.0).pushes]
    [0.446, 0.223, 0.149]
    """
    log_ratios = log_of(ratios)
    pushes = advantage * log_power_mean(log_ratios, p).exp() * power_mean_weights(log_ratios, p)
    moved = (log_ratios + STEP * pushes).exp()
    return PushView(tuple(ratios), p, advantage, tuple(pushes.tolist()), tuple(moved.tolist()))


def push_verdict(view: PushView) -> str:
    """Whether the step draws the ratios together or drives them apart: the spread of their logarithms says."""
    before, after = log_of(view.ratios).std(), log_of(view.moved).std()
    if abs(after - before) < 1e-9:
        return "the ratios keep their distance"
    return "the ratios are drawn together" if after < before else "the ratios are driven apart"


def push_caption(view: PushView) -> str:
    """The hardest push and what the step does."""
    hardest = max(view.pushes, key=abs)
    alike = max(map(abs, view.pushes)) - min(map(abs, view.pushes)) < 1e-9
    where = "on every token" if alike else f"on the token at {view.ratios[view.pushes.index(hardest)]:g}"
    return f"{p_label(view.p)}, {_sign(view)}: the hardest push, {signed(hardest)}, is {where}; {push_verdict(view)}."


def push_alt(view: PushView) -> str:
    """The arrows in words."""
    arrows = ", ".join(f"{ratio:g}: {signed(push)}" for ratio, push in zip(view.ratios, view.pushes, strict=True))
    return f"One arrow for each token from its ratio, as long as its push: {arrows}; {push_verdict(view)}."


def _sign(view: PushView) -> str:
    return "A = +1" if view.advantage > 0 else "A = −1"


def push_explorer(ratios: Sequence[float], *, p: float = -1.0) -> Panel[PushView]:
    """Arrows on the tokens' ratios for a chosen p and sign of the advantage, and what the step does to their spread."""
    log_of(ratios)
    canvas = Canvas(760, 250)
    axes = canvas.figure.add_axes((0.03, 0.22, 0.94, 0.66))
    reach = STEP * max(ratios) + 0.15  # at p = ∞ the whole mean pushes the largest ratio
    low, high = math.log(min(ratios)) - reach, math.log(max(ratios)) + reach
    rows = range(len(ratios), 0, -1)
    tidy_axes(
        axes, title="One arrow a token: its push", xlabel="the token's ratio, before and after the step", grid=False
    )
    axes.set(xlim=(low, high), ylim=(0.3, len(ratios) + 0.7))
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    ticks = round_numbers(math.exp(low), math.exp(high))
    label_ticks(axes, [math.log(tick) for tick in ticks], [f"{tick:g}" for tick in ticks], axis="x")
    starts = [math.log(ratio) for ratio in ratios]
    axes.axvline(0, color=GREY, linewidth=1)
    axes.plot(starts, rows, "o", color="white", markeredgecolor=BLACK, markersize=9)
    zeros = [0.0] * len(ratios)
    arrows = canvas.animate(
        axes.quiver(starts, rows, zeros, zeros, angles="xy", scale_units="xy", scale=1, width=0.006, zorder=3)
    )
    style = {
        "fontsize": 9,
        "ha": "center",
        "va": "bottom",
        "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.5},
    }
    labels = [canvas.animate(axes.text(0, row + 0.22, "", **style)) for row in rows]
    verdict = canvas.animate(axes.set_title("", loc="right", fontsize=12, fontweight="bold"))

    def draw(view: PushView) -> None:
        colour = BLUE if view.advantage > 0 else VERMILLION
        arrows.set_UVC([STEP * push for push in view.pushes], zeros)
        arrows.set_color(colour)
        for label, start, push in zip(labels, starts, view.pushes, strict=True):
            label.set(text=signed(push), x=start + STEP * push / 2, color=colour)
        verdict.set_text(push_verdict(view))

    sign = widgets.ToggleButtons(options=[("advantage A = +1", 1.0), ("advantage A = −1", -1.0)], value=1.0)
    return Panel(
        {"p": p_slider(value=p), "advantage": sign},
        lambda p, advantage: view_pushes(ratios, p, advantage),
        canvas,
        draw=draw,
        caption=push_caption,
        alt=push_alt,
    )
