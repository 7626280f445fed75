"""The picture of the notebook: the share of the variance that each factor explains, in all and along the run."""

from collections.abc import Mapping

import numpy as np

from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import BLACK, BLUE, GREY, ORANGE, PURPLE, SKY_BLUE, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.what_the_evidence_says.records import Floats
from hmpo_lib.teach.what_the_evidence_says.shares import FACTORS, Share

COLOURS = dict(zip(("rate", "range", "steps", "place", "scale"), (ORANGE, PURPLE, SKY_BLUE, GREY, BLACK), strict=True))
LABELLED = 0.03  # a line is labelled where its mean is above this


def shares_picture(shares: Mapping[str, Share], along: Mapping[str, Floats], *, runs: int) -> Still:
    """Bars with intervals on the left, the same rollout by rollout on the right.

    Args:
        shares: of `variance_shares`.
        along: of `shares_along`.
        runs: how many.
    """
    order = sorted(shares, key=lambda name: shares[name].share)
    canvas = Canvas(760, 330)
    bars = canvas.figure.add_axes((0.25, 0.16, 0.33, 0.72))
    lines = canvas.figure.add_axes((0.66, 0.16, 0.25, 0.72))
    largest = max(share.high for share in shares.values())
    tidy_axes(bars, title="Of the mean reward over a run", xlabel="share of the variance", xlim=(-0.02, largest + 0.04))
    for place, name in enumerate(order):
        share = shares[name]
        colour = BLUE if name == "p" else GREY
        bars.barh(place, max(share.share, 0), color=colour, height=0.62)
        bars.plot([share.low, share.high], [place, place], color=BLACK, linewidth=1.2)
        bars.text(max(share.high, share.share) + 0.008, place, f"{max(share.share, 0):.0%}", va="center", fontsize=9)
    bars.set_xlim(-0.02, largest + 0.12)
    label_ticks(bars, range(len(order)), [FACTORS[name] for name in order])
    # From the second rollout: in the first, runs of the same seed are all alike.
    rollouts = np.arange(2, len(next(iter(along.values()))) + 1)
    tidy_axes(lines, title="Rollout by rollout", xlabel="rollout", xlim=(2, rollouts[-1]), ylim=(-0.06, largest + 0.06))
    label_at = -1.0
    for name in sorted(along, key=lambda name: along[name][-1]):
        colour = BLUE if name == "p" else COLOURS.get(name, GREY)
        lines.plot(rollouts, along[name][1:], color=colour, linewidth=2.5 if name == "p" else 1.5)
        if name == "p" or along[name][1:].mean() > LABELLED:
            label_at = max(float(along[name][-1]), label_at + 0.035)
            lines.text(rollouts[-1] + 0.4, label_at, name, color=colour, va="center", fontsize=9)
    said = ", ".join(
        f"{FACTORS[name]} {shares[name].share:.1%} ({shares[name].low:.1%} to {shares[name].high:.1%})"
        for name in reversed(order)
    )
    caption = (
        f"Shares of the variance over {runs} runs (ω², 95 % bootstrap intervals): {said}. Below 0: less than chance."
    )
    return Still(canvas, caption=caption, alt=f"Bars: {caption} Lines: the same shares at each rollout.")
