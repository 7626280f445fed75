"""The instructor's answer key as a page of the book, made from the notebooks and the solutions themselves.

For each notebook: the predictions with their options and answers, the exercises with solution, hints and insight, and
what there is to discuss. Nothing is copied by hand, so the key cannot differ from the pages.
"""

import ast
import html
import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import nbformat

from hmpo_lib import teach
from hmpo_lib.teach.checks import EXERCISES

HEAD = """# Answer key

For the instructor: what each page asks, and the answers, made from the pages themselves. Where a picture answers a
prediction, the words under it stand here; on the page it moves. What to listen for in a discussion is in
[Teaching with this collection](teaching.md).
"""

CHECK = re.compile(r"^check\((\w+)\)$", re.MULTILINE)
CAPTION = re.compile(r"<figcaption>(.*?)</figcaption>", re.DOTALL)
FOLDED = re.compile(r"</summary>([^<]+)</details>")
TO_TALK_ABOUT = re.compile(r"^\*\*(?:To discuss|Open|An open task)[^\n]*", re.MULTILINE)


class Asked(NamedTuple):
    """A prediction as it stands in a notebook; ``answer`` is empty where a picture answers."""

    question: str
    options: list[str]
    answer: str


def text_of(node: ast.expr | None) -> str:
    """A string of the source, numbers that it fills in as dots; empty for whatever is no string."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or "…" for part in node.values)
    return ""


def predictions(source: str) -> Iterator[Asked]:
    """The predictions of a code cell.

    >>> list(predictions('predict("Is 2 > 1?", ["yes", "no"], "Yes.")'))
    [Asked(question='Is 2 > 1?', options=['yes', 'no'], answer='Yes.')]
    """
    if "predict(" not in source:
        return
    tree = compile(re.sub(r"^[%!].*$", "", source, flags=re.MULTILINE), "cell", "exec", _SYNTAX)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "predict":
            question, options, reveal = node.args
            assert isinstance(options, ast.List | ast.Tuple), "the options of a prediction are written out"
            yield Asked(text_of(question), [text_of(option) for option in options.elts], text_of(reveal))


_SYNTAX = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT  # a notebook's cell may await


def what_is_revealed(cell: nbformat.NotebookNode) -> str:
    """What a prediction reveals, from the cell's output: the caption of its picture, or the folded sentence."""
    shown = "".join(output.get("data", {}).get("text/html", "") for output in cell.outputs)
    told = CAPTION.findall(shown) or FOLDED.findall(shown)
    assert told, f"nothing is revealed by {cell.source[:60]!r}: execute the notebook"
    return html.unescape(told[-1])


def section(notebook: nbformat.NotebookNode, link: str) -> str:
    """The part of one notebook: its title, what it asks, its exercises, what it leaves to talk about."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    title = prose[0].splitlines()[0].lstrip("# ")
    parts = [f"## [{title}]({link})"]
    asked = [(one, cell) for cell in code for one in predictions(cell.source)]
    if asked:
        parts.append("### Predictions")
        parts += [
            f"**{one.question}** {' / '.join(one.options)}\n\n> {one.answer or what_is_revealed(cell)}"
            for one, cell in asked
        ]
    names = [name for cell in code for name in CHECK.findall(cell.source)]
    if names:
        parts.append("### Exercises")
        parts += [solution(name) for name in names]
    talk = [match[0] for source in prose for match in TO_TALK_ABOUT.finditer(source)]
    if talk:
        parts.append("### To talk about")
        parts += talk
    return "\n\n".join(parts)


def solution(name: str) -> str:
    """One exercise: its solution, what a right answer means, and the hints that mistakes earn."""
    exercise = EXERCISES[name]
    hints = "\n".join(f"- {hint}" for hint in exercise.mistakes)
    code = f"```python\n{exercise.solution_source.rstrip()}\n```"
    return f"{code}\n\n{exercise.insight}\n\nHints for common mistakes:\n\n{hints}"


def register_exercises() -> None:
    """Imports every package of `hmpo_lib.teach`, which fills `EXERCISES`."""
    for room in pkgutil.iter_modules(teach.__path__):
        if room.ispkg:
            importlib.import_module(f"hmpo_lib.teach.{room.name}")


def answer_key(notebooks: Mapping[str, nbformat.NotebookNode]) -> str:
    """The whole page, from the notebooks by the way to each from the page."""
    register_exercises()
    return "\n\n".join([HEAD.rstrip(), *(section(notebook, link) for link, notebook in notebooks.items())]) + "\n"
