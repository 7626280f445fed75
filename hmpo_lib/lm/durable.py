"""Folders that appear on disk whole or not at all, with a SHA-256 of every file in them.

Written beside their place under a hidden name, flushed to the disk, then renamed: a crash at any moment leaves the
whole folder, or the hidden rest of an unfinished one, which the next writing clears away. A folder that is there
already is moved aside first; after a crash between the two renamings the next writing moves it back.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

CHECKSUM_FILE = "SHA256SUMS"
_UNFINISHED = ".unfinished"
_REPLACED = f".replaced{_UNFINISHED}"


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Gives a hidden folder to write into, which takes the name ``path`` (and the place of what is there) at the end.

    Raises:
        OSError: it could not be written, as on a full disk; nothing of it is left, and what was at ``path`` is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_unfinished(path.parent)
    hidden = _hidden(path)
    hidden.mkdir()
    try:
        yield hidden
        write_checksums(hidden)
        for file in [*hidden.iterdir(), hidden]:
            flush(file)
        _take_place(hidden, path)
        flush(path.parent)
    except SafetensorError as error:  # what its writer says of a full disk
        raise OSError(f"{path} could not be written: {error}") from error
    except OSError as error:
        raise OSError(error.errno, f"{path} could not be written: {error.strerror}") from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)  # there after an error alone


def _take_place(hidden: Path, path: Path) -> None:
    """Renames a folder to ``path``; what is there stays if that fails, else it goes."""
    if not path.exists():
        hidden.rename(path)
        return
    aside = path.with_name(f".{path.name}{_REPLACED}")
    path.rename(aside)
    try:
        hidden.rename(path)
    except OSError:
        aside.rename(path)
        raise
    shutil.rmtree(aside)


def write_file(path: Path, content: str) -> None:
    """Writes a text file that appears whole or not at all, in place of the one that is there."""
    hidden = _hidden(path)
    try:
        hidden.write_text(content, encoding="utf-8", newline="")
        flush(hidden)
        hidden.replace(path)
        flush(path.parent)
    except OSError as error:
        hidden.unlink(missing_ok=True)
        raise OSError(error.errno, f"{path} could not be written: {error.strerror}") from error


def discard(path: Path) -> None:
    """Removes a folder so that no part of it is ever seen without the rest."""
    hidden = path.with_name(f".{path.name}.discarded{_UNFINISHED}")
    path.rename(hidden)
    shutil.rmtree(hidden)


def clear_unfinished(folder: Path) -> None:
    """Removes what crashes have left in a folder, and moves back what they have left aside."""
    for aside in folder.glob(f".*{_REPLACED}"):
        path = folder / aside.name.removeprefix(".").removesuffix(_REPLACED)
        if not path.exists():
            aside.rename(path)
    for rest in folder.glob(f".*{_UNFINISHED}"):
        shutil.rmtree(rest) if rest.is_dir() else rest.unlink()


def flush(path: Path) -> None:
    """Waits until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_checksums(folder: Path) -> None:
    """Writes SHA256SUMS over a folder's files, in the form that ``sha256sum --check`` reads."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name != CHECKSUM_FILE)
    lines = [f"{_sha256(file)}  {file.name}\n" for file in files]
    (folder / CHECKSUM_FILE).write_text("".join(lines), encoding="utf-8", newline="\n")


def damage(folder: Path, required: tuple[str, ...]) -> str | None:
    """What is wrong with a folder of `new_folder`, in words; None where every file is as it was written.

    Args:
        folder: the folder.
        required: the names of files that have to be among those with a checksum.
    """
    listing = folder / CHECKSUM_FILE
    if not listing.is_file():
        return f"{listing} is missing"
    text = listing.read_text(encoding="utf-8", errors="replace")
    expected = {name: checksum for checksum, name in re.findall(r"^([0-9a-f]{64})  (\S+)$", text, re.MULTILINE)}
    for name in required:
        if name not in expected:
            return f"{listing} has no checksum of {name}"
    for name, checksum in expected.items():
        if not (folder / name).is_file():
            return f"{folder / name} is missing"
        if (got := _sha256(folder / name)) != checksum:
            return f"{folder / name} is not as it was written (SHA-256 {got[:12]}, expected {checksum[:12]})"
    return None


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}{_UNFINISHED}")
