"""Corrupted files, made from whole ones: cut at every boundary, types swapped, keys dropped, links put in."""

import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

DEEP = "[" * 100_000
# In place of a value, each that is of another type or size than it.
VALUES = (None, True, -1, 0, 2**70, 1.5, "x", "../x", [], {}, ["x"], {"x": 1})


class Bomb:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("a pickle was opened",)


def cut_and_replaced(data: bytes, cuts: int = 12) -> Iterator[tuple[str, bytes]]:
    """The content of a file, cut at boundaries or replaced by other content."""
    boundaries = {index + 1 for index, byte in enumerate(data[:4096]) if byte in b"\n{}[],:"}
    boundaries |= {1, 7, 8, 9, len(data) // 2, len(data) - 1}  # eight bytes tell a safetensors header's length
    kept = sorted(boundaries - {0, len(data)})
    for place in kept[:: max(1, len(kept) // cuts)]:
        yield f"cut to {place} bytes", data[:place]
    yield "cut by one byte", data[:-1]
    yield "empty", b""
    yield "a pickle", pickle.dumps(Bomb())
    yield "zeros", bytes(len(data))
    yield "one byte changed", bytes([*data[:20], data[20] ^ 0x55, *data[21:]])
    yield "not UTF-8", b"\xff\xfe" + data
    yield "a header that lies", (2**62).to_bytes(8, "little") + data[8:]


def changed_json(value: dict[str, Any], depth: int = 2) -> Iterator[tuple[str, bytes]]:
    """An object of JSON with a key dropped or a value swapped, at most so deep; and what is no object."""
    for name, changed in _changed(value, depth):
        yield name, json.dumps(changed).encode()
    for top in ("[]", "3", "null", '"x"', DEEP, '{"a":' * 50_000, json.dumps([value])):
        yield f"top level {top:.10}", top.encode()


def _changed(value: dict[str, Any], depth: int) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, old in value.items():
        yield f"without {key}", {name: other for name, other in value.items() if name != key}
        for new in VALUES:
            if type(new) is not type(old) or new != old:
                yield f"{key} = {new!r}", value | {key: new}
        if depth > 1 and isinstance(old, dict):
            for name, changed in _changed(old, depth - 1):
                yield f"{key}.{name}", value | {key: changed}


def _link_to_copy(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def _replace(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        make(path)

    return replace


# What stands in the place of a file or folder.
PLACES: dict[str, Callable[[Path], None]] = {
    "missing": _replace(lambda path: None),
    "a folder": _replace(lambda path: path.mkdir()),
    "a pipe": _replace(os.mkfifo),
    "a link to nowhere": _replace(lambda path: path.symlink_to("nowhere")),
    "a link to itself": _replace(lambda path: path.symlink_to(path.name)),
    "a link to a device": _replace(lambda path: path.symlink_to("/dev/zero")),
    "a link to a copy": _link_to_copy,
}
