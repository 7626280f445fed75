"""The headline: learning curves of the exponents without a clip and with one in two places, side by side."""

import numpy as np
from matplotlib.lines import Line2D

from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.what_the_evidence_says.looks import LOOKS, long_name
from hmpo_lib.teach.what_the_evidence_says.plan import cell_of
from hmpo_lib.teach.what_the_evidence_says.records import Evidence
from hmpo_lib.teach.what_the_evidence_says.settings import exponents_in, planned_seeds

# Setting -> its title, and how a sentence says it.
TITLES = {
    "no_clip": ("Without a clip", "Without a clip"),
    "sequence_clip": ("Answers clipped, 0.8–1.25", "with answers clipped to 0.8 to 1.25"),
    "token_clip": ("Tokens clipped, 0.8–1.25", "with tokens clipped to 0.8 to 1.25"),
}


def headline_canvas(evidence: Evidence) -> Canvas:
    """Medians over ten seeds, the middle half shaded, for every exponent."""
    canvas = Canvas(760, 370)
    axes = canvas.mosaic([list(TITLES)], sharey=True)
    drawn: list[tuple[float, Line2D]] = []  # mean reward without a clip, and the line
    for setting, (title, _) in TITLES.items():
        ax = axes[setting]
        tidy_axes(ax, title=title, xlabel="rollout (16 steps each)", xlim=(1, 16), ylim=(0, 0.92))
        for e in exponents_in(evidence, setting):
            curves = evidence.curves(cell_of(setting, e), seeds=planned_seeds(setting))
            low, middle, high = np.quantile(curves, [0.25, 0.5, 0.75], axis=0)
            rollouts = np.arange(1, curves.shape[1] + 1)
            look = LOOKS[e]
            ax.fill_between(rollouts, low, high, color=look.colour, alpha=0.1, linewidth=0)
            (line,) = ax.plot(
                rollouts, middle, color=look.colour, linestyle=look.linestyle, linewidth=2, label=long_name(e)
            )
            if setting == "no_clip":
                drawn.append((float(curves.mean()), line))
        label_ticks(ax, [1, 4, 8, 12, 16], axis="x")
    axes["no_clip"].set_ylabel("mean reward: share of right answers", fontsize=10)
    canvas.figure.legend(
        handles=[line for _, line in sorted(drawn, key=lambda pair: -pair[0])],
        loc="outside lower center",
        ncols=3,
        fontsize=9,
        frameon=False,
        labelcolor="linecolor",
    )
    return canvas


def headline_words(evidence: Evidence) -> str:
    """Every exponent's mean reward over a run, in each setting."""
    said = []
    for setting, (_, words) in TITLES.items():
        means = ", ".join(
            f"{evidence.mean_reward(cell_of(setting, e), planned_seeds(setting)).mean():.2f} at {long_name(e)}"
            for e in exponents_in(evidence, setting)
        )
        said.append(f"{words} the mean reward over a run is {means}")
    return "; ".join(said) + "."


def headline_picture(evidence: Evidence) -> Still:
    """The three settings side by side, on the same axes."""
    caption = "Medians over ten seeds, middle halves shaded; the same exponents look alike in all three."
    alt = f"Learning curves in three plots. {caption} {headline_words(evidence)}"
    return Still(headline_canvas(evidence), caption=caption, alt=alt)
