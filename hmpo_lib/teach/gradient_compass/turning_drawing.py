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
    canvas = Canvas(760, 300)
    axes = canvas.mosaic("a")["a"]
    axes.axis("off")
    left, right, top = min(0.0, along), max(1.0, along), max(across, 0.4)
    axes.set(xlim=(left - 0.35, right + 0.45), ylim=(-0.22 * top, 1.15 * top), aspect="equal")

    def arrow(start: tuple[float, float], end: tuple[float, float], colour: str, **look: Any) -> None:
        style = {"arrowstyle": "-|>", "color": colour, "linewidth": 2.5, "mutation_scale": 16, "shrinkA": 0}
        axes.annotate("", end, start, arrowprops={**style, "shrinkB": 0, **look})

    arrow((1, -0.035 * top), (along, -0.035 * top), PURPLE, linewidth=3.5)
    arrow((along, 0), (along, across), ORANGE, linewidth=3.5, shrinkB=7)  # lets the tip of g_p be seen
    axes.plot([1, along], [0, across], color=GREY, linewidth=1.4, linestyle="--")
    arrow((0, 0), (1, 0), BLACK)
    arrow((0, 0), (along, across), BLACK)
    angle = math.acos(cosine)
    turn = [angle * k / 40 for k in range(41)]
    axes.plot([0.16 * math.cos(t) for t in turn], [0.16 * math.sin(t) for t in turn], color=GREY, linewidth=1.2)
    axes.text(0.2 * math.cos(angle / 2), 0.2 * math.sin(angle / 2), f"{math.degrees(angle):.0f}°", va="center")
    axes.text(1.03, 0, "$g_0$, length 1", fontsize=12, va="center")
    axes.text(along, across + 0.03 * top, f"$g_p$, length {length:.2f}", fontsize=12, ha="center", va="bottom")
    whole = math.hypot(along - 1, across)
    axes.text((1 + along) / 2 + 0.04, across / 2, f"change: {whole:.2f}", fontsize=10, color=GREY)
    name: dict[str, Any] = {"fontsize": 10, "fontweight": "bold"}
    words = f"along: {along - 1:+.2f}".replace("-", "−")
    axes.text((1 + along) / 2, -0.07 * top, words, color=PURPLE, ha="center", va="top", **name)
    axes.text(along + 0.03, across / 3, f"turn: {across:.2f}", color=ORANGE, va="center", **name)
    caption = (
        f"The angle is {math.degrees(angle):.0f}°, and g_p is {length:.2f} times as long as g_0. In units of g_0, "
        f"{abs(along - 1):.2f} are {'lost' if along < 1 else 'gained'} along it, and {across:.2f} go across."
    )
    return Still(
        canvas, caption=caption, alt=f"Two arrows from one point and the two parts of their difference. {caption}"
    )
