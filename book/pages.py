"""A notebook as a page of the book: read, not run.

A sentence that differs is said both ways in the notebook's Markdown, where a comment is not shown:

    <!--lab-->Run the cell below.<!--book: The cell below was run for you.-->

A cell that only the lab needs has the tag `lab` and is left out, checks are left out, and an exercise shows its task,
the way to the lab and the solution, folded away.
"""

import copy
import re

import nbformat

BOTH_WAYS = re.compile(r"<!--lab-->(.*?)<!--book(?::\s*(.*?))?\s*-->", re.DOTALL)
EXERCISE = re.compile(r"^check\(\w+\)$", re.MULTILINE)
SOLUTION = re.compile(r"<details>.*</details>", re.DOTALL)


def said_in_the_book(text: str) -> str:
    """Markdown as the book has it.

    >>> said_in_the_book("Look. <!--lab-->Run the cell.<!--book: It was run.--> And <!--lab-->now run on.<!--book-->")
    'Look. It was run. And '
    """
    return BOTH_WAYS.sub(lambda found: found[2] or "", text)


def page_of(notebook: nbformat.NotebookNode, *, lab: str) -> nbformat.NotebookNode:
    """The notebook as the book shows it.

    Args:
        notebook: with its outputs; it is left as it is.
        lab: the way from the page to the one about the lab.
    """
    page = copy.deepcopy(notebook)
    page.metadata.pop("widgets", None)
    cells, page.cells = page.cells, []
    for cell in cells:
        tags = cell.metadata.pop("tags", [])
        if "lab" in tags or "check" in tags:
            continue
        if cell.cell_type == "markdown":
            cell.source = said_in_the_book(cell.source)
        elif EXERCISE.search(cell.source):
            cell.outputs = [nbformat.v4.new_output("display_data", {"text/html": _answer(cell, lab)})]
        page.cells.append(cell)
    first, *_ = page.cells
    head, _, rest = first.source.partition("\n")
    way = f"*Here you read, and move what moves. [Open it in the lab]({lab}) to change it and to run it.*"
    first.source = f"{head}\n\n{way}\n{rest}"
    return page


def _answer(cell: nbformat.NotebookNode, lab: str) -> str:
    """What stands under an exercise in place of the check: nobody has answered it here."""
    shown = "".join(output.get("data", {}).get("text/html", "") for output in cell.outputs)
    solution = SOLUTION.search(shown)
    way = f'<a href="{lab.replace(".md", ".html")}">Open it in the lab</a>'
    return f"<p>{way} to answer it, and have the answer checked at once.</p>{solution[0] if solution else ''}"
