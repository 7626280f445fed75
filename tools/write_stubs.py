"""Writes the exercises' stubs into notebooks, from the solutions: python tools/write_stubs.py notebooks/*.ipynb

A cell whose last line is `check(name)` becomes the stub of the exercise of that name. Run the notebook afterwards: a
cell that has changed loses its output.
"""

import importlib
import pkgutil
import re
import sys
from pathlib import Path

import nbformat

from hmpo_lib import teach
from hmpo_lib.teach.checks import EXERCISES

for room in pkgutil.iter_modules(teach.__path__):
    if room.ispkg:
        importlib.import_module(f"hmpo_lib.teach.{room.name}")  # registers its exercises

CHECK = re.compile(r"^check\((\w+)\)$")


def exercise_name(source: str) -> str | None:
    """The exercise that a cell's last line checks, if it does."""
    found = CHECK.match(source.rstrip().rpartition("\n")[2])
    return found[1] if found else None


def write_stubs(path: Path) -> None:
    """Puts the stubs into one notebook."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        name = exercise_name(cell.source) if cell.cell_type == "code" else None
        if name is None:
            continue
        if name not in EXERCISES:
            sys.exit(f"{path}: no exercise is called {name}; there are {', '.join(EXERCISES)}.")
        if cell.source != EXERCISES[name].cell:
            cell.update(source=EXERCISES[name].cell, outputs=[], execution_count=None)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        write_stubs(Path(argument))
