"""Exercises with instant checks, each from one source: the solution.

From the solution's signature and docstring the notebook's stub is made, from its results on the probes the check, and
its body is what "Show the solution" unfolds. A check never raises what the reader's function raises: it says it.
"""

import ast
import copy
import html
import inspect
import linecache
import math
import re
import reprlib
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from hmpo_lib.teach.limits import SECONDS, TimeUp, TooLarge, require_small, time_limit
from hmpo_lib.teach.plotting import GREEN, GREY, ORANGE

# Far above what float32 or another order of summation makes of a right answer, far below a wrong one.
RELATIVE_TOLERANCE = 1e-4
ABSOLUTE_TOLERANCE = 1e-6

# Every exercise whose package has been imported, by name.
EXERCISES: dict[str, "Exercise"] = {}

LONGEST_SHOWN = 100  # characters of a value in a message
LONGEST_ERROR = 300  # and of what an error says
_SHORT = reprlib.Repr()  # which does not write out a large dictionary or set
_SHORT.maxdict = _SHORT.maxset = _SHORT.maxlong = _SHORT.maxother = LONGEST_SHOWN


@dataclass(frozen=True)
class Verdict:
    """What a check found, in words; with the solution folded away unless the answer was right."""

    right: bool
    text: str
    colour: str
    solution: str = ""

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        # The text keeps the page's own colour, so that it can be read in a light and in a dark theme.
        said = re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(self.text))
        fold = (
            f"<details><summary>Show the solution</summary><pre>{html.escape(self.solution)}</pre></details>"
            if self.solution
            else ""
        )
        box = f'<div style="border-left: 4px solid {self.colour}; padding-left: 10px"><p>{said}</p>{fold}</div>'
        return {"text/html": box, "text/plain": self.text}


class Attempt:
    """A context manager that keeps whatever ordinary error leaves its block; KeyboardInterrupt passes."""

    error: Exception | None = None

    def __enter__(self) -> "Attempt":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        # What a reader writes may raise anything, and must neither stop "Run All" nor bury the message in a traceback.
        if isinstance(error, Exception):
            self.error = error
            return True
        return False


@dataclass(frozen=True)
class Exercise:
    """A task whose solution is known, tried on probes.

    Attributes:
        solution: the right function. Its docstring is the task, its source uses only names that the notebook has.
        probes: tuples of arguments on which an answer is compared with the solution.
        mistakes: a wrong function for each hint; recognised by giving the same results on all probes.
        insight: one sentence of what a right answer means.
    """

    solution: Callable[..., Any]
    probes: Sequence[tuple[Any, ...]]
    mistakes: Mapping[str, Callable[..., Any]]
    insight: str

    @property
    def name(self) -> str:
        """The function's name, by which `check` finds the exercise."""
        return self.solution.__name__

    @property
    def notebook(self) -> str:
        """The notebook's name without its number: that of the package in which the exercise is written."""
        return self.solution.__module__.split(".")[-2]

    @property
    def cell(self) -> str:
        """The notebook's cell: signature, task, dots to be replaced, and the check."""
        head, task, _ = self._source()
        return f"{head}{task}    ...  # your code here\n\n\ncheck({self.name})"

    @property
    def solution_source(self) -> str:
        """The solution without its docstring."""
        head, _, body = self._source()
        return head + body

    def _source(self) -> tuple[str, str, str]:
        """The solution's signature, docstring and body, without decorators."""
        source = inspect.getsource(self.solution)
        function = ast.parse(source).body[0]
        assert isinstance(function, ast.FunctionDef)
        assert ast.get_docstring(function), f"{self.name} has no docstring, and so no task"
        task, *_ = function.body
        lines = source.splitlines(keepends=True)
        first, last = task.lineno - 1, task.end_lineno
        return "".join(lines[function.lineno - 1 : first]), "".join(lines[first:last]), "".join(lines[last:])

    def results(self, function: Callable[..., Any]) -> list[Any]:
        """What a function gives on each probe, as plain data; it gets copies, so that it cannot spoil them."""
        return [plain(function(*copy.deepcopy(probe))) for probe in self.probes]

    def check(self, answer: Callable[..., Any]) -> Verdict:
        """Compare an answer with the solution and the known mistakes."""
        expected = self.results(self.solution)
        wrong = {hint: self.results(mistake) for hint, mistake in self.mistakes.items()}
        try:
            with Attempt() as attempt:
                with time_limit(SECONDS):
                    given = self.results(answer)
                return self._judge(given, expected, wrong)
        except TimeUp:
            return self._not_yet(
                f"The function was not through after {SECONDS:g} seconds, and was stopped: is there a loop in it that "
                "never ends?"
            )
        if isinstance(attempt.error, TooLarge):
            return self._not_yet(f"The function gives {attempt.error}: print its shape, and think of what is asked.")
        assert attempt.error is not None
        return self._not_yet(f"The function stops with {_describe(attempt.error, answer)}")

    def _judge(self, given: list[Any], expected: list[Any], wrong: Mapping[str, list[Any]]) -> Verdict:
        if all(result is None or result is ... for result in given):
            text = "Not written yet: the function returns nothing. Put your code where the dots are, with a `return`."
            return Verdict(False, text, GREY, self.solution_source)
        if same(given, expected):
            return Verdict(True, f"✓ Right. {self.insight}", GREEN)
        for hint, mistake in wrong.items():
            if same(given, mistake):
                return self._not_yet(hint)
        differs = next(k for k, pair in enumerate(zip(given, expected, strict=True)) if not same(*pair))
        names = inspect.signature(self.solution).parameters
        arguments = ", ".join(
            f"{name} = {shown(value)}" for name, value in zip(names, self.probes[differs], strict=True)
        )
        return self._not_yet(
            f"For `{arguments}` the function gives `{shown(given[differs])}`, expected is `{shown(expected[differs])}`."
        )

    def _not_yet(self, text: str) -> Verdict:
        return Verdict(False, f"✗ Not yet. {text}", ORANGE, self.solution_source)


def exercise(
    *, probes: Sequence[tuple[Any, ...]], mistakes: Mapping[str, Callable[..., Any]], insight: str
) -> Callable[[Callable[..., Any]], Exercise]:
    """Make the decorated function the solution of an exercise; see `Exercise` for the arguments.

    >>> @exercise(probes=[(2,), (3,)], mistakes={"That is twice x.": lambda x: 2 * x}, insight="It grows fast.")
    ... def square(x):
    ...     '''The number times itself.'''
    ...     return x * x
    >>> square.check(lambda x: 2 * x).text
    '✗ Not yet. That is twice x.'
    """

    def register(solution: Callable[..., Any]) -> Exercise:
        made = Exercise(solution, probes, mistakes, insight)
        EXERCISES[made.name] = made
        return made

    return register


def check(answer: Callable[..., Any]) -> Verdict:
    """Check a function written for the exercise of its name. Nothing is stored or graded.

    A function that no exercise is named after, such as a lambda, is told so.

    >>> import hmpo_lib.teach.three_means
    >>> def turning_point(r): ...
    >>> check(turning_point).text
    'Not written yet: ...'
    """
    name = getattr(answer, "__name__", None)
    if isinstance(name, str) and name in EXERCISES:
        return EXERCISES[name].check(answer)
    got = f"No exercise is called `{name}`" if isinstance(name, str) else f"`{type(answer).__name__}` is no function"
    names = ", ".join(f"`{known}`" for known in EXERCISES)
    text = f"{got}: a check goes by the name behind `def`, so keep the one of the cell. Here it is one of {names}."
    return Verdict(False, text, GREY)


def plain(value: Any) -> Any:
    """Tensors and arrays as lists or numbers, tuples as lists.

    Raises:
        TooLarge: more elements than any exercise asks for.

    >>> plain((1, [2.5, "a"]))
    [1, [2.5, 'a']]
    """
    require_small(value)
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value.tolist() if hasattr(value, "tolist") else value


def same(given: Any, expected: Any) -> bool:
    """Whether two pieces of plain data agree, numbers within the tolerance.

    >>> same([0.333333, "a"], [1 / 3, "a"]), same(0.333, 1 / 3), same(math.nan, math.nan), same(math.nan, 1.0)
    (True, False, True, False)
    """
    if isinstance(given, list) and isinstance(expected, list):
        return len(given) == len(expected) and all(map(same, given, expected))
    if isinstance(given, int | float) and isinstance(expected, int | float):
        both_nan = math.isnan(given) and math.isnan(expected)  # as a known mistake may give
        return both_nan or math.isclose(given, expected, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE)
    return bool(given == expected)


def shown(value: Any) -> str:
    """A value as a message has it: five digits, no rounding errors of 0, and not too long.

    >>> shown((0.123456, [1.0, "a"]))
    "[0.12346, [1, 'a']]"
    """
    value = _plain(value)
    if isinstance(value, list):
        text = f"[{', '.join(map(shown, value))}]"
    elif isinstance(value, float):
        text = "0" if abs(value) < ABSOLUTE_TOLERANCE else f"{value:.5g}"
    elif isinstance(value, str | bytes):
        text = repr(value[: LONGEST_SHOWN + 1])
    else:
        text = _SHORT.repr(value)
    return _cut(text, LONGEST_SHOWN)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _describe(error: Exception, answer: Callable[..., Any]) -> str:
    """An error's type and message, and the line of the reader's own cell in which it arose."""
    said = _cut(traceback.format_exception_only(error)[-1].strip(), LONGEST_ERROR)  # also where it cannot say itself
    own = answer.__code__.co_filename if inspect.isfunction(answer) else None
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == own]
    if not lines:
        return f"{said}."
    code = linecache.getline(lines[-1].filename, lines[-1].lineno or 0).strip()
    return f"{said}: look at line {lines[-1].lineno} of the cell, `{code}`."
