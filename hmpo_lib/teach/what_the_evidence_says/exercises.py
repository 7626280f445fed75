"""Exercises of notebook 09: chance alone by flipping signs, and how many seeds a question needs."""

# Without types, as the reader sees them in the stubs:
# mypy: allow-untyped-defs

import itertools
import math

from hmpo_lib.teach.checks import exercise


def flips(far):
    """`chance_of_signs` with another idea of what is as far away."""

    def wrong(differences):
        means = [
            sum(s * d for s, d in zip(signs, differences, strict=True)) / len(differences)
            for signs in itertools.product((1, -1), repeat=len(differences))
        ]
        return sum(far(mean, sum(differences) / len(differences)) for mean in means) / len(means)

    return wrong


@exercise(
    probes=[
        ([0.03, 0.01, 0.02],),
        ([0.03, -0.01, 0.02, 0.04],),
        ([-0.02, -0.01, -0.04, -0.03, 0.005],),
        ([0.05, -0.05, 0.01],),
    ],
    mistakes={
        "You count only the means on the same side. Chance may go either way: compare the sizes.": flips(
            lambda mean, seen: mean >= seen - 1e-12 if seen > 0 else mean <= seen + 1e-12
        ),
        "A mean that is just as far must count too: what was seen is one of the ways to choose the signs.": flips(
            lambda mean, seen: abs(mean) > abs(seen) + 1e-12
        ),
        "That is the share of the means that are nearer to 0. Take those that are as far, or farther.": flips(
            lambda mean, seen: abs(mean) < abs(seen) - 1e-12
        ),
    },
    insight="With three seeds the smallest value there is, is 2 of 8: three seeds can never reach 0.05. Six can.",
)
def chance_of_signs(differences):
    """How often would chance alone bring a mean difference as far from 0 as the one that was seen?

    If two methods are alike, each difference could as well have had the other sign. Go through all
    2^n ways to choose the signs. Return the share of them for which the mean is as far from 0 as
    the mean of `differences`, or farther (allow 1e-12 for rounding). `differences` is a list.
    """
    seen = abs(sum(differences))
    ways = list(itertools.product((1, -1), repeat=len(differences)))
    as_far = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= seen - 1e-12 for signs in ways]
    return sum(as_far) / len(ways)


@exercise(
    probes=[(0.02, 0.02), (0.08, 0.02), (0.01, 0.02), (0.13, 0.05), (0.004, 0.001)],
    mistakes={
        "That is where the standard error itself is as small as the bound. The interval reaches twice as far.": (
            lambda spread, bound: math.ceil((spread / bound) ** 2 - 1e-9)
        ),
        "Half as wide an interval needs four times as many seeds: the root of n has to be undone by a square.": (
            lambda spread, bound: math.ceil(2 * spread / bound - 1e-9)
        ),
        "Round up: with a part of a seed the interval would still be too wide.": (
            lambda spread, bound: math.floor((2 * spread / bound) ** 2 + 1e-9)
        ),
    },
    insight="Twice as sharp a question costs four times the runs. That is why most published comparisons cannot tell.",
)
def seeds_needed(spread, bound):
    """How many seeds until the interval around a mean difference reaches no farther than the bound?

    `spread` is the standard deviation of the difference from seed to seed. The 95 % interval of
    the mean of n of them reaches about 2 * spread / sqrt(n) to each side. Return the smallest
    whole n for which that is at most `bound` (take 1e-9 off before you round up).
    """
    return math.ceil((2 * spread / bound) ** 2 - 1e-9)
