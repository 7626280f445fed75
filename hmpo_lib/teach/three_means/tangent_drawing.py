"""Step 1 of the proof: the line x − 1 touches the logarithm at 1 and lies above it elsewhere."""

from collections.abc import Sequence
from typing import Any

import torch

from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import BLACK, FONT_SIZE, GREY, ORANGE, Canvas, signed, tidy_axes
from hmpo_lib.teach.shared.power_mean_drawings import log_of


def tangent(ratios: Sequence[float]) -> Still:
    """The logarithm, its tangent at 1, and between the two the gap of each ratio divided by the arithmetic mean."""
    x = log_of(ratios).exp()
    x = x / x.mean()
    canvas = Canvas(760, 330)
    axes = canvas.mosaic("a")["a"]
    right = max(2.0, 1.25 * x.max().item())
    grid = torch.linspace(0.75 * x.min().item(), right, 200, dtype=torch.float64)
    tidy_axes(axes, title="The line lies above the logarithm, and touches it at 1", xlabel="$x$, a ratio over $M_1$")
    axes.plot(grid, grid - 1, color=GREY, linewidth=1.5)
    axes.plot(grid, grid.log(), color=BLACK, linewidth=2)
    axes.annotate("$x - 1$", (right, right - 1), (6, -4), textcoords="offset points", color=GREY, fontsize=11)
    axes.annotate("$\\ln x$", (right, grid[-1].log()), (6, -4), textcoords="offset points", fontsize=11)
    axes.vlines(x, x.log(), x - 1, color=ORANGE, linewidth=3)
    axes.plot(x, x - 1, "o", color=GREY, markersize=6)
    axes.plot(x, x.log(), "o", color=BLACK, markersize=6)
    axes.axhline(0, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xlim(0, 1.1 * right)
    averages = x.log().mean().item(), (x - 1).mean().item()
    # The average of the x is 1, so both averages stand above and below that place.
    axes.vlines(1.0, *averages, color=ORANGE, linewidth=3, linestyle=(0, (1, 1)))
    look: dict[str, Any] = {"textcoords": "offset points", "fontsize": FONT_SIZE}
    axes.plot(1.0, averages[1], "D", color="white", markeredgecolor=GREY, markersize=8, markeredgewidth=2)
    axes.annotate("average of the line: 0", (1.0, averages[1]), (-8, 9), ha="right", color=GREY, **look)
    axes.plot(1.0, averages[0], "D", color="white", markeredgecolor=BLACK, markersize=8, markeredgewidth=2)
    low = f"average of the logarithm: {signed(averages[0])} = $\\ln(M_0 / M_1)$"
    axes.annotate(low, (1.0, averages[0]), (10, -10), va="top", **look)
    caption = (
        f"Ratios {', '.join(f'{ratio:g}' for ratio in ratios)} over their arithmetic mean. On average the line is at "
        f"{signed(averages[1])} and the logarithm at {signed(averages[0])}, which is ln(M₀ / M₁)."
    )
    return Still(
        canvas,
        caption=caption,
        alt=f"The curve ln x and its tangent x − 1 with a gap at each point, and both averages at x = 1. {caption}",
    )
