"""Completions of independent tokens whose log-ratios are normal; the same draws for every setting."""

import functools
import math

import ipywidgets as widgets
import torch
from torch import Tensor

from hmpo_lib.teach.panels import slider

COMPLETIONS = 1000
LENGTHS = (1, 2, 3, 5, 7, *range(10, 401, 10))
SEED = 0
KINDS = ("product", "geometric")


@functools.cache
def summed_noise() -> Tensor:
    """Sums of the first 1, 2, 3, ... standard normal draws of each completion, ``[COMPLETIONS, len(LENGTHS)]``."""
    generator = torch.Generator().manual_seed(SEED)
    draws = torch.randn(COMPLETIONS, LENGTHS[-1], generator=generator, dtype=torch.float64)
    return draws.cumsum(dim=1)[:, [length - 1 for length in LENGTHS]]


def simulate(ratio: float, spread: float) -> dict[str, Tensor]:
    """Logarithms of the product and the geometric mean of each completion's tokens, ``[COMPLETIONS, len(LENGTHS)]``.

    Args:
        ratio: the median of the tokens' ratios.
        spread: the standard deviation of the tokens' log-ratios.
    """
    lengths = torch.tensor(LENGTHS, dtype=torch.float64)
    product = math.log(ratio) * lengths + spread * summed_noise()
    return {"product": product, "geometric": product / lengths}


def length_slider(length: int = 200) -> widgets.SelectionSlider:
    """A slider over LENGTHS."""
    return slider(widgets.SelectionSlider, "tokens", options=[(f"{n:>3}", n) for n in LENGTHS], value=length)
