"""How far can one go? Learning rate times steps a rollout, by exponent, without a clip and with tokens clipped."""

import itertools

import numpy as np

from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import BLACK, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.what_the_evidence_says.looks import long_name
from hmpo_lib.teach.what_the_evidence_says.plan import FIVE, SEEDS, boundary_cell
from hmpo_lib.teach.what_the_evidence_says.records import Evidence, Floats, end_of

RATES, STEPS = (1e-4, 2e-4, 4e-4), (4, 16, 64)
SHOWN, SEEDS_SHOWN = FIVE[:4], SEEDS[:3]  # every cell of the map has these seeds


def boundary_table(evidence: Evidence) -> Floats:
    """Reward of the last quarter of a run over that of its first rollout, less 1, by seed.

    Returns:
        ``[clipped or not, exponents, steps, rates, seeds]``; below 0 where a run ended below its start.
    """
    shape = (2, len(SHOWN), len(STEPS), len(RATES), len(SEEDS_SHOWN))
    table = []
    for clipped, exponents, steps, rate in itertools.product((False, True), SHOWN, STEPS, RATES):
        curves = evidence.curves(
            boundary_cell(exponents, clipped=clipped, steps=steps, learning_rate=rate), seeds=SEEDS_SHOWN
        )
        table.append(end_of(curves) / curves[:, 0] - 1)
    return np.array(table).reshape(shape)


def boundary_picture(evidence: Evidence) -> Still:
    """Eight maps, a square a setting: blue where the run ended above its start, red where it fell below."""
    table = boundary_table(evidence).mean(axis=-1)
    canvas = Canvas(760, 430)
    axes = canvas.mosaic([[f"{row}{column}" for column in range(len(SHOWN))] for row in range(2)])
    said = []
    for clipped, column in itertools.product((0, 1), range(len(SHOWN))):
        ax, values = axes[f"{clipped}{column}"], table[clipped, column]
        tidy_axes(ax, grid=False)
        ax.imshow(values, cmap="RdBu", vmin=-1, vmax=1, origin="lower", aspect="auto")
        for (row, steps), (place, rate) in itertools.product(enumerate(STEPS), enumerate(RATES)):
            value = values[row, place]
            ax.text(
                place, row, f"{value:+.0%}".replace("-", "−"), ha="center", va="center", fontsize=9,
                color="white" if abs(value) > 0.6 else BLACK, weight="bold" if value < 0 else "normal",
            )  # fmt: skip
            said.append(
                f"{'tokens clipped' if clipped else 'no clip'}, {long_name(SHOWN[column])}, {steps} steps, rate "
                f"{rate:g}: {value:+.0%}"
            )
        label_ticks(ax, range(3), [str(steps) for steps in STEPS] if column == 0 else [""] * 3)
        label_ticks(ax, range(3), [f"{1e4 * rate:g}e-4" for rate in RATES] if clipped else [""] * 3, axis="x")
        ax.tick_params(length=0)
        if not clipped:
            ax.set_title(long_name(SHOWN[column]).replace(", ", "\n"), loc="left", fontsize=9, fontweight="bold")
        if column == 0:
            ax.set_ylabel(f"{'tokens clipped' if clipped else 'no clip'}\nsteps a rollout", fontsize=9)
        if clipped:
            ax.set_xlabel("learning rate", fontsize=9)
    caption = (
        "Reward at the end of a run beside that of its first rollout, means over 3 seeds. Red, bold and negative: the "
        "run ended below its start."
    )
    return Still(canvas, caption=caption, alt=f"Eight maps. {caption} {'; '.join(said)}.")
