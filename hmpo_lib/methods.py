"""The published methods as rows of one table. Adding a method is adding a row (see CONTRIBUTING.md)."""

import math
from dataclasses import dataclass
from typing import Literal

from hmpo_lib.objectives import Objective
from hmpo_lib.schedules import PMPOSchedule, PSchedule, holder_schedule, pessimistic_schedule


@dataclass(frozen=True)
class Method:
    """A row of the table: an objective, how its advantages are scaled, and where it was published.

    Attributes:
        objective: the cell of the cube; its ``p`` is the first one where there is a schedule.
        advantage_scale: ``"std"``: group advantages are divided by the group's standard deviation; ``"none"``.
        p_schedule: gives the ``p`` of each optimizer step (see hmpo_lib/schedules.py), or None.
        source: paper or program, with its date.
    """

    objective: Objective
    source: str
    advantage_scale: Literal["std", "none"] = "std"
    p_schedule: PSchedule | None = None


_GMPO_RANGE = (math.exp(-0.4), math.exp(0.4))
# The widest of four ranges, tried on the shipped model with seeds 100 to 102, at which the reward rose from the start
# as it did with narrower ones (docs/results.md). Symmetric in the logarithm.
_HMPO_RANGE = (0.9, 1 / 0.9)

METHODS: dict[str, Method] = {
    "grpo": Method(Objective(1.0, "token", (0.8, 1.2)), "arXiv 2402.03300, eq. 3"),
    # Its constant is the limit of new tokens, which `fine_tune` puts in; elsewhere the padded width stands for it.
    "dr_grpo": Method(Objective(1.0, "token", (0.8, 1.2), "constant"), "arXiv 2503.20783", advantage_scale="none"),
    "dapo": Method(Objective(1.0, "token", (0.8, 1.28), "proportional"), "arXiv 2503.14476"),
    "gspo": Method(Objective(0.0, "sequence", (1 - 3e-4, 1 + 4e-4)), "arXiv 2507.18071, eq. 5"),
    "luspo": Method(Objective(0.0, "sequence", (1 - 2e-3, 1 + 2.5e-3), "constant", max_length=1), "arXiv 2602.05261"),
    "gmpo": Method(Objective(0.0, "token", _GMPO_RANGE), "arXiv 2507.20673"),
    "hmpo": Method(Objective(-1.0, "sequence", _HMPO_RANGE), "this project's subject"),
    "hmpo_token": Method(Objective(-1.0, "token", _GMPO_RANGE), "the public GMPO repository, July 2025"),
    "holder": Method(Objective(2.0, "sequence", (0.8, 1.2)), "arXiv 2605.12058", p_schedule=holder_schedule),
    # The place of its clip, and the rule from clipped share to target, are our reading of the abstract.
    "pmpo": Method(Objective(1.0, "token", (0.8, 1.2)), "arXiv 2601.22521", p_schedule=PMPOSchedule((0.8, 1.2))),
    "pessimistic": Method(
        Objective(-1.0, "sequence", _HMPO_RANGE), "an experiment of this project", p_schedule=pessimistic_schedule
    ),
}
