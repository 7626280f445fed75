"""How much a check puts up with: an answer's size, and the time that a reader's function may take."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

LARGEST = 10_000  # elements of an answer; the solutions give some hundreds at the most
SECONDS = 10.0  # for all probes together; the solutions take far below one


class TooLarge(Exception):
    """An answer has more elements than a check looks at."""


class TimeUp(BaseException):
    """A function was not through in time. No Exception, so that the function's own ``except`` does not take it."""


def require_small(value: Any) -> None:
    """Raises TooLarge where tensors, arrays, lists and tuples, nested or not, hold more than `LARGEST` elements.

    Nothing is copied: a tensor of 50 million elements would be a list of several gigabytes.
    """
    _room_left(value, LARGEST)


def _room_left(value: Any, room: int) -> int:
    if hasattr(value, "tolist"):
        # numpy's and torch's own counts; what else can become a list has a length.
        counts = [getattr(value, name, None) for name in ("numel", "size")]
        count = next((int(c() if callable(c) else c) for c in counts if c is not None), None)
        room -= len(value) if count is None else count
    elif isinstance(value, list | tuple):
        room -= len(value)
        if room >= 0:
            for part in value:
                room = _room_left(part, room)
    if room < 0:
        raise TooLarge(f"more than {LARGEST:,} elements")
    return room


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Breaks the block off after so many seconds, on every platform and in every thread.

    Python's trace function looks at the clock before each line. What runs inside one call of a compiled library is not
    broken off.

    Raises:
        TimeUp: the time was up.
    """
    deadline = time.monotonic() + seconds

    def look(frame: FrameType, event: str, argument: Any) -> Any:
        if time.monotonic() > deadline:
            raise TimeUp
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        yield
    finally:
        sys.settrace(before)
