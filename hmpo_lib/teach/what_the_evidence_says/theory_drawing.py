"""Theory against measurement: is the effect of the mean known from |p| and the spread of the ratios alone?"""

import dataclasses
from typing import NamedTuple

import numpy as np
from scipy import stats

from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import GREY, Canvas, tidy_axes
from hmpo_lib.teach.what_the_evidence_says.cells import Cell, Exponents
from hmpo_lib.teach.what_the_evidence_says.looks import LOOKS, long_name
from hmpo_lib.teach.what_the_evidence_says.plan import GEOMETRIC, cell_of, label
from hmpo_lib.teach.what_the_evidence_says.records import Evidence, Floats
from hmpo_lib.teach.what_the_evidence_says.settings import (
    SETTINGS,
    complete_settings,
    exponents_in,
    planned_seeds,
)


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
    """Of every cell that differs from that with p = 0 in p alone, in a complete setting.

    Spreads are those of the first rollout at p = 0. Where clips are calibrated their ranges differ, too: no such cells;
    nor those of the larger model, as the plan says. A cell that was run twice on different seeds counts once.
    """
    found = []
    seen: set[Cell] = set()
    for setting in complete_settings(evidence):
        base = cell_of(setting, GEOMETRIC)
        seeds = planned_seeds(setting)
        good, bad = (
            float(np.nanmean(evidence.curves(base, f"within_{sign}", seeds)[:, 0])) for sign in ("good", "bad")
        )
        for e in exponents_in(evidence, setting):
            cell = cell_of(setting, e)
            if (
                cell != base
                and dataclasses.replace(cell, exponents=GEOMETRIC) == base
                and cell.model == "shipped"
                and cell not in seen
            ):
                seen.add(cell)
                difference = evidence.mean_reward(cell, seeds) - evidence.mean_reward(base, seeds)
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
    """The measured differences over the two predictors; the controls, where nothing is stale, are not drawn."""
    drawn = [effect for effect in found if effect.setting != "on_policy"]
    canvas = Canvas(760, 360)
    axes = canvas.mosaic([["size", "pessimism"]])
    for name, title, xlabel in (
        ("size", "How large is the effect?", "|p| × spread of the log-ratios"),
        ("pessimism", "And in which direction?", "pessimism: p × variance, A < 0 minus A > 0"),
    ):
        ax = axes[name]
        tidy_axes(ax, title=title, xlabel=xlabel)
        ax.axhline(0, color=GREY, linewidth=1)
        for effect in drawn:
            look = LOOKS[effect.exponents]
            x, y = (effect.size, abs(effect.difference)) if name == "size" else (effect.pessimism, effect.difference)
            ax.plot(x, y, look.marker, color=look.colour, markersize=7, alpha=0.8)
    axes["pessimism"].axvline(0, color=GREY, linewidth=1)
    axes["size"].set_xlim(left=0)
    axes["size"].set_ylabel("size of the difference from p = 0", fontsize=10)
    axes["pessimism"].set_ylabel("difference from p = 0", fontsize=10)
    for e in dict.fromkeys(effect.exponents for effect in drawn):
        axes["size"].plot([], [], LOOKS[e].marker, color=LOOKS[e].colour, label=long_name(e))
    canvas.figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    caption = (
        f"{len(drawn)} cells of {len({effect.setting for effect in drawn})} settings, each against p = 0 in its own. "
        "Spread and variance inside answers are those of the first rollout."
    )
    said = ", ".join(f"{SETTINGS[e.setting]}, p = {label(e.exponents)}: {e.difference:+.3f}" for e in drawn)
    return Still(canvas, caption=caption, alt=f"{caption} {said}.")
