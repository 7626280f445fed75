"""One slider, one verdict: which side of 1 the mean of six ratios falls on."""

from collections.abc import Sequence

from hmpo_lib.teach.panels import Panel, p_label, p_slider
from hmpo_lib.teach.plotting import GREEN, ORANGE, Canvas
from hmpo_lib.teach.shared.power_mean_drawings import (
    LARGEST_P,
    PowerMeanView,
    draw_number_line,
    log_of,
    view_power_mean,
)

# Six tokens of one answer: five have become a little more likely, or nearly stayed, and one much less likely. Chosen so
# that the arithmetic mean is above 1 and the harmonic and geometric means are below.
START_RATIOS = (0.3, 0.9, 1.1, 1.2, 1.3, 1.5)


def start_verdict(view: PowerMeanView) -> str:
    """Whether the answer counts as more or less likely than before, by this mean."""
    if abs(view.mean - 1) < 5e-4:
        return "as likely as before"
    return "more likely than before" if view.mean > 1 else "less likely than before"


def start_caption(view: PowerMeanView) -> str:
    """The mean and its verdict."""
    return f"{p_label(view.p)}: the mean is {view.mean:.3f}, so the answer counts as {start_verdict(view)}."


def start_alt(view: PowerMeanView) -> str:
    """The number line in words."""
    ratios = ", ".join(f"{ratio:g}" for ratio in view.ratios)
    return f"Number line with the token ratios {ratios} and their mean at {view.mean:.3f}: {start_verdict(view)}."


def start_panel(ratios: Sequence[float] = START_RATIOS) -> Panel[PowerMeanView]:
    """One slider, one verdict: which side of 1 the mean of the ratios falls on."""
    log_of(ratios)
    canvas = Canvas(760, 230)
    axes = canvas.figure.add_axes((0.03, 0.24, 0.94, 0.59))
    move_mean = draw_number_line(
        canvas,
        axes,
        ratios,
        title=f"{len(ratios)} tokens of one answer",
        xlabel="ratio: the token's new probability over its old one",
    )
    axes.axvspan(0, 1, color=ORANGE, alpha=0.12, linewidth=0)
    axes.axvspan(1, axes.get_xlim()[1], color=GREEN, alpha=0.12, linewidth=0)
    verdict = canvas.animate(axes.set_title("", loc="right", fontsize=12, fontweight="bold"))

    def draw(view: PowerMeanView) -> None:
        move_mean(view)
        verdict.set_text(f"the answer: {start_verdict(view)}")

    return Panel(
        {"p": p_slider(value=1.0, largest=LARGEST_P)},
        lambda p: view_power_mean(ratios, p),
        canvas,
        draw=draw,
        caption=start_caption,
        alt=start_alt,
    )
