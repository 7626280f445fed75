"""How fast is the log power mean? Forward and backward on [4096, 2048], beside what one would write without it.

    python benchmarks/means.py            times: all variants in turn, again and again, as ratios to the naive one
    python benchmarks/means.py --memory   peak memory above the inputs, each variant in a process of its own

The naive version, log(mean(exp(p d))) / p by plain operations, is neither accurate near p = 0 nor safe from overflow;
it is the price that one would pay anyway. "log mean" is the masked mean of the log-ratios: all that p = 0 needs.
"hmpo ∂p" has the gradient by p as well, which a learned exponent needs and nothing else.
"""

import argparse
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from hmpo_lib import log_power_mean

SHAPE = (4096, 2048)
EXPONENTS = (-math.inf, -5.0, -1.0, -0.01, 0.0, 0.01, 1.0, 5.0)
SPREADS = (0.02, 1.0)  # standard deviations of the log-ratios: near the policy that sampled, and far from it


def naive(d: Tensor, mask: Tensor, p: float) -> Tensor:
    """The definition by plain operations."""
    return ((p * d).exp() * mask).sum(-1).div(mask.sum(-1)).log() / p


def log_mean(d: Tensor, mask: Tensor, p: float) -> Tensor:
    """What p = 0 needs, by plain operations."""
    return (d * mask).sum(-1) / mask.sum(-1)


def inputs(spread: float) -> tuple[Tensor, Tensor]:
    """Log-ratios and a ragged mask in which completions have between 1 and all tokens."""
    generator = torch.Generator().manual_seed(0)
    d = torch.randn(SHAPE, generator=generator).mul_(spread).requires_grad_()  # in place: no peak of its own
    lengths = torch.randint(1, SHAPE[1] + 1, (SHAPE[0], 1), generator=generator)
    return d, torch.arange(SHAPE[1]) < lengths


def step(variant: Callable[[Tensor, Tensor, float], Tensor], d: Tensor, mask: Tensor, p: float) -> None:
    """Forward and backward once."""
    d.grad = None
    variant(d, mask, p).sum().backward()


VARIANTS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "log mean": log_mean,
    "naive": naive,
    "hmpo": lambda d, mask, p: log_power_mean(d, p, mask),
    "hmpo ∂p": lambda d, mask, p: log_power_mean(d, torch.full((len(d),), p, requires_grad=True), mask),
}


def print_times(rounds: int) -> None:
    """Medians of the ratios within each round, so that a busy machine slows all variants alike."""
    print(f"{torch.get_num_threads()} threads, {rounds} rounds; naive takes 1 at p = 1")
    for spread in SPREADS:
        d, mask = inputs(spread)
        cases = [
            ("log mean", 0.0),
            ("naive", 1.0),
            *(("hmpo", p) for p in EXPONENTS),
            *(("hmpo ∂p", p) for p in (0.01, 1.0)),
        ]
        seconds: dict[tuple[str, float], list[float]] = {case: [] for case in cases}
        for _ in range(rounds + 1):
            for name, p in cases:
                start = time.perf_counter()
                step(VARIANTS[name], d, mask, p)
                seconds[name, p].append(time.perf_counter() - start)
        base = seconds["naive", 1.0][1:]  # the first round warms up
        for case in cases:
            ratios = [own / other for own, other in zip(seconds[case][1:], base, strict=True)]
            low, middle, high = (statistics.quantiles(ratios, n=20)[k] for k in (0, 9, 18))
            print(f"spread {spread:4}  {case[0]:8} p = {case[1]:5}  {middle:5.2f}  ({low:.2f} to {high:.2f})")
        print(f"spread {spread:4}  naive: {1000 * statistics.median(base):.0f} ms")


def peak_mebibytes(name: str, p: float, spread: float) -> float:
    """Peak resident memory of one step above what the inputs took."""
    d, mask = inputs(spread)
    warm = torch.zeros(2, 3, requires_grad=True)
    step(VARIANTS[name], warm, torch.ones(2, 3, dtype=torch.bool), p)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step(VARIANTS[name], d, mask, p)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def print_memory() -> None:
    """Each variant in a fresh process: a peak cannot be taken back."""
    for name, p in [("log mean", 0.0), ("naive", 1.0), *(("hmpo", p) for p in (-1.0, 0.0, 0.01, 1.0))]:
        for spread in SPREADS:
            case = ["--case", name, str(p), str(spread)]
            result = subprocess.run([sys.executable, __file__, *case], capture_output=True, text=True, check=True)
            print(f"spread {spread:4}  {name:8} p = {p:5}  {float(result.stdout):6.0f} MiB above the inputs")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(peak_mebibytes(arguments.case[0], float(arguments.case[1]), float(arguments.case[2])))
    elif arguments.memory:
        print_memory()
    else:
        print_times(arguments.rounds)
