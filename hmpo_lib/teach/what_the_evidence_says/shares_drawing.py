"""The picture of the notebook: the share of the variance that each factor explains, in all and along the run."""

from collections.abc import Mapping

import numpy as np

from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import BLACK, GREY, ORANGE, PURPLE, SKY_BLUE, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.what_the_evidence_says.records import Floats
from hmpo_lib.teach.what_the_evidence_says.shares import FACTORS, Share

# A factor's bar and its line look alike; what has no look of its own is grey and thin.
COLOURS = {"p": BLACK, "rate": ORANGE, "range": PURPLE, "steps": SKY_BLUE}
SHORT = {"p": "exponent p", "rate": "learning rate", "range": "clip's range", "steps": "steps"}


def shares_picture(shares: Mapping[str, Share], along: Mapping[str, Floats], *, runs: int) -> Still:
    """Bars with intervals on the left, the same rollout by rollout on the right.

    Args:
        shares: of `variance_shares`.
        along: of `shares_along`.
        runs: how many.
    """
    order = sorted(shares, key=lambda name: shares[name].share)
    canvas = Canvas(760, 350)
    axes = canvas.mosaic([["bars", "lines"]], width_ratios=(5, 4))
    bars, lines = axes["bars"], axes["lines"]
    largest = max(share.high for share in shares.values())
    least = min(share.low for share in shares.values())
    tidy_axes(
        bars, title="Of the mean reward over a run", xlabel="share of the variance", xlim=(least - 0.01, largest + 0.11)
    )
    bars.axvline(0, color=GREY, linewidth=1)
    for place, name in enumerate(order):
        share = shares[name]
        bars.barh(place, share.share, color=COLOURS.get(name, GREY), height=0.6)
        bars.plot([share.low, share.high], [place, place], color=GREY if name == "p" else BLACK, linewidth=1.4)
        bars.text(max(share.high, share.share) + 0.012, place, _percent(share.share), va="center", fontsize=9)
    label_ticks(bars, range(len(order)), [FACTORS[name] for name in order])
    # From the second rollout: in the first, runs of the same seed are all alike.
    rollouts = np.arange(2, len(next(iter(along.values()))) + 1)
    top = max(float(values[1:].max()) for values in along.values())
    tidy_axes(lines, title="Rollout by rollout", xlabel="rollout", xlim=(2, rollouts[-1]), ylim=(-0.06, top + 0.03))
    lines.axhline(0, color=GREY, linewidth=1)
    label_at = -1.0
    for name in sorted(along, key=lambda name: along[name][-1]):
        known = name in COLOURS
        lines.plot(rollouts, along[name][1:], color=COLOURS.get(name, GREY), linewidth=2.2 if known else 0.8)
        if known:
            label_at = max(float(along[name][-1]), label_at + 0.07 * (top + 0.09))
            lines.annotate(
                SHORT[name], (1.03, label_at), xycoords=lines.get_yaxis_transform(), va="center", fontsize=9,
                color=COLOURS[name], weight="bold",
            )  # fmt: skip
    said = ", ".join(
        f"{FACTORS[name]} {shares[name].share:.1%} ({shares[name].low:.1%} to {shares[name].high:.1%})"
        for name in reversed(order)
    )
    caption = (
        f"Shares of the variance over {runs} runs (with 95 % bootstrap intervals). Below 0: less than chance. Thin "
        "grey lines: the factors that have no colour on the left."
    )
    return Still(canvas, caption=caption, alt=f"{caption} {said}.")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %".replace("-0", "0").replace("-", "−")
