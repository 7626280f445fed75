"""Folders that appear on disk whole or not at all, with a SHA-256 of every file in them.

Written beside their place under a hidden name, flushed to the disk, then renamed: a crash at any moment leaves the
whole folder, or the hidden rest of an unfinished one, which the next writing of the same name clears away, and nothing
else. A folder that is there already is moved aside first; after a crash between the two renamings the next writing
moves it back.
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
_DISCARDED = f".discarded{_UNFINISHED}"
_IS_WINDOWS = os.name == "nt"


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Gives a hidden folder to write into, which takes the name ``path`` (and the place of what is there) at the end.

    Raises:
        OSError: it could not be written, as on a full disk; nothing of it is left, and what was at ``path`` is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_rests(path)
    hidden = hidden_name(path)
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
    aside = hidden_name(path, _REPLACED)
    path.rename(aside)
    try:
        hidden.rename(path)
    except OSError:
        aside.rename(path)
        raise
    shutil.rmtree(aside)


def write_file(path: Path, content: bytes) -> None:
    """Writes a file that appears whole or not at all, in place of the one that is there."""
    hidden = hidden_name(path)
    try:
        hidden.unlink(missing_ok=True)  # of a crash; a link there is not followed
        hidden.write_bytes(content)
        flush(hidden)
        hidden.replace(path)
        flush(path.parent)
    except OSError as error:
        if hidden.is_file():
            hidden.unlink()
        raise OSError(error.errno, f"{path} could not be written: {error.strerror}") from error


def discard(path: Path) -> None:
    """Removes a folder so that no part of it is ever seen without the rest; of a link the link alone."""
    hidden = hidden_name(path, _DISCARDED)
    path.rename(hidden)
    _remove(hidden)


def clear_rests(path: Path) -> None:
    """Removes what crashes have left of a file or folder of this name, and moves back what they have left aside."""
    aside = hidden_name(path, _REPLACED)
    if aside.is_dir() and not path.exists():
        aside.rename(path)
    for end in (_UNFINISHED, _REPLACED, _DISCARDED):
        _remove(hidden_name(path, end))


def left_unfinished(folder: Path) -> Iterator[str]:
    """The names whose rests lie in a folder; not all need to be of this program."""
    for file in folder.glob(f".*{_UNFINISHED}"):
        name = file.name.removesuffix(_UNFINISHED).removesuffix(".replaced").removesuffix(".discarded")
        yield name.removeprefix(".")


def hidden_name(path: Path, end: str = _UNFINISHED) -> Path:
    """Where a file or folder lies until it is whole."""
    return path.with_name(f".{path.name}{end}")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Waits until a file, or a folder's list of names, is on the disk.

    Windows flushes only files that are open for writing, and folders not at all: there the order of two renamings is
    left to NTFS's journal.
    """
    if path.is_dir():
        if _IS_WINDOWS:
            return
        descriptor = os.open(path, os.O_RDONLY)
    else:
        descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_checksums(folder: Path) -> None:
    """Writes SHA256SUMS over a folder's files, in the form that ``sha256sum --check`` reads."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name != CHECKSUM_FILE)
    (folder / CHECKSUM_FILE).write_bytes(checksums(files))


def checksums(files: list[Path]) -> bytes:
    """The lines of a SHA256SUMS over these files."""
    return "".join(f"{_sha256(file)}  {file.name}\n" for file in files).encode()


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
    expected = {name: checksum for checksum, name in re.findall(r"^([0-9a-f]{64})  ([^\s/\\]+)$", text, re.MULTILINE)}
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
