"""Attention maps to look at: which earlier characters each head of a model looks at."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import ipywidgets as widgets
import numpy as np
from matplotlib import colormaps
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hmpo_lib.teach.panels import FIGURE_SPACE, Panel, slider
from hmpo_lib.teach.plotting import BLACK, FONT_SIZE, PALE_GREY, Canvas, tidy_axes

SIGNS = {"<bos>": "▷", "<eos>": "◁"}  # one character each, so that they fit beside the map
LEAST_NAMED = 0.5  # a weight from here on is named in the caption
MOST_NAMED = 4


class AttentionMap(NamedTuple):
    """One head on one text.

    Attributes:
        characters: of the text, with ▷ for bos and ◁ for eos.
        weights: ``[time, time]``, how much the character of a row looks at that of a column; 0 for later ones.
        layer, head: counted from 1.
    """

    characters: tuple[str, ...]
    weights: Tensor
    layer: int
    head: int

    @property
    def caption(self) -> str:
        """The strongest looks from one character to another, bos left out."""
        strong = [
            (weight, i, j)
            for i, row in enumerate(self.weights.tolist())
            for j, weight in enumerate(row)
            if weight >= LEAST_NAMED and 0 < j < i
        ]
        named = [
            f"“{self.characters[i]}” (character {i}) at “{self.characters[j]}” ({j}) {weight:.2f}"
            for weight, i, j in sorted(strong, reverse=True)[:MOST_NAMED]
        ]
        looks = "; ".join(named) if named else f"none of {LEAST_NAMED:g} or more"
        return f"Layer {self.layer}, head {self.head}. Strongest looks at an earlier character: {looks}."

    @property
    def alt(self) -> str:
        """The map in words."""
        return (
            f"A triangle of squares, one for each character of {''.join(self.characters)} and each one before it, "
            f"darker where the head looks more. {self.caption}"
        )


def characters(input_ids: Tensor, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """The tokens of a text ``[time]``, one character each, with ▷ for bos and ◁ for eos."""
    return tuple(SIGNS.get(token, token) for token in tokenizer.convert_ids_to_tokens(input_ids.tolist()))


def _draw_map(canvas: Canvas, longest: int) -> Any:
    """The map and its characters on both sides, and the function that shows a view on them."""
    axes = canvas.mosaic([["map"]])["map"]
    tidy_axes(axes, ylabel="← looking, from top to bottom", xlim=(0, 1), ylim=(1, 0), grid=False)
    axes.yaxis.labelpad = 18  # room for the characters
    axes.set_title("looked at: an earlier character, or itself →", loc="left", fontsize=FONT_SIZE, pad=20)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    empty = np.ma.masked_all((1, 1))
    image = axes.imshow(empty, extent=(0, 1, 1, 0), vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    image.set_cmap(colormaps["Blues"].with_extremes(bad=PALE_GREY))  # grey: what no head can see
    canvas.animate(image)
    look: dict[str, Any] = {"fontsize": 9.5, "family": "monospace", "ha": "center", "va": "center", "color": BLACK}
    columns = [canvas.animate(axes.text(0, -0.022, "", **look)) for _ in range(longest)]
    rows = [canvas.animate(axes.text(-0.02, 0, "", **look)) for _ in range(longest)]

    def move(view: AttentionMap) -> None:
        size = len(view.characters)
        later = np.triu(np.ones((size, size), dtype=bool), 1)
        image.set_data(np.ma.masked_array(view.weights.numpy(), later))
        for k in range(longest):
            character = view.characters[k] if k < size else ""
            columns[k].set(text=character, x=(k + 0.5) / size)
            rows[k].set(text=character, y=(k + 0.5) / size)

    return move


def attention_explorer(
    maps: Mapping[str, tuple[tuple[str, ...], Tensor]], *, layer: int = 2, head: int = 2
) -> Panel[AttentionMap]:
    """A slider for the head, and a choice of the text.

    Args:
        maps: `characters` and weights ``[layers, heads, time, time]``, by a name for each text.
        layer, head: which to show first, counted from 1.
    """
    canvas = Canvas(640, 600)
    layers, heads = next(iter(maps.values()))[1].shape[:2]
    stops = [
        (f"layer {i}, head {j}".center(17, FIGURE_SPACE), (i, j))
        for i in range(1, layers + 1)
        for j in range(1, heads + 1)
    ]
    controls = {
        "place": slider(widgets.SelectionSlider, "head", options=stops, value=(layer, head)),
        "text": widgets.ToggleButtons(options=list(maps)),
    }

    def compute(place: tuple[int, int], text: str) -> AttentionMap:
        names, weights = maps[text]
        return AttentionMap(names, weights[place[0] - 1, place[1] - 1], *place)

    return Panel(
        controls,
        compute,
        canvas,
        draw=_draw_map(canvas, max(len(names) for names, _ in maps.values())),
        caption=lambda view: view.caption,
        alt=lambda view: view.alt,
    )
