"""The verdict in one picture: by how much each mean differs from p = 0, in every setting that was run."""

import dataclasses

import torch

from hmpo_lib.evaluation import student_interval
from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import GREY, PALE_GREY, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.what_the_evidence_says.cells import Exponents
from hmpo_lib.teach.what_the_evidence_says.looks import LOOKS, long_name
from hmpo_lib.teach.what_the_evidence_says.plan import GEOMETRIC, cell_of
from hmpo_lib.teach.what_the_evidence_says.records import Evidence
from hmpo_lib.teach.what_the_evidence_says.settings import (
    SETTINGS,
    complete_settings,
    rewards_in,
    verdicts,
)
from hmpo_lib.teach.what_the_evidence_says.verdicts import BOUND, WORDS, Word

ROW, HEAD, FOOT = 52, 26, 120  # CSS pixels of a setting, of a group's title, and of the axis and legend below
# Group -> its settings, and what is said of each there.
GROUPS = {
    "No clip": {
        "no_clip": "16 steps a rollout",
        "tuned": "16 steps, each mean\nat its best rate",
        "muon": "16 steps, Muon",
        "in_the_head": "16 steps, another task",
        "larger_model": "16 steps, a model\n32 times as large",
        "reuse": "4 steps a rollout",
        "lag": "4 steps, sampled\n4 rollouts ago",
        "reuse_again": "64 steps a rollout",
    },
    "With a clip, 16 steps": {
        "sequence_clip": "answers, 0.8–1.25",
        "calibrated_answers": "answers, 5 % blocked",
        "token_clip": "tokens, 0.8–1.25",
        "calibrated": "tokens, 5 % blocked",
        "larger_model_clip": "tokens, 0.8–1.25,\nthe larger model",
    },
    "One step": {"on_policy": "nothing is stale"},
}


@dataclasses.dataclass(frozen=True)
class Gap:
    """The difference of a mean from p = 0 on the same seeds: mean and Student's 95 % interval; None without a test."""

    exponents: Exponents
    difference: float
    low: float
    high: float
    word: Word | None


def gaps(evidence: Evidence) -> dict[str, list[Gap]]:
    """By setting of GROUPS, every exponent of the seven that is complete there beside p = 0."""
    words = {
        (comparison.first, comparison.other): verdict.word
        for rows in verdicts(evidence).values()
        for comparison, verdict in rows
    }
    found = {}
    complete = complete_settings(evidence)
    for setting in (setting for group in GROUPS.values() for setting in group if setting in complete):
        rewards = rewards_in(evidence, setting)
        base = rewards.pop(GEOMETRIC)
        found[setting] = [
            Gap(
                e,
                *student_interval(torch.as_tensor(values - base)),
                words.get((cell_of(setting, e), cell_of(setting, GEOMETRIC))),
            )
            for e, values in rewards.items()
        ]
    return found


def verdict_picture(evidence: Evidence) -> Still:
    """A band of lines a setting, one for each mean; filled where the verdict is *differs*."""
    found = gaps(evidence)
    groups = {title: [setting for setting in group if setting in found] for title, group in GROUPS.items()}
    groups = {title: settings for title, settings in groups.items() if settings}
    canvas = Canvas(760, ROW * len(found) + HEAD * len(groups) + FOOT)
    axes = canvas.mosaic(
        [[title] for title in groups], sharex=True, height_ratios=[len(settings) for settings in groups.values()]
    )
    low = min(gap.low for row in found.values() for gap in row)
    high = max(gap.high for row in found.values() for gap in row)
    said = []
    for title, settings in groups.items():
        ax = axes[title]
        tidy_axes(ax, title=title, xlim=(low - 0.02, high + 0.02), ylim=(len(settings) - 0.5, -0.5))
        ax.axvspan(-BOUND, BOUND, color=PALE_GREY, linewidth=0)
        ax.axvline(0, color=GREY, linewidth=1)
        for place, setting in enumerate(settings):
            row = found[setting]
            if place:
                ax.axhline(place - 0.5, color=PALE_GREY, linewidth=1)
            step = 0.8 / max(len(row), 4)
            for k, gap in enumerate(row):
                look, y = LOOKS[gap.exponents], place + (k - (len(row) - 1) / 2) * step
                faces: dict[Word | None, str] = {"differs": look.colour, "does not differ by more than 0.02": GREY}
                weight = 1.8 if gap.word else 0.9
                ax.plot([gap.low, gap.high], [y, y], color=look.colour, linewidth=weight)
                ax.plot(
                    gap.difference, y, look.marker, color=look.colour, markerfacecolor=faces.get(gap.word, "white"),
                    markersize=6, markeredgewidth=weight / 1.5,
                )  # fmt: skip
                said.append(
                    f"{SETTINGS[setting]}, {long_name(gap.exponents)}: {gap.difference:+.3f} ({gap.low:+.3f} to "
                    f"{gap.high:+.3f}), {gap.word or 'without a test'}"
                )
        label_ticks(ax, range(len(settings)), [GROUPS[title][setting] for setting in settings])
        ax.tick_params(axis="y", length=0)
    axes[list(groups)[-1]].set_xlabel("difference of the mean reward from p = 0, with its 95 % interval", fontsize=10)
    first = axes[next(iter(groups))]
    for e in dict.fromkeys(gap.exponents for row in found.values() for gap in row):
        look = LOOKS[e]
        first.plot([], [], look.marker, color=look.colour, label=long_name(e), linestyle="-")
    canvas.figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    counts = {word: sum(gap.word == word for row in found.values() for gap in row) for word in WORDS}
    caption = (
        "Each line is one mean in one setting: its difference from p = 0 on the same seeds. Filled with its colour: "
        f"differs ({counts['differs']} times); with grey: does not differ by more than 0.02 "
        f"({counts['does not differ by more than 0.02']}); white: cannot tell ({counts['cannot tell']}); white and "
        "thin: there was no test. Grey band: ±0.02."
    )
    return Still(canvas, caption=caption, alt=f"A line for each mean in each setting. {'; '.join(said)}.")
