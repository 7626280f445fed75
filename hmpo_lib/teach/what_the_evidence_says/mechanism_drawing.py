"""Why it may matter: the push on a token over its ratio, and the spread of the ratios measured, by sign of A."""

from collections.abc import Sequence

import numpy as np
from safetensors.torch import load_file

from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import BLACK, GREY, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.what_the_evidence_says.cells import Cell, Exponents
from hmpo_lib.teach.what_the_evidence_says.looks import LOOKS, long_name
from hmpo_lib.teach.what_the_evidence_says.plan import FIVE, FIXED, SEEDS, label
from hmpo_lib.teach.what_the_evidence_says.records import RECORDED, Evidence, Floats
from hmpo_lib.teach.what_the_evidence_says.runs import STEP_FIELDS

EARLY = 4  # rollouts over which the spread is averaged: before the runs have gone different ways


def feedback_picture() -> Still:
    """The push r^p on one token of a long answer whose other ratios are 1, and the token's way, for both signs."""
    canvas = Canvas(760, 290)
    axes = canvas.mosaic([["good", "bad"]], sharey=True)
    for good, name, ratios in ((True, "good", np.linspace(1, 2.6, 60)), (False, "bad", np.linspace(0.38, 1, 60))):
        ax = axes[name]
        title = "A > 0: each push moves the token right" if good else "A < 0: each push moves the token left"
        tidy_axes(ax, title=title, xlabel="the token's ratio r", ylabel="" if not good else "size of its push")
        for exponents in FIXED[1:4]:
            look = LOOKS[exponents]
            push = ratios**exponents.good
            ax.plot(ratios, push, color=look.colour, linestyle=look.linestyle, linewidth=2.5)
            end = -1 if good else 0
            words = {1.0: "feeds on itself", 0.0: "stays", -1.0: "dies down"}[exponents.good * (1 if good else -1)]
            ax.annotate(
                f"p = {label(exponents)}: {words}",
                (ratios[end], push[end]),
                xytext=(-4 if good else 6, -16 if words == "dies down" else 7),
                textcoords="offset points",
                ha="right" if good else "left",
                color=look.colour,
                fontsize=9,
            )
        start, tip = (1.05, 1.5) if good else (0.97, 0.7)
        ax.annotate("", (tip, 0.22), xytext=(start, 0.22), arrowprops={"arrowstyle": "->", "color": BLACK, "lw": 2})
        ax.plot(1, 1, "o", color=GREY, markersize=7)
        ax.set_ylim(0, 2.95)
    caption = (
        "One token of a long answer whose other ratios are 1: its push is A times r to the power p. Where p A < 0 the "
        "push dies down as the token moves, where p A > 0 it feeds on itself."
    )
    alt = (
        f"Two plots of the push over the ratio. {caption} For A > 0, p = 1 rises with r and p = −1 falls; for A < 0, "
        "as r falls, p = −1 rises and p = 1 falls."
    )
    return Still(canvas, caption=caption, alt=alt)


def load_steps(evidence: Evidence, cells: Sequence[Cell]) -> dict[Cell, Floats]:
    """The numbers of each step of some cells' runs, ``[seeds, rollouts, steps, STEP_FIELDS]``, from the records."""
    packed = load_file(RECORDED / "steps.safetensors")
    runs = {run: line for line, run in enumerate(evidence.lines)}
    rows = {line: k for k, line in enumerate(packed["lines"].tolist())}
    return {
        cell: np.stack([packed["steps"][rows[runs[cell.name, seed]]].double().numpy() for seed in SEEDS])
        for cell in cells
    }


def spreads(steps: Floats, *, good: bool) -> Floats:
    """Spread of the log-ratios inside answers by the steps since sampling, early in training, ``[seeds, steps]``."""
    column = STEP_FIELDS.index("within_good" if good else "within_bad")
    return np.nanmedian(steps[:, :EARLY, :, column], axis=1)


def spread_picture(evidence: Evidence, exponents: Sequence[Exponents] = FIVE) -> Still:
    """How far the ratios inside an answer drift apart between two samplings, by exponent and sign of A."""
    recorded = load_steps(evidence, [Cell(e) for e in exponents])
    canvas = Canvas(760, 330)
    axes = canvas.mosaic([["good", "bad"]], sharey=True)
    ends: dict[str, list[tuple[float, Exponents]]] = {"good": [], "bad": []}
    for name, ax in axes.items():
        sign = ">" if name == "good" else "<"
        tidy_axes(ax, title=f"answers with A {sign} 0", xlabel="steps since sampling", xlim=(1, 15))
        for e in exponents:
            values = spreads(recorded[Cell(e)], good=name == "good")
            middle = np.median(values, axis=0)
            low, high = np.quantile(values, [0.25, 0.75], axis=0)
            steps = np.arange(values.shape[1])
            look = LOOKS[e]
            ax.plot(steps[1:], middle[1:], color=look.colour, linestyle=look.linestyle, linewidth=2)
            ax.fill_between(steps[1:], low[1:], high[1:], color=look.colour, alpha=0.08, linewidth=0)
            ends[name].append((float(middle[-1]), e))
        label_ticks(ax, [1, 5, 10, 15], axis="x")
        ax.set_yscale("log")
    axes["good"].set_ylabel("spread of log-ratios inside an answer", fontsize=10)
    axes["good"].set_ylim(0.012, 6)
    label_ticks(axes["good"], [0.03, 0.1, 0.3, 1, 3])
    place = -np.inf
    low, high = np.log(axes["good"].get_ylim())
    for end, e in sorted(ends["bad"], key=lambda pair: pair[0]):
        place = max(np.log(end), place + 0.07 * (high - low))
        axes["bad"].text(15.3, np.exp(place), long_name(e), color=LOOKS[e].colour, va="center", fontsize=9)
    caption = (
        f"Medians and middle halves over {len(SEEDS)} seeds, rollouts 1 to {EARLY}, no clip; the same "
        "line is the same mean."
    )
    said = "; ".join(
        f"A {'>' if name == 'good' else '<'} 0, {long_name(e)}: {end:.2f}"
        for name, pairs in ends.items()
        for end, e in pairs
    )
    alt = f"The spread grows with the steps since sampling. {caption} After 15 steps: {said}."
    return Still(canvas, caption=caption, alt=alt)
