"""One real answer: what notebooks 00 and 01 show of the recorded ratios."""

from typing import NamedTuple

from torch import Tensor

from hmpo_lib.teach.shared.recorded_ratios import load_recorded_ratios

# Picked because something is to be seen: it begins to work the sum out, and makes one mistake on the way.
STAGE, STALENESS, ROW = "start of training", 16, 736


class RealAnswer(NamedTuple):
    """A completion of the shipped model, and how its tokens' probabilities have changed since it was sampled.

    Attributes:
        prompt: the question.
        tokens: the answer's tokens as text, its end included.
        ratios: ``[tokens]``, float64.
        reward: 1.0 if the number is right, else 0.0.
        staleness: optimizer steps since it was sampled; none of them learned from it.
    """

    prompt: str
    tokens: list[str]
    ratios: Tensor
    reward: float
    staleness: int


def real_answer() -> RealAnswer:
    """A recorded answer; `tools/record_ratios.py` says how it was made.

    >>> answer = real_answer()
    >>> answer.prompt + "".join(answer.tokens)
    '9+19+5+5=(9+19=24,24+5=28,28+5=33)33⏎'
    """
    sample = load_recorded_ratios().at(STAGE, STALENESS)
    ratios: Tensor = sample.log_ratios[ROW][sample.completion_mask[ROW]].exp()
    reward = float(sample.rewards[ROW])
    return RealAnswer(sample.prompt(ROW), sample.token_texts(ROW), ratios, reward, STALENESS)
