"""Theory against measurement: is the effect of the mean known from |p| and the spread of the ratios alone?"""

import dataclasses
from typing import NamedTuple

import numpy as np
from scipy import stats

from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import GREY, Canvas, tidy_axes
from hmpo_lib.teach.what_the_evidence_says.cells import Cell
from hmpo_lib.teach.what_the_evidence_says.looks import LOOKS, Look, long_name
from hmpo_lib.teach.what_the_evidence_says.plan import GEOMETRIC, TUNING_SEEDS
from hmpo_lib.teach.what_the_evidence_says.records import Evidence, Floats
from hmpo_lib.teach.what_the_evidence_says.tables import finished_cells

FEWEST = 3  # seeds
OTHER = Look(GREY, "-", "o")  # the halves, and other amounts of pessimism


class Effect(NamedTuple):
    """A cell beside that with p = 0.

    Attributes:
        cell: which.
        size: mean of |p| times the spread of the log-ratios inside answers, over the two signs of A.
        pessimism: p times their variance where A < 0, minus that where A > 0: above 0 where the mean holds back.
        difference: of the mean reward, mean over seeds, from p = 0.
    """

    cell: Cell
    size: float
    pessimism: float
    difference: float

    @property
    def is_control(self) -> bool:
        """Whether nothing is stale."""
        return self.cell.minibatches * self.cell.epochs == 1


def effects(evidence: Evidence) -> list[Effect]:
    """Of every cell of the shipped model that differs in p alone from one with p = 0, over the seeds that both have.

    Spreads are those of the first rollout at p = 0.
    """
    found = []
    cells = finished_cells(evidence)
    for cell in cells:
        base = dataclasses.replace(cell, exponents=GEOMETRIC)
        seeds = sorted({*evidence.seeds(cell)} & {*evidence.seeds(base)} - {*TUNING_SEEDS})
        if cell == base or base not in cells or cell.model != "shipped" or len(seeds) < FEWEST:
            continue
        spreads = {sign: evidence.curves(base, f"within_{sign}", seeds)[:, 0] for sign in ("good", "bad")}
        good, bad = (float(np.nanmean(x)) if cell.heard in ("both", sign) else 0.0 for sign, x in spreads.items())
        e = cell.exponents
        size = (abs(e.good) * good + abs(e.bad) * bad) / 2
        difference = evidence.mean_reward(cell, seeds) - evidence.mean_reward(base, seeds)
        found.append(Effect(cell, size, e.bad * bad**2 - e.good * good**2, float(difference.mean())))
    return found


def rank_correlation(
    first: Floats, other: Floats, *, resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Spearman's, with the 95 % bootstrap interval over cells."""
    generator = np.random.default_rng(seed)
    drawn = []
    for rows in generator.integers(len(first), size=(resamples, len(first))):
        if np.ptp(first[rows]) and np.ptp(other[rows]):
            drawn.append(stats.spearmanr(first[rows], other[rows]).statistic)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(stats.spearmanr(first, other).statistic), float(low), float(high)


def theory_picture(found: list[Effect]) -> Still:
    """The measured differences over the two predictors, both in rank order; the controls are not drawn.

    In rank order, since a few cells of 64 steps lie far outside on every scale that shows the others.
    """
    drawn = [effect for effect in found if not effect.is_control]
    canvas = Canvas(760, 380)
    axes = canvas.mosaic([["size", "pessimism"]])
    measured = np.array([effect.difference for effect in drawn])
    for name, title, xlabel, predicted, values in (
        ("size", "How large is the effect?", "|p| × spread, in order", [e.size for e in drawn], np.abs(measured)),
        ("pessimism", "And in which direction?", "pessimism, in order", [e.pessimism for e in drawn], measured),
    ):
        ax = axes[name]
        ylabel = "size of the difference, in order" if name == "size" else "difference from p = 0, in order"
        tidy_axes(ax, title=title, xlabel=xlabel, ylabel=ylabel)
        for x, y, effect in zip(stats.rankdata(predicted), stats.rankdata(values), drawn, strict=True):
            look = LOOKS.get(effect.cell.exponents, OTHER)
            ax.plot(x, y, look.marker, color=look.colour, markersize=6, alpha=0.8)
        ax.axline((0, 0), slope=1, color=GREY, linewidth=1, linestyle=":")
    for e, look in LOOKS.items():
        if e != GEOMETRIC:
            axes["size"].plot([], [], look.marker, color=look.colour, label=long_name(e))
    axes["size"].plot([], [], OTHER.marker, color=OTHER.colour, label="other exponents by sign")
    canvas.figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    caption = (
        f"{len(drawn)} cells, each against the same with p = 0, "
        "numbered from the least to the largest. A rule that held would put them on the dotted line."
    )
    said = ", ".join(f"{effect.cell.name}: {effect.difference:+.3f}" for effect in drawn)
    return Still(canvas, caption=caption, alt=f"{caption} {said}.")
