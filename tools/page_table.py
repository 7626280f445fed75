"""What a machine can say of a page: python tools/page_table.py notebooks/*.ipynb

Prints a row for each notebook: words of prose, visible lines of code, the longest visible cell, asserts in visible
cells and in collapsed ones, and the minutes that words, code and exercises take beside those that the page states.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

WORDS_A_MINUTE = 180
LINES_A_MINUTE = 8
MINUTES_AN_EXERCISE = 3


class Page(NamedTuple):
    """The measures of one notebook."""

    words: int
    visible_lines: int
    longest_cell: int
    visible_asserts: int
    collapsed_asserts: int
    computed_minutes: float
    stated_minutes: int | None
    section_minutes: int


def source_of(cell: dict[str, Any]) -> str:
    """A cell's text, whichever way it is stored."""
    return "".join(cell["source"])


def is_check(cell: dict[str, Any]) -> bool:
    """Whether a cell is one of the collapsed checks."""
    return "check" in cell["metadata"].get("tags", [])


def visible(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The code cells that a reader sees."""
    return [cell for cell in cells if cell["cell_type"] == "code" and not is_check(cell) and source_of(cell).strip()]


def code_lines(source: str) -> int:
    """Lines that have to be read: not the empty ones."""
    return sum(bool(line.strip()) for line in source.splitlines())


def asserts(cells: list[dict[str, Any]]) -> int:
    """How often cells assert something."""
    return sum(len(re.findall(r"^\s*assert\b|assert_close\(", source_of(cell), re.MULTILINE)) for cell in cells)


def measure(notebook: dict[str, Any]) -> Page:
    """Measures one notebook; minutes are stated as ``N minutes`` on top, and in section heads as ``(N min)``."""
    cells = notebook["cells"]
    prose = [source_of(cell) for cell in cells if cell["cell_type"] == "markdown"]
    shown = visible(cells)
    # Neither tags nor the addresses of links are read.
    text = re.sub(r"</?[a-zA-Z][^>]*>|\]\([^)]*\)", " ", "\n".join(prose))
    words = len(re.findall(r"\w[\w'’.,-]*", text))
    lines = sum(code_lines(source_of(cell)) for cell in shown)
    exercises = sum(bool(re.search(r"^check\(\w+\)$", source_of(cell), re.MULTILINE)) for cell in shown)
    computed = words / WORDS_A_MINUTE + lines / LINES_A_MINUTE + MINUTES_AN_EXERCISE * exercises
    stated = re.search(r"(\d+) minutes", "\n".join(prose[:2]))
    heads = re.findall(r"^#+ .*\((\d+) min\)", "\n".join(prose), re.MULTILINE)
    return Page(
        words,
        lines,
        max((code_lines(source_of(cell)) for cell in shown), default=0),
        asserts(shown),
        asserts([cell for cell in cells if is_check(cell)]),
        computed,
        int(stated[1]) if stated else None,
        sum(map(int, heads)),
    )


def main() -> None:
    """Prints the table."""
    print("| notebook | words | code lines | longest | asserts | collapsed | minutes computed | stated | by sections |")
    print("|---|---|---|---|---|---|---|---|---|")
    for argument in sys.argv[1:]:
        page = measure(json.loads(Path(argument).read_text(encoding="utf-8")))
        numbers = [*page[:5], round(page.computed_minutes), page.stated_minutes, page.section_minutes]
        print(f"| {Path(argument).stem} | {' | '.join(map(str, numbers))} |")


if __name__ == "__main__":
    main()
