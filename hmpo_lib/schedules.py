"""How the exponent p may change: pure functions of progress and of detached tensors, and one exponent that is learned.

A schedule is called before each optimizer step, as (progress in [0, 1], log_ratios [batch, time], completion_mask
[batch, time], advantages [batch]) -> p, one number or ``[batch]``. A constant p needs none.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hmpo_lib.ratios import effective_sample_size

PSchedule = Callable[[float, Tensor, Tensor, Tensor], float | Tensor]

_HALVINGS = 30  # of [0, 1]: to 1e-9


def holder_schedule(progress: float, log_ratios: Tensor, completion_mask: Tensor, advantages: Tensor) -> float:
    """HölderPO's annealing (arXiv 2605.12058): p falls linearly from 2 to −2 over training."""
    return 2.0 - 4.0 * progress


def pessimistic_schedule(progress: float, log_ratios: Tensor, completion_mask: Tensor, advantages: Tensor) -> Tensor:
    """p_i = −sign(A_i): the smallest A·M_p over |p| <= 1, since M_p rises with p. Our experiment, unpublished."""
    return -advantages.sign()


@dataclass(frozen=True)
class PMPOSchedule:
    """PMPO's p for each completion (arXiv 2601.22521): in [0, 1], for a target of effective sample size.

    The paper's abstract says: the clipped share f of a completion sets a target for the effective sample size of its
    escort weights, and p is solved for it; p = 1 for reliable completions, p → 0 for unstable ones. We had the abstract
    only. The rule between is our reading, the straight one: target = (1 − f) · ESS(p = 1) + f · n, of the ratios after
    the token clip.

    Args:
        clip_range: (lo, hi); a token counts as clipped when its ratio is outside, on the side that its advantage clips.

    >>> schedule = PMPOSchedule((0.8, 1.2))
    >>> log_ratios = torch.tensor([[0.1, -0.1], [0.4, 0.3]])
    >>> schedule(0.0, log_ratios, torch.ones(2, 2), torch.ones(2))  # nothing clipped; all clipped
    tensor([1., 0.])
    """

    clip_range: tuple[float, float]

    def __call__(self, progress: float, log_ratios: Tensor, completion_mask: Tensor, advantages: Tensor) -> Tensor:
        """The p of each completion, ``[batch]``."""
        lo, hi = (math.log(bound) for bound in self.clip_range)
        mask = completion_mask.bool()
        d = torch.where(mask, log_ratios, torch.zeros_like(log_ratios))
        sign = advantages.sign().unsqueeze(1)
        n = mask.sum(dim=1).clamp(min=1).to(d.dtype)  # of two counts the quotient would have torch's default dtype
        clipped = torch.where(sign > 0, d.clamp(max=hi), torch.where(sign < 0, d.clamp(min=lo), d))
        share = (clipped != d).sum(dim=1) / n
        target = (1 - share) * effective_sample_size(clipped, mask) + share * n
        low, high = torch.zeros_like(target), torch.ones_like(target)
        for _ in range(_HALVINGS):  # for p >= 0 the effective sample size falls with p
            middle = (low + high) / 2
            enough = effective_sample_size(middle.unsqueeze(1) * clipped, mask) >= target
            low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
        # Where all ratios are equal, every p weighs all alike, and rounding must not decide.
        return torch.where(share == 0, torch.ones_like(low), torch.where(share == 1, torch.zeros_like(low), low))


class LearnableExponent(torch.nn.Module):
    """An exponent that is given to the optimizer, p = bound · tanh(θ). A schedule with a parameter.

    It ascends the surrogate A · M_p, not the reward: where A > 0 a larger p makes the surrogate larger, since M_p rises
    with p, and where A < 0 a smaller one. On-policy, where all ratios are 1, it has no gradient at all. So what it
    learns says something about the signs of the advantages, and nothing about which p is better.

    Args:
        start: the first p, inside ±bound.
        bound: the largest |p|.
        learning_rate: of θ; `fine_tune` gives θ a parameter group of its own.

    Raises:
        ValueError: start not inside ±bound.

    >>> round(LearnableExponent(start=-1.0, bound=2.0).p, 6)
    -1.0
    """

    def __init__(self, *, start: float = 0.0, bound: float = 2.0, learning_rate: float = 1e-2) -> None:
        super().__init__()
        if not abs(start) < bound:
            raise ValueError(f"start = {start}, bound = {bound}: expected a start strictly inside ±bound.")
        self.start, self.bound, self.learning_rate = start, bound, learning_rate
        self.theta = torch.nn.Parameter(torch.zeros((), dtype=torch.float32))
        self.reset()

    def reset(self) -> None:
        """Back to the start, as `fine_tune` begins every run."""
        self.theta.data.fill_(math.atanh(self.start / self.bound))

    def forward(self, progress: float, log_ratios: Tensor, completion_mask: Tensor, advantages: Tensor) -> Tensor:
        """The p of this step, with a gradient to θ."""
        return self.bound * self.theta.tanh()

    def extra_repr(self) -> str:
        """What it was made with."""
        return f"start={self.start}, bound={self.bound}, learning_rate={self.learning_rate}"

    @property
    def p(self) -> float:
        """The present exponent."""
        return self.bound * math.tanh(self.theta.item())

    @property
    def drift(self) -> float:
        """How far it has come since the start."""
        return self.p - self.start
