"""Why the iteration finds a square root: rectangles of one area become a square."""

from fractions import Fraction

from matplotlib.patches import Rectangle

from hmpo_lib.iterations import arithmetic_harmonic_mean
from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import GREY, MEAN_STYLES, PALE_GREY, Canvas


def rectangles(a: int, b: int, *, steps: int = 3) -> Still:
    """The rectangle of the two numbers after each step: as wide as the larger, as high as the smaller."""
    start = Fraction(max(a, b)), Fraction(min(a, b))
    history = arithmetic_harmonic_mean(*start, max_steps=steps, tolerance=0).history
    canvas = Canvas(760, 230)
    axes = canvas.mosaic("a")["a"]
    left = 0.0
    for step, (wide, high) in enumerate(history):
        width, height = float(wide), float(high)
        axes.add_patch(Rectangle((left, 0), width, height, facecolor=PALE_GREY, edgecolor=GREY, linewidth=1.2))
        middle = left + width / 2
        axes.text(middle, height / 2, f"area {wide * high}", ha="center", va="center")
        axes.text(middle, -0.06, f"{wide}", ha="center", va="top", color=MEAN_STYLES["arithmetic"].colour)
        axes.text(left + width + 0.05, height / 2, f"{high}", va="center", color=MEAN_STYLES["harmonic"].colour)
        axes.text(middle, float(history[-1][1]) + 0.12, f"step {step}", ha="center", va="bottom", color=GREY)
        left += width + 0.62
    axes.set(xlim=(-0.05, left), ylim=(-0.3, float(history[-1][1]) + 0.4), aspect="equal")
    axes.axis("off")
    sides = "; ".join(f"{wide} by {high}" for wide, high in history)
    caption = f"Each step puts the two means in the place of the sides: {sides}. The area stays."
    return Still(canvas, caption=caption, alt=f"A row of rectangles that become a square. {caption}")
