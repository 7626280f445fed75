"""The picture of the model: a column for each token, and what one block does to a column."""

from typing import Any

from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import BLACK, GREY, ORANGE, SKY_BLUE, Canvas

TOKENS = ("▷", "7", "+", "1", "2")
NEXT = ("7", "+", "1", "2", "+")


def _arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], **look: Any) -> None:
    style: dict[str, Any] = {
        "arrowstyle": "-|>",
        "mutation_scale": 9,
        "color": GREY,
        "linewidth": 1.1,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    axes.add_patch(FancyArrowPatch(start, end, **style | look))


def _box(axes: Any, x: float, y: float, width: float, height: float, text: str, colour: str) -> None:
    corner = (x - width / 2, y - height / 2)
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle="round,pad=0.02", fc=colour, ec="none", alpha=0.35))
    axes.text(x, y, text, ha="center", va="center", fontsize=9)


def _draw_columns(axes: Any) -> None:
    """Tokens at the bottom, next tokens on top; arrows lead from a column to itself and to later ones."""
    axes.set(xlim=(-1.4, 4.4), ylim=(-0.75, 4.75))
    for k, (token, following) in enumerate(zip(TOKENS, NEXT, strict=True)):
        axes.text(k, -0.5, token, ha="center", fontsize=12, family="monospace")
        axes.text(k, 4.45, following, ha="center", fontsize=12, family="monospace", color=GREY)
        for low, high in ((-0.15, 0.7), (1.3, 2.7), (3.3, 4.3)):
            _arrow(axes, (k, low), (k, high))
        for y in (1.0, 3.0):
            _box(axes, k, y, 0.5, 0.5, "block", SKY_BLUE)
        for earlier in range(k):
            for low, high in ((-0.05, 0.72), (1.32, 2.72)):
                _arrow(axes, (earlier, low), (k - 0.12, high), linewidth=0.6, mutation_scale=5, color=ORANGE)
    for y, text in ((-0.4, "token"), (1.0, "layer 1"), (3.0, "layer 2"), (4.55, "next token?")):
        axes.text(-1.4, y, text, va="center", fontsize=9, color=BLACK)


def _draw_block(axes: Any) -> None:
    """One column's way through a block: two detours, each added to the straight way."""
    axes.set(xlim=(-1.3, 1.5), ylim=(-0.75, 4.75))
    _arrow(axes, (-0.7, -0.6), (-0.7, 4.65), linewidth=2.2, mutation_scale=13, color=BLACK)
    for low, name, text, colour in (
        (-0.2, "attention", "gathers from\nearlier tokens", ORANGE),
        (2.1, "MLP", "each token\nby itself", SKY_BLUE),
    ):
        _arrow(axes, (-0.7, low), (0.0, low + 0.35), connectionstyle="angle,angleA=0,angleB=90,rad=5")
        _box(axes, 0.0, low + 0.62, 1.0, 0.42, "RMS norm", GREY)
        _arrow(axes, (0.0, low + 0.86), (0.0, low + 1.1))
        _box(axes, 0.0, low + 1.35, 1.0, 0.42, name, colour)
        axes.text(0.6, low + 1.35, text, va="center", fontsize=8, color=GREY)
        _arrow(axes, (0.0, low + 1.6), (-0.54, low + 1.9), connectionstyle="angle,angleA=90,angleB=0,rad=5")
        axes.text(-0.7, low + 1.9, "⊕", ha="center", va="center", fontsize=15, backgroundcolor="white")
    axes.text(-0.82, 2.0, "128 numbers", rotation=90, ha="right", va="center", fontsize=9)


def the_model() -> Still:
    """Columns of blocks on the left, one block on the right."""
    canvas = Canvas(760, 330)
    axes = canvas.mosaic([["columns", "block"]], width_ratios=(1.5, 1))
    for name, title in (("columns", "The model: attention looks back, never ahead"), ("block", "One block")):
        axes[name].axis("off")
        axes[name].set_title(title, loc="left", fontsize=10, fontweight="bold")
    _draw_columns(axes["columns"])
    _draw_block(axes["block"])
    return Still(
        canvas,
        caption="Orange: attention, the only way from one token to another. All else works on one token. (▷: <bos>)",
        alt=(
            f"Left, the tokens {' '.join(TOKENS)}, each with a column of two blocks above it that ends in the next "
            "token; orange arrows lead from each column to all later ones. Right, a block: a straight way upwards, to "
            "which two detours are added, RMS norm and attention, then RMS norm and MLP."
        ),
    )
