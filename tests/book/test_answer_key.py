"""The answer key has what the pages ask, and the reference's docstrings lose nothing. Needs no built book."""

import doctest
from pathlib import Path

import nbformat
import pytest

from ..scripts import load_script

ROOT = Path(__file__).resolve().parents[2]


def load(name):
    return load_script(f"book/{name}.py")


answer_key, docstrings, pages = load("answer_key"), load("docstrings"), load("pages")

NOTEBOOKS = sorted(path for path in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)


@pytest.mark.parametrize("module", [answer_key, docstrings, pages], ids=lambda module: module.__name__)
def test_the_examples_of_the_books_modules_are_right(module):
    assert doctest.testmod(module).failed == 0
    assert doctest.testmod(module).attempted > 0


def test_a_prediction_is_answered_by_its_sentence_or_by_the_words_of_its_picture():
    shown = nbformat.v4.new_output("display_data", {"text/html": "<figure><figcaption>1 &lt; 2</figcaption></figure>"})
    told = nbformat.v4.new_code_cell('predict("A?", ["x", "y"], f"It is {1 + 1}.")')
    drawn = nbformat.v4.new_code_cell('predict("B?", ["x", "y"], panel())', outputs=[shown])
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title"), told, drawn])
    page = answer_key.section(notebook, "a.ipynb")
    assert "**A?** x / y\n\n> It is …." in page
    assert "**B?** x / y\n\n> 1 < 2" in page


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_key_has_every_prediction_exercise_and_question_of_a_notebook(path):
    notebook = nbformat.read(path, as_version=4)
    answer_key.register_exercises()
    page = answer_key.section(notebook, path.name)
    source = "\n".join(cell.source for cell in notebook.cells)
    assert page.count("\n\n> ") == source.count("predict(\n")
    assert page.count("```python") == source.count("\ncheck(")
    assert page.count("**To discuss") == source.count("**To discuss")
