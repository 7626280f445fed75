"""The notebooks' exercises: the module with a notebook's name, less its number, holds that notebook's two."""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

from hmpo_lib.teach.checks import Exercise, Verdict

EXERCISES: dict[str, Exercise] = {
    exercise.name: exercise
    for module in pkgutil.iter_modules(__path__)
    for exercise in vars(importlib.import_module(f"{__name__}.{module.name}")).values()
    if isinstance(exercise, Exercise)
}


def check(answer: Callable[..., Any]) -> Verdict:
    """Check a function written for the exercise of its name. Nothing is stored or graded.

    Raises:
        ValueError: there is no exercise of this name.

    >>> def tokens_heard(r, p): ...
    >>> check(tokens_heard).text
    'Not written yet: ...'
    """
    name = getattr(answer, "__name__", repr(answer))
    if name not in EXERCISES:
        raise ValueError(f"no exercise is called {name}: check one of {', '.join(EXERCISES)}.")
    return EXERCISES[name].check(answer)
