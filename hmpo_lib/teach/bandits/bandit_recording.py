"""What notebook 05 shows of many random worlds at once, recorded by tools/record_bandits.py (data/README.md)."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from hmpo_lib.teach.recordings import load_recording, recording_path
from hmpo_lib.teach.shared import exponents

RECORDED = recording_path("bandits.safetensors")

EXPONENTS = tuple(p for p in exponents.EXPONENTS if abs(p) <= 2)
LENGTHS = (1, 2, 4, 6)
STALENESS = (0, 1, 3, 7, 15)  # optimizer steps since sampling
CLIPS = {"no clip": None, "0.8 to 1.25": (0.8, 1.25), "0.95 to 1.05": (0.95, 1 / 0.95)}  # of tokens
LEARNING_RATE = 0.5  # of the logits, for T times the mean's gradient
CURVE_STEPS = tuple(range(0, 65, 4))
RATE_LENGTH = 4
RATES = tuple(2.0**k for k in range(10))
RATE_STALENESS = (0, 3, 15)
RATE_METHODS = (-1.0, 0.0, 1.0, "pessimistic")

RESAMPLES = 1000


class BanditTraces(NamedTuple):
    """Tables over random worlds; `kinds` are KINDS, `methods` EXPONENTS and then the pessimistic mean.

    Attributes:
        errors: ``[kinds, lengths, staleness, clips, methods, 2, worlds]``, bias and standard error of a batch of 64,
            of T times the mean's gradient, over the norm of the true gradient.
        product_errors: ``[kinds, lengths, staleness, 2, worlds]``, the same of the product of the ratios, unclipped.
        gains: ``[kinds, lengths, staleness, clips, methods, CURVE_STEPS, worlds]``, the share of the way from the
            first policy's expected reward to the best sequence's, mean over four samplings of each world.
        rate_gains: ``[kinds, RATE_STALENESS, RATES, RATE_METHODS, worlds]``, the share at the end.
    """

    errors: Tensor
    product_errors: Tensor
    gains: Tensor
    rate_gains: Tensor


def load_bandit_traces(path: str | Path = RECORDED) -> BanditTraces:
    """The traces of the repository, or of another file that tools/record_bandits.py wrote.

    Raises:
        FileNotFoundError: the file is not there.

    >>> load_bandit_traces().errors.shape[-1]  # worlds
    20
    """
    return BanditTraces(**{name: table.double() for name, table in load_recording(path).items()})


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


class Frontier(NamedTuple):
    """Where learning breaks down, in powers of two of the learning rate.

    Attributes:
        holds: ``[kinds, RATE_STALENESS, RATE_METHODS, worlds]``, log₂ of the largest rate that still learns.
        to_the_end: the same shape, whether that is the largest rate tried.
    """

    holds: Tensor
    to_the_end: Tensor


def stability_frontier(rate_gains: Tensor) -> Frontier:
    """The largest rate before the first collapse, going up from each setting's best one.

    A setting has collapsed in a world where its gain is below half of the best that any setting of that world has.

    Args:
        rate_gains: as in `BanditTraces`.
    """
    best = rate_gains.amax(dim=(1, 2, 3), keepdim=True)
    standing = torch.arange(len(RATES)).view(1, 1, -1, 1, 1) <= rate_gains.argmax(dim=2, keepdim=True)
    steady = ((rate_gains >= best / 2) | standing).long().cumprod(dim=2)
    last = steady.sum(dim=2) - 1
    return Frontier(torch.tensor(RATES).log2()[last], last == len(RATES) - 1)
