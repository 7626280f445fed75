"""The forest plot: every comparison of the plan, its interval, and the verdict in words."""

from collections.abc import Mapping, Sequence

from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import BLACK, GREY, ORANGE, PALE_GREY, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.what_the_evidence_says.settings import FAMILY_TITLES, Judged
from hmpo_lib.teach.what_the_evidence_says.verdicts import BOUND, Word

ROW, HEAD = 19, 62  # CSS pixels of a line of the plot, and of what stands around them
WORD_COLOURS: dict[Word, str] = {"differs": BLACK, "does not differ by more than 0.02": GREY, "cannot tell": ORANGE}
SHORT: dict[Word, str] = {
    "differs": "differs",
    "does not differ by more than 0.02": "within ±0.02",
    "cannot tell": "cannot tell",
}


def forest_plot(judged: Mapping[str, Sequence[Judged]], *, reach: float = 0.3) -> Still:
    """A line a comparison: the mean difference with its interval, the band ±0.02, the verdict.

    Args:
        judged: by family, of `verdicts`.
        reach: of the axis; what lies beyond is drawn at its edge, with its number.
    """
    lines = sum(len(rows) + 1 for rows in judged.values())
    height = ROW * lines + HEAD
    canvas = Canvas(760, height)
    axes = canvas.figure.add_axes((0.37, 46 / height, 0.44, 1 - HEAD / height))
    tidy_axes(axes, xlabel="difference of the mean reward over a run (95 % interval)", xlim=(-reach, reach))
    axes.set_ylim(lines - 0.5, -0.5)
    axes.axvspan(-BOUND, BOUND, color=PALE_GREY, linewidth=0)
    axes.axvline(0, color=GREY, linewidth=1)
    ticks, names, place = [], [], 0
    for family, rows in judged.items():
        axes.text(
            -0.83, place, FAMILY_TITLES[family], transform=axes.get_yaxis_transform(), va="center", weight="bold",
            fontsize=9,
        )  # fmt: skip
        for comparison, verdict in rows:
            place += 1
            ticks.append(place)
            names.append(comparison.label)
            colour = WORD_COLOURS[verdict.word]
            inside = [max(-reach, min(reach, x)) for x in (verdict.low, verdict.high, verdict.difference)]
            axes.plot(inside[:2], [place, place], color=colour, linewidth=2)
            axes.plot(inside[2], place, "o", color=colour, markersize=5)
            said = f"{verdict.difference:+.3f}  {SHORT[verdict.word]}".replace("-", "−")
            axes.text(1.02, place, said, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5, color=colour)
        place += 1
    label_ticks(axes, ticks, names)
    axes.tick_params(axis="y", labelsize=8.5, length=0)
    counts = {word: sum(row.verdict.word == word for rows in judged.values() for row in rows) for word in WORD_COLOURS}
    caption = (
        f"{sum(counts.values())} comparisons on the same seeds: "
        + ", ".join(f"{count} {SHORT[word]}" for word, count in counts.items())
        + ". Grey band: ±0.02. Corrected by Holm within each family."
    )
    alt = "A forest plot. " + "; ".join(
        f"{FAMILY_TITLES[family]}, {comparison.label}: {verdict.difference:+.3f} ({verdict.low:+.3f} to "
        f"{verdict.high:+.3f}), {verdict.word}"
        for family, rows in judged.items()
        for comparison, verdict in rows
    )
    return Still(canvas, caption=caption, alt=alt)
