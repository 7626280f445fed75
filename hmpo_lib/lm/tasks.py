"""The sums task: add three to five numbers below 20, answered directly or with the work shown.

A prompt is ``7+12+5=``. A direct answer is ``24``; a worked one is ``(7+12=19,19+5=24)24``. The reward looks at the
final number only: nothing pays for showing the work, except that it helps to be right.
"""

import re
import zlib
from collections.abc import Callable
from typing import NamedTuple

import torch

CHARACTERS = "0123456789+-*=(),"
MAX_COMPLETION_LENGTH = 40  # tokens of the longest worked answer, eos included: (19+19=38,38+19=57,57+19=76,76+19=95)95

_PROMPT = re.compile(r"\d+(\+\d+)+=")
_MOST_DIGITS = 4300
_COMPLETION = re.compile(r"(\([^()]*\))?(\d+)")


class Task(NamedTuple):
    """What `fine_tune` needs to know of a task: ``fine_tune(model, tokenizer, config, **task._asdict())``.

    Attributes:
        sample_prompts: (count, generator) -> prompts; where it stands in the data is the generator's state alone.
        reward_fn: (prompt, completion) -> reward.
    """

    sample_prompts: Callable[[int, torch.Generator], list[str]]
    reward_fn: Callable[[str, str], float]


class Question(NamedTuple):
    """A sum to work out."""

    terms: tuple[int, ...]

    @property
    def prompt(self) -> str:
        """The text the model sees."""
        return "+".join(map(str, self.terms)) + "="

    @property
    def direct_answer(self) -> str:
        """The sum alone."""
        return str(sum(self.terms))

    @property
    def worked_answer(self) -> str:
        """The sum after every addition that leads to it."""
        total, steps = self.terms[0], []
        for term in self.terms[1:]:
            steps.append(f"{total}+{term}={total + term}")
            total += term
        return f"({','.join(steps)}){total}"

    @property
    def held_out(self) -> bool:
        """True for the tenth of all sums kept for evaluation, never seen in pretraining or fine-tuning.

        By a checksum of the sorted terms, so that 7+12+5 and 12+5+7 fall on the same side on every machine.
        """
        return zlib.crc32("+".join(map(str, sorted(self.terms))).encode()) % 10 == 0


def sample_questions(count: int, generator: torch.Generator, *, held_out: bool = False) -> list[Question]:
    """Draws questions with 3 to 5 terms from 0 to 19, from the training side of the split or the held-out one."""
    questions: list[Question] = []
    while len(questions) < count:
        terms = torch.randint(20, (5,), generator=generator).tolist()
        length = int(torch.randint(3, 6, (), generator=generator))
        question = Question(tuple(terms[:length]))
        if question.held_out == held_out:
            questions.append(question)
    return questions


def sample_prompts(count: int, generator: torch.Generator) -> list[str]:
    """Draws prompts for training; the form that `fine_tune` takes."""
    return [question.prompt for question in sample_questions(count, generator)]


def final_number(completion: str) -> int | None:
    """The number a completion ends with, after at most one bracket of work; None where it is not of that form.

    Nor is a number of more digits than Python reads: a model in training may write anything.
    """
    match = _COMPLETION.fullmatch(completion)
    return int(match[2]) if match and len(match[2]) <= _MOST_DIGITS else None


def is_worked(completion: str) -> bool:
    """Whether a completion shows work before its final number."""
    match = _COMPLETION.fullmatch(completion)
    return match is not None and match[1] is not None


def reward_correct(prompt: str, completion: str) -> float:
    """1 where the final number is the sum that the prompt asks for, else 0; the text is parsed, never evaluated.

    Raises:
        ValueError: the prompt is not a sum.

    >>> reward_correct("7+12+5=", "(7+12=19,19+5=24)24"), reward_correct("7+12+5=", "25")
    (1.0, 0.0)
    """
    if not _PROMPT.fullmatch(prompt):
        raise ValueError(f"the prompt {prompt!r} is not a sum: expected a form such as '7+12+5='.")
    return float(final_number(completion) == sum(map(int, prompt[:-1].split("+"))))


SUMS = Task(sample_prompts, reward_correct)


def require_readable(task: Task, count: int = 8) -> None:
    """Raises ValueError where the shipped model cannot read some of a task's prompts: it knows CHARACTERS alone."""
    for prompt in task.sample_prompts(count, torch.Generator()):
        if unknown := sorted(set(prompt) - set(CHARACTERS)):
            raise ValueError(
                f"the shipped model cannot read the prompt {prompt!r}, with {unknown[0]!r} in it: expected the "
                f"characters {CHARACTERS} alone; give a --model that reads text, or put the prompts in this form "
                "(to_prompt in notebook 10)."
            )
