"""The verdict in one picture: by how much each mean differs from p = 0, in every setting that was run."""

import dataclasses
from collections.abc import Sequence

from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import GREY, PALE_GREY, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.what_the_evidence_says.cells import Cell, Exponents
from hmpo_lib.teach.what_the_evidence_says.looks import LOOKS, long_name
from hmpo_lib.teach.what_the_evidence_says.plan import GEOMETRIC, cell_of
from hmpo_lib.teach.what_the_evidence_says.records import Evidence, Floats
from hmpo_lib.teach.what_the_evidence_says.settings import (
    SETTINGS,
    complete_settings,
    exponents_in,
    planned_seeds,
    verdicts,
)
from hmpo_lib.teach.what_the_evidence_says.verdicts import BOUND, WORDS, Word, student

ROW, FOOT = 64, 50  # CSS pixels of a setting, and of the axis below


@dataclasses.dataclass(frozen=True)
class Gap:
    """The difference of a mean from p = 0 on the same seeds: mean and Student's 95 % interval; None without a test."""

    exponents: Exponents
    difference: float
    low: float
    high: float
    word: Word | None


def gaps(evidence: Evidence) -> dict[str, list[Gap]]:
    """By setting, every exponent of the seven that is complete there beside p = 0; the smallest differences first."""
    words = {
        (comparison.first, comparison.other): verdict.word
        for rows in verdicts(evidence).values()
        for comparison, verdict in rows
    }
    found = {}
    for setting in complete_settings(evidence):
        base, seeds = cell_of(setting, GEOMETRIC), planned_seeds(setting)
        found[setting] = [
            Gap(
                e,
                *student(_differences(evidence, cell, base, seeds)),
                words.get((cell, base)),
            )
            for e in exponents_in(evidence, setting)
            if (cell := cell_of(setting, e)) != base
        ]
    return dict(sorted(found.items(), key=lambda item: max(abs(gap.difference) for gap in item[1])))


def _differences(evidence: Evidence, cell: Cell, base: Cell, seeds: Sequence[int]) -> Floats:
    return evidence.mean_reward(cell, seeds) - evidence.mean_reward(base, seeds)


def verdict_picture(evidence: Evidence) -> Still:
    """A band of lines a setting, one for each mean; filled where the verdict is *differs*."""
    found = gaps(evidence)
    canvas = Canvas(760, ROW * len(found) + FOOT + 70)
    axes = canvas.mosaic("a")["a"]
    low = min(gap.low for row in found.values() for gap in row)
    high = max(gap.high for row in found.values() for gap in row)
    tidy_axes(
        axes,
        title="What another mean changes, beside p = 0",
        xlabel="difference of the mean reward over a run, with its 95 % interval",
        xlim=(low - 0.02, high + 0.02),
        ylim=(len(found) - 0.5, -0.5),
    )
    axes.axvspan(-BOUND, BOUND, color=PALE_GREY, linewidth=0)
    axes.axvline(0, color=GREY, linewidth=1)
    said = []
    for place, (setting, row) in enumerate(found.items()):
        if place:
            axes.axhline(place - 0.5, color=PALE_GREY, linewidth=1)
        step = 0.8 / max(len(row), 4)
        for k, gap in enumerate(row):
            look, y = LOOKS[gap.exponents], place + (k - (len(row) - 1) / 2) * step
            face = look.colour if gap.word == "differs" else "white"
            axes.plot([gap.low, gap.high], [y, y], color=look.colour, linewidth=1.8)
            axes.plot(gap.difference, y, look.marker, color=look.colour, markerfacecolor=face, markersize=6.5)
            said.append(
                f"{SETTINGS[setting]}, {long_name(gap.exponents)}: {gap.difference:+.3f} ({gap.low:+.3f} to "
                f"{gap.high:+.3f}), {gap.word or 'without a test'}"
            )
    label_ticks(axes, range(len(found)), [SETTINGS[setting].replace(", ", ",\n", 1) for setting in found])
    axes.tick_params(axis="y", length=0)
    for e in dict.fromkeys(gap.exponents for row in found.values() for gap in row):
        look = LOOKS[e]
        axes.plot([], [], look.marker, color=look.colour, label=long_name(e), linestyle="-")
    canvas.figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    counts = {word: sum(gap.word == word for row in found.values() for gap in row) for word in WORDS}
    caption = (
        "Each line is one mean in one setting: its difference from p = 0 on the same seeds. Filled: the verdict is "
        f"differs ({counts['differs']} times); hollow: it is not. Grey band: ±0.02."
    )
    return Still(canvas, caption=caption, alt=f"A line for each mean in each setting. {'; '.join(said)}.")
