"""The runs of notebook 06 with Muon and with AdamW, recorded by tools/record_optimizers.py (data/README.md)."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from hmpo_lib.teach.a_language_model_from_scratch.race_experiment import Setting
from hmpo_lib.teach.recordings import load_tables, recording_path

RECORDED = recording_path("optimizers.safetensors")

OPTIMIZERS = ("Muon", "AdamW")
RATES = {
    "Muon": (0.005, 0.01, 0.02, 0.04, 0.08),
    "AdamW": (0.001, 0.002, 0.004, 0.008, 0.016),
}
# The first was tried with every rate, all with the best one.
DETAILS = {
    "Muon": (0.003, 0.001, 0.01, 0.03),
    "AdamW": (0.95, 0.9, 0.99, 0.999),
}
LONG_RATES = (0.001, 0.002, 0.004, 0.008)  # of AdamW for twice the steps, with the second number chosen before
TUNING_SEEDS = (100, 101)
SEEDS = (0, 1, 2, 3, 4)  # on which nothing was tuned


class RaceTraces(NamedTuple):
    """What was recorded; losses are in nats per token, a value for each 10 steps, see `RaceRecord`.

    Attributes:
        tuning: ``[optimizers, rates, tuning seeds, records]``, held-out loss, with the first of DETAILS.
        detail_tuning: ``[optimizers, details, tuning seeds, records]``, the same with the best rate.
        long_tuning: ``[long rates, tuning seeds, 2 · records]``, the same with AdamW for twice the steps.
        losses, held_out_losses: ``[optimizers, seeds, records]``, with the setting that tuning chose.
        long_losses, long_held_out_losses: ``[seeds, 2 · records]``, AdamW for twice the steps, as tuning chose.
        step_seconds: ``[optimizers, repeats]``, of one optimizer step with its batch, taken by turns.
    """

    tuning: Tensor
    detail_tuning: Tensor
    long_tuning: Tensor
    losses: Tensor
    held_out_losses: Tensor
    long_losses: Tensor
    long_held_out_losses: Tensor
    step_seconds: Tensor

    @property
    def chosen(self) -> dict[str, Setting]:
        """The setting of each optimizer with the lowest loss at the end of the tuning runs."""
        return {name: choose(name, self.tuning[k], self.detail_tuning[k]) for k, name in enumerate(OPTIMIZERS)}

    @property
    def chosen_long(self) -> Setting:
        """The setting of AdamW for twice the steps."""
        return self.chosen["AdamW"]._replace(rate=best(LONG_RATES, self.long_tuning))

    @property
    def time_ratio(self) -> float:
        """How long a step with Muon takes, over one with AdamW: the median over the pairs taken by turns."""
        return (self.step_seconds[0] / self.step_seconds[1]).median().item()


def best(values: Sequence[float], runs: Tensor) -> float:
    """The value whose runs ``[values, tuning seeds, records]`` end at the lowest loss, mean over the seeds.

    >>> import torch
    >>> best((0.1, 0.2), torch.tensor([[[2.0, 1.0], [2.0, 1.2]], [[2.0, 0.5], [2.0, 1.1]]]))
    0.2
    """
    return values[int(runs[..., -1].mean(dim=-1).argmin())]


def choose(optimizer: str, tuning: Tensor, detail_tuning: Tensor) -> Setting:
    """The setting that the tuning runs of an optimizer choose; see `RaceTraces`, without its first dimension."""
    return Setting(optimizer, best(RATES[optimizer], tuning), best(DETAILS[optimizer], detail_tuning))


def load_race_traces(path: str | Path = RECORDED) -> RaceTraces:
    """The recording of the repository, or another file that tools/record_optimizers.py wrote.

    Raises:
        FileNotFoundError: the file is not there.

    >>> load_race_traces().held_out_losses.shape
    torch.Size([2, 5, 16])
    """
    return load_tables(RaceTraces, path)
