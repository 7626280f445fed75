"""Tasks beside the sums: a file of questions and answers, and the generated problems of reasoning_gym.

Where a run stands in its data is the state of the generator that it draws with, and nothing else: a resumed run draws
the prompts that it would have drawn.
"""

import codecs
import difflib
import importlib.metadata
import importlib.util
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from hmpo_lib.lm.answers import is_readable, is_same_answer, stated_answer
from hmpo_lib.lm.reading import require_file, require_plain_path
from hmpo_lib.lm.tasks import SUMS, Task

# Whose scorers were looked at: another version may have others that run what a model writes.
AUDITED = "0.1.25"
# Their scorers run the answer as Python code, by eval or sympy's parse_expr (found by an audit hook); composite mixes
# any others. A model that is being trained may write anything.
RUN_THE_ANSWER = {
    "binary_matrix",
    "composite",
    "countdown",
    "intermediate_integration",
    "n_queens",
    "polynomial_multiplication",
    "puzzle24",
    "simple_integration",
    "spiral_matrix",
    "string_insertion",
}
# Their problems depend on the order of sets, which differs from process to process (found by comparing two).
DEPEND_ON_HASH_SEED = {"isomorphic_strings", "knight_swap", "ransom_note", "word_ladder"}
# What the scorers of four datasets raise on an answer that they cannot read; the others return a number.
UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, SyntaxError, RecursionError)


def load_task(text: str) -> Task:
    """The task that a command line names.

    Args:
        text: ``sums``, ``gym:NAME`` for a dataset of reasoning_gym, or the path of a ``.jsonl`` file of questions.

    Raises:
        ValueError: none of these, or a name or file that is refused.
        FileNotFoundError: there is no such file.
    """
    if text == "sums":
        return SUMS
    if text.startswith("gym:"):
        return gym_task(text.removeprefix("gym:"))
    if text.endswith(".jsonl"):
        return question_file(text)
    raise ValueError(f"unknown task {text!r}: expected sums, gym:NAME or the path of a .jsonl file of questions.")


# --- a file of questions ---------------------------------------------------------------------------------------------


def question_file(path: str | Path, *, to_prompt: Callable[[str], str] = str) -> Task:
    """A task from JSON Lines: one object a line, with ``question`` and ``answer``, as in GSM8K (arXiv 2110.14168).

    An answer is what stands after ``####`` in it, or all of it. Numbers count as equal by value, exactly; other
    answers by their words (`is_same_answer`). The reward is 1 or 0.

    Args:
        path: the file, UTF-8.
        to_prompt: question -> what the model sees, such as ``tokenizer.apply_chat_template(..., tokenize=False)``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no regular file; a line that is not of this form, with its number; a question with two answers; no
            question.
    """
    require_plain_path(path)
    require_file(Path(path), advice="expected a file of questions, JSON Lines in UTF-8")
    answers: dict[str, str] = {}
    lines = Path(path).read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        question, answer = _question_and_answer(line, f"{path}, line {number}")
        prompt = to_prompt(question)
        if answers.setdefault(prompt, answer) != answer:
            raise ValueError(
                f"{path}, line {number}: the prompt {prompt!r} has the answer {answer!r} here and "
                f"{answers[prompt]!r} before: expected one; take out one of the lines."
            )
    if not answers:
        raise ValueError(f"{path} holds no question: expected a JSON object a line, with question and answer.")
    prompts = list(answers)

    def sample_prompts(count: int, generator: torch.Generator) -> list[str]:
        return [prompts[i] for i in torch.randint(len(prompts), (count,), generator=generator).tolist()]

    def reward_fn(prompt: str, completion: str) -> float:
        if prompt not in answers:
            raise ValueError(f"the prompt {prompt!r} is none of {path}: expected one that its task sampled.")
        return float(is_same_answer(completion, answers[prompt]))

    return Task(sample_prompts, reward_fn)


def _question_and_answer(line: bytes, where: str) -> tuple[str, str]:
    form = 'expected a JSON object such as {"question": "2 + 2?", "answer": "#### 4"}'
    try:
        # Numbers as they are written: no float comes between.
        entry = json.loads(line.decode("utf-8"), parse_int=str, parse_float=str)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: {error}: {form}.") from error
    values = [entry.get(key) for key in ("question", "answer")] if isinstance(entry, dict) else []
    texts = [text for text in values if isinstance(text, str) and text.strip()]
    if len(texts) != 2:
        raise ValueError(f"{where}: got {line[:80].decode('utf-8', 'replace')!r}: {form}.")
    question, answer = texts[0], stated_answer(texts[1])
    if not is_readable(answer):
        raise ValueError(f"{where}: the answer holds no word and no number, but {answer!r}: {form}.")
    return question, answer


# --- reasoning_gym ---------------------------------------------------------------------------------------------------


def gym_task(
    name: str,
    *,
    seed: int = 0,
    to_prompt: Callable[[str], str] = str,
    to_answer: Callable[[str], str | None] = str.strip,
    **settings: Any,
) -> Task:
    """A task from a dataset of reasoning_gym (arXiv 2505.24760), scored by the dataset's own ``score_answer``.

    The problems are those of a pool: with ``size`` n and ``seed`` s, numbers s·n to s·n + n − 1 of the dataset's
    sequence. An answer that the scorer cannot read earns 0.

    Args:
        name: of the dataset, such as ``chain_sum``.
        seed: which pool, from 0. Small problems can still be the same in two pools by chance.
        to_prompt: question -> what the model sees. Different questions need different prompts.
        to_answer: completion -> the answer in it, for the scorer; default: all of it, without spaces around. For a
            model that puts its answers into ``<answer>`` tags: ``reasoning_gym.utils.extract_answer``.
        settings: of the dataset, such as ``min_terms=3``; ``size`` problems are in the pool.

    Raises:
        ModuleNotFoundError: reasoning_gym is not installed.
        ValueError: a version of it other than `AUDITED`; an unknown name, with those that are close; settings that the
            dataset refuses; a dataset whose scorer runs the answer as code; one whose problems differ from process to
            process.
    """
    dataset = _create_dataset(name, seed, settings)
    entries: dict[str, dict[str, Any]] = {}

    def draw(index: int) -> str:
        entry = _entry(dataset, index)
        prompt = to_prompt(entry["question"])
        known = entries.setdefault(prompt, entry)
        if known["question"] != entry["question"]:
            raise ValueError(
                f"to_prompt made {prompt!r} of two questions, {known['question']!r} and {entry['question']!r}: "
                "expected different prompts."
            )
        entries[prompt] = entry  # the latest: what stands here must not depend on what was drawn long ago
        return prompt

    def sample_prompts(count: int, generator: torch.Generator) -> list[str]:
        return [draw(i) for i in torch.randint(len(dataset), (count,), generator=generator).tolist()]

    def reward_fn(prompt: str, completion: str) -> float:
        for index in range(len(dataset) if prompt not in entries else 0):  # drawn before a run was resumed
            draw(index)
        if prompt not in entries:
            raise ValueError(f"the prompt {prompt!r} is none of {name}'s pool: expected one that its task sampled.")
        answer = to_answer(completion)
        try:
            return float(dataset.score_answer(answer, entries[prompt]))
        except UNREADABLE:
            return 0.0

    return Task(sample_prompts, reward_fn)


def _create_dataset(name: str, seed: int, settings: dict[str, Any]) -> Any:
    datasets, create = _reasoning_gym(name)
    if name not in datasets:
        close = difflib.get_close_matches(name, datasets, n=5, cutoff=0.4) or sorted(datasets)
        raise ValueError(f"unknown dataset {name!r}: expected one of reasoning_gym's, such as {', '.join(close)}.")
    if name in RUN_THE_ANSWER:
        raise ValueError(f"{name} is refused: its scorer would run what the model writes as Python code.")
    if name in DEPEND_ON_HASH_SEED and sys.flags.hash_randomization:
        raise ValueError(
            f"the problems of {name} would differ from one process to the next: expected Python to be started with "
            "PYTHONHASHSEED=0 in its environment, so that a run can be repeated and resumed."
        )
    if seed < 0:
        raise ValueError(f"seed is {seed}: expected a whole number from 0.")
    try:
        size = len(create(name, **settings, seed=0))
        return create(name, **settings, seed=seed * size)  # problem i is made from seed + i
    except (TypeError, AssertionError) as error:
        raise ValueError(f"{name} refuses {settings}: {error}; see its configuration in reasoning_gym.") from error


def _reasoning_gym(name: str) -> tuple[dict[str, Any], Callable[..., Any]]:
    """Its table of datasets and what makes one; imported on the first use, which takes a second or two."""
    if "pycosat" not in sys.modules and importlib.util.find_spec("pycosat") is None:
        # Used by zebra_puzzles alone, but imported with all. It has no wheels: this spares the others a C compiler.
        sys.modules["pycosat"] = ModuleType("pycosat")
    try:
        from reasoning_gym.factory import DATASETS, create_dataset
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'the task {name} needs {error.name}, which is not installed: pip install "hmpo-lib[gym]".'
        ) from error
    if (version := importlib.metadata.version("reasoning_gym")) != AUDITED:
        raise ValueError(
            f"reasoning_gym is {version}: expected {AUDITED}, of whose scorers it is known which run what the model "
            'writes; pip install "hmpo-lib[gym]".'
        )
    if name == "zebra_puzzles" and not hasattr(sys.modules["pycosat"], "itersolve"):
        raise ModuleNotFoundError("the task zebra_puzzles needs pycosat: pip install pycosat, with a C compiler.")
    return DATASETS, create_dataset


def _entry(dataset: Any, index: int) -> dict[str, Any]:
    """A problem; list_functions draws some from Python's global generator, which is fixed for it and put back."""
    state = random.getstate()
    random.seed(index)
    try:
        return dataset[index]
    finally:
        random.setstate(state)
