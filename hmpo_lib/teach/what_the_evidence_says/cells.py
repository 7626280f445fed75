"""The cells of the evidence: what the runs of docs/evidence_plan.md are, each kind of run one frozen value.

A cell and a seed are a run. The runs of a cell differ in nothing but their seed, and two cells with the same seed
begin with the same prompts and the same draws (common random numbers).
"""

import dataclasses
from typing import Literal, get_args

from torch import Tensor

from hmpo_lib.lm import FineTuneConfig
from hmpo_lib.lm.config import OptimizerName
from hmpo_lib.lm.tasks import SUMS, Task, is_worked, reward_correct
from hmpo_lib.methods import Method
from hmpo_lib.objectives import Clip, LengthWeight, Objective

TaskName = Literal["sums", "in_the_head"]
ModelName = Literal["shipped", "larger"]


def reward_in_the_head(prompt: str, completion: str) -> float:
    """1 for the right number without any work before it: the second task, adding in the head.

    >>> reward_in_the_head("7+12+5=", "24"), reward_in_the_head("7+12+5=", "(7+12=19,19+5=24)24")
    (1.0, 0.0)
    """
    return 0.0 if is_worked(completion) else reward_correct(prompt, completion)


TASKS: dict[TaskName, Task] = {"sums": SUMS, "in_the_head": SUMS._replace(reward_fn=reward_in_the_head)}


@dataclasses.dataclass(frozen=True)
class Exponents:
    """The exponent of an answer, by the sign of its advantage. A schedule, as `Method` takes it.

    >>> Exponents(-1.0, 1.0).name
    '-1|1'
    """

    good: float  # where A > 0
    bad: float  # where A < 0

    def __call__(self, progress: float, log_ratios: Tensor, completion_mask: Tensor, advantages: Tensor) -> Tensor:
        """The p of each completion, ``[batch]``; 0 where A = 0, which pushes nothing."""
        return self.good * (advantages > 0) + self.bad * (advantages < 0)

    @property
    def name(self) -> str:
        """One number where the sign does not matter, else good|bad."""
        return f"{self.good:g}" if self.good == self.bad else f"{self.good:g}|{self.bad:g}"


@dataclasses.dataclass(frozen=True)
class OneSided(Method):
    """A method that hears the answers of one sign alone; the others' advantages count as 0."""

    bad: bool = True

    def advantages(self, rewards: Tensor, group_size: int) -> Tensor:
        """Those of the group, `[batch]`, cut off at 0.

        >>> import torch
        >>> OneSided(Objective(1.0), advantage_scale="none").advantages(torch.tensor([1.0, 0.0]), 2)
        tensor([ 0.0000, -0.5000])
        """
        whole = super().advantages(rewards, group_size)
        return whole.clamp(max=0) if self.bad else whole.clamp(min=0)


@dataclasses.dataclass(frozen=True)
class Cell:
    """What the runs of a cell have in common.

    Attributes:
        exponents: of the mean, for A > 0 and for A < 0.
        clip: its place, or None.
        clip_range: (lo, hi), or None.
        learning_rate: of the optimizer.
        minibatches: optimizer steps per pass over a rollout.
        epochs: passes over a rollout.
        policy_lag: how many rollouts behind the sampler is.
        rollouts: in a run.
        optimizer: as in `FineTuneConfig`.
        length_weight: as in `Objective`.
        advantage_scale: as in `Method`.
        task: a name in TASKS.
        heard: answers of which sign have an advantage; that of the others counts as 0.
        twin: whether the run starts from weights that are one rounding away from the shipped ones.
        model: that is trained: the shipped one, or the one of tools/make_larger_model.py.
    """

    exponents: Exponents
    clip: Clip | None = None
    clip_range: tuple[float, float] | None = None
    learning_rate: float = 1e-4
    minibatches: int = 16
    epochs: int = 1
    policy_lag: int = 0
    rollouts: int = 16
    optimizer: OptimizerName = "adamw"
    length_weight: LengthWeight = "equal"
    advantage_scale: Literal["std", "none"] = "std"
    task: TaskName = "sums"
    heard: Literal["both", "bad", "good"] = "both"
    twin: bool = False
    model: ModelName = "shipped"

    def __post_init__(self) -> None:
        if (self.clip is None) != (self.clip_range is None):
            raise ValueError(f"Cell: clip is {self.clip!r} and clip_range is {self.clip_range}: give both, or neither.")
        for field, allowed in (
            ("heard", ("both", "bad", "good")),
            ("task", tuple(TASKS)),
            ("model", get_args(ModelName)),
        ):
            if getattr(self, field) not in allowed:
                raise ValueError(f"Cell: {field} is {getattr(self, field)!r}: expected one of {', '.join(allowed)}.")

    @property
    def name(self) -> str:
        """What differs from the plain cell, in a form that a file can be called by."""
        parts = [f"p={self.exponents.name}"]
        if self.clip_range is not None:
            parts.append(f"{self.clip}={self.clip_range[0]:.5g}..{self.clip_range[1]:.5g}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in ("exponents", "clip", "clip_range") and value != field.default:
                parts.append(f"{field.name}={value:g}" if isinstance(value, float) else f"{field.name}={value}")
        return ",".join(parts).replace("|", "_")

    def with_rate(self, learning_rate: float) -> "Cell":
        """The same at another learning rate."""
        return dataclasses.replace(self, learning_rate=learning_rate)

    def method(self) -> Method:
        """Its objective, with a schedule where the exponent depends on the sign."""
        fixed = self.exponents.good == self.exponents.bad
        p = self.exponents.good if fixed else None
        objective = Objective(p, self.clip, self.clip_range, self.length_weight)
        method = Method(objective, "a cell of the evidence", self.advantage_scale, None if fixed else self.exponents)
        return method if self.heard == "both" else OneSided(**vars(method), bad=self.heard == "bad")

    def config(self, seed: int) -> FineTuneConfig:
        """Of one run; all else is FineTuneConfig's default."""
        return FineTuneConfig(
            self.method(),
            rollouts=self.rollouts,
            minibatches=self.minibatches,
            epochs=self.epochs,
            policy_lag=self.policy_lag,
            learning_rate=self.learning_rate,
            optimizer=self.optimizer,
            seed=seed,
        )
