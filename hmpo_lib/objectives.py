"""A cell of the cube: the exponent p, the clip's place and range, and the length weight are its axes."""

import math
from collections.abc import Hashable
from dataclasses import dataclass, fields
from typing import Literal, get_args

from torch import Tensor

Clip = Literal["token", "sequence"]
LengthWeight = Literal["equal", "proportional", "constant"]


@dataclass(frozen=True)
class Objective:
    """A cell of the cube: the surrogate J_i = A_i · M_p(r_i) of one completion, its clip, and its weight in the batch.

    Attributes:
        p: exponent of the power mean of a completion's token ratios; any real number, ±inf, or ``[batch]``. None: it is
            the schedule of a `Method` that gives it, step by step (`Method.step_objective`).
        clip: ``"token"``: min(r_t, hi) if A > 0, max(r_t, lo) if A < 0, before the mean; ``"sequence"``:
            min(A·M, A·clip(M, lo, hi)), after it; ``None``: no clip.
        clip_range: (lo, hi), ratios with 0 < lo <= 1 <= hi.
        length_weight: ``"equal"``: every completion counts the same; ``"proportional"``: by its share of the batch's
            tokens; ``"constant"``: by its length over ``max_length``.
        max_length: tokens, for ``"constant"``: the limit of new tokens of the whole run, or 1. The width of a padded
            batch is not meant: two paddings of one batch would have two losses.
        ratio_cap: the largest ratio of a completion with A < 0 (TRL's ``delta``, verl's ``clip_ratio_c``), or None.
    """

    p: float | Tensor | None
    clip: Clip | None = None
    clip_range: tuple[float, float] | None = None
    length_weight: LengthWeight = "equal"
    max_length: int | None = None
    ratio_cap: float | None = None

    def __eq__(self, other: object) -> bool:
        """Equal settings; of a tensor p, equal numbers."""
        return self._key() == other._key() if isinstance(other, Objective) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Hashable, ...]:
        # A tensor's own == gives a tensor; a scalar one is the same exponent as its number.
        p = self.p.tolist() if isinstance(self.p, Tensor) else self.p
        others = (getattr(self, field.name) for field in fields(self)[1:])
        return tuple(p) if isinstance(p, list) else p, *others

    def __post_init__(self) -> None:
        if bool(self.p.isnan().any()) if isinstance(self.p, Tensor) else self.p is not None and math.isnan(self.p):
            raise ValueError("Objective: p is nan: expected a real number, ±inf, or a tensor [batch].")
        if self.clip not in (None, *get_args(Clip)):
            raise ValueError(f'Objective: clip is {self.clip!r}: expected "token", "sequence" or None.')
        if (self.clip is None) != (self.clip_range is None):
            raise ValueError(
                f"Objective: clip is {self.clip!r} and clip_range is {self.clip_range}: give both, or neither."
            )
        if self.clip_range is not None and not 0 < self.clip_range[0] <= 1 <= self.clip_range[1]:
            raise ValueError(f"Objective: clip_range is {self.clip_range}: expected (lo, hi) with 0 < lo <= 1 <= hi.")
        if self.length_weight not in get_args(LengthWeight):
            raise ValueError(
                f'Objective: length_weight is {self.length_weight!r}: expected "equal", "proportional" or "constant".'
            )
        if self.max_length is not None and (self.length_weight != "constant" or self.max_length < 1):
            raise ValueError(
                f'Objective: max_length is {self.max_length} with length_weight "{self.length_weight}": '
                'expected a positive number of tokens, with "constant" only.'
            )
        if self.ratio_cap is not None and not self.ratio_cap > 1:
            raise ValueError(f"Objective: ratio_cap is {self.ratio_cap}: expected a ratio above 1, or None.")
