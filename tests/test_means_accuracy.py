"""The accuracy of the power mean against mpmath at 80 digits, and that wrong variants miss it.

    pytest tests/test_means_accuracy.py -k table -s        prints the table of docs/claims.md

Errors of log M_p are in units of max(1, max |d|), those of the gradient by d relative to its largest entry, those of
the derivative by p relative to itself.
"""

from functools import cache
from typing import NamedTuple

import mpmath
import pytest
import torch

from hmpo_lib import log_power_mean

EXPONENTS = (0.0, *(sign * p for p in (1e-12, 1e-9, 1e-6, 1e-3, 0.1, 0.5, 1.0, 2.0, 10.0, 1e3) for sign in (1, -1)))
SCALES = (1e-3, 0.3, 1.0, 20.0, 700.0)  # the largest |d|
WIDTHS = (1, 2, 9, 130)
WIDE = 4096  # at every third exponent and two scales: mpmath takes its time
LIMITS = {torch.float64: (1e-13, 1e-12, 1e-8), torch.float32: (1e-6, None, None)}


class Reference(NamedTuple):
    value: mpmath.mpf
    weights: list[mpmath.mpf]
    slope: mpmath.mpf


class Case(NamedTuple):
    """Three rows of log-ratios with a ragged random mask, and the truth about each."""

    p: float
    d: torch.Tensor
    mask: torch.Tensor
    truth: list[Reference]


def reference(d: list[float], p: float) -> Reference:
    """log M_p, its gradient by d and by p."""
    with mpmath.workdps(80):  # 30 more than are compared: the slope near p = 0 is a difference of nearly equal numbers
        d, p, n = [mpmath.mpf(x) for x in d], mpmath.mpf(p), len(d)
        centre = mpmath.fsum(d) / n
        if p == 0 or len(set(d)) == 1:  # equal numbers have the same mean for every p
            return Reference(centre, [mpmath.mpf(1) / n] * n, mpmath.fsum((x - centre) ** 2 for x in d) / (2 * n))
        powers = [mpmath.exp(p * x) for x in d]
        total = mpmath.fsum(powers)
        log_mean = mpmath.log(total / n)
        mean_under_weights = mpmath.fsum(w * x for w, x in zip(powers, d, strict=True)) / total
        return Reference(log_mean / p, [w / total for w in powers], (mean_under_weights - log_mean / p) / p)


@cache
def cases(dtype: torch.dtype) -> list[Case]:
    """Every exponent with every scale and width, and the exponents just around the place where two formulas meet."""
    generator = torch.Generator().manual_seed(11)
    grid = [(p, scale, n) for p in EXPONENTS for scale in SCALES for n in WIDTHS]
    grid += [(p, scale, WIDE) for p in EXPONENTS[::3] for scale in (1.0, 700.0)]
    grid += [(sign * near / 2, 1.0, 130) for sign in (1, -1) for near in (0.9, 0.999, 1.001, 1.1)]
    found = []
    for p, scale, n in grid:
        d = (2 * torch.rand(3, n, generator=generator, dtype=torch.float64) - 1) * scale
        if n == 9:  # in these, one outlier far from the others, and all far from 0
            d[1, 1:] *= 1e-3
            d[2] = 0.9 * scale + 1e-2 * d[2]
        d = d.to(dtype)
        mask = torch.rand(3, n, generator=generator) < 0.7
        mask[:, 0] = True
        if n == WIDE:
            d, mask = d[:1], mask[:1]
        truth = [reference(row[kept].tolist(), p) for row, kept in zip(d, mask, strict=True)]
        found.append(Case(p, d, mask, truth))
    return found


def errors(case: Case, mean) -> tuple[float, float, float]:
    """The largest errors of the value and of both derivatives over a case's rows; nan counts as infinite."""
    d = case.d.masked_fill(~case.mask, torch.nan).requires_grad_()
    p = torch.full((len(d),), case.p, dtype=d.dtype, requires_grad=True)
    value = mean(d, p, case.mask)
    value.sum().backward()
    worst = [0.0, 0.0, 0.0]
    for row, (expected, weights, slope) in enumerate(case.truth):
        kept = case.mask[row]
        unit = max(1.0, case.d[row][kept].abs().max().item())
        by_d = zip(d.grad[row][kept].tolist(), weights, strict=True)
        found = (
            abs(value[row].item() - expected) / unit,
            max(abs(own - true) for own, true in by_d) / max(weights),
            abs(p.grad[row].item() - slope) / slope if slope else abs(p.grad[row].item()),
        )
        worst = [max(old, float(new) if new == new else float("inf")) for old, new in zip(worst, found, strict=True)]
    return tuple(worst)


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
def test_accuracy_table_of_value_and_both_derivatives(dtype):
    worst: dict[float, list[tuple[float, float, float]]] = {}
    for case in cases(dtype):
        worst.setdefault(abs(case.p), []).append(errors(case, log_power_mean))
    print(f"\n{dtype}: largest error of log M_p, of its gradient by d, of its derivative by p")
    for p, found in sorted(worst.items()):
        print(f"|p| = {p:<7g}" + "".join(f"{max(column):10.1e}" for column in zip(*found, strict=True)))
    columns = zip(*(row for rows in worst.values() for row in rows), strict=True)
    for column, limit in zip(columns, LIMITS[dtype], strict=True):
        assert limit is None or max(column) <= limit


def over_the_batch(d, p, mask):
    return log_power_mean(d.flatten(), p[0], mask.flatten()).expand(len(d)) + 0 * p


def shifted_mask(d, p, mask):
    return log_power_mean(torch.where(mask, d, 0.0), p, mask.roll(1, dims=1))


def padded_length(d, p, mask):
    return log_power_mean(torch.where(mask, d, 0.0), p)


def with_a_floor(d, p, mask):
    powers = torch.where(mask, (p[:, None] * torch.where(mask, d, 0.0)).exp() + 1e-8, 0.0)
    return (powers.sum(1) / mask.sum(1)).log() / p


def plain_logsumexp(d, p, mask):
    return (torch.logsumexp((p[:, None] * d).masked_fill(~mask, -torch.inf), 1) - mask.sum(1).log()) / p


def flipped_sign(d, p, mask):
    return log_power_mean(d, -p, mask)


@pytest.mark.parametrize(
    "wrong", [over_the_batch, shifted_mask, padded_length, with_a_floor, plain_logsumexp, flipped_sign]
)
def test_a_wrong_variant_misses_the_limits(wrong):
    some = [case for case in cases(torch.float64) if case.d.shape[1] == 9]
    value_limit, d_limit, _ = LIMITS[torch.float64]
    assert any(value > value_limit or by_d > d_limit for value, by_d, _ in (errors(case, wrong) for case in some))


def test_nothing_is_nan_or_decreasing_as_p_runs_through_both_formulas():
    d = torch.tensor([[-0.4, 0.1, 0.6], [-700.0, 0.0, 700.0], [0.2, 0.2, 0.2]], dtype=torch.float64)
    grid = torch.cat([-torch.logspace(4, -14, 400), torch.zeros(1), torch.logspace(-14, 4, 400)]).double()
    values = torch.stack([log_power_mean(d, p) for p in grid.tolist()])
    assert values.isfinite().all()
    assert (values.diff(dim=0) >= -1e-13 * d.abs().amax(1).clamp(min=1)).all()
