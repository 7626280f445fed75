"""How the optimizers look in every figure: in hues that no exponent has, and never by colour alone."""

from typing import NamedTuple

from hmpo_lib.teach.plotting import BLACK, ORANGE


class OptimizerStyle(NamedTuple):
    """Colour, line and marker of one optimizer."""

    colour: str
    linestyle: str
    marker: str


OPTIMIZER_STYLES = {"Muon": OptimizerStyle(ORANGE, "-", "o"), "AdamW": OptimizerStyle(BLACK, "--", "s")}
