"""Heads switched off, one or several of a layer: what the shipped model still gets right at each kind of place."""

from typing import NamedTuple

import ipywidgets as widgets

from hmpo_lib.teach.a_language_model_from_scratch.digits_experiment import (
    KINDS,
    LAYERS,
    MODES,
    SUBSETS,
    guesses,
    held_out_texts,
)
from hmpo_lib.teach.a_language_model_from_scratch.digits_recording import TEXTS, TEXTS_SEED, DigitTraces
from hmpo_lib.teach.panels import FIGURE_SPACE, Panel, slider
from hmpo_lib.teach.plotting import BLACK, GREY, SKY_BLUE, Canvas, label_ticks, tidy_axes

BY = {"by zero": "zero", "by its own mean": "mean"}
WIDTH = 14  # characters of the longest name of a subset


class HeadsView(NamedTuple):
    """One setting: the share of right tokens by kind of place, and half of its 95 % interval over the texts."""

    layer: int
    heads: tuple[int, ...]
    by: str
    right: tuple[float, ...]
    half_widths: tuple[float, ...]

    @property
    def caption(self) -> str:
        """The shares in words."""
        off = f"without {name_of(self.heads)} of layer {self.layer}, replaced {self.by}" if self.heads else "whole"
        shares = ", ".join(f"{kind} {100 * right:.1f} %" for kind, right in zip(KINDS, self.right, strict=True))
        return f"The shipped model, {off}. Right: {shares}."


def name_of(heads: tuple[int, ...]) -> str:
    """A set of heads in words.

    >>> name_of(()), name_of((2,)), name_of((2, 4))
    ('no head', 'head 2', 'heads 2, 4')
    """
    if not heads:
        return "no head"
    return f"head{'s' * (len(heads) > 1)} {', '.join(map(str, heads))}"


def view_heads(traces: DigitTraces, layer: int, heads: tuple[int, ...], by: str) -> HeadsView:
    """The recorded shares of one setting."""
    place = layer - 1, MODES.index(BY[by]), SUBSETS.index(heads)
    right, half_widths = (tuple(table[place].tolist()) for table in (traces.off_right, traces.off_half_widths))
    return HeadsView(layer, heads, by, right, half_widths)


def heads_explorer(traces: DigitTraces, *, layer: int = 2, heads: tuple[int, ...] = (2, 4)) -> Panel[HeadsView]:
    """A slider for the heads that are switched off; their layer, and what stands in for what they give."""
    canvas = Canvas(760, 210)
    axes = canvas.mosaic([["bars"]])["bars"]
    tidy_axes(axes, title=f"Right, of the tokens due in {TEXTS} held-out sums", xlim=(0, 1.13), ylim=(2.6, -0.6))
    label_ticks(axes, [0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"], axis="x")
    label_ticks(axes, range(len(KINDS)), KINDS)
    bars = [canvas.animate(bar) for bar in axes.barh(range(len(KINDS)), [0.0] * len(KINDS), height=0.5, color=SKY_BLUE)]
    ends = [canvas.animate(axes.plot([], [], color=BLACK, linewidth=2)[0]) for _ in KINDS]
    values = [canvas.animate(axes.text(0, k, "", va="center", fontsize=9)) for k in range(len(KINDS))]
    for k, guess in enumerate(guesses(held_out_texts(TEXTS, TEXTS_SEED))[1]):
        canvas.animate(axes.plot([guess] * 2, [k - 0.25, k + 0.25], color=BLACK, linewidth=2, linestyle=":")[0])
        axes.text(guess, k - 0.27, "a guess", fontsize=8, color=GREY, ha="center", va="bottom")

    def draw(view: HeadsView) -> None:
        for k, (right, half) in enumerate(zip(view.right, view.half_widths, strict=True)):
            bars[k].set_width(right)
            ends[k].set_data([right - half, right + half], [k, k])
            values[k].set(text=f"{100 * right:.1f} %", x=right + half + 0.01)

    by_size = sorted(SUBSETS, key=lambda subset: (len(subset), subset))
    names = [(", ".join(map(str, subset)) or "none").center(WIDTH, FIGURE_SPACE) for subset in by_size]
    controls = {
        "heads": slider(
            widgets.SelectionSlider, "heads off", options=list(zip(names, by_size, strict=True)), value=heads
        ),
        "layer": widgets.ToggleButtons(options=[(f"layer {k}", k) for k in range(1, LAYERS + 1)], value=layer),
        "by": widgets.ToggleButtons(options=list(BY)),
    }
    return Panel(
        controls,
        lambda heads, layer, by: view_heads(traces, layer, heads, by),
        canvas,
        draw=draw,
        caption=lambda view: view.caption,
        alt="A bar for each kind of place, with a mark for a guess, always the commonest token.",
    )
