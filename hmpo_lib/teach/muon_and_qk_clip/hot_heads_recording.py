"""The runs of notebook 07 with too high a learning rate, recorded by tools/record_hot_heads.py (data/README.md)."""

import math
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from hmpo_lib.teach.recordings import load_recording, recording_path

RECORDED = recording_path("hot_heads.safetensors")

RATES = (0.02, 0.05, 0.2)  # of Muon
THRESHOLDS = (10.0, 20.0, 30.0, 50.0, 100.0, math.inf)
SEEDS = (0, 1, 2, 3, 4)
RECORDS = 30
LAST = 6  # records whose mean loss stands for the end of a run: 30 steps, 480 texts
HEADS = 8  # two layers of four


class HotTraces(NamedTuple):
    """What was recorded; the first dimensions are RATES, THRESHOLDS, SEEDS and records, see `HotRecord`.

    Attributes:
        losses: ``[rates, thresholds, seeds, records]``.
        max_logits: the same and ``heads``.
        entropies: the same and ``heads``.
        clipped: as the losses.
    """

    losses: Tensor
    max_logits: Tensor
    entropies: Tensor
    clipped: Tensor

    @property
    def final_losses(self) -> Tensor:
        """``[rates, thresholds, seeds]``, mean over the last 30 steps."""
        return self.losses[..., -LAST:].mean(dim=-1)


def load_hot_traces(path: str | Path = RECORDED) -> HotTraces:
    """The recording of the repository, or another file that tools/record_hot_heads.py wrote.

    Raises:
        FileNotFoundError: the file is not there.

    >>> load_hot_traces().losses.shape
    torch.Size([3, 6, 5, 30])
    """
    return HotTraces(**{name: table.double() for name, table in load_recording(path).items()})
