"""The panel of all learning curves: a setting, an exponent and a metric, from the records."""

import dataclasses

import ipywidgets as widgets
import numpy as np

from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import GREY, Canvas, tidy_axes
from hmpo_lib.teach.what_the_evidence_says.cells import Exponents
from hmpo_lib.teach.what_the_evidence_says.looks import LOOKS, long_name
from hmpo_lib.teach.what_the_evidence_says.plan import SEEDS
from hmpo_lib.teach.what_the_evidence_says.records import Evidence, Floats
from hmpo_lib.teach.what_the_evidence_says.settings import (
    SETTINGS,
    cell_of,
    complete_settings,
    exponents_in,
    planned_seeds,
)
from hmpo_lib.teach.what_the_evidence_says.verdicts import interquartile_interval

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


@dataclasses.dataclass(frozen=True)
class CurvesView:
    """One setting of the panel.

    Attributes:
        curves: of the chosen exponent, ``[seeds, rollouts]``.
        medians: of every exponent of the setting, ``[rollouts]``.
        summary: the interquartile mean of the mean over a run, with its interval.
    """

    setting: str
    exponents: Exponents
    metric: str
    curves: Floats
    medians: dict[Exponents, Floats]
    summary: tuple[float, float, float]


def view_curves(evidence: Evidence, setting: str, exponents: Exponents, metric: str) -> CurvesView:
    """The numbers of one setting; where an exponent was not run there, those of p = 0."""
    there = exponents_in(evidence, setting)
    chosen = exponents if exponents in there else min(there, key=lambda e: abs(e.good) + abs(e.bad))

    def values(e: Exponents) -> Floats:
        curves = evidence.curves(cell_of(setting, e), metric, planned_seeds(setting))
        return np.log10(np.maximum(curves, 1e-8)) if metric in LOGARITHMIC else curves

    curves = values(chosen)
    return CurvesView(
        setting,
        chosen,
        metric,
        curves,
        {e: np.nanmedian(values(e), axis=0) for e in there if e in LOOKS},
        interquartile_interval(np.nanmean(curves, axis=1), resamples=500),
    )


def curves_caption(view: CurvesView) -> str:
    """The chosen exponent's summary."""
    mean, low, high = view.summary
    return (
        f"{long_name(view.exponents)}; {SETTINGS[view.setting]}: {METRICS[view.metric]}, mean over a run {mean:.3f} "
        f"({low:.3f} to {high:.3f}; interquartile mean of {len(view.curves)} seeds, 95 % bootstrap interval)."
    )


def curves_alt(view: CurvesView) -> str:
    """The curves in words."""
    ends = ", ".join(f"{long_name(e)} from {curve[0]:.2f} to {curve[-1]:.2f}" for e, curve in view.medians.items())
    return f"Learning curves, medians over seeds: {ends}. {curves_caption(view)}"


def curves_explorer(evidence: Evidence) -> Panel[CurvesView]:
    """Every seed of one exponent, and the medians of the others, in each setting that is complete."""
    canvas = Canvas(760, 360)
    axes = canvas.figure.add_axes((0.08, 0.13, 0.64, 0.76))
    tidy_axes(axes, xlabel="rollout")
    seeds = [canvas.animate(axes.plot([], [], linewidth=0.9, alpha=0.6)[0]) for _ in range(MOST_SEEDS)]
    others = {
        e: canvas.animate(axes.plot([], [], color=look.colour, linestyle=look.linestyle, linewidth=1.3, alpha=0.75)[0])
        for e, look in LOOKS.items()
    }
    labels = {
        e: canvas.animate(axes.text(0, 0, "", color=look.colour, fontsize=9, va="center")) for e, look in LOOKS.items()
    }

    def draw(view: CurvesView) -> None:
        rollouts = np.arange(1, view.curves.shape[1] + 1)
        shown = [*view.medians.values(), view.curves.ravel()]
        low, high = (f([np.nanmin(x) if f is min else np.nanmax(x) for x in shown]) for f in (min, max))
        margin = 0.05 * (high - low) + 1e-6
        if axes.get_ylim() != (low - margin, high + margin):  # the axes themselves have changed
            axes.set_xlim(1, rollouts[-1])
            axes.set_ylim(low - margin, high + margin)
            title = f"{METRICS[view.metric]}: {SETTINGS[view.setting]}"
            axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
            canvas.forget_background()
        colour = LOOKS[view.exponents].colour if view.exponents in LOOKS else GREY
        for line, curve in zip(seeds, [*view.curves, *[None] * (MOST_SEEDS - len(view.curves))], strict=True):
            line.set_data(*((rollouts, curve) if curve is not None else ([], [])))
            line.set_color(colour)
        taken: list[float] = []
        step = 0.062 * (high - low + 2 * margin)
        for e in LOOKS:
            others[e].set_data([], [])
            labels[e].set_text("")
        for e, curve in sorted(view.medians.items(), key=lambda item: item[1][-1]):
            others[e].set_data(rollouts, curve)
            others[e].set_linewidth(3 if e == view.exponents else 1.3)
            place = max([float(curve[-1]), *(y + step for y in taken[-1:])])
            taken.append(place)
            labels[e].set_text(long_name(e))
            labels[e].set_position((rollouts[-1] + 0.015 * (rollouts[-1] - 1), place))
            labels[e].set_fontweight("bold" if e == view.exponents else "normal")

    settings = complete_settings(evidence)
    where = slider(
        widgets.Dropdown, "setting", options=[(SETTINGS[name], name) for name in settings], value=settings[0]
    )
    exponents = slider(
        widgets.SelectionSlider,
        "exponent",
        options=[(f"{long_name(e):<24}", e) for e in LOOKS],
        value=list(LOOKS)[-1],
    )
    metric = slider(widgets.Dropdown, "metric", options=[(words, name) for name, words in METRICS.items()])
    return Panel(
        {"setting": where, "exponents": exponents, "metric": metric},
        lambda **values: view_curves(evidence, **values),
        canvas,
        draw=draw,
        caption=curves_caption,
        alt=curves_alt,
    )
