"""What notebook 05 shows of many random worlds at once, recorded by tools/record_bandits.py (data/README.md)."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from hmpo_lib.teach.recordings import load_tables, recording_path
from hmpo_lib.teach.shared import exponents

RECORDED = recording_path("bandits.safetensors")

EXPONENTS = tuple(p for p in exponents.EXPONENTS if abs(p) <= 2)
LENGTHS = (1, 2, 4)
STALENESS = (0, 1, 3, 7, 15)  # optimizer steps since sampling
CLIPS = {"no clip": None, "0.8 to 1.25": (0.8, 1.25)}  # of tokens
STEP_RATE = 0.5  # of the exact steps that make samples stale
# Closer together after the first step of a rollout of 16, where the curves part.
CURVE_STEPS = tuple(sorted({*range(0, 65, 4), 1, 2, 3, 6, 17, 18, 33, 34, 49, 50}))
RATE_LENGTH = 4
RATES = tuple(2.0**k for k in range(10))  # of the logits, for T times a mean's gradient
RATE_STALENESS = (0, 15)
RATE_METHODS = (-1.0, 0.0, 1.0, "pessimistic")

RESAMPLES = 1000


class BanditTraces(NamedTuple):
    """Tables over random worlds; `kinds` are KINDS, `methods` EXPONENTS and then the pessimistic mean.

    Attributes:
        gradients: ``[kinds, lengths, staleness, clips, methods, 3, worlds]``, of T times the mean's expected gradient
            the part along the true one, the part across it, and the standard error of a batch of 64, all three in
            lengths of the true gradient.
        product_gradients: ``[kinds, lengths, staleness, 3, worlds]``, the same of the product of the ratios, unclipped.
        curves: ``[kinds, RATE_STALENESS, RATES, RATE_METHODS, CURVE_STEPS, worlds]``, the share of the way from the
            first policy's expected reward to the best sequence's, mean over eight samplings of each world, unclipped.
        final_gains: ``[kinds, RATE_STALENESS, RATES, RATE_METHODS, worlds]``, the share over the last four steps,
            median over the samplings.
        choice_gains: the same shape over other worlds, the mean share over a curve: by it rates are chosen.
    """

    gradients: Tensor
    product_gradients: Tensor
    curves: Tensor
    final_gains: Tensor
    choice_gains: Tensor


def load_bandit_traces(path: str | Path = RECORDED) -> BanditTraces:
    """The traces of the repository, or of another file that tools/record_bandits.py wrote.

    Raises:
        FileNotFoundError: the file is not there.

    >>> load_bandit_traces().gradients.shape[-1]  # worlds
    20
    """
    return load_tables(BanditTraces, path)


def mean_intervals(values: Tensor) -> Tensor:
    """Mean over the worlds, and the ends of its 95 % bootstrap interval, ``[3, ...]``.

    Args:
        values: ``[..., worlds]``.

    >>> mean_intervals(torch.full((2, 5), 0.25)).shape
    torch.Size([3, 2])
    """
    worlds = values.shape[-1]
    drawn = torch.randint(worlds, (RESAMPLES, worlds), generator=torch.Generator().manual_seed(0))
    shares = torch.nn.functional.one_hot(drawn, worlds).sum(dim=1).to(values.dtype) / worlds
    ends = (values @ shares.T).quantile(torch.tensor([0.025, 0.975], dtype=values.dtype), dim=-1)
    return torch.cat([values.mean(dim=-1).unsqueeze(0), ends])


def bias_of(gradients: Tensor) -> Tensor:
    """How far an expected gradient is from the true one, in lengths of that.

    Args:
        gradients: ``[..., 3, worlds]``, as in `BanditTraces`.

    >>> bias_of(torch.tensor([[1.0], [0.0], [0.4]]))
    tensor([0.])
    """
    along, across, _ = gradients.unbind(dim=-2)
    return (along - 1).hypot(across)


def cosine_of(gradients: Tensor) -> Tensor:
    """The cosine of the angle between an expected gradient and the true one: 1 is the same direction.

    A gradient of 0, where a clip blocks every token, has no direction: it counts as 0, nothing in common.

    Args:
        gradients: ``[..., 3, worlds]``, as in `BanditTraces`.

    >>> cosine_of(torch.tensor([[0.0], [0.8], [0.4]]))
    tensor([0.])
    """
    along, across, _ = gradients.unbind(dim=-2)
    return (along / along.hypot(across)).nan_to_num(0.0)


def best_rates(choice_gains: Tensor) -> Tensor:
    """The place in RATES of each method's best rate on the worlds for choosing, ``[kinds, staleness, methods]``.

    Args:
        choice_gains: as in `BanditTraces`.
    """
    return choice_gains.mean(dim=-1).argmax(dim=2)


def collapsed(final_gains: Tensor) -> Tensor:
    """Whether, in a world, a setting gains less than half of what the best setting of that world gains.

    A rate below a method's best one has not collapsed: it is slow.

    Args:
        final_gains: ``[kinds, staleness, RATES, methods, worlds]``, as in `BanditTraces`.
    """
    best = final_gains.amax(dim=(1, 2, 3), keepdim=True)
    rising = torch.arange(len(RATES)).view(1, 1, -1, 1, 1) <= final_gains.argmax(dim=2, keepdim=True)
    return (final_gains < best / 2) & ~rising


class Frontier(NamedTuple):
    """Where learning breaks down, in powers of two of the learning rate.

    Attributes:
        holds: ``[kinds, RATE_STALENESS, RATE_METHODS, worlds]``, log₂ of the largest rate that still learns.
        to_the_end: the same shape, whether that is the largest rate tried.
    """

    holds: Tensor
    to_the_end: Tensor


def stability_frontier(final_gains: Tensor) -> Frontier:
    """The largest rate before the first collapse, going up from each setting's best one.

    Args:
        final_gains: as in `BanditTraces`.
    """
    steady = (~collapsed(final_gains)).long().cumprod(dim=2)
    last = steady.sum(dim=2) - 1
    return Frontier(torch.tensor(RATES).log2()[last], last == len(RATES) - 1)
