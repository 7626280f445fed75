"""Text as the collection shows it: the tokens of an answer, each shaded by a number of its own.

Orange stands for numbers above the middle, purple for those below; the stronger, the further away. Blue, green and
vermillion stay with the exponents. `shaded_tokens` is text for a page, `draw_tokens` a strip in a panel's canvas whose
shades and arrows move.
"""

import html
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from hmpo_lib.teach.plotting import BLACK, GREY, ORANGE, PURPLE, Canvas


def shade(value: float, limit: float) -> str:
    """The colour of a number: white at 0, orange at ``limit`` and beyond, purple at ``-limit``.

    >>> shade(0.0, 1.0), shade(2.0, 1.0), shade(-0.5, 1.0)
    ('#ffffff', '#e69f00', '#e6bcd3')
    """
    if not limit > 0:
        raise ValueError(f"limit = {limit}: expected a positive number, at which the shade is full.")
    hue = ORANGE if value > 0 else PURPLE
    strength = min(abs(value) / limit, 1.0)
    parts = (int(hue[k : k + 2], 16) for k in (1, 3, 5))
    return "#" + "".join(f"{round(255 + strength * (part - 255)):02x}" for part in parts)


class ShadedTokens:
    """Answers as text on a page, one line each; see `shaded_tokens`."""

    def __init__(self, lines: Sequence[tuple[str, Sequence[str], Sequence[float], str]], limit: float) -> None:
        self.lines, self.limit = lines, limit

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        rows = "".join(self._line(*line) for line in self.lines)
        plain = "\n".join(f"{prompt}{''.join(tokens)}  {note}".rstrip() for prompt, tokens, _, note in self.lines)
        return {"text/html": f'<div style="overflow-x: auto">{rows}</div>', "text/plain": plain}

    def _line(self, prompt: str, tokens: Sequence[str], values: Sequence[float], note: str) -> str:
        spans = "".join(
            f'<span style="background: {shade(value, self.limit)}; color: {BLACK}; padding: 1px 2px" '
            f'title="{value:+.3g}">{html.escape(token)}</span>'
            for token, value in zip(tokens, values, strict=True)
        )
        after = f"&nbsp; {html.escape(note)}" if note else ""
        return (
            '<div style="white-space: nowrap; line-height: 1.9">'
            f'<code style="font-size: 1.1em">{html.escape(prompt)}{spans}</code>{after}</div>'
        )


def shaded_tokens(
    tokens: Sequence[str], values: Sequence[float], *, limit: float, prompt: str = "", note: str = ""
) -> ShadedTokens:
    """One answer, its tokens shaded: purple where the number is below 0, orange where it is above.

    Args:
        tokens: the answer's tokens as text.
        values: a number for each, such as its log-ratio.
        limit: where the shade is full.
        prompt: stands before the answer, unshaded.
        note: stands after it.

    >>> shaded_tokens(["2", "4"], [-0.1, 0.0], limit=0.1, prompt="7+12+5=")._repr_mimebundle_()["text/plain"]
    '7+12+5=24'
    """
    values = [float(value) for value in values]
    if len(values) != len(tokens):
        raise ValueError(f"{len(values)} values for {len(tokens)} tokens: expected one for each.")
    shade(0.0, limit)
    return ShadedTokens([(prompt, list(tokens), values, note)], limit)


def stacked(answers: Sequence[ShadedTokens]) -> ShadedTokens:
    """Several shaded answers, one below the other, in the shades of the first.

    >>> one = shaded_tokens(["2"], [0.0], limit=1.0)
    >>> len(stacked([one, one]).lines)
    2
    """
    return ShadedTokens([line for answer in answers for line in answer.lines], answers[0].limit)


def draw_tokens(
    canvas: Canvas, axes: Axes, tokens: Sequence[str], *, limit: float, arrow_limit: float | None = None
) -> Callable[..., None]:
    """A strip of boxes, a token in each, whose shades follow numbers, with arrows above them if asked for.

    Args:
        canvas, axes: where to draw; the axes are taken over whole, one unit wide a token.
        tokens: text, a token each.
        limit: where the shade is full.
        arrow_limit: the push whose arrow is as high as fits; None: no arrows.

    Returns:
        ``move(values, pushes=None, struck=())``: a number for each token; an arrow for each, up where its push is
        positive; and which tokens are struck through, such as those that a clip blocks.
    """
    top = 0.0 if arrow_limit is None else 1.6
    axes.set(xlim=(0, len(tokens)), ylim=(-0.05 - top, 1.05 + top), xticks=[], yticks=[], frame_on=False)
    boxes = [
        canvas.animate(axes.add_patch(Rectangle((k + 0.04, 0), 0.92, 1, edgecolor=GREY, linewidth=0.8)))
        for k in range(len(tokens))
    ]
    size = min(15.0, 0.8 * 72 / 100 * canvas.width * axes.get_position().width / len(tokens))
    for k, token in enumerate(tokens):
        canvas.animate(axes.text(k + 0.5, 0.47, token, ha="center", va="center", fontsize=size, family="monospace"))
    strikes = [
        canvas.animate(axes.plot([k + 0.1, k + 0.9], [0.1, 0.9], color=BLACK, lw=1.2)[0]) for k in range(len(boxes))
    ]
    stems, heads = [], []
    for k in range(len(tokens) if arrow_limit is not None else 0):
        stems.append(canvas.animate(axes.plot([k + 0.5] * 2, [1, 1], color=BLACK, lw=1.8, solid_capstyle="butt")[0]))
        heads.append(canvas.animate(axes.plot([k + 0.5], [1], color=BLACK, markersize=5)[0]))

    def move(values: Sequence[float], pushes: Sequence[float] | None = None, struck: Sequence[int] = ()) -> None:
        for k, (box, strike, value) in enumerate(zip(boxes, strikes, values, strict=True)):
            box.set_facecolor(shade(float(value), limit))
            strike.set_visible(k in struck)
        for k, (stem, head) in enumerate(zip(stems, heads, strict=True)):
            assert pushes is not None
            assert arrow_limit is not None
            push = max(-1.0, min(1.0, float(pushes[k]) / arrow_limit))
            foot = 1.08 if push >= 0 else -0.08
            tip = foot + 1.4 * push
            stem.set_ydata([foot, tip])
            head.set_ydata([tip])
            head.set_marker("^" if push > 0 else "v" if push < 0 else "")

    return move
