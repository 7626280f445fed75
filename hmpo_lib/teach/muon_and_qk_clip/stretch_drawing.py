"""What a step does to all directions, and what Newton-Schulz makes of it: an ellipse that becomes nearly a circle."""

import math

import torch

from hmpo_lib.teach.muon_and_qk_clip.newton_schulz_panel import polynomial
from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import BLACK, GREY, ORANGE, PURPLE, Canvas, label_ticks, tidy_axes

STEPS = (0, 1, 2, 5)
STRENGTHS = (1.0, 0.12)  # singular values of the matrix, before it is divided by its norm


def the_stretch() -> Still:
    """The unit circle under U diag(s) Vᵀ after 0, 1, 2 and 5 steps, with the images of its two singular directions."""
    canvas = Canvas(760, 240)
    axes = canvas.mosaic([[str(steps) for steps in STEPS]])
    angle, before = torch.linspace(0, 2 * math.pi, 200).double(), torch.tensor(STRENGTHS).double()
    circle = torch.stack([angle.cos(), angle.sin()])
    u, words = torch.tensor([[math.cos(0.5), -math.sin(0.5)], [math.sin(0.5), math.cos(0.5)]]).double(), []
    for steps in STEPS:
        plot, s = axes[str(steps)], polynomial(before / before.norm(), "Jordan", steps)
        title = "G over its norm" if steps == 0 else f"after {steps} step{'s' * (steps > 1)}"
        tidy_axes(plot, title=title, xlim=(-1.3, 1.3), ylim=(-1.3, 1.3))
        plot.set_aspect("equal")
        for axis in "xy":
            label_ticks(plot, [-1, 0, 1], axis=axis)
        plot.plot(*circle, color=GREY, linewidth=1, linestyle=":")
        plot.plot(*(u @ s.diag() @ circle), color=BLACK, linewidth=1.6)  # V only turns the circle in itself
        for k, (colour, x, ha) in enumerate(((ORANGE, 1.28, "right"), (PURPLE, -1.28, "left"))):
            plot.plot(*zip((0, 0), (u[:, k] * s[k]).tolist(), strict=True), color=colour, linewidth=3)
            plot.text(x, -1.2, f"{s[k]:.2f}", color=colour, fontsize=10, ha=ha, fontweight="bold")
        words.append(f"{steps}: {s[0]:.2f} and {s[1]:.2f}")
    caption = (
        "A matrix makes an ellipse of the unit circle (dotted); its half-axes are the singular values. After so many "
        f"steps of Newton-Schulz they are {'; '.join(words)}. Their directions stay."
    )
    return Still(canvas, caption=caption, alt=f"Four ellipses, from a thin one to nearly a circle. {caption}")
