"""The picture of the loop: six stations, and how often each is passed."""

from typing import Any

from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import GREY, ORANGE, SKY_BLUE, Canvas

STATIONS = (
    ("sample", "groups of answers\nto each prompt"),
    ("score", "1 if right, 0 if not"),
    ("compare", "within the group:\nadvantage A"),
    ("split", "into minibatches"),
    ("loss", "−A · M_p(ratios),\non average"),
    ("step", "of the optimizer"),
)
INNER = 4  # from here on the stations are passed once per minibatch


def the_loop() -> Still:
    """Boxes from left to right, an arrow back for the minibatches and one for the rollouts."""
    canvas = Canvas(760, 200)
    axes = canvas.mosaic([["loop"]])["loop"]
    axes.set(xlim=(0, 6), ylim=(-0.75, 1.75))
    axes.axis("off")
    for k, (name, text) in enumerate(STATIONS):
        face = SKY_BLUE if k < INNER else ORANGE
        box = FancyBboxPatch((k + 0.09, 0.1), 0.82, 0.8, boxstyle="round,pad=0.02", fc=face, ec="none", alpha=0.3)
        axes.add_patch(box)
        axes.text(k + 0.5, 0.7, name, ha="center", va="center", fontsize=11, fontweight="bold")
        axes.text(k + 0.5, 0.36, text.replace("M_p", "$M_p$"), ha="center", va="center", fontsize=7.8)
    arrow: Any = {"arrowstyle": "-|>", "mutation_scale": 12, "color": GREY, "linewidth": 1.4}
    back = "arc,angleA={0},angleB={0},armA=22,armB=22,rad=8"
    axes.add_patch(FancyArrowPatch((5.5, 0.95), (4.5, 0.95), connectionstyle=back.format(90), **arrow))
    axes.add_patch(FancyArrowPatch((5.5, 0.05), (0.5, 0.05), connectionstyle=back.format(-90), **arrow))
    axes.text(5.95, 1.5, "the next minibatch: its answers are stale by now", ha="right", fontsize=9, color=GREY)
    axes.text(
        3.0, -0.3, "the next rollout: fresh answers, all ratios 1", ha="center", va="center", fontsize=9, color=GREY
    )
    return Still(
        canvas,
        caption="The loop. Blue: once per rollout. Orange: once per minibatch.",
        alt=(
            f"Six boxes in a row: {', '.join(name for name, _ in STATIONS)}. From step an arrow goes back to loss, for "
            "the next minibatch, whose answers are stale by now; another goes back to sample, for the next rollout, "
            "with fresh answers whose ratios are all 1."
        ),
    )
