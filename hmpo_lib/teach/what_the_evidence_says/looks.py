"""How the exponents look in every figure of this notebook, and a figure that does not move."""

import html
from typing import Any, NamedTuple

from hmpo_lib.teach.plotting import BLACK, BLUE, GREEN, PURPLE, VERMILLION, Canvas, data_url
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


class Still:
    """A figure that does not move, with its caption and its alt text."""

    def __init__(self, canvas: Canvas, caption: str, alt: str) -> None:
        self.canvas, self.caption, self.alt = canvas, caption, alt

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        image = (
            f'<img alt="{html.escape(self.alt)}" width="{self.canvas.width}" height="{self.canvas.height}" '
            f'src="{data_url(self.canvas.png(small=True))}">'
        )
        figure = f'<figure style="margin: 0">{image}<figcaption>{html.escape(self.caption)}</figcaption></figure>'
        return {"text/html": figure, "text/plain": self.caption}
