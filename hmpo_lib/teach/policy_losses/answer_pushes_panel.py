"""The panel of a real answer's pushes: its tokens shaded by their ratios, with an arrow for the push on each."""

from dataclasses import dataclass

import ipywidgets as widgets

from hmpo_lib.objectives import Clip
from hmpo_lib.teach.panels import Panel, p_slider, slider
from hmpo_lib.teach.plotting import Canvas
from hmpo_lib.teach.policy_losses.clipped_pushes import (
    GIVEN_STALENESS,
    StripView,
    strip_caption,
    strip_verdict,
    view_strip,
)
from hmpo_lib.teach.policy_losses.token_strip_panel import BOOK_P, CLIPS, SIGNS
from hmpo_lib.teach.shared.recorded_ratios import RecordedRatios
from hmpo_lib.teach.tokens import draw_tokens

FULL_SHADE = 0.3  # the log-ratio at which a token's shade is full
LONGEST_ARROW = 3.0  # times the equal push 1/n


@dataclass(frozen=True)
class AnswerPushes:
    """One recorded answer and what a step does to it."""

    prompt: str
    tokens: tuple[str, ...]
    staleness: int
    log_ratios: tuple[float, ...]
    step: StripView


def view_answer_pushes(
    recorded: RecordedRatios,
    stage: str,
    row: int,
    p: float,
    width: float,
    staleness: int,
    advantage: float,
    clip: Clip | None,
) -> AnswerPushes:
    """The pushes on a recorded answer's tokens, so many optimizer steps after it was sampled."""
    sample = recorded.at(stage, staleness)
    log_ratios = sample.log_ratios[row][sample.completion_mask[row]]
    # These ratios are as they were recorded: nothing is to be scaled with the staleness.
    step = view_strip(log_ratios.exp().tolist(), p, width, GIVEN_STALENESS, advantage, clip)
    return AnswerPushes(sample.prompt(row), tuple(sample.token_texts(row)), staleness, tuple(log_ratios.tolist()), step)


def answer_pushes_caption(view: AnswerPushes) -> str:
    """The mean, the blocked tokens and the largest push."""
    n = len(view.tokens)
    most = max(range(n), key=lambda t: abs(view.step.pushes[t]))
    said = (
        strip_caption(view.step)
        .partition(". Autograd")[0]
        .replace(f"{GIVEN_STALENESS} steps old", f"{view.staleness} steps old")
    )
    if not view.step.pushes[most]:
        return f"{said}."
    return f"{said}. Pushed most: “{view.tokens[most]}”, {abs(n * view.step.pushes[most]):.2f} times an equal push."


def answer_pushes_alt(view: AnswerPushes) -> str:
    """The strip in words."""
    return f"The answer {view.prompt}{''.join(view.tokens)} with an arrow on each token. {answer_pushes_caption(view)}"


def answer_pushes_explorer(
    recorded: RecordedRatios,
    stage: str,
    row: int,
    *,
    p: float = -1.0,
    width: float = 0.2,
    staleness: int = 16,
    advantage: float = 1.0,
    clip: Clip | None = None,
) -> Panel[AnswerPushes]:
    """One recorded answer; p, the clip and the sign of the advantage move the arrows, the staleness the shades."""
    first = view_answer_pushes(recorded, stage, row, p, width, staleness, advantage, clip)
    canvas = Canvas(760, 170)
    axes = canvas.mosaic("t")["t"]
    axes.set_title(f"{first.prompt}   arrow: the push; struck out: blocked", loc="left", fontsize=10)
    verdict = canvas.animate(axes.set_title("", loc="right", fontsize=11, fontweight="bold"))
    move = draw_tokens(canvas, axes, first.tokens, limit=FULL_SHADE, arrow_limit=LONGEST_ARROW)

    def draw(view: AnswerPushes) -> None:
        n = len(view.tokens)
        blocked = [t for t in range(n) if view.step.blocked[t]]
        move(view.log_ratios, [n * push for push in view.step.pushes], blocked)
        verdict.set_text(strip_verdict(view.step))

    stops = [(f"{k:>2}", k) for k in recorded.staleness.tolist()]
    return Panel(
        {
            "p": p_slider(value=p),
            "width": slider(widgets.FloatSlider, "clip width c", value=width, min=0.05, max=0.8, step=0.05),
            "staleness": slider(widgets.SelectionSlider, "steps since sampling", options=stops, value=staleness),
            "advantage": widgets.ToggleButtons(options=SIGNS, value=advantage),
            "clip": widgets.ToggleButtons(options=CLIPS, value=clip),
        },
        lambda **values: view_answer_pushes(recorded, stage, row, **values),
        canvas,
        draw=draw,
        caption=answer_pushes_caption,
        alt=answer_pushes_alt,
        book={"p": BOOK_P, "width": (width,), "staleness": (stops[0][1], stops[-1][1])},
    )
