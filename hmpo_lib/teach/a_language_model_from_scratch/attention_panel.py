"""Attention maps to look at: which earlier characters each head of a model looks at, and where one may expect it to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib import colormaps
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hmpo_lib.lm.tasks import Question
from hmpo_lib.teach.panels import FIGURE_SPACE, Panel, slider
from hmpo_lib.teach.plotting import BLACK, FONT_SIZE, PALE_GREY, Canvas

SIGNS = {"<bos>": "▷", "<eos>": "◁"}  # one character each, so that they fit beside the map
LEAST_NAMED = 0.5  # a weight from here on is named in the caption
MOST_NAMED = 4

Places = list[tuple[int, tuple[int, ...]]]  # where a head is asked, and where it is expected to look


@dataclass(frozen=True)
class AttentionMap:
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


@torch.no_grad()
def attention_weights(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str
) -> tuple[tuple[str, ...], Tensor]:
    """The characters of a text and the weights ``[layers, heads, time, time]`` that the softmax gave.

    Args:
        model: with eager attention, the one that hands them out.
        tokenizer: of one token a character; bos is put in front.
        text: may end in the tokenizer's eos.
    """
    input_ids = tokenizer(text, return_tensors="pt")["input_ids"]
    weights = model(input_ids=input_ids, output_attentions=True).attentions
    characters = tokenizer.convert_ids_to_tokens(input_ids[0].tolist())
    return tuple(SIGNS.get(token, token) for token in characters), torch.stack(weights)[:, 0]


# --- where a head may be expected to look ----------------------------------------------------------------------------


class WorkedPlaces(NamedTuple):
    """Places in a worked answer, by their position in the text after bos.

    A model that has read up to a character says the next one. So what it needs for a character is looked up *from* the
    character before it.

    Attributes:
        copies: from the character before one that stands in the text already, to the place where it does.
        marks: from the last digit of each number in the work, to the sign before that number.
        left_units: from where the last digit of a sum is due, to the last digit of its left number: here, or where it
            was copied from.
        right_units: the same for its right number.
    """

    copies: Places
    marks: Places
    left_units: Places
    right_units: Places


def worked_places(question: Question) -> WorkedPlaces:
    """The places of ``question.prompt + question.worked_answer``.

    >>> from hmpo_lib.lm.tasks import Question
    >>> places = worked_places(Question((7, 2, 5)))  # 7+2+5=(7+2=9,9+5=14)14 begins at position 1
    >>> places.copies[0], places.marks[0], places.left_units[0]
    ((7, (1,)), (8, (7,)), (11, (8, 1)))
    """
    places = WorkedPlaces([], [], [], [])
    terms, position = [], 1
    for term in question.terms:
        terms.append(_span(position, term))
        position = terms[-1][-1] + 2  # over the + or the =
    position += 1  # over the (
    left_source, total = terms[0], question.terms[0]
    for term, source in zip(question.terms[1:], terms[1:], strict=True):
        left = _span(position, total)
        right = _span(left[-1] + 2, term)
        total += term
        result = _span(right[-1] + 2, total)
        for copy, original in ((left, left_source), (right, source)):
            places.copies.extend((at - 1, (to,)) for at, to in zip(copy, original, strict=True))
            places.marks.append((copy[-1], (copy[0] - 1,)))
        places.left_units.append((result[-1] - 1, (left[-1], left_source[-1])))
        places.right_units.append((result[-1] - 1, (right[-1], source[-1])))
        left_source, position = result, result[-1] + 2  # over the , or the )
    places.copies.extend((at - 1, (to,)) for at, to in zip(_span(position, total), left_source, strict=True))
    return places


def _span(position: int, number: int) -> range:
    """The positions of a number's digits."""
    return range(position, position + len(str(number)))


def mean_weights(weights: Sequence[Tensor], places: Sequence[Places]) -> Tensor:
    """How much each head looks where it is expected to, ``[layers, heads]``: mean over all places of all texts.

    Args:
        weights: of each text, ``[layers, heads, time, time]``.
        places: of each text.
    """
    found = [w[:, :, i, list(js)].sum(dim=-1) for w, text in zip(weights, places, strict=True) for i, js in text]
    return torch.stack(found).mean(dim=0)


# --- the panel -------------------------------------------------------------------------------------------------------


def attention_caption(view: AttentionMap) -> str:
    """The strongest looks from one character to another, bos left out."""
    strong = [
        (weight, i, j)
        for i, row in enumerate(view.weights.tolist())
        for j, weight in enumerate(row)
        if weight >= LEAST_NAMED and 0 < j < i
    ]
    named = [
        f"“{view.characters[i]}” (character {i}) at “{view.characters[j]}” ({j}) {weight:.2f}"
        for weight, i, j in sorted(strong, reverse=True)[:MOST_NAMED]
    ]
    looks = "; ".join(named) if named else f"none of {LEAST_NAMED:g} or more"
    return f"Layer {view.layer}, head {view.head}. Strongest looks at an earlier character: {looks}."


def attention_alt(view: AttentionMap) -> str:
    """The map in words."""
    return (
        f"A triangle of squares, one for each character of {''.join(view.characters)} and each one before it, darker "
        f"where the head looks more. {attention_caption(view)}"
    )


def _draw_map(canvas: Canvas, longest: int) -> Any:
    """The map and its characters on both sides, and the function that shows a view on them."""
    axes = canvas.figure.add_axes((0.075, 0.015, 0.91, 0.89))
    axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    canvas.figure.text(0.075, 0.965, "looked at: an earlier character, or itself →", fontsize=FONT_SIZE)
    canvas.figure.text(0.012, 0.9, "looking, from top to bottom ↓", fontsize=FONT_SIZE, rotation=90, va="top")
    empty = np.ma.masked_all((1, 1))
    image = axes.imshow(empty, extent=(0, 1, 1, 0), vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    image.set_cmap(colormaps["Blues"].with_extremes(bad=PALE_GREY))  # grey: what no head can see
    canvas.animate(image)
    look = {"fontsize": 9.5, "family": "monospace", "ha": "center", "va": "center", "color": BLACK}
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
        maps: what `attention_weights` gave, by a name for each text.
        layer, head: which to show first, counted from 1.
    """
    canvas = Canvas(640, 620)
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
        characters, weights = maps[text]
        return AttentionMap(characters, weights[place[0] - 1, place[1] - 1], *place)

    longest = max(len(characters) for characters, _ in maps.values())
    draw = _draw_map(canvas, longest)
    return Panel(controls, compute, canvas, draw=draw, caption=attention_caption, alt=attention_alt)
