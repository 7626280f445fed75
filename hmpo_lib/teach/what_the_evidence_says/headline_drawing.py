"""The headline: learning curves of the exponents without a clip and with one, side by side."""

import numpy as np

from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.what_the_evidence_says.looks import LOOKS, long_name
from hmpo_lib.teach.what_the_evidence_says.records import Evidence
from hmpo_lib.teach.what_the_evidence_says.settings import cell_of, exponents_in, planned_seeds


def headline_canvas(evidence: Evidence) -> Canvas:
    """Medians over ten seeds, the middle half shaded, for every exponent."""
    canvas = Canvas(760, 340)
    axes = canvas.figure.subplots(1, 2, sharey=True)
    canvas.figure.subplots_adjust(left=0.075, right=0.735, bottom=0.15, top=0.88, wspace=0.08)
    titles = {"no_clip": "Without a clip", "token_clip": "Tokens clipped to 0.8–1.25"}
    ends: dict[str, float] = {}
    for ax, (setting, title) in zip(axes, titles.items(), strict=True):
        tidy_axes(ax, title=title, xlabel="rollout (16 optimizer steps each)", xlim=(1, 16), ylim=(0, 0.92))
        for e in exponents_in(evidence, setting):
            curves = evidence.curves(cell_of(setting, e), seeds=planned_seeds(setting))
            low, middle, high = np.quantile(curves, [0.25, 0.5, 0.75], axis=0)
            rollouts = np.arange(1, curves.shape[1] + 1)
            look = LOOKS[e]
            ax.fill_between(rollouts, low, high, color=look.colour, alpha=0.1, linewidth=0)
            ax.plot(rollouts, middle, color=look.colour, linestyle=look.linestyle, linewidth=2)
            if setting == "no_clip":
                ends[long_name(e)] = float(curves.mean())
        label_ticks(ax, [1, 4, 8, 12, 16], axis="x")
    axes[0].set_ylabel("share of right answers", fontsize=10)
    for k, e in enumerate(sorted(LOOKS, key=lambda e: -ends[long_name(e)])):
        place = 0.84 - 0.085 * k
        look = LOOKS[e]
        axes[1].plot(
            [1.04, 1.12], [place, place], transform=axes[1].transAxes, clip_on=False, color=look.colour,
            linestyle=look.linestyle, linewidth=2,
        )  # fmt: skip
        axes[1].text(
            1.14, place, long_name(e), transform=axes[1].transAxes, color=look.colour, va="center", fontsize=8.5
        )
    return canvas


def headline_words(evidence: Evidence) -> str:
    """Every exponent's mean reward over a run, in both settings."""
    said = []
    for setting, words in (("no_clip", "Without a clip"), ("token_clip", "with tokens clipped to 0.8 to 1.25")):
        means = ", ".join(
            f"{evidence.mean_reward(cell_of(setting, e), planned_seeds(setting)).mean():.2f} at {long_name(e)}"
            for e in exponents_in(evidence, setting)
        )
        said.append(f"{words} the mean reward over a run is {means}")
    return "; ".join(said) + "."


def headline_picture(evidence: Evidence) -> Still:
    """The two settings side by side, on the same axes."""
    caption = f"Medians over ten seeds, middle halves shaded. {headline_words(evidence)}"
    return Still(headline_canvas(evidence), caption=caption, alt=f"Learning curves in two plots. {caption}")
