"""A panel to find the right clip of heads that share keys: hot heads at τ, and no other head touched."""

import copy
from types import SimpleNamespace
from typing import Any

import ipywidgets as widgets
from torch import Tensor

from hmpo_lib.teach.clips_that_need_care.clips_by_hand import KINDS, Clip, clip_by_hand
from hmpo_lib.teach.clips_that_need_care.heads_drawing import Blocks
from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import BLACK, ORANGE, PALE_GREY, PURPLE, Canvas, label_ticks, tidy_axes

# Right ones and wrong ones; never by colour alone, each state is written on its bar.
COLOURS = {"at τ": ORANGE, "kept": PALE_GREY, "changed": PURPLE, "above τ": PURPLE, "below τ": PURPLE}
FAULTS = {
    "above τ": "hot and still above τ",
    "below τ": "hot and fell below τ",
    "changed": "not hot and changed all the same",
}
THRESHOLDS = (6.0, 18.0)


def clip_caption(clip: Clip) -> str:
    """Whether this clip does the two things that it should, and which heads it fails."""
    by_state: dict[str, list[int]] = {}
    for head, state in enumerate(clip.states, start=1):
        by_state.setdefault(state, []).append(head)
    if not any(state.endswith("τ") for state in by_state):
        return f"τ = {clip.threshold:g}: no head is hot, nothing is scaled."
    wrong = [
        f"{_heads(by_state[state])} {'were' if len(by_state[state]) > 1 else 'was'} {fault}"
        for state, fault in FAULTS.items()
        if state in by_state
    ]
    if wrong:
        return f"τ = {clip.threshold:g}: wrong, {'; '.join(wrong)}."
    return f"τ = {clip.threshold:g}: right, every hot head is at τ, and no other has changed."


def _heads(numbers: list[int]) -> str:
    """How a sentence names them.

    >>> _heads([2]), _heads([1, 3, 4])
    ('head 2', 'heads 1, 3 and 4')
    """
    *first, last = map(str, numbers)
    return f"heads {', '.join(first)} and {last}" if first else f"head {last}"


def clip_alt(clip: Clip) -> str:
    """The bars in words."""
    heads = [
        f"head {head} {before:.2f} before, {after:.2f} after, {state}"
        for head, (before, after, state) in enumerate(zip(clip.before, clip.after, clip.states, strict=True), start=1)
    ]
    queries = ", ".join(f"{factor:.2f}" for factor in clip.queries)
    keys = ", ".join(f"{factor:.2f}" for factor in clip.keys)
    return (
        f"Bars of each head's largest logit over boxes for its query and the key that it shares. {'; '.join(heads)}. "
        f"Queries were scaled by {queries}, keys by {keys}. {clip_caption(clip)}"
    )


def clip_explorer(
    layer: Any, x: Tensor, *, threshold: float = 12.0, kind: str = KINDS[0], biases: bool = True
) -> Panel[Clip]:
    """What to scale, with biases or without, and a threshold; each head's largest logit before and after.

    Args:
        layer, x: see `clip_by_hand`.
        threshold: τ.
        kind: one of KINDS.
        biases: whether they are scaled too.
    """
    # As it is now: the page goes on to clip it.
    own = SimpleNamespace(q_proj=copy.deepcopy(layer.q_proj), k_proj=copy.deepcopy(layer.k_proj), size=layer.size)
    start = clip_by_hand(own, x, threshold, kind, biases=biases)
    heads, highest = len(start.before), max(start.before)
    canvas = Canvas(760, 380)
    axes = canvas.mosaic([["bars"], ["blocks"]], height_ratios=(1.9, 1))
    bars = axes["bars"]
    tidy_axes(bars, title="Largest logit of each head", xlim=(-1.12, heads - 0.5), ylim=(0, 1.2 * highest))
    bars.grid(visible=False, axis="x")
    label_ticks(bars, range(heads), [f"head {head + 1}" for head in range(heads)], axis="x")
    columns = [canvas.animate(bar) for bar in bars.bar(range(heads), [0.0] * heads, width=0.5)]
    line = canvas.animate(bars.axhline(threshold, color=BLACK, linewidth=1.2, linestyle="--"))
    name = canvas.animate(bars.text(-1.08, threshold, "", fontsize=10, va="bottom"))
    for head, value in enumerate(start.before):  # over the bars, though they never move
        canvas.animate(bars.plot([head - 0.33, head + 0.33], [value, value], color=BLACK, linewidth=2)[0])
    bars.text(0, 1.02 * start.before[0], "before", ha="center", va="bottom", fontsize=9.5)
    words = [canvas.animate(bars.text(head, 0, "", ha="center", va="center", fontsize=9.5)) for head in range(heads)]
    blocks = Blocks(axes["blocks"], heads, len(start.keys))
    for artist in blocks.artists:
        canvas.animate(artist)

    def draw(clip: Clip) -> None:
        line.set_ydata([clip.threshold, clip.threshold])
        name.set_y(clip.threshold + 0.3)
        name.set_text(f"τ = {clip.threshold:g}")
        for bar, word, after, state in zip(columns, words, clip.after, clip.states, strict=True):
            bar.set_height(after)
            bar.set_color(COLOURS[state])
            word.set_y(after / 2)
            word.set_text(f"{after:.2f}\n{state}")
        blocks.show(*([f"× {f:.2f}" if f < 1 else "" for f in factors] for factors in (clip.queries, clip.keys)))

    controls = {
        "threshold": slider(
            widgets.FloatSlider, "threshold τ", value=threshold, min=THRESHOLDS[0], max=THRESHOLDS[1], step=1.0
        ),
        "kind": widgets.ToggleButtons(
            options=list(KINDS), value=kind, description="scale", style={"button_width": "13em"}
        ),
        "biases": widgets.ToggleButtons(
            options=[("scaled too", True), ("left alone", False)], value=biases, description="biases"
        ),
    }
    return Panel(
        controls,
        lambda threshold, kind, biases: clip_by_hand(own, x, threshold, kind, biases=biases),
        canvas,
        draw=draw,
        caption=clip_caption,
        alt=clip_alt,
        book={"threshold": (6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 18.0)},
    )
