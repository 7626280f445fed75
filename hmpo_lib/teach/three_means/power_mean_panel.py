"""The panel of the power mean: its number line, its curve over p and its weights, moved by one slider."""

from collections.abc import Sequence

from hmpo_lib.teach.panels import Panel, p_label, p_slider
from hmpo_lib.teach.plotting import GREY, Canvas
from hmpo_lib.teach.shared.power_mean_drawings import (
    LARGEST_P,
    PowerMeanView,
    draw_curve,
    draw_number_line,
    draw_weights,
    log_of,
    view_power_mean,
)


def power_mean_caption(view: PowerMeanView) -> str:
    """The mean, and whom it hears most."""
    loudest = max(view.weights)
    heard = view.ratios[view.weights.index(loudest)]
    equal = max(view.weights) - min(view.weights) < 1e-9
    hears = "it hears all ratios alike" if equal else f"it hears {heard:g} most, with weight {loudest:.3f}"
    return f"{p_label(view.p)}: the mean is {view.mean:.3f}; {hears}."


def power_mean_alt(view: PowerMeanView) -> str:
    """The three plots in words."""
    weights = ", ".join(f"{ratio:g}: {weight:.3f}" for ratio, weight in zip(view.ratios, view.weights, strict=True))
    return (
        f"Ratios on a number line with their mean at {view.mean:.3f}; the curve of the mean over p, which rises from "
        f"{min(view.ratios):g} to {max(view.ratios):g}, marked at {p_label(view.p)}; bars of the weights: {weights}."
    )


def power_mean_explorer(ratios: Sequence[float], *, p: float = -1.0) -> Panel[PowerMeanView]:
    """One slider for p; the mean on the number line, the curve of M_p and the escort weights follow together."""
    log_of(ratios)
    canvas = Canvas(760, 440)
    figure = canvas.figure
    moves = [
        draw_number_line(canvas, figure.add_axes((0.105, 0.7, 0.875, 0.22)), ratios, title="Ratios and their mean"),
        draw_curve(canvas, figure.add_axes((0.105, 0.115, 0.47, 0.425)), ratios),
        draw_weights(canvas, figure.add_axes((0.66, 0.115, 0.32, 0.425)), ratios),
    ]
    figure.text(0.98, 0.945, "ring: equal weight   disc: its weight", ha="right", fontsize=9, color=GREY)

    def draw(view: PowerMeanView) -> None:
        for move in moves:
            move(view)

    return Panel(
        {"p": p_slider(value=p, largest=LARGEST_P)},
        lambda p: view_power_mean(ratios, p),
        canvas,
        draw=draw,
        caption=power_mean_caption,
        alt=power_mean_alt,
    )
