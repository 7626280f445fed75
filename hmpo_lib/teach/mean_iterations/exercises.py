"""Exercises of notebook 02: one step, how many of them for so many digits, and a third number that balances."""

# Without types, as the reader sees them in the stubs:
# mypy: allow-untyped-defs

import math

from hmpo_lib.iterations import arithmetic_harmonic_mean
from hmpo_lib.teach.checks import exercise


@exercise(
    probes=[(2.0, 1.0), (9.0, 4.0), (20.0, 0.1)],
    mistakes={
        "The harmonic mean is missing its 2: it is 2 a h / (a + h).": lambda a, h: ((a + h) / 2, a * h / (a + h)),
        "The second of the two is the new arithmetic mean again; take the harmonic mean of the old pair.": (
            lambda a, h: ((a + h) / 2, (a + h) / 2)
        ),
        "The second mean was taken of the new a. Both come from the old pair.": (
            lambda a, h: ((a + h) / 2, 2 * ((a + h) / 2) * h / ((a + h) / 2 + h))
        ),
        "That is the geometric mean in the second place: it is where the two are going.": (
            lambda a, h: ((a + h) / 2, math.sqrt(a * h))
        ),
        "First the arithmetic mean, then the harmonic one.": lambda a, h: (2 * a * h / (a + h), (a + h) / 2),
    },
    insight="From 2 and 1 it gives 3/2 and 4/3, whose product is 2 again.",
)
def pincer_step(a, h):
    """The arithmetic and the harmonic mean of the two numbers a and h, as a pair."""
    return (a + h) / 2, 2 * a * h / (a + h)


def wrong_count(start=lambda gap: -math.log10(gap), more=lambda right, first: 2 * right, steps=0):
    """The loop of `steps_until`, with one part of it exchanged."""

    def wrong_steps_until(a, b, digits):
        g = math.sqrt(a * b)
        first = right = start((max(a, b) - g) / (max(a, b) + g))
        count = steps
        while right < digits:
            right, count = more(right, first), count + 1
        return count

    return wrong_steps_until


@exercise(
    probes=[(4.0, 9.0, 15), (4.0, 9.0, 1000), (1.0, 2.0, 100), (0.1, 20.0, 16), (3.0, 2.0, 1)],
    mistakes={
        "The digits double at each step; they do not grow by the same number.": (
            wrong_count(more=lambda right, first: right + first)
        ),
        "That is one too many: before the first step no step has been made.": wrong_count(steps=1),
        "That is one too few. Count the step that gets there as well.": wrong_count(steps=-1),
        "That counts with the natural logarithm. Digits need `math.log10`.": (
            wrong_count(start=lambda gap: -math.log(gap))
        ),
        "A float has about 16 digits, so an iteration of floats stops too early. Double the digits instead.": (
            lambda a, b, digits: arithmetic_harmonic_mean(a, b).steps
        ),
    },
    insight="From 4 and 9 it takes 5 steps for 15 digits, and 11 for a thousand.",
)
def steps_until(a, b, digits):
    """How many steps of the pincer from a and b until at least so many digits are right?

    Right digits are -log₁₀ of the gap (x - g) / (x + g), where x is the larger number and g = √(a b).
    """
    x, g = max(a, b), math.sqrt(a * b)
    right = -math.log10((x - g) / (x + g))
    steps = 0
    while right < digits:
        right = 2 * right
        steps = steps + 1
    return steps


@exercise(
    probes=[(1.0, 3.0), (2.0, 5.0), (0.5, 0.8), (1.0, 8.0)],
    mistakes={
        "That number lies between x and y. Wanted is one above both, with y in the middle.": (
            lambda x, y: math.sqrt(x * y)
        ),
        "That number lies below both. Wanted is one above both, with y in the middle.": lambda x, y: x * x / y,
        "Equal steps are a balance for the arithmetic mean only. Here the logarithms must make equal steps.": (
            lambda x, y: 2 * y - x
        ),
        "That is the factor from x to y. Go by that factor once more, from y on.": lambda x, y: y / x,
        "Then the product of the outer two is x² y. It has to be y², the square of the middle one.": lambda x, y: x * y,
    },
    insight="The three logarithms make equal steps, so they are log-symmetric, and M_1 and M_-1 iterate to M_0.",
)
def third_number(x, y):
    """A third number, above both 0 < x < y, with which M_1 and M_-1 of the three iterate to their geometric mean."""
    return y * y / x
