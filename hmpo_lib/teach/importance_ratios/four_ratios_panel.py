"""The panel of the four numbers that are all called "the ratio" of a completion."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import ipywidgets as widgets
import torch

from hmpo_lib.ratios import sequence_log_ratios
from hmpo_lib.teach.panels import Panel
from hmpo_lib.teach.plotting import GREY, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.shared.ratio_styles import COMPLETION_RATIOS, RATIO_STYLES, RatioStyle, number

MOST_TOKENS = 10
LARGEST_SHOWN = 10.0  # the four-ratio panel's axis; what lies beyond stands at its edge, with its number


@dataclass(frozen=True)
class FourRatiosView:
    """A completion's token ratios and the four numbers that stand for all of them, by name."""

    tokens: tuple[float, ...]
    ratios: dict[str, float]


def parse_probabilities(text: str, name: str) -> list[float]:
    """Numbers in (0, 1] between commas or spaces.

    Raises:
        ValueError: something else stands there.

    >>> parse_probabilities("0.5, .25 1", "old")
    [0.5, 0.25, 1.0]
    """
    words = re.findall(r"[^\s,;]+", text)
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        raise ValueError(f"{name}: '{text}' is no list of numbers; write, for example, 0.5, 0.8, 0.4") from None
    if not 1 <= len(numbers) <= MOST_TOKENS:
        raise ValueError(f"{name}: {len(numbers)} probabilities; give 1 to {MOST_TOKENS}")
    wrong = [word for word, number in zip(words, numbers, strict=True) if not 0 < number <= 1]
    if wrong:
        raise ValueError(f"{name}: {wrong[0]} is no probability of a sampled token; give numbers above 0, at most 1")
    return numbers


def view_four_ratios(old: str, new: str) -> FourRatiosView:
    """Token ratios, and the product and three means of them, from two lists of probabilities.

    >>> view_four_ratios("0.5, 0.5", "1, 0.25").ratios["harmonic"]
    0.8
    """
    old_probabilities, new_probabilities = parse_probabilities(old, "old"), parse_probabilities(new, "new")
    if len(old_probabilities) != len(new_probabilities):
        raise ValueError(
            f"{len(old_probabilities)} old probabilities and {len(new_probabilities)} new ones; give as many of each"
        )
    pair = torch.tensor([old_probabilities, new_probabilities], dtype=torch.float64).log()
    log_ratios = pair[1] - pair[0]
    ratios = sequence_log_ratios(log_ratios)._asdict()
    return FourRatiosView(
        tuple(log_ratios.exp().tolist()), {name: ratios[name].exp().item() for name in COMPLETION_RATIOS}
    )


def four_ratios_caption(view: FourRatiosView) -> str:
    """The four numbers."""
    numbers = ", ".join(f"{name} {number(ratio)}" for name, ratio in view.ratios.items())
    return f"{len(view.tokens)} {'token' if len(view.tokens) == 1 else 'tokens'}: {numbers}."


def four_ratios_alt(view: FourRatiosView) -> str:
    """The two plots in words."""
    tokens = ", ".join(map(number, view.tokens))
    return f"Token ratios {tokens} on a logarithmic axis, and beside them on the same axis: {four_ratios_caption(view)}"


def _mark(canvas: Canvas, axes: Any, x: float, style: RatioStyle) -> Callable[[float | None], None]:
    """A marker with its number on the side that faces away from 1; gives what moves both, or hides them at None."""
    marker = canvas.animate(axes.plot([x], [1.0], style.marker, color=style.colour, markersize=10)[0])
    label = canvas.animate(axes.annotate("", (x, 1.0), (0, 0), textcoords="offset points", ha="center", fontsize=9))
    label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.3})

    def move(ratio: float | None) -> None:
        height = min(max(ratio or 1.0, 1 / LARGEST_SHOWN), LARGEST_SHOWN)
        marker.set_ydata([height])
        marker.set_visible(ratio is not None)
        label.set(text="" if ratio is None else number(ratio), y=8 if height >= 1 else -8)
        label.set_verticalalignment("bottom" if height >= 1 else "top")
        label.xy = (x, height)

    return move


def four_ratios_explorer(
    old: str = "0.9, 0.5, 0.6, 0.8, 0.3", new: str = "0.95, 0.6, 0.9, 0.2, 0.45"
) -> Panel[FourRatiosView]:
    """Two lists of probabilities to edit; the token ratios and the four ratios of the completion follow."""
    canvas = Canvas(760, 330)
    places = canvas.mosaic([["tokens", "whole"]])
    left, right = places["tokens"], places["whole"]
    tidy_axes(left, title="Each token", xlabel="token", ylabel="ratio new / old", xlim=(0.4, MOST_TOKENS + 0.6))
    tidy_axes(right, title="The whole completion", xlim=(-0.6, 3.6))
    ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10]
    for axes, labels in ((left, None), (right, [""] * len(ticks))):
        axes.set(yscale="log", ylim=(0.42 / LARGEST_SHOWN, LARGEST_SHOWN / 0.42))
        axes.axhline(1, color=GREY, linewidth=1)
        axes.grid(visible=False, axis="x")
        label_ticks(axes, ticks, labels)
    label_ticks(left, range(1, MOST_TOKENS + 1), axis="x")
    label_ticks(right, range(4), COMPLETION_RATIOS, axis="x")
    tokens = [_mark(canvas, left, k + 1, RATIO_STYLES["token"]) for k in range(MOST_TOKENS)]
    completion = [_mark(canvas, right, k, RATIO_STYLES[name]) for k, name in enumerate(COMPLETION_RATIOS)]

    def draw(view: FourRatiosView) -> None:
        for marks, ratios in ((tokens, view.tokens), (completion, view.ratios.values())):
            for move, ratio in zip_longest(marks, ratios):
                move(ratio)

    def field(description: str, value: str) -> widgets.Text:
        # A picture for every key stroke would show an error at most of them: this one waits for Enter, or for the
        # reader to leave the field.
        layout = widgets.Layout(width="60%")
        style = {"description_width": "initial"}
        return widgets.Text(value, description=description, layout=layout, style=style, continuous_update=False)

    return Panel(
        {"old": field("old probabilities", old), "new": field("new probabilities", new)},
        view_four_ratios,
        canvas,
        draw=draw,
        caption=four_ratios_caption,
        alt=four_ratios_alt,
        book={
            "example": {
                "one token has fallen": {},
                "and the last one has risen": {"new": "0.95, 0.6, 0.9, 0.2, 0.9"},
                "all have fallen alike": {"old": "0.5, 0.5, 0.5", "new": "0.4, 0.4, 0.4"},
            }
        },
    )
