"""How the kinds of ratio look in every figure, and how a ratio is written."""

import re
from typing import NamedTuple

from hmpo_lib.teach.plotting import BLACK, MEAN_STYLES, SKY_BLUE


class RatioStyle(NamedTuple):
    """How one kind of ratio looks in every figure: never by colour alone."""

    colour: str
    linestyle: str | tuple[int, tuple[float, ...]]
    marker: str


RATIO_STYLES = {
    "token": RatioStyle(SKY_BLUE, ":", "o"),
    "product": RatioStyle(BLACK, (0, (6, 1.5, 1, 1.5, 1, 1.5)), "X"),
    **{
        name: RatioStyle(MEAN_STYLES[name].colour, MEAN_STYLES[name].linestyle, MEAN_STYLES[name].marker)
        for name in ("arithmetic", "geometric", "harmonic")
    },
}
COMPLETION_RATIOS = [name for name in RATIO_STYLES if name != "token"]


def number(value: float) -> str:
    """A ratio with three digits, however large or small.

    >>> number(52.4849), number(1.8e-7), number(1.0)
    ('52.5', '1.8e-7', '1')
    """
    return re.sub(r"e([-+])0*", lambda found: "e" + found[1].replace("+", ""), f"{value:.3g}")
