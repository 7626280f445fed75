"""Measured tables that are too slow to make in a notebook; data/README.md says how each was made."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

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
