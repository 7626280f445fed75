"""Nine means: an exponent for good answers and one for bad ones, each -1, 0 or 1, and what each pair learned."""

import itertools

import numpy as np
import torch

from hmpo_lib.evaluation import bootstrap_interval
from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import BLACK, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.what_the_evidence_says.cells import Cell, Exponents
from hmpo_lib.teach.what_the_evidence_says.plan import SEEDS
from hmpo_lib.teach.what_the_evidence_says.records import Evidence, Floats

LEVELS = (-1.0, 0.0, 1.0)
NAMES = {(-1.0, -1.0): "harmonic", (0.0, 0.0): "geometric", (1.0, 1.0): "arithmetic", (-1.0, 1.0): "pessimistic",
         (1.0, -1.0): "optimistic"}  # fmt: skip


def halves_table(evidence: Evidence) -> Floats:
    """Mean reward over a run without a clip, mean over seeds: ``[p where A < 0, p where A > 0]``, each by LEVELS."""
    return np.array(
        [[evidence.mean_reward(Cell(Exponents(good, bad)), SEEDS).mean() for good in LEVELS] for bad in LEVELS]
    )


def halves_picture(evidence: Evidence) -> Still:
    """The nine pairs as a square of squares, the darker the more was learned."""
    table = halves_table(evidence)
    canvas = Canvas(560, 400)
    ax = canvas.mosaic("a")["a"]
    tidy_axes(ax, xlabel="p for good answers, A > 0", ylabel="p for bad answers, A < 0", grid=False)
    ax.set_title("Without a clip: mean reward over a run", loc="left", fontsize=10, fontweight="bold")
    ax.imshow(table, cmap="Greys", vmin=0.0, vmax=1.1, aspect="auto", origin="lower")
    said = []
    for (row, bad), (column, good) in itertools.product(enumerate(LEVELS), repeat=2):
        cell = Cell(Exponents(good, bad))
        _, low, high = bootstrap_interval(torch.as_tensor(evidence.mean_reward(cell, SEEDS)))
        name = NAMES.get((good, bad), "")
        collapsed = int(evidence.collapsed(cell, SEEDS).sum())
        colour = "white" if table[row, column] > 0.55 else BLACK
        lines = [name, f"{table[row, column]:.2f}", f"{collapsed} of 10 collapse" if collapsed else ""]
        for text, dy, size, weight in zip(
            lines, (0.27, 0.0, -0.27), (9, 15, 8.5), ("normal", "bold", "normal"), strict=True
        ):
            ax.text(column, row + dy, text, ha="center", va="center", fontsize=size, weight=weight, color=colour)
        named = f" ({name})" if name else ""
        said.append(
            f"p = {good:g} for good and {bad:g} for bad answers{named}: {table[row, column]:.2f}, interquartile mean "
            f"between {low:.2f} and {high:.2f}, {collapsed} of {len(SEEDS)} collapsed"
        )
    ticks = [f"{p:g}".replace("-", "−") for p in LEVELS]
    label_ticks(ax, range(3), ticks)
    label_ticks(ax, range(3), ticks, axis="x")
    ax.tick_params(length=0)
    caption = (
        f"Means over {len(SEEDS)} seeds. On the diagonal from bottom left to top right p does not depend on the sign."
    )
    return Still(canvas, caption=caption, alt=f"Nine squares. {caption} {'; '.join(said)}.")
