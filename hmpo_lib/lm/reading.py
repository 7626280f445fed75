"""Reading files that anyone may have written: what is wrong with one is a line that says what to do."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any

LONGEST_SAID = 300  # characters of another library's message


class Reading:
    """A context manager in which every ordinary error becomes a ValueError of one line.

    For what other libraries say of a file: transformers and tokenizers raise all kinds of errors, down to plain
    Exception. What is a ValueError or OSError of one line already, and anything else than an Exception, passes.

    Args:
        what: begins the line, such as "config.json makes no model".
        advice: ends it.

    >>> with Reading("x.json is no number", advice="restore it"):
    ...     int([])
    Traceback (most recent call last):
    ...
    ValueError: x.json is no number (TypeError: int() argument must be a string, ...): restore it.
    """

    def __init__(self, what: str, *, advice: str) -> None:
        self.what, self.advice = what, advice

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # The binding of tokenizers panics where it trips over a file, which is no Exception.
        panics = type(error).__name__ == "PanicException"
        if isinstance(error, Exception) or panics:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise ValueError(f"{self.what} ({said[:LONGEST_SAID]}): {self.advice}.") from error


def require_file(path: Path, *, advice: str) -> None:
    """Refuses what is no regular file: reading from a pipe or a device may never end.

    Raises:
        FileNotFoundError: nothing is there, or a link that leads nowhere.
        ValueError: something else than a file.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: {advice}.")
    if not path.is_file():
        raise ValueError(f"{path} is no regular file: {advice}.")


def require_plain_path(path: str | Path) -> None:
    """Refuses a path that is not UTF-8: it could be read, but neither be written down nor come back.

    Raises:
        ValueError: such a path.
    """
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"the path {str(path)!a} is not UTF-8: expected one that is; rename it.") from error


def read_object(path: Path, *, advice: str) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        FileNotFoundError: no file there.
        ValueError: no regular file, no JSON, or no object.
    """
    require_file(path, advice=advice)
    try:
        value = json.loads(path.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}): {advice}.") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a {type(value).__name__}: expected a JSON object; {advice}.")
    return value


def require_keys(values: dict[str, Any], types: dict[str, type | tuple[type, ...]], where: str, *, advice: str) -> None:
    """Refuses an object without these keys or with values of other types.

    Args:
        values: the object.
        types: of the value of every key that has to be there. A bool is no int here, and an int is a float.
        where: the file, for the message.
        advice: ends the message.

    Raises:
        ValueError: a key is missing, or a value is of another type.
    """
    for name, allowed in types.items():
        allowed = allowed if isinstance(allowed, tuple) else (allowed,)
        if name not in values:
            raise ValueError(f"{where} has no {name!r}: {advice}.")
        kind = type(values[name])
        if kind not in allowed and not (kind is int and float in allowed):
            names = " or ".join("null" if one is type(None) else one.__name__ for one in allowed)
            raise ValueError(f"{name!r} in {where} is {values[name]!r:.80}: expected {names}; {advice}.")
