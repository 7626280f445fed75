"""What the length weight changes in fine-tuning: recorded runs under two weights and two payments."""

from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from hmpo_lib.lm.tasks import reward_correct
from hmpo_lib.objectives import LengthWeight
from hmpo_lib.teach.recordings import load_tables, recording_path

RECORDED = recording_path("length_weights.safetensors")

PAYMENTS = ("the right number pays", "only a short right number pays")
WEIGHTS: tuple[LengthWeight, ...] = ("equal", "proportional")
SEEDS = range(5)
ROLLOUTS, LEARNING_RATE = 25, 3e-4  # of each run; all else is FineTuneConfig's default


def reward_short(prompt: str, completion: str) -> float:
    """1 for the right number in at most three characters, so without any work."""
    return reward_correct(prompt, completion) if len(completion) <= 3 else 0.0


class LengthRuns(NamedTuple):
    """What was recorded: ``[payments, weights, seeds, rollouts]`` each.

    Attributes:
        worked: share of the answers that show their work.
        tokens: mean tokens of an answer, eos included.
        rewards: mean reward, by the run's payment.
    """

    worked: Tensor
    tokens: Tensor
    rewards: Tensor


def load_length_runs(path: str | Path = RECORDED) -> LengthRuns:
    """The repository's recording, or another file that tools/record_length_weights.py wrote.

    Raises:
        FileNotFoundError: the file is not there.

    >>> load_length_runs().worked.shape
    torch.Size([2, 2, 5, 25])
    """
    return load_tables(LengthRuns, path)
