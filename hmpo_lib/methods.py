"""The published methods as rows of one table. Adding a method is adding a row (see CONTRIBUTING.md)."""

import math
from dataclasses import dataclass, replace

from torch import Tensor

from hmpo_lib.advantages import AdvantageScale, group_advantages
from hmpo_lib.objectives import Objective
from hmpo_lib.schedules import PMPOSchedule, PSchedule, holder_schedule, pessimistic_schedule


@dataclass(frozen=True)
class Method:
    """A row of the table: an objective, how its advantages are scaled, and where it was published.

    Attributes:
        objective: the cell of the cube; its ``p`` is None where there is a schedule.
        source: paper or program, with its date.
        advantage_scale: ``"std"``: group advantages are divided by the group's standard deviation; ``"none"``.
        p_schedule: gives the ``p`` of each optimizer step (see hmpo_lib/schedules.py), or None.

    Raises:
        ValueError: an objective with a ``p`` beside a schedule, which would give another, or neither of the two.

    >>> import torch
    >>> Method(Objective(p=-0.5)).step_objective(0.0, torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1)).p
    -0.5
    """

    objective: Objective
    source: str = "unpublished"
    advantage_scale: AdvantageScale = "std"
    p_schedule: PSchedule | None = None

    def __post_init__(self) -> None:
        if (self.objective.p is None) != (self.p_schedule is not None):
            raise ValueError(
                f"Method: objective.p is {self.objective.p} and p_schedule is {self.p_schedule}: expected one of the "
                "two; with a schedule write Objective(p=None, ...)."
            )

    def advantages(self, rewards: Tensor, group_size: int) -> Tensor:
        """`group_advantages` with the method's scale: what a step's loss weights the answers by.

        Args:
            rewards: ``[batch]``, groups one after the other.
            group_size: completions per prompt.

        Returns:
            ``[batch]``.

        >>> import torch
        >>> METHODS["dr_grpo"].advantages(torch.tensor([1.0, 0.0]), 2)
        tensor([ 0.5000, -0.5000])
        """
        return group_advantages(rewards, group_size, scale=self.advantage_scale)

    def step_objective(
        self, progress: float, log_ratios: Tensor, completion_mask: Tensor, advantages: Tensor
    ) -> Objective:
        """The objective of one optimizer step, with the ``p`` that the schedule gives it: what `policy_loss` takes.

        Args:
            progress: how far the run is, from 0 to 1.
            log_ratios: ``[batch, time]``, logprobs − old_logprobs; no gradient flows into them.
            completion_mask: ``[batch, time]``.
            advantages: ``[batch]``.

        >>> import torch
        >>> log_ratios, mask, advantages = torch.zeros(2, 3), torch.ones(2, 3), torch.tensor([1.0, -1.0])
        >>> METHODS["holder"].step_objective(0.5, log_ratios, mask, advantages).p
        0.0
        >>> METHODS["pessimistic"].step_objective(0.5, log_ratios, mask, advantages).p
        tensor([-1.,  1.])
        """
        if self.p_schedule is None:
            return self.objective
        return replace(self.objective, p=self.p_schedule(progress, log_ratios.detach(), completion_mask, advantages))

    def with_max_length(self, max_length: int) -> "Method":
        """The method for a run with this limit of new tokens; only a constant length weight without one needs it.

        >>> METHODS["dr_grpo"].with_max_length(512).objective.max_length
        512
        """
        if self.objective.length_weight != "constant" or self.objective.max_length is not None:
            return self
        return replace(self, objective=replace(self.objective, max_length=max_length))


_GMPO_RANGE = (math.exp(-0.4), math.exp(0.4))
# The widest of four ranges, tried on the shipped model with seeds 100 to 102, at which the reward rose from the start
# as it did with narrower ones (docs/results.md). Symmetric in the logarithm.
_HMPO_RANGE = (0.9, 1 / 0.9)

METHODS: dict[str, Method] = {
    "grpo": Method(Objective(1.0, "token", (0.8, 1.2)), "arXiv 2402.03300, eq. 3"),
    # Its constant is the limit of new tokens: `with_max_length`, which `fine_tune` calls.
    "dr_grpo": Method(Objective(1.0, "token", (0.8, 1.2), "constant"), "arXiv 2503.20783", advantage_scale="none"),
    "dapo": Method(Objective(1.0, "token", (0.8, 1.28), "proportional"), "arXiv 2503.14476"),
    "gspo": Method(Objective(0.0, "sequence", (1 - 3e-4, 1 + 4e-4)), "arXiv 2507.18071, eq. 5"),
    "luspo": Method(Objective(0.0, "sequence", (1 - 2e-3, 1 + 2.5e-3), "constant", max_length=1), "arXiv 2602.05261"),
    "gmpo": Method(Objective(0.0, "token", _GMPO_RANGE), "arXiv 2507.20673"),
    "hmpo": Method(Objective(-1.0, "sequence", _HMPO_RANGE), "this project's subject"),
    "hmpo_token": Method(Objective(-1.0, "token", _GMPO_RANGE), "the public GMPO repository, July 2025"),
    "holder": Method(Objective(None, "sequence", (0.8, 1.2)), "arXiv 2605.12058, eq. 2", p_schedule=holder_schedule),
    # The place of its clip, and the rule from clipped share to target, are our reading of the abstract: we had no more.
    "pmpo": Method(Objective(None, "token", (0.8, 1.2)), "arXiv 2601.22521", p_schedule=PMPOSchedule((0.8, 1.2))),
    "pessimistic": Method(
        Objective(None, "sequence", _HMPO_RANGE), "an experiment of this project", p_schedule=pessimistic_schedule
    ),
}
