"""Theory against measurement: is the effect of the mean known from |p| and the spread of the ratios alone?"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import GREY, PALE_GREY, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.what_the_evidence_says.cells import Exponents
from hmpo_lib.teach.what_the_evidence_says.looks import LOOKS
from hmpo_lib.teach.what_the_evidence_says.plan import GEOMETRIC, label
from hmpo_lib.teach.what_the_evidence_says.records import Evidence, Floats
from hmpo_lib.teach.what_the_evidence_says.settings import (
    SETTINGS,
    cell_of,
    complete_settings,
    exponents_in,
    planned_seeds,
)

MARKERS = dict(zip(SETTINGS, "osDXv^P", strict=True))


class Effect(NamedTuple):
    """A cell beside that with p = 0.

    Attributes:
        setting, exponents: which.
        size: mean of |p| times the spread of the log-ratios inside answers, over the two signs of A.
        pessimism: p times their variance where A < 0, minus that where A > 0: above 0 where the mean holds back.
        difference: of the mean reward, mean over seeds, from p = 0.
    """

    setting: str
    exponents: Exponents
    size: float
    pessimism: float
    difference: float


def effects(evidence: Evidence) -> list[Effect]:
    """Of every cell in a complete setting, with the spreads of the first rollout of the cell with p = 0."""
    found = []
    for setting in complete_settings(evidence):
        base = cell_of(setting, GEOMETRIC)
        seeds = planned_seeds(setting)
        good, bad = (
            float(np.nanmean(evidence.curves(base, f"within_{sign}", seeds)[:, 0])) for sign in ("good", "bad")
        )
        for e in exponents_in(evidence, setting):
            if e != GEOMETRIC:
                difference = evidence.mean_reward(cell_of(setting, e), seeds) - evidence.mean_reward(base, seeds)
                size = (abs(e.good) * good + abs(e.bad) * bad) / 2
                found.append(Effect(setting, e, size, e.bad * bad**2 - e.good * good**2, float(difference.mean())))
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
    """The measured differences over the two predictors."""
    canvas = Canvas(760, 310)
    axes = canvas.figure.subplots(1, 2)
    canvas.figure.subplots_adjust(left=0.09, right=0.98, bottom=0.25, top=0.9, wspace=0.25)
    differences = np.array([effect.difference for effect in found])
    said = []
    predictors = (
        ("size of the effect over |p| × spread", [e.size for e in found], np.abs(differences), "size"),
        ("the effect over pessimism × variance", [e.pessimism for e in found], differences, "pessimism"),
    )
    for ax, (title, values, measured, name) in zip(axes, predictors, strict=True):
        tidy_axes(ax, title=title, ylabel="difference from p = 0" if name == "size" else "")
        ax.axhline(0, color=GREY, linewidth=1)
        for effect, x, y in zip(found, values, measured, strict=True):
            look = LOOKS[effect.exponents]
            ax.plot(x, y, MARKERS[effect.setting], color=look.colour, markersize=6, alpha=0.8)
        if name == "size":
            ax.set_xscale("log")
            label_ticks(ax, [x for x in (0.03, 0.1, 0.3, 1, 3) if min(values) <= 2 * x <= 4 * max(values)], axis="x")
        else:
            ax.set_xscale("symlog", linthresh=0.1)
            label_ticks(ax, [-10, -1, -0.1, 0.1, 1, 10], axis="x")
        rho, low, high = rank_correlation(np.array(values), measured)
        said.append(f"{title}: rank correlation {rho:.2f} ({low:.2f} to {high:.2f})")
    for setting in dict.fromkeys(effect.setting for effect in found):
        axes[0].plot([], [], MARKERS[setting], color=PALE_GREY, markeredgecolor=GREY, label=SETTINGS[setting])
    canvas.figure.legend(loc="lower center", ncols=2, fontsize=8.5, frameon=False)
    caption = f"{len(found)} cells, each against p = 0 in its setting. " + "; ".join(said) + "."
    alt = (
        caption
        + " "
        + ", ".join(f"{SETTINGS[e.setting]}, p = {label(e.exponents)}: {e.difference:+.3f}" for e in found)
    )
    return Still(canvas, caption=caption, alt=alt)
