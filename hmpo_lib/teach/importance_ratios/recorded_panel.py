"""The panel that looks at recorded importance ratios: how many lie how far from 1, tokens and whole answers."""

import math
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import torch

from hmpo_lib.ratios import sequence_log_ratios
from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.shared.ratio_styles import RATIO_STYLES
from hmpo_lib.teach.shared.recorded_ratios import STAGES, RecordedRatios

LENGTHS = {"all lengths": (1, 40), "1 to 4": (1, 4), "17 to 24": (17, 24), "25 to 32": (25, 32), "33 to 40": (33, 40)}

DISTANCES = torch.logspace(-3, math.log10(2), 60, dtype=torch.float64)  # of the log-ratio from 0
LEAST_SHARE = 5e-4
NOTED = 0.05  # the distance at which the caption reads the curves


@dataclass(frozen=True)
class RecordedView:
    """What one setting shows.

    Attributes:
        shares: by name, the share of ratios at least as far from 1 as each of `DISTANCES`.
        noted: by name, the same at `NOTED`.
    """

    stage: str
    staleness: int
    length: str
    completions: int
    shares: dict[str, tuple[float, ...]]
    noted: dict[str, float]


def view_recorded(recorded: RecordedRatios, stage: str, staleness: int, length: str) -> RecordedView:
    """How far from 1 the token ratios and each completion's four ratios lie."""
    sample = recorded.at(stage, staleness).of_length(*LENGTHS[length])
    ratios = sequence_log_ratios(sample.log_ratios, sample.completion_mask)
    logs = {"token": sample.tokens, **ratios._asdict()}
    far = {name: (values.abs().unsqueeze(1) >= DISTANCES).double().mean(dim=0) for name, values in logs.items()}
    return RecordedView(
        stage,
        staleness,
        length,
        len(sample.lengths),
        {name: tuple(share.tolist()) for name, share in far.items()},
        {name: (values.abs() >= NOTED).double().mean().item() for name, values in logs.items()},
    )


def recorded_caption(view: RecordedView) -> str:
    """How many are far from 1."""
    numbers = ", ".join(f"{name} {100 * share:.1f} %" for name, share in view.noted.items())
    steps = f"{view.staleness} {'step' if view.staleness == 1 else 'steps'} old"
    return (
        f"{view.stage}, {steps}, {view.completions} answers ({view.length}). More than {100 * NOTED:.0f} % from 1: "
        f"{numbers}."
    )


def recorded_alt(view: RecordedView) -> str:
    """The curves in words."""
    return f"Five falling curves: the share of ratios that lie further from 1 than a distance. {recorded_caption(view)}"


def recorded_explorer(recorded: RecordedRatios, *, stage: str = STAGES[1], staleness: int = 16) -> Panel[RecordedView]:
    """The share of ratios further from 1 than a distance, by staleness and length, tokens beside whole answers."""
    canvas = Canvas(760, 380)
    axes = canvas.mosaic("a")["a"]
    tidy_axes(axes, title="How many ratios lie further from 1?", xlabel="distance of the ratio from 1")
    axes.set(xscale="log", yscale="log", xlim=(1e-3, 2), ylim=(LEAST_SHARE, 1.3))
    label_ticks(axes, [0.001, 0.01, 0.1, math.log(2), 2], ["0.1 %", "1 %", "10 %", "× 2 or ÷ 2", "× 7"], axis="x")
    label_ticks(axes, [0.001, 0.01, 0.1, 1], ["0.1 %", "1 %", "10 %", "all"])
    curves = {}
    for name, style in RATIO_STYLES.items():
        label = "single tokens" if name == "token" else f"answers: {name}"
        look: Any = {"color": style.colour, "linestyle": style.linestyle, "linewidth": 2.2}
        curves[name] = canvas.animate(axes.plot([], [], label=label, **look)[0])
    axes.legend(loc="lower left", fontsize=9.5, handlelength=3.5, frameon=False)

    def draw(view: RecordedView) -> None:
        for name, shares in view.shares.items():
            curves[name].set_data(DISTANCES.tolist(), [share or math.nan for share in shares])

    age = slider(
        widgets.SelectionSlider,
        "optimizer steps since sampling",
        options=[(f"{k:>2}", k) for k in recorded.staleness.tolist()],
        value=staleness,
    )
    length = slider(widgets.SelectionSlider, "tokens", options=[(name.center(11), name) for name in LENGTHS])
    sampled = widgets.ToggleButtons(options=list(STAGES), value=stage)
    return Panel(
        {"staleness": age, "length": length, "stage": sampled},
        lambda staleness, length, stage: view_recorded(recorded, stage, staleness, length),
        canvas,
        draw=draw,
        caption=recorded_caption,
        alt=recorded_alt,
    )
