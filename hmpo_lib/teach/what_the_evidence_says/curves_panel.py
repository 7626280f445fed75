"""The panel of all learning curves: a setting, an exponent and a metric, from the records."""

import dataclasses

import ipywidgets as widgets
import numpy as np
import torch

from hmpo_lib.evaluation import Interval, bootstrap_interval, student_interval
from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import Canvas, tidy_axes
from hmpo_lib.teach.what_the_evidence_says.cells import Exponents
from hmpo_lib.teach.what_the_evidence_says.looks import LOOKS, long_name
from hmpo_lib.teach.what_the_evidence_says.plan import FIXED, GEOMETRIC, SEEDS, cell_of
from hmpo_lib.teach.what_the_evidence_says.records import Evidence, Floats
from hmpo_lib.teach.what_the_evidence_says.settings import (
    SETTINGS,
    complete_settings,
    exponents_in,
    planned_seeds,
)

METRICS = {
    "reward": "mean reward",
    "worked": "share of answers with work",
    "length": "tokens an answer",
    "blocked": "blocked share of the tokens",
    "gradient_norm": "gradient norm (log₁₀)",
    "within_good": "spread of log-ratios, A > 0 (log₁₀)",
    "within_bad": "spread of log-ratios, A < 0 (log₁₀)",
}
LOGARITHMIC = ("gradient_norm", "within_good", "within_bad")
MOST_SEEDS = len(SEEDS)
IN_BOOK = ("no_clip", "token_clip", "sequence_clip", "tuned", "lag", "reuse_again")


@dataclasses.dataclass(frozen=True)
class CurvesView:
    """One setting of the panel.

    Attributes:
        curves: of the two chosen exponents, each ``[seeds, rollouts]``; one entry where they are the same.
        medians: of every exponent of the setting, ``[rollouts]``.
        summaries: of the two, the interquartile mean of the mean over a run, with its interval.
        difference: first minus second on the same seeds, with Student's interval; None where they are the same.
    """

    setting: str
    metric: str
    curves: dict[Exponents, Floats]
    medians: dict[Exponents, Floats]
    summaries: dict[Exponents, Interval]
    difference: Interval | None


def view_curves(evidence: Evidence, setting: str, exponents: Exponents, beside: Exponents, metric: str) -> CurvesView:
    """The numbers of one setting; where an exponent was not run there, those of p = 0."""
    there = exponents_in(evidence, setting)

    def values(e: Exponents) -> Floats:
        curves = evidence.curves(cell_of(setting, e), metric, planned_seeds(setting))
        return np.log10(np.maximum(curves, 1e-8)) if metric in LOGARITHMIC else curves

    chosen = [e if e in there else GEOMETRIC for e in (exponents, beside)]
    curves = {e: values(e) for e in chosen}
    means = {e: np.nanmean(c, axis=1) for e, c in curves.items()}
    return CurvesView(
        setting,
        metric,
        curves,
        {e: np.nanmedian(values(e), axis=0) for e in there if e in LOOKS},
        {e: bootstrap_interval(torch.as_tensor(mean)) for e, mean in means.items()},
        student_interval(torch.as_tensor(means[chosen[0]] - means[chosen[1]])) if len(curves) == 2 else None,
    )


def curves_caption(view: CurvesView) -> str:
    """Both summaries and the difference."""
    seeds = len(next(iter(view.curves.values())))
    said = "; ".join(
        f"{long_name(e)} {mean:.3f} ({low:.3f} to {high:.3f})" for e, (mean, low, high) in view.summaries.items()
    )
    words = f"{METRICS[view.metric]} over a run, interquartile mean of {seeds} seeds: {said}"
    if view.difference is None:
        return f"{words}."
    mean, low, high = view.difference
    return f"{words}; mean difference on the same seeds {mean:+.3f} ({low:+.3f} to {high:+.3f})."


def curves_alt(view: CurvesView) -> str:
    """The curves in words."""
    ends = ", ".join(f"{long_name(e)} from {curve[0]:.2f} to {curve[-1]:.2f}" for e, curve in view.medians.items())
    return f"{SETTINGS[view.setting]}. Learning curves, medians over seeds: {ends}. {curves_caption(view)}"


def curves_explorer(evidence: Evidence) -> Panel[CurvesView]:
    """Every seed of two exponents, and the medians of all, in each complete setting; opens on p = 1 beside 0."""
    canvas = Canvas(760, 370)
    # Names stand at the ends of the lines, in a place of their own: the layout must not move when they do.
    mosaic = canvas.mosaic([["curves", "names"]], width_ratios=(3, 1))
    axes, names = mosaic["curves"], mosaic["names"]
    names.set_axis_off()
    tidy_axes(axes, xlabel="rollout")
    seeds = [canvas.animate(axes.plot([], [], linewidth=0.8, alpha=0.4)[0]) for _ in range(2 * MOST_SEEDS)]
    lines = {
        e: canvas.animate(axes.plot([], [], color=look.colour, linestyle=look.linestyle)[0])
        for e, look in LOOKS.items()
    }
    labels = {
        e: canvas.animate(names.text(0, 0, "", color=look.colour, fontsize=9, va="center", transform=names.transAxes))
        for e, look in LOOKS.items()
    }

    def draw(view: CurvesView) -> None:
        rollouts = np.arange(1, len(next(iter(view.medians.values()))) + 1)
        shown = [*view.medians.values(), *(curves.ravel() for curves in view.curves.values())]
        low, high = (f([np.nanmin(x) if f is min else np.nanmax(x) for x in shown]) for f in (min, max))
        margin = 0.05 * (high - low) + 1e-6
        if axes.get_ylim() != (low - margin, high + margin):  # the axes themselves have changed
            axes.set_xlim(1, rollouts[-1])
            axes.set_ylim(low - margin, high + margin)
        title = f"{METRICS[view.metric]}: {SETTINGS[view.setting]}"
        if axes.get_title(loc="left") != title or axes.stale:
            axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
            canvas.forget_background()
        curves = [(e, curve) for e, of_seeds in view.curves.items() for curve in of_seeds]
        for line in seeds:
            line.set_data([], [])
        for line, (e, curve) in zip(seeds, curves, strict=False):
            line.set_data(rollouts, curve)
            line.set_color(LOOKS[e].colour)
        for e in LOOKS:
            lines[e].set_data([], [])
            labels[e].set_text("")
        place = -1.0
        for e, curve in sorted(view.medians.items(), key=lambda item: item[1][-1]):
            chosen = e in view.curves
            lines[e].set_data(rollouts, curve)
            lines[e].set_linewidth(3 if chosen else 1)
            lines[e].set_alpha(1 if chosen else 0.45)
            place = max((float(curve[-1]) - low + margin) / (high - low + 2 * margin), place + 0.065)
            labels[e].set_text(long_name(e))
            labels[e].set_position((0, place))
            labels[e].set_fontweight("bold" if chosen else "normal")

    complete = complete_settings(evidence)
    settings = [(SETTINGS[name], name) for name in complete]
    looks = {"style": {"description_width": "initial"}, "layout": widgets.Layout(width="60%")}
    where = widgets.Dropdown(description="setting", options=settings, value=settings[0][1], **looks)
    options = [(f"{long_name(e):<24}", e) for e in LOOKS]
    exponents = slider(widgets.SelectionSlider, "exponent", options=options, value=FIXED[3])
    beside = slider(widgets.SelectionSlider, "beside", options=options, value=GEOMETRIC)
    metrics = [(words, name) for name, words in METRICS.items()]
    metric = widgets.Dropdown(description="metric", options=metrics, **looks)
    return Panel(
        {"setting": where, "exponents": exponents, "beside": beside, "metric": metric},
        lambda **values: view_curves(evidence, **values),
        canvas,
        draw=draw,
        caption=curves_caption,
        alt=curves_alt,
        book={
            "setting": [name for name in IN_BOOK if name in complete],
            "exponents": list(LOOKS),
            "beside": [GEOMETRIC],
            "metric": ["reward"],
        },
    )
