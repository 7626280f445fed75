"""The runs of notebook 07 with too high a learning rate, recorded by tools/record_hot_heads.py (data/README.md)."""

import math
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from hmpo_lib.teach.recordings import load_tables, recording_path

RECORDED = recording_path("hot_heads.safetensors")

TIMES = (1.0, 2.5, 10.0)  # the rate that notebook 06 tuned
THRESHOLDS = (10.0, 20.0, 30.0, 50.0, 100.0, math.inf)  # with Muon; the other optimizers ran without a clip
SEEDS = (0, 1, 2, 3, 4)
RECORDS = 30
LAST = 6  # records whose mean loss stands for the end of a run: 30 steps, 480 texts
HEADS = 8  # two layers of four


class HotTraces(NamedTuple):
    """What was recorded, see `HotRecord`: Muon with each threshold, and each optimizer without a clip.

    Attributes:
        losses: ``[TIMES, THRESHOLDS, SEEDS, records]``, Muon.
        max_logits: the same and ``heads``.
        entropies: the same and ``heads``.
        clipped: as the losses.
        free_losses: ``[OPTIMIZERS, TIMES, SEEDS, records]``.
        free_max_logits: the same and ``heads``.
        free_entropies: the same and ``heads``.
    """

    losses: Tensor
    max_logits: Tensor
    entropies: Tensor
    clipped: Tensor
    free_losses: Tensor
    free_max_logits: Tensor
    free_entropies: Tensor

    @property
    def final_losses(self) -> Tensor:
        """``[TIMES, THRESHOLDS, SEEDS]``, mean over the last 30 steps."""
        return self.losses[..., -LAST:].mean(dim=-1)

    @property
    def free_final_losses(self) -> Tensor:
        """``[OPTIMIZERS, TIMES, SEEDS]``, the same without a clip."""
        return self.free_losses[..., -LAST:].mean(dim=-1)


def load_hot_traces(path: str | Path = RECORDED) -> HotTraces:
    """The recording of the repository, or another file that tools/record_hot_heads.py wrote.

    Raises:
        FileNotFoundError: the file is not there.

    >>> load_hot_traces().losses.shape
    torch.Size([3, 6, 5, 30])
    """
    return load_tables(HotTraces, path)
