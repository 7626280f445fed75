"""What each step of QK-Clip saw and did, for plots; in bounds."""

import dataclasses
from collections import deque

from torch import Tensor

from hmpo_lib.optim.max_logits import Trigger

# `QKClip.history` drops its oldest records above either, so that a long run cannot fill the memory.
KEPT_RECORDS = 10_000
KEPT_BYTES = 32 * 2**20
_BYTES_OF_A_RECORD = 2_000  # beside its numbers: Python's and torch's objects


@dataclasses.dataclass(frozen=True, eq=False)
class ClipRecord:
    """What one step saw and did, on all ranks together. On the CPU.

    Attributes:
        step: the optimizer's step, from 0.
        heads: each attention module's name and how many heads it has.
        trigger: what was measured.
        measured: ``[all heads]``, module by module; −inf where nothing was seen.
        factors: ``[all heads]``, what the logits were multiplied by.
    """

    step: int
    heads: dict[str, int]
    trigger: Trigger
    measured: Tensor
    factors: Tensor

    @property
    def max_logits(self) -> dict[str, Tensor]:
        """S_max of each module, ``[heads]``; empty if only the bound was measured."""
        return self._by_module(self.measured) if self.trigger == "max_logit" else {}

    @property
    def norm_bounds(self) -> dict[str, Tensor]:
        """The bound on |S| of each module, ``[heads]``, see `MaxLogitMonitor.norm_bounds`; empty if S_max triggers."""
        return self._by_module(self.measured) if self.trigger == "norm_bound" else {}

    @property
    def gammas(self) -> dict[str, Tensor]:
        """γ of each module, ``[heads]``: 1 where nothing was clipped."""
        return self._by_module(self.factors)

    @property
    def heads_clipped(self) -> int:
        """The number of heads with γ < 1."""
        return int((self.factors < 1).sum())

    def _by_module(self, flat: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.heads, flat.split(list(self.heads.values())), strict=True))


def history_of(heads: dict[str, int]) -> deque[ClipRecord]:
    """An empty history whose records, two float64 numbers a head at most, keep within `KEPT_BYTES`."""
    size = 16 * sum(heads.values()) + _BYTES_OF_A_RECORD
    return deque(maxlen=min(KEPT_RECORDS, 1 + KEPT_BYTES // size))
