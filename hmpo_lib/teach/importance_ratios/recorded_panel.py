"""The panel that looks at recorded importance ratios: how many lie far from 1, tokens and whole answers."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
from matplotlib.axes import Axes

from hmpo_lib.ratios import sequence_log_ratios
from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import FONT_SIZE, GREY, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.shared.ratio_styles import RATIO_STYLES
from hmpo_lib.teach.shared.recorded_ratios import STAGES, RecordedRatios

# Of the log-ratio from 0, up or down; for the small ones that is the distance of the ratio from 1.
DISTANCES = {"1 %": 0.01, "5 %": 0.05, "10 %": 0.1, "a factor of 2": math.log(2)}


@dataclass(frozen=True)
class RecordedView:
    """What one setting shows: by stage and by name, the share of ratios at least so far from 1."""

    staleness: int
    distance: str
    shares: dict[str, dict[str, float]]


def view_recorded(recorded: RecordedRatios, staleness: int, distance: str) -> RecordedView:
    """How many token ratios, and how many of each completion's four ratios, lie far from 1."""
    shares = {}
    for stage in STAGES:
        sample = recorded.at(stage, staleness)
        logs = {"token": sample.tokens, **sequence_log_ratios(sample.log_ratios, sample.completion_mask)._asdict()}
        far = {name: values.abs() >= DISTANCES[distance] for name, values in logs.items()}
        shares[stage] = {name: far[name].double().mean().item() for name in RATIO_STYLES}
    return RecordedView(staleness, distance, shares)


def recorded_caption(view: RecordedView) -> str:
    """The setting; the numbers stand at the bars."""
    steps = f"{view.staleness} {'step' if view.staleness == 1 else 'steps'} after sampling"
    return f"Shares of ratios more than {view.distance} from 1, {steps}."


def recorded_alt(view: RecordedView) -> str:
    """The bars in words."""
    stages = [
        f"{stage}, {', '.join(f'{name} {100 * share:.1f} %' for name, share in shares.items())}"
        for stage, shares in view.shares.items()
    ]
    return f"{recorded_caption(view)} {'; '.join(stages)}."


def _bars(canvas: Canvas, axes: Axes, stage: str) -> Callable[[dict[str, float]], None]:
    """A bar for each kind of ratio with its share at its end; gives what moves them."""
    tidy_axes(axes, title=stage[0].upper() + stage[1:], xlim=(0, 1.2), ylim=(4.6, -0.6))
    axes.grid(visible=False, axis="y")
    label_ticks(axes, [0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "all"], axis="x")
    bars = axes.barh(range(5), [0.0] * 5, height=0.62, color=[style.colour for style in RATIO_STYLES.values()])
    ends = [canvas.animate(axes.text(0, row, "", va="center", fontsize=9)) for row in range(5)]
    for bar in bars:
        canvas.animate(bar)
    axes.axhline(0.5, color=GREY, linewidth=0.8)  # tokens above, whole answers below

    def move(shares: dict[str, float]) -> None:
        for bar, end, share in zip(bars, ends, shares.values(), strict=True):
            bar.set_width(share)
            end.set(x=share + 0.02, text=f"{100 * share:.1f} %")

    return move


def recorded_explorer(recorded: RecordedRatios, *, staleness: int = 16, distance: str = "5 %") -> Panel[RecordedView]:
    """The share of ratios further from 1 than a distance, tokens beside whole answers, early beside late."""
    canvas = Canvas(760, 290)
    axes = canvas.mosaic([list(STAGES)], sharey=True)
    moves = {stage: _bars(canvas, axes[stage], stage) for stage in STAGES}
    label_ticks(axes[STAGES[0]], range(5), ["single tokens", *(f"answers: {name}" for name in list(RATIO_STYLES)[1:])])
    axes[STAGES[1]].tick_params(labelleft=False)

    asked: Any = canvas.figure.suptitle("?", x=0.01, ha="left", fontsize=FONT_SIZE, fontweight="bold")
    canvas.animate(asked)

    def draw(view: RecordedView) -> None:
        asked.set_text(f"How many ratios are more than {view.distance} from 1?")
        for stage, shares in view.shares.items():
            moves[stage](shares)

    age = slider(
        widgets.SelectionSlider,
        "optimizer steps since sampling",
        options=[(f"{k:>2}", k) for k in recorded.staleness.tolist()],
        value=staleness,
    )
    far = slider(
        widgets.SelectionSlider,
        "further from 1 than",
        options=[(name.center(13), name) for name in DISTANCES],
        value=distance,
    )
    return Panel(
        {"staleness": age, "distance": far},
        lambda staleness, distance: view_recorded(recorded, staleness, distance),
        canvas,
        draw=draw,
        caption=recorded_caption,
        alt=recorded_alt,
    )
