"""What notebook 05 shows of rare events and divided advantages, recorded by tools/record_risk.py (data/README.md)."""

from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from hmpo_lib.teach.recordings import load_tables, recording_path

RISK_RECORDED = recording_path("risk.safetensors")

SIZES = (8, 16, 32, 64, 128)  # sequences of a rollout
DIVISIONS = ("not divided", "its own std", "std of the others", "a fixed number")
STALE_EVENT = "disaster of −10"
STALE_SIZES = (16, 64)
STALE_EXPONENTS = (-1.0, 0.0, 1.0)


class RiskTraces(NamedTuple):
    """What became of the risky token; `events` are EVENTS, `divisions` DIVISIONS.

    Attributes:
        shares, margins: ``[events, divisions, SIZES, seeds]``, as in `Chosen`, with fresh rollouts of one step.
        stale_shares, stale_margins: ``[divisions, STALE_SIZES, STALE_EXPONENTS, seeds]``, with rollouts of
            eight steps, of STALE_EVENT.
        parts: ``[events, divisions, SIZES, 2]``, of `average_advantages`: the usual and the rare outcome.
    """

    shares: Tensor
    margins: Tensor
    stale_shares: Tensor
    stale_margins: Tensor
    parts: Tensor


def load_risk_traces(path: str | Path = RISK_RECORDED) -> RiskTraces:
    """The traces of the repository, or of another file that tools/record_risk.py wrote.

    Raises:
        FileNotFoundError: the file is not there.

    >>> load_risk_traces().shares.shape[-1]  # seeds
    200
    """
    return load_tables(RiskTraces, path)
