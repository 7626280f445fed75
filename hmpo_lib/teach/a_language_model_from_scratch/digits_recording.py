"""What models can do at each kind of digit, recorded by tools/record_digits.py (data/README.md)."""

from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from hmpo_lib.teach.recordings import load_tables, recording_path

RECORDED = recording_path("digits.safetensors")

TEXTS, TEXTS_SEED = 400, 60  # held-out sums on which heads are switched off
RACE_TEXTS, RACE_TEXTS_SEED = 64, 998  # held-out sums read after each ten steps of the race
LOOKS = ("copies", "marks", "left_units", "right_units")


class DigitTraces(NamedTuple):
    """What was recorded; kinds of places are those of `KINDS`, subsets of heads those of `SUBSETS`.

    Attributes:
        losses, right: ``[optimizers, seeds, records, kinds]``, in the race, see `digit_scores`; means over the texts.
        off_losses, off_right: ``[layers, modes, subsets, kinds]``, the shipped model's without these heads of a layer.
        off_half_widths: the same shape, half of the 95 % interval of ``off_right`` over the texts.
        looks: ``[layers, heads, LOOKS]``, see `mean_weights`.
    """

    losses: Tensor
    right: Tensor
    off_losses: Tensor
    off_right: Tensor
    off_half_widths: Tensor
    looks: Tensor


def load_digit_traces(path: str | Path = RECORDED) -> DigitTraces:
    """The recording of the repository, or another file that tools/record_digits.py wrote.

    Raises:
        FileNotFoundError: the file is not there.

    >>> load_digit_traces().off_right.shape
    torch.Size([2, 2, 16, 3])
    """
    return load_tables(DigitTraces, path)
