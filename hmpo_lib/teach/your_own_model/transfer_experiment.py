"""What training on one kind of generated problems does for other kinds: the exam of notebook 10."""

import re
from collections.abc import Mapping, Set
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hmpo_lib.lm.datasets import gym_task
from hmpo_lib.lm.rollouts import sample_completions
from hmpo_lib.lm.tasks import Task, is_worked

PLUS: dict[str, Any] = {"operators": ("+",), "allow_parentheses": False, "allow_negation": False}
SMALL: dict[str, Any] = {"min_terms": 3, "max_terms": 5, **PLUS}
TRAINED_ON = "the kind trained on"
MINUS = "with minus"
POOL = 500  # problems of a kind from which an exam is drawn
GROUP = 4  # answers to each problem


class Exam(NamedTuple):
    """How a model's answers to one kind of problem came out.

    Attributes:
        kind: the problems, in words.
        score: ``[problems, answers]``, what each answer earned.
        worked: ``[problems, answers]``, 1 where the work is shown, else 0.
        first: the first answer to each problem.
    """

    kind: str
    score: Tensor
    worked: Tensor
    first: list[str]


def to_prompt(question: str) -> str:
    """The sum in a question in words, in the form that the shipped model reads.

    >>> to_prompt("Calculate 10 + 6 + 2.")
    '10+6+2='
    """
    found = re.search(r"[-+\d][-+ \d]*", question)
    assert found is not None, question
    return found[0].replace(" ", "") + "="


def to_answer(completion: str) -> str:
    """What stands after the work.

    >>> to_answer("(7+12=19,19+5=24)24"), to_answer("24")
    ('24', '24')
    """
    return completion.rpartition(")")[2]


def gym(kind: str, *, size: int = POOL, seed: int = 1, **settings: Any) -> Task:
    """A task of reasoning_gym for the shipped model."""
    return gym_task(kind, size=size, seed=seed, to_prompt=to_prompt, to_answer=to_answer, **settings)


def training_task() -> Task:
    """What is trained on: sums of three to five numbers up to 10."""
    return gym("basic_arithmetic", size=5000, seed=0, max_digits=1, **SMALL)


def exam_tasks() -> dict[str, Task]:
    """The four kinds by name: one as in training, one longer, one with another sign, one with larger numbers."""
    return {
        TRAINED_ON: gym("basic_arithmetic", max_digits=1, **SMALL),
        "six numbers": gym("basic_arithmetic", min_terms=6, max_terms=6, max_digits=1, **PLUS),
        MINUS: gym("chain_sum", min_terms=3, max_terms=3, max_digits=1),
        "two digits": gym("basic_arithmetic", min_digits=2, max_digits=2, **SMALL),
    }


def exam_problems(task: Task, seen: Set[str], count: int, *, containing: str = "") -> list[str]:
    """The first ``count`` different prompts of a fixed draw that training has not drawn and that contain this text."""
    drawn = dict.fromkeys(task.sample_prompts(400, torch.Generator().manual_seed(0)))  # each once, in order
    return [prompt for prompt in drawn if prompt not in seen and containing in prompt][:count]


def examine(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Mapping[str, list[str]],
    tasks: Mapping[str, Task],
) -> list[Exam]:
    """Each kind's exam: four sampled answers to each problem, with the gym's own marks; a truncated one earns 0.

    Args:
        model: the one to examine.
        tokenizer: its tokenizer.
        problems: prompts by kind.
        tasks: whose ``reward_fn`` gives the marks, by kind.
    """
    exams = []
    for kind, prompts in problems.items():
        generator = torch.Generator().manual_seed(1)
        sampled = sample_completions(
            model, tokenizer, prompts, group_size=GROUP, max_new_tokens=60, generator=generator
        )
        asked = [prompt for prompt in prompts for _ in range(GROUP)]
        score = torch.tensor([tasks[kind].reward_fn(*pair) for pair in zip(asked, sampled.texts, strict=True)])
        worked = torch.tensor([float(is_worked(text)) for text in sampled.texts])
        score = score.masked_fill(sampled.truncated, 0.0).view(-1, GROUP)
        exams.append(Exam(kind, score, worked.view(-1, GROUP), sampled.texts[::GROUP]))
    return exams
