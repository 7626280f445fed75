"""The panel of clipped pushes: a strip of tokens with both places of the clip, and the push on each token."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets
from matplotlib.patches import Rectangle

from hmpo_lib.objectives import Clip
from hmpo_lib.teach.panels import Panel, p_slider, slider
from hmpo_lib.teach.plotting import BLACK, BLUE, GREY, SKY_BLUE, VERMILLION, Canvas, label_ticks, signed, tidy_axes
from hmpo_lib.teach.policy_losses.clipped_pushes import (
    GIVEN_STALENESS,
    StripView,
    strip_alt,
    strip_caption,
    strip_verdict,
    view_strip,
)
from hmpo_lib.teach.shared.power_mean_drawings import log_of

# Eight tokens of a completion, four optimizer steps after they were sampled. Chosen so that every mean, either sign of
# the advantage and either place of the clip shows something of its own.
STRIP_RATIOS = (1.05, 0.8, 1.4, 1.0, 0.4, 1.15, 2.2, 0.95)
LARGEST_STALENESS = 6
LARGEST_PUSH = 4.0  # the lower plot's axis, times 1/n; a longer bar is cut off there, its number is not

LABEL_BOX = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}

SIGNS = [("advantage A = +1", 1.0), ("advantage A = −1", -1.0)]
BOOK_P = (-5.0, -1.0, 0.0, 1.0, 5.0)  # of the book: the ends, and the means that have a name
CLIPS = [("no clip", None), ("clip on the tokens", "token"), ("clip on the mean", "sequence")]


def draw_ratios(canvas: Canvas, axes: Any, ratios: Sequence[float]) -> Callable[[StripView], None]:
    """A ring for each ratio and a disc for what is left of it, their mean in a column of its own, and the clip."""
    n = len(ratios)
    reach = 1.35 * LARGEST_STALENESS / GIVEN_STALENESS * max(abs(math.log(ratio)) for ratio in (*ratios, 1.6))
    low, high = math.exp(-reach), math.exp(reach)
    tidy_axes(axes, title="Ratios before and after the clip", ylabel="ratio", xlim=(0.4, n + 2), ylim=(low, high))
    axes.set_yscale("log")
    axes.grid(visible=False, axis="x")
    label_ticks(axes, [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10) if low <= tick <= high])
    columns = [*range(1, n + 1), n + 1.3]
    label_ticks(axes, columns, [*map(str, columns[:-1]), "mean"], axis="x")
    axes.axhline(1, color=GREY, linewidth=1)
    axes.axvline(n + 0.65, color=GREY, linewidth=1)
    wall = Rectangle((0, 1), 0, 0, facecolor="none", edgecolor=GREY, alpha=0.5, hatch="////", linewidth=0)
    canvas.animate(axes.add_patch(wall))
    stems = canvas.animate(axes.vlines(columns, 1, 1, color=BLACK, linewidth=1, linestyle=":"))
    discs = canvas.animate(axes.plot(columns, [1.0] * (n + 1), "o", color=SKY_BLUE, markersize=8)[0])
    rings = canvas.animate(
        axes.plot(columns, [1.0] * (n + 1), "o", color="none", markeredgecolor=BLACK, markersize=8)[0]
    )
    labels = [canvas.animate(axes.annotate("", (x, 1.0), (0, 0), textcoords="offset points")) for x in columns]
    for label in labels:
        label.set(fontsize=9, horizontalalignment="center", bbox=LABEL_BOX)

    def draw(view: StripView) -> None:
        before, after = (*view.ratios, view.mean), (*view.kept, view.kept_mean)
        rings.set_ydata(before)
        discs.set_ydata(after)
        stems.set_segments([[(x, a), (x, b)] for x, a, b in zip(columns, before, after, strict=True)])
        for label, ratio in zip(labels, before, strict=True):
            up = ratio >= 1
            label.set(text=f"{ratio:.2f}", y=8 if up else -8)
            label.set_verticalalignment("bottom" if up else "top")
            label.xy = (label.xy[0], ratio)
        left, right = (0.4, n + 0.65) if view.clip == "token" else (n + 0.65, n + 2)
        bottom, top = (view.clip_range[1], high) if view.advantage > 0 else (low, view.clip_range[0])
        wall.set_bounds(left, bottom, right - left, top - bottom)
        wall.set_visible(view.clip is not None)

    return draw


def draw_pushes(canvas: Canvas, axes: Any, n: int) -> Callable[[StripView], None]:
    """A bar for each push with its number, and a cross where the clip blocks it."""
    tidy_axes(axes, title="The push on each token", xlabel="token", ylabel="A · M · W", xlim=(0.4, n + 2))
    end = LARGEST_PUSH / n
    axes.set_ylim(-1.35 * end, 1.35 * end)
    axes.grid(visible=False, axis="x")
    label_ticks(axes, range(1, n + 1), axis="x")
    label_ticks(axes, [-end, 0, end], [f"−{end:.2g}", "0", f"{end:.2g}"])
    axes.axhline(0, color=GREY, linewidth=1)
    axes.axvline(n + 0.65, color=GREY, linewidth=1)
    legend = "○ the ratio\n● after the clip\n▨ clipped\n✕ no push"
    axes.text(n + 0.75, 1.25 * end, legend, fontsize=8.5, color=GREY, va="top", linespacing=1.35, bbox=LABEL_BOX)
    bars = [canvas.animate(bar) for bar in axes.bar(range(1, n + 1), [0.0] * n, width=0.6)]
    labels = [canvas.animate(axes.text(x, 0, "", ha="center", fontsize=9, bbox=LABEL_BOX)) for x in range(1, n + 1)]

    def draw(view: StripView) -> None:
        colour = BLUE if view.advantage > 0 else VERMILLION
        for bar, label, push, stop in zip(bars, labels, view.pushes, view.blocked, strict=True):
            height = max(-end, min(end, push))
            bar.set(height=height, facecolor=colour)
            is_up = view.advantage > 0
            label.set(text="✕" if stop else signed(push), y=0 if stop else height + (0.08 if is_up else -0.08) * end)
            label.set(verticalalignment="center" if stop else "bottom" if is_up else "top", color=BLACK)

    return draw


def token_strip_explorer(
    ratios: Sequence[float] = STRIP_RATIOS,
    *,
    p: float = 1.0,
    width: float = 0.2,
    staleness: int = GIVEN_STALENESS,
    advantage: float = 1.0,
    clip: Clip | None = "token",
) -> Panel[StripView]:
    """A strip of tokens: ratios, what is left after the clip, and the push on each, checked live against autograd."""
    log_of(ratios)
    canvas = Canvas(760, 430)
    places = canvas.mosaic([["ratios"], ["pushes"]], height_ratios=(1.2, 1))
    top, bottom = places["ratios"], places["pushes"]
    parts = [draw_ratios(canvas, top, ratios), draw_pushes(canvas, bottom, len(ratios))]
    verdict = canvas.animate(top.set_title("", loc="right", fontsize=12, fontweight="bold"))

    def draw(view: StripView) -> None:
        for part in parts:
            part(view)
        verdict.set_text(strip_verdict(view))

    return Panel(
        {
            "p": p_slider(value=p),
            "width": slider(widgets.FloatSlider, "clip width c", value=width, min=0.05, max=0.8, step=0.05),
            "staleness": slider(widgets.IntSlider, "steps since sampling", value=staleness, max=LARGEST_STALENESS),
            "advantage": widgets.ToggleButtons(options=SIGNS, value=advantage),
            "clip": widgets.ToggleButtons(options=CLIPS, value=clip),
        },
        lambda p, width, staleness, advantage, clip: view_strip(ratios, p, width, staleness, advantage, clip),
        canvas,
        draw=draw,
        caption=strip_caption,
        alt=strip_alt,
        book={"p": BOOK_P, "width": (width,), "staleness": (0, LARGEST_STALENESS // 2, LARGEST_STALENESS)},
    )
