"""What exponent and place of the clip do to a step's direction, at equal blocked shares."""

from collections.abc import Mapping, Sequence
from typing import Any

from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import ORANGE, PURPLE, Canvas, exponent_colour, label_ticks, tidy_axes

PLACES = (("tokens", ORANGE, "-"), ("mean", PURPLE, "--"))
EXPONENTS = ((-1, "-"), (0, "--"), (1, "-."))
# By stage and share: cosines of p = −1 against p = 1, on tokens and on the mean; those of the places at p = −1, 0, 1.
Found = Mapping[tuple[str, float], tuple[Sequence[float], Sequence[float]]]


def cosines_over_share(found: Found) -> Still:
    """The cosine between two steps over the blocked share: two exponents at one place, two places at one exponent."""
    stages = list(dict.fromkeys(stage for stage, _ in found))
    canvas = Canvas(760, 340)
    axes = canvas.mosaic([stages], sharey=True)
    words = []
    other_exponent: dict[str, Any] = {}
    other_place: dict[str, Any] = {}
    for stage in stages:
        shares = sorted(share for name, share in found if name == stage)
        panel = axes[stage]
        tidy_axes(panel, title=f"{stage.capitalize()} in training", xlabel="blocked share of the tokens")
        panel.set(xscale="log", xlim=(0.9 * shares[0], 1.1 * shares[-1]), ylim=(0.5, 1.02))
        ticks = [share for share in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4) if shares[0] <= share <= shares[-1]]
        label_ticks(panel, ticks, [f"{100 * share:g} %" for share in ticks], axis="x")
        for k, (place, colour, linestyle) in enumerate(PLACES):
            cosines = [found[stage, share][0][k] for share in shares]
            (line,) = panel.plot(shares, cosines, color=colour, linestyle=linestyle, linewidth=2.2, marker="o")
            other_exponent.setdefault(f"clip on the {place}", line)
            words.append(f"{stage}, p = −1 against 1, on {place}: {cosines[0]:.2f} to {cosines[-1]:.2f}")
        for k, (p, linestyle) in enumerate(EXPONENTS):
            cosines = [found[stage, share][1][k] for share in shares]
            (line,) = panel.plot(shares, cosines, color=exponent_colour(p), linestyle=linestyle, marker="s", ms=4)
            label = f"p = {p}".replace("-", "−")
            other_place.setdefault(label, line)
            words.append(f"{stage}, tokens against mean, {label}: {cosines[0]:.2f} to {cosines[-1]:.2f}")
    axes[stages[0]].set_ylabel("cosine of the two steps")
    for title, lines, corner in (
        ("The exponent changes: p = −1 against 1", other_exponent, "outside upper left"),
        ("The place changes: clip on the tokens against on the mean", other_place, "outside upper right"),
    ):
        canvas.figure.legend(
            lines.values(),
            lines,
            title=title,
            loc=corner,
            ncols=len(lines),
            fontsize=9,
            title_fontsize=9,
            frameon=False,
        )
    return Still(
        canvas,
        caption="How far two steps point apart at equal blocked shares: lower is further. Circles: the exponent "
        "changes, at either place. Squares: the place of the clip changes, at each exponent.",
        alt="Two plots of cosines over the blocked share, from the smallest to the largest. " + "; ".join(words) + ".",
    )
