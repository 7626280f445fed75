"""How optimizers and layers look in notebook 07."""

from typing import Any

from hmpo_lib.teach.plotting import BLACK, PURPLE, SKY_BLUE, Canvas
from hmpo_lib.teach.shared.optimizer_styles import OPTIMIZER_STYLES, OptimizerStyle

HEADS_PER_LAYER = 4

OPTIMIZER_LOOKS = OPTIMIZER_STYLES | {"Muon, per head": OptimizerStyle(SKY_BLUE, "-", "D")}
LAYER_LOOKS = ((PURPLE, 1.1), (BLACK, 2.2))  # colour and width of the lines of a layer's heads


def head_lines(canvas: Canvas, axes: Any, heads: int) -> list[Any]:
    """A line for each head: the layer by colour and width, the head by dashes."""
    lines = []
    for head in range(heads):
        layer, place = divmod(head, HEADS_PER_LAYER)
        colour, width = LAYER_LOOKS[layer]
        look: Any = {"color": colour, "linestyle": ("-", "--", "-.", ":")[place], "linewidth": width}
        label = f"layer {layer + 1}" if place == 0 else None
        lines.append(canvas.animate(axes.plot([], [], label=label, **look)[0]))
    return lines
