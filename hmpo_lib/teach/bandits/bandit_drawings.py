"""The three plots of notebook 05's main figure. Each function draws the axes and gives the function that moves them."""

from collections.abc import Callable
from typing import Any

from hmpo_lib.teach.bandits.bandit_recording import CURVE_STEPS, EXPONENTS
from hmpo_lib.teach.plotting import (
    BLACK,
    FONT_SIZE,
    GREY,
    MEAN_STYLES,
    ORANGE,
    PURPLE,
    SKY_BLUE,
    Canvas,
    label_ticks,
    tidy_axes,
)
from hmpo_lib.teach.shared.log_histograms import bin_edges

Move = Callable[[Any], None]

NAMED = [MEAN_STYLES[name] for name in ("harmonic", "geometric", "arithmetic")]
PESSIMISTIC = len(EXPONENTS)  # its place among the methods
LIMIT = 2.0  # log-ratios beyond ±2 are counted in the outermost bins
BINS = 81  # an odd number puts a bin's middle at ratio 1
SMALLEST_SHARE = 2e-3
ERROR_LIMITS = (0.02, 40.0)


def draw_ratios(canvas: Canvas, axes: Any) -> Move:
    """Histograms of tokens, products and means, evenly spaced in the logarithm."""
    edges = bin_edges(LIMIT, BINS)
    tidy_axes(axes, title="Ratios in one of the worlds", xlabel="ratio new / old", xlim=(edges[0], edges[-1]))
    axes.set(xscale="log", yscale="log", ylim=(SMALLEST_SHARE, 6))
    label_ticks(axes, [1 / 5, 1 / 2, 1, 2, 5], ["1/5", "1/2", "1", "2", "5"], axis="x")
    label_ticks(axes, [0.01, 0.1, 1], ["1 %", "10 %", "100 %"])
    looks = {
        "tokens": {"fill": True, "color": SKY_BLUE, "label": "tokens"},
        "product": {"color": BLACK, "linestyle": ":", "linewidth": 1.3, "label": "product"},
        "mean": {"color": ORANGE, "linewidth": 2, "label": "$M_p$"},
    }
    stairs = {
        name: canvas.animate(axes.stairs([SMALLEST_SHARE] * BINS, edges, baseline=SMALLEST_SHARE, **look))
        for name, look in looks.items()
    }
    axes.legend(loc="upper center", ncols=3, fontsize=8.5, frameon=False, handlelength=1.6, borderaxespad=0.1)

    def move(view: Any) -> None:
        for name, shares in view.shares.items():
            stairs[name].set_data([max(share, SMALLEST_SHARE) for share in shares])

    return move


def draw_plane(canvas: Canvas, axes: Any, worlds: int) -> Move:
    """Bias to the right, standard error upwards: a point for each mean, a ring at the chosen one."""
    tidy_axes(axes, title=f"Bias and standard error ({worlds} worlds)", xlim=(-0.012, 3.2))
    axes.set_xlabel("bias, in lengths of the true gradient")
    axes.set_ylabel("standard error of 64")
    axes.set_xscale("symlog", linthresh=0.05, linscale=0.4)
    axes.set(yscale="log", ylim=ERROR_LIMITS)
    label_ticks(axes, [0, 0.05, 0.1, 0.2, 0.5, 1, 2], axis="x")
    label_ticks(axes, [0.1, 0.3, 1, 3, 10, 30])
    path = canvas.animate(axes.plot([], [], ".-", color=GREY, linewidth=1, markersize=6)[0])
    ring = canvas.animate(
        axes.plot([], [], "o", color="none", markeredgecolor=ORANGE, markersize=15, markeredgewidth=2.5)[0]
    )
    looks = [(style.marker, style.colour, style.name) for style in NAMED]
    looks += [("v", PURPLE, "pessimistic"), ("*", BLACK, "product")]
    marks = [
        canvas.animate(
            axes.plot(
                [], [], marker, color=colour, markersize=9, markerfacecolor="white", markeredgewidth=2, label=name
            )[0]
        )
        for marker, colour, name in looks
    ]
    # On top: it is often narrower than a mark.
    cross = [canvas.animate(axes.plot([], [], color=BLACK, linewidth=1.5)[0]) for _ in range(2)]
    axes.legend(loc="lower center", ncols=3, fontsize=8.5, frameon=False, handlelength=1, borderaxespad=0.1)

    def move(view: Any) -> None:
        path.set_data(view.bias[:PESSIMISTIC], view.error[:PESSIMISTIC])
        bias, error = view.bias_interval, view.error_interval
        cross[0].set_data(bias[1:], [error[0], error[0]])
        cross[1].set_data([bias[0], bias[0]], error[1:])
        ring.set_data([bias[0]], [error[0]])
        places = [*(EXPONENTS.index(style.p) for style in NAMED), PESSIMISTIC]
        for mark, place in zip(marks, places, strict=False):
            mark.set_data([view.bias[place]], [view.error[place]])
        marks[-1].set_data([view.product[0]], [view.product[1]])

    return move


def draw_learning_curves(canvas: Canvas, axes: Any, over: str) -> Move:
    """The gain over the steps, of three means and the chosen p, each with its interval."""
    tidy_axes(axes, xlabel="optimizer steps", xlim=(0, CURVE_STEPS[-1]), ylim=(-0.1, 1.22))
    title = f"Learning: share of the way to the best sequence ({over}, 95 % intervals)"
    axes.set_title(title, loc="left", fontsize=FONT_SIZE, fontweight="bold")
    label_ticks(axes, [0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    looks: dict[str, dict[str, Any]] = {
        "chosen": {"color": ORANGE, "linewidth": 5}
    }  # first, to be seen around the rest
    looks |= {style.name: {"color": style.colour, "linestyle": style.linestyle, "linewidth": 1.8} for style in NAMED}
    bands, lines = {}, {}
    for name, look in looks.items():
        flat = [0.0] * len(CURVE_STEPS)
        bands[name] = canvas.animate(
            axes.fill_between(CURVE_STEPS, flat, flat, color=look["color"], alpha=0.13, linewidth=0)
        )
        label = "the chosen $p$" if name == "chosen" else name
        lines[name] = canvas.animate(axes.plot([], [], label=label, **look)[0])
    axes.legend(loc="upper center", ncols=4, fontsize=9, frameon=False, handlelength=3.5, borderaxespad=0.1)

    def move(view: Any) -> None:
        for name, (mean, low, high) in view.curves.items():
            bands[name].set_data(CURVE_STEPS, low, high)
            lines[name].set_data(CURVE_STEPS, mean)

    return move
