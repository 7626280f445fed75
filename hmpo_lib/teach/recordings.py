"""Measured tables that are too slow to make in a notebook; data/README.md says how each was made."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

Tables = TypeVar("Tables")

_PACKAGE = Path(__file__).resolve().parents[1]


def recording_path(name: str) -> Path:
    """Where a recording lies: beside the package once installed, in ``data/results/`` in a checkout."""
    installed = _PACKAGE / "recordings" / name
    return installed if installed.exists() else _PACKAGE.parent / "data" / "results" / name


def load_recording(path: str | Path) -> dict[str, Tensor]:
    """The tables of a recording by name.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is no safetensors file, or cut short.

    >>> sorted(load_recording(recording_path("bandits.safetensors")))
    ['choice_gains', 'curves', 'final_gains', 'gradients', 'product_gradients']
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"no recording at {path}: run the notebook inside the repository, whose folder data/results/ has it, or "
            "give the path of the file."
        )
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is no recording ({error}): restore it from the repository.") from error


def load_tables(kind: Callable[..., Tables], path: str | Path) -> Tables:
    """A recording as a named tuple with a field for each table, in double precision.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is no safetensors file, or cut short.

    >>> load_tables(dict, recording_path("bandits.safetensors"))["curves"].dtype
    torch.float64
    """
    return kind(**{name: table.double() for name, table in load_recording(path).items()})
