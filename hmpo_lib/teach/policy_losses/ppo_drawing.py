"""The picture of PPO's clipped surrogate over one ratio, for both signs of the advantage."""

from typing import Any

from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import BLACK, GREY, PALE_GREY, PURPLE, Canvas, label_ticks, tidy_axes

LOW, HIGH = 0.8, 1.2


def surrogate(ratio: float, advantage: float) -> float:
    """min(A r, A clip(r, LOW, HIGH)); PPO (arXiv 1707.06347), eq. 7.

    >>> surrogate(2.0, 1.0), surrogate(0.5, 1.0), surrogate(2.0, -1.0), surrogate(0.5, -1.0)
    (1.2, 0.5, -2.0, -0.8)
    """
    return min(advantage * ratio, advantage * min(max(ratio, LOW), HIGH))


def clipped_surrogate() -> Still:
    """Two plots: the surrogate is flat where the ratio has gone far enough, and nowhere on the way back."""
    canvas = Canvas(760, 300)
    axes = canvas.mosaic("ab")
    grid = [0.01 * k for k in range(221)]
    words = {
        1.0: (
            "A good answer, A = +1",
            "far enough up:\nno reason\nto go on",
            "fallen: the way\nback is open",
            1.7,
            0.42,
        ),
        -1.0: (
            "A bad answer, A = −1",
            "far enough\ndown: no reason\nto go on",
            "risen: the way\nback is open",
            0.4,
            1.62,
        ),
    }
    for name, advantage in (("a", 1.0), ("b", -1.0)):
        title, flat_words, open_words, flat_at, open_at = words[advantage]
        panel = axes[name]
        low, high = (-0.1, 2.2) if advantage > 0 else (-2.2, 0.1)
        tidy_axes(panel, title=title, xlabel="ratio r", xlim=(0, 2.2), ylim=(low, high))
        panel.axvspan(*((HIGH, 2.2) if advantage > 0 else (0, LOW)), color=PALE_GREY, alpha=0.6, linewidth=0)
        panel.plot(grid, [advantage * ratio for ratio in grid], color=GREY, linestyle=":", linewidth=1.5)
        panel.plot(grid, [surrogate(ratio, advantage) for ratio in grid], color=BLACK, linewidth=2.5)
        panel.plot([1], [advantage], "o", color=PURPLE, markersize=8)
        label_ticks(panel, [0, LOW, 1, HIGH, 2], axis="x")
        panel.text(flat_at, 0.35 if advantage > 0 else -1.4, flat_words, ha="center", va="center", fontsize=9.5)
        panel.text(open_at, 1.35 if advantage > 0 else -0.9, open_words, ha="center", va="center", fontsize=9.5)
    axes["a"].set_ylabel("min(A r, A clip(r))")
    begin: Any = {"ha": "center", "va": "center", "fontsize": 9, "color": PURPLE}
    axes["a"].annotate(
        "every ratio\nbegins here", (1, 1), (0.95, 1.95), **begin, arrowprops={"arrowstyle": "-", "ec": PURPLE}
    )
    return Still(
        canvas,
        caption="PPO's clipped surrogate, range 0.8 to 1.2. Where the black line is flat, a token gets no push.",
        alt=(
            "Two plots of the surrogate over the ratio r. For A = +1 it rises with r and is flat above 1.2; for A = −1 "
            "it is flat below 0.8 and falls with r above. Every ratio begins at 1."
        ),
    )
