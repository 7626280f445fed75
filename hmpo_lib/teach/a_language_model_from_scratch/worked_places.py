"""Where in a worked answer digits are copied, numbers end and sums are due, and where a head may look for them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hmpo_lib.lm.tasks import Question

Places = list[tuple[int, tuple[int, ...]]]  # where a head is asked, and where it is expected to look


class WorkedPlaces(NamedTuple):
    """Places in a worked answer, by their position in the text after bos.

    A model that has read up to a character says the next one. So what it needs for a character is looked up *from* the
    character before it.

    Attributes:
        copies: from the character before one that stands in the text already, to the place where it does.
        marks: from the last digit of each number in the work, to the sign before that number.
        left_units: from where the last digit of a sum is due, to the last digit of its left number: here, or where it
            was copied from.
        right_units: from the same places, to those of its right number.
    """

    copies: Places
    marks: Places
    left_units: Places
    right_units: Places


def worked_places(question: Question) -> WorkedPlaces:
    """The places of ``question.prompt + question.worked_answer``.

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
