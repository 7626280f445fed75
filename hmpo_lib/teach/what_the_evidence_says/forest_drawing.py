"""The forest plot: every comparison of the plan, its interval, and the verdict in words."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import BLACK, GREY, PALE_GREY, Canvas, label_ticks, signed, tidy_axes
from hmpo_lib.teach.what_the_evidence_says.settings import FAMILY_TITLES, Judged
from hmpo_lib.teach.what_the_evidence_says.verdicts import BOUND, Word

ROW, HEAD, FOOT = 19, 30, 46  # CSS pixels of a comparison, of a family's title, and of the axis below all


class WordLook(NamedTuple):
    """How a verdict is drawn, never by colour alone, and said in few words."""

    short: str
    marker: str
    colour: str
    filled: bool


WORD_LOOKS: dict[Word, WordLook] = {
    "differs": WordLook("differs", "o", BLACK, True),
    "does not differ by more than 0.02": WordLook("within ±0.02", "s", GREY, True),
    "cannot tell": WordLook("cannot tell", "o", BLACK, False),
}


def forest_plot(judged: Mapping[str, Sequence[Judged]]) -> Still:
    """A line a comparison: the mean difference with its interval, the band ±0.02, the verdict.

    Args:
        judged: by family, of `verdicts`; the families share the axis, which holds every interval whole.
    """
    rows = [row.verdict for family in judged.values() for row in family]
    sizes = [ROW * len(family) for family in judged.values()]
    canvas = Canvas(760, sum(sizes) + HEAD * len(judged) + FOOT)
    axes = canvas.mosaic([[family] for family in judged], sharex=True, height_ratios=sizes)
    low, high = min(-1.5 * BOUND, *(v.low for v in rows)), max(1.5 * BOUND, *(v.high for v in rows))
    margin = 0.04 * (high - low)
    for family, lines in judged.items():
        ax = axes[family]
        tidy_axes(ax, title=FAMILY_TITLES[family], xlim=(low - margin, high + margin), ylim=(len(lines) - 0.4, -0.6))
        ax.axvspan(-BOUND, BOUND, color=PALE_GREY, linewidth=0)
        ax.axvline(0, color=GREY, linewidth=1)
        for place, (_, verdict) in enumerate(lines):
            look = WORD_LOOKS[verdict.word]
            ax.plot([verdict.low, verdict.high], [place, place], color=look.colour, linewidth=2)
            face = look.colour if look.filled else "white"
            ax.plot(
                verdict.difference, place, look.marker, color=look.colour, markerfacecolor=face, markersize=6.5,
                markeredgewidth=1.6,
            )  # fmt: skip
            said = f"{signed(verdict.difference)}  {look.short}"
            ax.text(1.02, place, said, transform=ax.get_yaxis_transform(), va="center", fontsize=9, color=BLACK)
        label_ticks(ax, range(len(lines)), [comparison.label for comparison, _ in lines])
        ax.tick_params(axis="y", length=0)
    axes[list(judged)[-1]].set_xlabel("difference of the mean reward over a run, with its 95 % interval", fontsize=10)
    counts = {look.short: sum(v.word == word for v in rows) for word, look in WORD_LOOKS.items()}
    caption = (
        f"{len(rows)} comparisons on the same seeds: "
        + ", ".join(f"{count} {short}" for short, count in counts.items())
        + ". Grey band: ±0.02. Verdicts, not bars, are corrected by Holm within each family."
    )
    alt = "A forest plot. " + "; ".join(
        f"{FAMILY_TITLES[family]}, {comparison.label}: {verdict.difference:+.3f} ({verdict.low:+.3f} to "
        f"{verdict.high:+.3f}), {verdict.word}"
        for family, lines in judged.items()
        for comparison, verdict in lines
    )
    return Still(canvas, caption=caption, alt=alt)
