"""One slider, one verdict: on which side of 1 the mean of six ratios falls."""

from collections.abc import Sequence

from hmpo_lib.teach.panels import Panel, p_label, p_slider
from hmpo_lib.teach.plotting import BLACK, ORANGE, PURPLE, Canvas
from hmpo_lib.teach.shared.power_mean_drawings import (
    LARGEST_P,
    NAMED,
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
    return (
        f"Number line with the token ratios {', '.join(f'{ratio:g}' for ratio in view.ratios)}. {start_caption(view)}"
    )


def start_panel(ratios: Sequence[float] = START_RATIOS) -> Panel[PowerMeanView]:
    """One slider, one verdict: on which side of 1 the mean of the ratios falls."""
    log_of(ratios)
    canvas = Canvas(760, 230)
    axes = canvas.mosaic("a")["a"]
    move_mean = draw_number_line(
        canvas,
        axes,
        ratios,
        title=f"{len(ratios)} tokens of one answer",
        xlabel="ratio: the token's new probability over its old one",
    )
    right = axes.get_xlim()[1]
    for low, high, colour, name in ((0, 1, PURPLE, "less likely"), (1, right, ORANGE, "more likely")):
        axes.axvspan(low, high, color=colour, alpha=0.14, linewidth=0)
        axes.text((low + high) / 2, -0.95, name, ha="center", va="center", fontsize=11)
    axes.axvline(1, color=BLACK, linewidth=1, linestyle=":")
    for style in NAMED:
        mean = view_power_mean(ratios, style.p).mean
        axes.plot([mean], [2.7], style.marker, color=style.colour, alpha=0.6, markersize=9, label=style.name, ls="none")
    axes.legend(loc="upper left", fontsize=9, frameon=False, title="the three means", title_fontsize=9)
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
