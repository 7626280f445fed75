"""The two parts of a gradient's change: along the old one, a change of length, and across it, a turn."""

import math
from typing import Any

from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import BLACK, GREY, ORANGE, PURPLE, Canvas


def turning_drawing(cosine: float, length: float) -> Still:
    """Two gradients as arrows from one point, drawn true to their angle and lengths, and the parts of their difference.

    Args:
        cosine: of the angle between the gradient g_p and g_0.
        length: of g_p, in units of g_0.
    """
    if not (-1 <= cosine <= 1 and length > 0):
        raise ValueError(f"cosine = {cosine}, length = {length}: give a cosine from −1 to 1 and a length above 0.")
    across = length * math.sqrt(1 - cosine**2)
    along = length * cosine
    canvas = Canvas(760, 260)
    axes = canvas.mosaic("a")["a"]
    axes.axis("off")
    left, right = min(0.0, along), max(1.0, along)
    axes.set(xlim=(left - 0.9, right + 0.9), ylim=(-0.2 * max(across, 0.5), 1.2 * max(across, 0.5)), aspect="equal")

    def arrow(start: tuple[float, float], end: tuple[float, float], colour: str, **look: Any) -> None:
        style = {"arrowstyle": "-|>", "color": colour, "linewidth": 2.5, "shrinkA": 0, "shrinkB": 0, **look}
        axes.annotate("", end, start, arrowprops=style)

    arrow((0, 0), (1, 0), BLACK)
    arrow((0, 0), (along, across), GREY)
    arrow((1, -0.03), (along, -0.03), PURPLE, linewidth=5, alpha=0.8)
    arrow((along, 0), (along, across), ORANGE, linewidth=5, alpha=0.8)
    axes.text(1.04, 0, "$g_0$", fontsize=14, va="center")
    axes.text(along - 0.04, across, "$g_p$", fontsize=14, ha="right", va="center", color=GREY)
    name: dict[str, Any] = {"fontsize": 10, "fontweight": "bold"}
    axes.text(
        (1 + along) / 2,
        -0.05,
        f"along: {along - 1:+.2f}".replace("-", "−"),
        color=PURPLE,
        ha="center",
        va="top",
        **name,
    )
    axes.text(along + 0.04, across / 2, f"across: {across:.2f}, the turn", color=ORANGE, va="center", **name)
    angle = math.degrees(math.acos(cosine))
    caption = (
        f"The angle is {angle:.0f}°, and g_p is {length:.2f} times as long as g_0. In units of g_0, "
        f"{abs(along - 1):.2f} are {'lost' if along < 1 else 'gained'} along it, and {across:.2f} go across."
    )
    return Still(
        canvas, caption=caption, alt=f"Two arrows from one point and the two parts of their difference. {caption}"
    )
