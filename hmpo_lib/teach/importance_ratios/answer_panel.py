"""The panel of one recorded answer: its tokens, shaded by their ratios, and the four numbers called "the ratio"."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import torch

from hmpo_lib.ratios import sequence_log_ratios
from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import GREY, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.shared.ratio_styles import COMPLETION_RATIOS, RATIO_STYLES, number
from hmpo_lib.teach.shared.recorded_ratios import RecordedRatios
from hmpo_lib.teach.tokens import draw_tokens

FULL_SHADE = 10.0  # the log-ratio at which a token's shade is full; shades go by its root, so that small ones show too
DECADES = 8.0  # the number line's ends, in powers of ten; what lies beyond stands there, with its number
TICKS = (1e-6, 1e-3, 0.1, 0.5, 1, 2, 10, 1e3, 1e6)


@dataclass(frozen=True)
class AnswerView:
    """One answer after some steps: the tokens' log-ratios, and by name the four ratios of the whole."""

    prompt: str
    tokens: tuple[str, ...]
    staleness: int
    log_ratios: tuple[float, ...]
    ratios: dict[str, float]


def view_answer(recorded: RecordedRatios, stage: str, row: int, staleness: int) -> AnswerView:
    """What has become of one recorded answer after so many optimizer steps."""
    sample = recorded.at(stage, staleness)
    mask = sample.completion_mask[row]
    log_ratios = sample.log_ratios[row][mask]
    ratios = sequence_log_ratios(log_ratios)._asdict()
    return AnswerView(
        sample.prompt(row),
        tuple(sample.token_texts(row)),
        staleness,
        tuple(log_ratios.tolist()),
        {name: ratios[name].exp().item() for name in COMPLETION_RATIOS},
    )


def answer_caption(view: AnswerView) -> str:
    """The four numbers, and the token that has moved most."""
    moved = max(range(len(view.tokens)), key=lambda t: abs(view.log_ratios[t]))
    ratio = torch.tensor(view.log_ratios[moved]).exp().item()
    steps = f"{view.staleness} {'step' if view.staleness == 1 else 'steps'} after sampling"
    numbers = ", ".join(f"{name} {number(value)}" for name, value in view.ratios.items())
    return f"{steps}: {numbers}. Moved most: token {moved + 1}, “{view.tokens[moved]}”, ratio {number(ratio)}."


def stretched(x: float) -> float:
    """The root of the size, with the sign: near 0 small things show, and far from it large ones still differ.

    >>> stretched(-4.0), stretched(0.25)
    (-2.0, 0.5)
    """
    return math.copysign(math.sqrt(abs(x)), x)


def place(ratio: float) -> float:
    """Where a ratio stands on the number line."""
    decades = math.log10(ratio) if ratio > 0 else -DECADES
    return stretched(min(max(decades, -DECADES), DECADES))


def draw_ratios(canvas: Canvas, axes: Any) -> Callable[[dict[str, float]], None]:
    """The four ratios, a row each, with 1 in the middle; the axis goes by the root of the logarithm."""
    edge = 1.03 * stretched(DECADES)
    tidy_axes(
        axes, title="Four ratios of the whole answer (axis stretched near 1)", xlim=(-edge, edge), ylim=(3.6, -0.6)
    )
    label_ticks(
        axes, [place(tick) for tick in TICKS], ["1e-6", "0.001", "0.1", "0.5", "1", "2", "10", "1000", "1e6"], axis="x"
    )
    label_ticks(axes, range(4), COMPLETION_RATIOS)
    axes.axvline(0, color=GREY, linewidth=1)
    marks = {}
    for row, name in enumerate(COMPLETION_RATIOS):
        style = RATIO_STYLES[name]
        mark = canvas.animate(axes.plot([0], [row], style.marker, color=style.colour, markersize=9, clip_on=False)[0])
        label = canvas.animate(axes.annotate("", (0, row), (10, 0), textcoords="offset points", va="center"))
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.3})
        marks[name] = mark, label

    def move(ratios: dict[str, float]) -> None:
        for name, (mark, label) in marks.items():
            at = place(ratios[name])
            mark.set_xdata([at])
            label.xy = (at, label.xy[1])
            label.set(text=number(ratios[name]), x=10 if at < 1.5 else -10)
            label.set_horizontalalignment("left" if at < 1.5 else "right")

    return move


def answer_explorer(recorded: RecordedRatios, stage: str, row: int, *, staleness: int = 16) -> Panel[AnswerView]:
    """One recorded answer, reshaded as the policy moves on from the one that wrote it."""
    first = view_answer(recorded, stage, row, staleness)
    canvas = Canvas(760, 250)
    axes = canvas.mosaic("t;r", height_ratios=[1, 2.6])
    axes["t"].set_title(
        f"{first.prompt}   purple: less likely than when it was written, orange: more likely", loc="left", fontsize=10
    )
    move_tokens = draw_tokens(canvas, axes["t"], first.tokens, limit=stretched(FULL_SHADE))
    move_ratios = draw_ratios(canvas, axes["r"])

    def draw(view: AnswerView) -> None:
        move_tokens([stretched(d) for d in view.log_ratios])
        move_ratios(view.ratios)

    stops = [(f"{k:>2}", k) for k in recorded.staleness.tolist()]
    control = slider(widgets.SelectionSlider, "optimizer steps since sampling", options=stops, value=staleness)
    return Panel(
        {"staleness": control},
        lambda staleness: view_answer(recorded, stage, row, staleness),
        canvas,
        draw=draw,
        caption=answer_caption,
        alt=f"The answer {first.prompt}{''.join(first.tokens)}, each token shaded by its ratio.",
    )
