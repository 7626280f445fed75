"""How the exponents look in every figure of this notebook."""

from typing import Any, NamedTuple

from hmpo_lib.teach.plotting import BLACK, BLUE, GREEN, PURPLE, VERMILLION
from hmpo_lib.teach.what_the_evidence_says.cells import Exponents
from hmpo_lib.teach.what_the_evidence_says.plan import FIXED, OPTIMISTIC, PESSIMISTIC, label


class Look(NamedTuple):
    """Never by colour alone."""

    colour: str
    linestyle: Any
    marker: str


LOOKS = {
    FIXED[0]: Look(BLUE, ":", "<"),
    FIXED[1]: Look(BLUE, "-", "s"),
    FIXED[2]: Look(GREEN, "--", "D"),
    FIXED[3]: Look(VERMILLION, "-.", "^"),
    FIXED[4]: Look(VERMILLION, ":", ">"),
    PESSIMISTIC: Look(PURPLE, "-", "v"),
    OPTIMISTIC: Look(BLACK, (0, (5, 1, 1, 1, 1, 1)), "X"),
}

NAMES = {
    FIXED[1]: "harmonic (HMPO), p = −1",
    FIXED[2]: "geometric (GSPO), p = 0",
    FIXED[3]: "arithmetic (GRPO), p = 1",
    PESSIMISTIC: "pessimistic, p = −sign A",
    OPTIMISTIC: "optimistic, p = +sign A",
}


def long_name(exponents: Exponents) -> str:
    """With the mean's name, where it has one.

    >>> long_name(PESSIMISTIC), long_name(Exponents(2.0, 2.0))
    ('pessimistic, p = −sign A', 'p = 2')
    """
    return NAMES.get(exponents, f"p = {label(exponents)}")
