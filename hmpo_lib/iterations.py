"""Mean iterations: replace two numbers by two of their means, again and again, until they meet.

    arithmetic and harmonic:   a, h → (a + h) / 2, 2 a h / (a + h)    meets at √(a h): a · h never changes
    arithmetic and geometric:  a, g → (a + g) / 2, √(a g)             meets at Gauss's agm(a, g), which is no power mean

Both converge quadratically: once the two are close, each step doubles the number of correct digits. The first is
Newton's square root in disguise: with m = a h it replaces a by (a + m / a) / 2.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from numbers import Real
from typing import Any, NamedTuple

# Far apart, a step only halves the larger number and doubles the smaller one: two floats need at most 1,060 steps.
_ENOUGH_STEPS = 1100


class MeanIteration(NamedTuple):
    """Where an iteration ended, and how it came there.

    Attributes:
        value: the larger number of the last pair.
        history: the pairs (upper, lower) from the start values on, ``steps + 1`` of them. After the first step the
            first of a pair, the arithmetic mean, is never the smaller one.
        steps: how many were made.
    """

    value: Any
    history: tuple[tuple[Any, Any], ...]
    steps: int


def arithmetic_harmonic_mean(
    a: Any, b: Any, *, max_steps: int = _ENOUGH_STEPS, tolerance: float = 1e-15
) -> MeanIteration:
    """Iterate the arithmetic and the harmonic mean of two positive numbers; they meet at √(a b).

    a, h → (a + h) / 2, 2 a h / (a + h); with g = √(a b), (aₙ − g) / (aₙ + g) = ((a₀ − g) / (a₀ + g))^(2ⁿ).

    Source: the product a h never changes, so h = m / a with m = a b, and the step on a is Newton's for √m, known since
    Heron of Alexandria.

    Args:
        a, b: positive: floats or integers, `fractions.Fraction` (every step is exact), or `mpmath.mpf`.
        max_steps: stop after so many; the default is enough for any two floats.
        tolerance: stop when the gap is at most this fraction of the larger number. For more digits than a float has,
            give a smaller one with `mpmath.mpf` start values.

    Returns:
        MeanIteration(value, history, steps).

    Raises:
        ValueError: a number that is complex, not finite, or not positive; a negative max_steps or tolerance.

    >>> arithmetic_harmonic_mean(4, 9, max_steps=1).history
    ((4.0, 9.0), (6.5, 5.53846...))
    >>> arithmetic_harmonic_mean(Fraction(1), Fraction(2), max_steps=3).value  # Newton's 577/408 for the root of 2
    Fraction(577, 408)
    """
    # min · (max / mean), at most twice the minimum, in place of 2 a b / (a + b), whose product may overflow or vanish.
    return _iterate(a, b, lambda x, y: min(x, y) * (max(x, y) / _middle(x, y)), max_steps, tolerance)


def arithmetic_geometric_mean(
    a: Any, b: Any, *, max_steps: int = _ENOUGH_STEPS, tolerance: float = 1e-15
) -> MeanIteration:
    """Iterate the arithmetic and the geometric mean of two positive numbers; they meet at Gauss's agm(a, b).

    a, g → (a + g) / 2, √(a g). The limit has no formula in roots: agm(1, k) = π / (2 K(√(1 − k²))), with K the
    complete elliptic integral of the first kind.

    Source: Gauss, 1799; Borwein and Borwein, *Pi and the AGM*, 1987, ch. 1.

    Args and errors as in `arithmetic_harmonic_mean`; start values of type `fractions.Fraction` are refused, since a
    square root leaves them.

    >>> arithmetic_geometric_mean(1, 2**0.5).value  # scipy.special.agm gives the same
    1.198140234735592...
    """
    # √a · √b in place of √(a b), which overflows or vanishes for large or small numbers.
    return _iterate(a, b, lambda x, y: _square_root(x) * _square_root(y), max_steps, tolerance)


def _iterate(a: Any, b: Any, lower: Callable[[Any, Any], Any], max_steps: int, tolerance: float) -> MeanIteration:
    if max_steps < 0 or not tolerance >= 0:
        raise ValueError(f"max_steps = {max_steps}, tolerance = {tolerance}: expected numbers that are not negative.")
    x, y = _positive("a", a), _positive("b", b)
    x, y = _as_precise(x, y), _as_precise(y, x)
    history = [(x, y)]
    while len(history) <= max_steps and abs(x - y) > tolerance * max(x, y):
        x, y = _middle(x, y), lower(x, y)
        history.append((x, y))
    return MeanIteration(max(x, y), tuple(history), len(history) - 1)


def _as_precise(x: Any, other: Any) -> Any:
    """x itself, or as an `mpmath.mpf` where the other number is one: the root of a float has 16 digits only."""
    return type(other)(x) if isinstance(x, float) and hasattr(other, "sqrt") else x


def _middle(x: Any, y: Any) -> Any:
    return x / 2 + y / 2  # the sum of two large floats would overflow


def _square_root(x: Any) -> Any:
    if isinstance(x, Fraction):
        raise ValueError("got a fractions.Fraction: the geometric mean takes square roots; give float or mpmath.mpf.")
    return math.sqrt(x) if isinstance(x, float) else x.sqrt()


def _positive(name: str, x: Any) -> Any:
    if not isinstance(x, Real) or not 0 < x < math.inf:  # type: ignore[operator]
        raise ValueError(
            f"{name} = {x!r}: expected a positive, finite, real number (float, int, fractions.Fraction or mpmath.mpf): "
            "the square root of a negative or complex product has two candidates, and these iterations do not choose."
        )
    return x if isinstance(x, Fraction) or hasattr(x, "sqrt") else float(x)  # mpmath.mpf has a root of its own
