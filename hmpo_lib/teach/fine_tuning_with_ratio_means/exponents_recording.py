"""What the exponent alone changes in the first rollouts, without a clip and with a wide one: recorded runs."""

from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from hmpo_lib.lm.config import FineTuneConfig
from hmpo_lib.methods import METHODS, Method
from hmpo_lib.objectives import Objective
from hmpo_lib.teach.recordings import load_tables, recording_path

RECORDED = recording_path("exponents.safetensors")

CLIPS = ("without a clip", "with a wide clip on the tokens")
WIDE = METHODS["gmpo"].objective.clip_range
EXPONENTS = (-1.0, 0.0, 1.0)
SEEDS = range(5)
ROLLOUTS, MINIBATCHES = 10, 4  # of each run; all else is FineTuneConfig's default


class ExponentRuns(NamedTuple):
    """What was recorded: ``[clips, exponents, seeds, rollouts]`` each.

    Attributes:
        rewards: mean reward of the rollout's answers.
        rooms: `room_to_differ` in the rollout's last step.
    """

    rewards: Tensor
    rooms: Tensor


def exponent_config(clip: str, p: float, *, seed: int = 0, rollouts: int = ROLLOUTS) -> FineTuneConfig:
    """The run of one exponent.

    Args:
        clip: one of CLIPS.
        p: the exponent.
        seed: of the run.
        rollouts: how many.

    >>> exponent_config(CLIPS[1], 0.0).resolved_method().objective.clip
    'token'
    """
    objective = Objective(p) if clip == CLIPS[0] else Objective(p, "token", WIDE)
    return FineTuneConfig(Method(objective), rollouts=rollouts, minibatches=MINIBATCHES, seed=seed)


def load_exponent_runs(path: str | Path = RECORDED) -> ExponentRuns:
    """The repository's recording, or another file that tools/record_exponents.py wrote.

    Raises:
        FileNotFoundError: the file is not there.

    >>> load_exponent_runs().rewards.shape
    torch.Size([2, 3, 5, 10])
    """
    return load_tables(ExponentRuns, path)
