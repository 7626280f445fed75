"""Draws docs/fine_tuning.png, the animation at the head of the README: python tools/draw_fine_tuning.py

One run of the shipped model, as notebook 08 proposes it: HMPO, 4 optimizer steps a rollout, 50 rollouts, seed 0. After
each rollout the model also answers one prompt, apart from its training, with the same random numbers every time.
About a minute of one CPU core. On another machine sums of floats differ in their last digits, and so may single points.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from hmpo_lib.lm import FineTuneConfig, fine_tune, load_base_model, sample_completions
from hmpo_lib.lm.tasks import reward_correct
from hmpo_lib.teach.animations import Animation
from hmpo_lib.teach.fine_tuning_with_ratio_means.fine_tuning_drawings import HEIGHT, WIDTH, LiveView, draw_live
from hmpo_lib.teach.fine_tuning_with_ratio_means.fine_tuning_live import fine_tuning_alt, view_live
from hmpo_lib.teach.plotting import GREY, PURPLE, Canvas

DESTINATION = Path(__file__).resolve().parent.parent / "docs" / "fine_tuning.png"
CONFIG = FineTuneConfig("hmpo", minibatches=4, rollouts=50, seed=0, monitor_logits=True)
PROMPT, PROMPT_SEED = "18+3+9+14=", 0
FOOT = 76  # CSS pixels under the six plots
DENSE, EVERY = 16, 3  # all of the first rollouts, where most happens, then one in three and the last
MILLISECONDS, FIRST, LAST = 240, 1500, 6000


class Frame(NamedTuple):
    """A rollout of the run, and what the model answers after it."""

    rollout: int
    view: LiveView
    answer: str
    alt: str


def run() -> Iterator[Frame]:
    """The run, a frame a rollout."""
    model, tokenizer = load_base_model()
    records = []
    for record in fine_tune(model, tokenizer, CONFIG):
        records.append(record)
        if record.step == CONFIG.steps_per_rollout - 1:
            generator = torch.Generator().manual_seed(PROMPT_SEED)
            sampled = sample_completions(
                model, tokenizer, [PROMPT], group_size=1, max_new_tokens=CONFIG.max_new_tokens, generator=generator
            )
            yield Frame(record.rollout + 1, view_live(records), sampled.texts[0], fine_tuning_alt(records))


def is_shown(frame: Frame) -> bool:
    """Whether the animation stops at this rollout."""
    return frame.rollout <= DENSE or frame.rollout % EVERY == 0 or frame.rollout == CONFIG.rollouts


def draw_frames(canvas: Canvas) -> Callable[[Frame], None]:
    """Put plots and answer on the canvas; returns what moves them."""
    share = FOOT / canvas.height
    move = draw_live(canvas, CONFIG, bottom=share)
    asked = canvas.animate(canvas.figure.text(0.02, 0.68 * share, "", fontsize=10, color=GREY))
    prompt = canvas.figure.text(0.02, 0.28 * share, PROMPT, fontsize=14, family="DejaVu Sans Mono")
    prompt_end = prompt.get_window_extent(canvas.figure.canvas.get_renderer()).x1 / canvas.figure.bbox.width
    place = {"fontsize": 14, "family": "DejaVu Sans Mono", "fontweight": "bold"}
    answer = canvas.animate(canvas.figure.text(prompt_end, 0.28 * share, "", **place))

    def draw(frame: Frame) -> None:
        move(frame.view)
        asked.set_text(f"Asked after rollout {frame.rollout}, apart from its training, it answers:")
        is_right = reward_correct(PROMPT, frame.answer)
        answer.set(text=f"{frame.answer} {'✓' if is_right else '✗'}", color=PURPLE if is_right else GREY)

    return draw


def animate(frames: list[Frame]) -> Animation:
    """The frames as one picture that moves."""
    canvas = Canvas(WIDTH, HEIGHT + FOOT, scale=1.3)
    shown = [frame for frame in frames if is_shown(frame)]
    times = [FIRST, *[MILLISECONDS] * (len(shown) - 2), LAST]
    return Animation(
        canvas,
        draw_frames(canvas),
        list(zip(shown, times, strict=True)),
        caption="A language model learns to show its work, because it pays.",
        alt=f"{frames[-1].alt} Asked {PROMPT}, it answers {frames[0].answer} at first and {frames[-1].answer} at last.",
    )


if __name__ == "__main__":
    animation = animate(list(run()))
    DESTINATION.write_bytes(animation.png)
    print(f"{DESTINATION.name}: {DESTINATION.stat().st_size} B")
    print(animation.alt)
