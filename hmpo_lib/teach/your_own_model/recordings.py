"""Other seeds of the runs that notebook 10 makes with a reward of its own, and with the repaired one."""

from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from hmpo_lib.teach.recordings import load_tables, recording_path

RECORDED = recording_path("own_model.safetensors")
REWARD_SEEDS = range(4)


class OwnModelRuns(NamedTuple):
    """What was recorded.

    Attributes:
        paid, honest, right: ``[rewards, seeds, rollouts]``, of `REWARDS`: the mean reward, what the worked answers to
            the same prompts would have earned, and the share of right answers.
    """

    paid: Tensor
    honest: Tensor
    right: Tensor


def load_own_model_runs(path: str | Path = RECORDED) -> OwnModelRuns:
    """The repository's recording, or another file that tools/record_own_model.py wrote.

    Raises:
        FileNotFoundError: the file is not there.

    >>> load_own_model_runs().paid.shape
    torch.Size([2, 4, 30])
    """
    return load_tables(OwnModelRuns, path)
