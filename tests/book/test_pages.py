"""A notebook as a page of the book: what it says, and what it leaves out. Needs nothing of what builds the book."""

import re
from pathlib import Path

import nbformat
import pytest

from ..scripts import load_script

ROOT = Path(__file__).resolve().parents[2]
pages = load_script("book/pages.py")

NOTEBOOKS = sorted(path for path in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)


def page(*cells, lab="../lab.md"):
    title = nbformat.v4.new_markdown_cell("# Title\n\nOpening.")
    return pages.page_of(nbformat.v4.new_notebook(cells=[title, *cells]), lab=lab).cells[1:]


def code(source, html="", **metadata):
    outputs = [nbformat.v4.new_output("execute_result", {"text/html": html})] if html else []
    return nbformat.v4.new_code_cell(source, outputs=outputs, metadata=metadata)


# What only a reader with a kernel can do.
FOR_THE_LAB = re.compile(
    r"\brun(ning)? (the|this|its|a|each|your|next|both)\b[^.]{0,30}\bcells?\b|\brun the next\b|\brun (them|again|all)\b"
    r"|Shift \+ Enter|\bcells in order\b|\bpanel (that )?is grey\b|\bgrey panel|where the dots are",
    re.IGNORECASE,
)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_page_of_the_book_asks_nobody_to_run_a_cell(path):
    shown = pages.page_of(nbformat.read(path, as_version=4), lab="lab.md").cells
    asking = [found[0] for cell in shown if cell.cell_type == "markdown" for found in FOR_THE_LAB.finditer(cell.source)]
    assert not asking


@pytest.mark.parametrize(
    "text", ["**Choose, then run the next two cells.**", "A panel that is grey comes to life", "Run the cells in order"]
)
def test_a_sentence_for_the_lab_is_found(text):
    assert FOR_THE_LAB.search(text)


def test_checks_and_what_is_for_the_lab_are_left_out():
    kept = page(code("x = 1"), code("assert x", tags=["check", "hide-input"]), code("go()", tags=["lab"]))
    assert [cell.source for cell in kept] == ["x = 1"]


def test_a_sentence_is_said_both_ways():
    text = "Look. <!--lab-->Run the\ncell.<!--book: The cell\nwas run.--> Then <!--lab-->run on.<!--book-->"
    (cell,) = page(nbformat.v4.new_markdown_cell(text))
    assert cell.source == "Look. The cell\nwas run. Then "


def test_an_exercise_shows_its_task_the_way_to_the_lab_and_the_folded_solution():
    verdict = (
        "<div><p>Not written yet</p><details><summary>Show the solution</summary><pre>a\n\nb</pre></details></div>"
    )
    (cell,) = page(code('def f():\n    """Task."""\n    ...\n\n\ncheck(f)', verdict), lab="../../lab.md")
    shown = cell.outputs[0].data["text/html"]
    assert '"""Task."""' in cell.source
    assert 'href="../../lab.html"' in shown
    assert "Not written yet" not in shown
    assert "<details><summary>Show the solution</summary><pre>a\n\nb</pre></details>" in shown


def test_the_notebook_itself_stays_as_it_is():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A <!--lab-->b<!--book: c-->")])
    pages.page_of(notebook, lab="lab.md")
    assert notebook.cells[0].source == "# A <!--lab-->b<!--book: c-->"
