"""The panel of the power mean: its number line, its curve over p and its shares, moved by one slider."""

from collections.abc import Sequence

from hmpo_lib.teach.panels import Panel, p_label, p_slider
from hmpo_lib.teach.plotting import Canvas
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
    """The mean, and which ratio has the largest share in it."""
    largest = max(view.weights)
    equal = largest - min(view.weights) < 1e-9
    ratio = view.ratios[view.weights.index(largest)]
    shares = "all shares are equal" if equal else f"the largest share, {largest:.3f}, is that of {ratio:g}"
    return f"{p_label(view.p)}: the mean is {view.mean:.3f}; {shares}."


def power_mean_alt(view: PowerMeanView) -> str:
    """The three plots in words."""
    shares = ", ".join(f"{ratio:g}: {weight:.3f}" for ratio, weight in zip(view.ratios, view.weights, strict=True))
    return (
        f"Ratios on a number line with their mean; the curve of the mean over p, which rises from {min(view.ratios):g} "
        f"to {max(view.ratios):g}; bars of the shares, {shares}. {power_mean_caption(view)}"
    )


def power_mean_explorer(ratios: Sequence[float], *, p: float = -1.0) -> Panel[PowerMeanView]:
    """One slider for p; the mean on the number line, the curve of M_p and the shares follow together."""
    log_of(ratios)
    canvas = Canvas(760, 440)
    axes = canvas.mosaic([["line", "line"], ["curve", "shares"]], width_ratios=(1.5, 1), height_ratios=(1, 1.9))
    moves = [
        draw_number_line(canvas, axes["line"], ratios, title="The ratios and their mean"),
        draw_curve(canvas, axes["curve"], ratios),
        draw_weights(canvas, axes["shares"], ratios),
    ]

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
