"""Why the iteration finds a square root: rectangles of one area become a square."""

from fractions import Fraction
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle

from hmpo_lib.iterations import arithmetic_harmonic_mean
from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import BLACK, GREY, ORANGE, Canvas, tidy_axes


def rectangles(a: int | Fraction, b: int | Fraction, *, steps: int = 4) -> Still:
    """The rectangle of the two numbers after each step, all from one corner: the other one runs along a hyperbola."""
    start = Fraction(max(a, b)), Fraction(min(a, b))
    history = arithmetic_harmonic_mean(*start, max_steps=steps, tolerance=0).history
    area, wide, high = start[0] * start[1], float(start[0]), float(history[-1][1])
    canvas = Canvas(760, 300)
    axes = canvas.mosaic("a")["a"]
    tidy_axes(axes, title=f"Every rectangle has the area {area}", grid=False)
    axes.set(
        xlim=(0, 1.1 * wide), ylim=(0, 1.75 * high), aspect="equal", xlabel="arithmetic mean", ylabel="harmonic mean"
    )
    x = np.linspace(float(area) / (1.7 * high), 1.08 * wide, 200)
    axes.plot(x, float(area) / x, color=GREY, linewidth=1, linestyle="--")
    axes.plot([0, 1.7 * high], [0, 1.7 * high], color=GREY, linewidth=1, linestyle=":")
    axes.annotate("squares", (1.62 * high, 1.62 * high), (8, -4), textcoords="offset points", color=GREY)
    for step, (width, height) in enumerate(history):
        last = step == steps
        look: dict[str, Any] = {
            "facecolor": "none",
            "edgecolor": ORANGE if last else GREY,
            "linewidth": 3 if last else 1.2,
        }
        axes.add_patch(Rectangle((0, 0), float(width), float(height), **look))
        axes.plot(float(width), float(height), "o", color=BLACK, markersize=5)
        place: dict[str, Any] = {"textcoords": "offset points", "fontsize": 9, "va": "bottom"}
        text = f"step {step}: {_short(width)} × {_short(height)}"
        # The last corners are close together; the first one has no room on its right.
        shift, align = ((0, 16), "left") if last else ((-2, 8), "center") if step == 0 else ((6, 3), "left")
        axes.annotate(text, (float(width), float(height)), shift, ha=align, **place)
    sides = "; ".join(f"{_short(width)} by {_short(height)}" for width, height in history)
    caption = f"Each step puts the two means in the place of the sides: {sides}. The area stays {area}."
    return Still(canvas, caption=caption, alt=f"Nested rectangles that become a square. {caption}")


def _short(x: Fraction) -> str:
    """The fraction where it is short, else four digits."""
    return str(x) if len(str(x)) <= 5 else f"{float(x):.4g}"
