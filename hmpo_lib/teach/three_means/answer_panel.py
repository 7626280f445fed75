"""The panel of a real answer: its ratios, and for each p the shares of its tokens and the pushes on them."""

import math
from dataclasses import dataclass

import ipywidgets as widgets

from hmpo_lib.means import log_power_mean, power_mean_weights
from hmpo_lib.teach.panels import Panel, p_label, p_slider
from hmpo_lib.teach.plotting import Canvas, signed
from hmpo_lib.teach.shared.real_answer import RealAnswer
from hmpo_lib.teach.tokens import draw_tokens

FULL_RATIO = math.log(2)  # the shade is full at twice or half
LONGEST_ARROW = 3.0  # times the equal push 1/n


@dataclass(frozen=True)
class AnswerView:
    """The answer's tokens under one exponent: their shares, and their pushes for an advantage of this sign."""

    tokens: tuple[str, ...]
    p: float
    advantage: float
    mean: float
    shares: tuple[float, ...]

    @property
    def pushes(self) -> list[float]:
        """A M_p W_t of each token, in units of the push 1/n that each would get if all ratios were 1."""
        return [self.advantage * self.mean * share * len(self.tokens) for share in self.shares]


def view_answer(answer: RealAnswer, p: float, advantage: float) -> AnswerView:
    """Shares and mean of an answer's ratios."""
    d = answer.ratios.log()
    mean = log_power_mean(d, p).exp().item()
    return AnswerView(tuple(answer.tokens), p, advantage, mean, tuple(power_mean_weights(d, p).tolist()))


def answer_caption(view: AnswerView) -> str:
    """The total push, and the token with the largest share."""
    n, largest = len(view.tokens), max(view.shares)
    where = view.shares.index(largest)
    equal = largest - min(view.shares) < 1e-9
    which = f"{n * largest:.2f} times an equal one, is that of token {where + 1}, “{view.tokens[where]}”"
    shares = "all shares are equal" if equal else f"the largest share, {which}"
    return f"{p_label(view.p)}: in all a push of {signed(view.advantage * view.mean)}; {shares}."


def real_pushes(answer: RealAnswer, *, p: float = -1.0, advantage: float = 1.0) -> Panel[AnswerView]:
    """A real answer, shaded by its ratios; below, by its tokens' shares for a chosen p, with arrows for the pushes."""
    canvas = Canvas(760, 230)
    axes = canvas.mosaic("r;w", height_ratios=[1, 2.6])
    axes["r"].set_title(f"{answer.prompt}   shaded by the ratios", loc="left", fontsize=10, fontweight="bold")
    axes["w"].set_title("shaded by the shares; arrows: the pushes", loc="left", fontsize=10, fontweight="bold")
    draw_tokens(canvas, axes["r"], answer.tokens, limit=FULL_RATIO)(answer.ratios.log().tolist())
    move = draw_tokens(canvas, axes["w"], answer.tokens, limit=FULL_RATIO, arrow_limit=LONGEST_ARROW)

    def draw(view: AnswerView) -> None:
        # At p = ±∞ a token has share 0; its shade is full long before.
        move([math.log(max(len(view.shares) * share, 1e-9)) for share in view.shares], view.pushes)

    sign = widgets.ToggleButtons(options=[("advantage A = +1", 1.0), ("advantage A = −1", -1.0)], value=advantage)
    return Panel(
        {"p": p_slider(value=p), "advantage": sign},
        lambda p, advantage: view_answer(answer, p, advantage),
        canvas,
        draw=draw,
        caption=answer_caption,
        alt=f"The answer {answer.prompt}{''.join(answer.tokens)}, shaded by its ratios, and again by the shares, "
        "with an arrow for the push on each token.",
    )
