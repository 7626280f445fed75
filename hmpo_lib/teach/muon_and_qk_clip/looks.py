"""How optimizers and layers look in notebook 07."""

from typing import Any

from hmpo_lib.teach.plotting import BLACK, PURPLE, SKY_BLUE, Canvas
from hmpo_lib.teach.shared.optimizer_styles import OPTIMIZER_STYLES, OptimizerStyle

HEADS_PER_LAYER = 4

OPTIMIZER_LOOKS = OPTIMIZER_STYLES | {"Muon, per head": OptimizerStyle(SKY_BLUE, "-", "D")}
LAYER_LOOKS = ((PURPLE, 1.0), (BLACK, 1.8))  # colour and width of the lines of a layer's heads


def head_lines(canvas: Canvas, axes: Any, heads: int) -> list[Any]:
    """A line for each head, its layer told by colour and width: which head of a layer it is matters to no figure."""
    lines = []
    for head in range(heads):
        colour, width = LAYER_LOOKS[head // HEADS_PER_LAYER]
        lines.append(canvas.animate(axes.plot([], [], color=colour, linewidth=width)[0]))
    return lines
