"""Committed notebooks are clean: run once from top to bottom, small, and free of what one machine left in them."""

import ast
import copy
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(path for path in FOLDER.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
LIMIT_BYTES = 1_000_000
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

# An absolute path, as opposed to the same word inside a URL or a relative path.
MACHINE_PATH = re.compile(r"(?<![\w.~-])(?:/(?:work|root|home|tmp|Users)/|[A-Z]:\\\\?Users\\)")


def problems(notebook: dict) -> list[str]:
    """Everything about a notebook that must not be committed, a sentence each."""
    found = []
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
    counts = [cell["execution_count"] for cell in code]
    if counts != list(range(1, len(code) + 1)):
        found.append(f"execution counts are {counts}, expected 1 to {len(code)}: restart the kernel and run all cells")
    for cell, count in zip(code, counts, strict=True):
        for output in cell["outputs"]:
            if output.get("name") == "stderr":
                found.append(f"cell {count} wrote to stderr: {''.join(output['text'])[:80]!r}")
            if WIDGET_VIEW in output.get("data", {}):
                found.append(f"cell {count} stores a live widget, dead without a kernel: run tools/run_notebooks.py")
            if output["output_type"] == "error":
                found.append(f"cell {count} ended in {output['ename']}: {output['evalue'][:80]}")
    if "widgets" in notebook["metadata"]:
        found.append("widget state is saved in the metadata: turn off Settings > Save Widget State Automatically")
    kernel = notebook["metadata"].get("kernelspec", {}).get("name")
    if kernel != "python3":
        found.append(f"the kernel is {kernel!r}, expected 'python3': others have no kernel of that name")
    for text in strings(notebook):
        for match in MACHINE_PATH.finditer(text):
            found.append(f"a path of one machine: {text[match.start() : match.start() + 60]!r}")
    size = len(json.dumps(notebook, ensure_ascii=False, indent=1).encode())
    if size > LIMIT_BYTES:
        found.append(f"it is {size:,} bytes, expected at most {LIMIT_BYTES:,}: draw smaller or fewer pictures")
    return found


def strings(node: object) -> list[str]:
    """All the text in a JSON tree, as the reader sees it: unescaped."""
    if isinstance(node, str):
        return [node]
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [text for child in children for text in strings(child)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebook_has_no_problems(path):
    assert problems(json.loads(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path.parent == FOLDER], ids=lambda path: path.stem)
def test_notebook_is_listed_in_the_start_page_and_the_readme(path):
    for page in {FOLDER / "00_start_here.ipynb", ROOT / "README.md"} - {path}:
        assert path.stem in page.read_text(encoding="utf-8"), f"{page.name} does not list {path.stem}"


def deep_imports(notebook: dict, name: str) -> list[str]:
    """What a notebook imports from deeper than it may: a page is read with the public names and its own package."""
    allowed = {"hmpo_lib", "hmpo_lib.lm", "hmpo_lib.optim", "hmpo_lib.teach", f"hmpo_lib.teach.{name}"}
    found = []
    for part in notebook["cells"]:
        # A line of IPython's own, such as `await`, parses; a magic does not, and is no import.
        source = re.sub(r"^[%!].*$", "", "".join(part["source"]), flags=re.MULTILINE)
        if part["cell_type"] == "code":
            tree = compile(source, name, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            for node in ast.walk(tree):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                found += [given for given in names if given.split(".")[0] == "hmpo_lib" and given not in allowed]
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_imports_public_names_and_its_own_package_only(path):
    name = path.stem.partition("_")[2] if path.parent == FOLDER else path.stem
    assert deep_imports(json.loads(path.read_text(encoding="utf-8")), name) == []


@pytest.mark.parametrize("line", ["import hmpo_lib.means", "from hmpo_lib.teach.bandits.exercises import x"])
def test_an_import_from_deeper_is_found(line):
    assert len(deep_imports({"cells": [cell(1, source=line)]}, "bandits")) == 1


def cell(count, *outputs, source="1 + 1"):
    return {"cell_type": "code", "execution_count": count, "metadata": {}, "outputs": list(outputs), "source": source}


def stream(name, text):
    return {"output_type": "stream", "name": name, "text": [text]}


CLEAN = {
    "cells": [
        {"cell_type": "markdown", "metadata": {}, "source": ["see https://example.org/home/page and ./tmp/x"]},
        cell(1, stream("stdout", "2\n")),
        cell(None, source=""),
        cell(2),
    ],
    "metadata": {"kernelspec": {"name": "python3"}},
}


def test_clean_notebook_has_no_problems():
    assert problems(CLEAN) == []


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"cells": [cell(1, stream("stderr", "careful"))]}, "wrote to stderr"),
        ({"cells": [cell(1, {"output_type": "error", "ename": "ValueError", "evalue": "no"})]}, "ended in ValueError"),
        ({"cells": [cell(1), cell(3)]}, "execution counts"),
        ({"cells": [cell(2), cell(1)]}, "execution counts"),
        ({"cells": [cell(1), cell(None)]}, "execution counts"),
        ({"metadata": CLEAN["metadata"] | {"widgets": {}}}, "widget state"),
        ({"metadata": {"kernelspec": {"name": "my-env"}}}, "the kernel is 'my-env'"),
        ({"metadata": {}}, "the kernel is None"),
        ({"cells": [cell(1, source='open("/home/me/x")')]}, "a path of one machine"),
        ({"cells": [cell(1, {"output_type": "display_data", "data": {WIDGET_VIEW: {}}})]}, "a live widget"),
        ({"cells": [cell(1, stream("stdout", "see (/tmp/x)"))]}, "a path of one machine"),
        ({"cells": [cell(1, stream("stdout", r"C:\Users\me"))]}, "a path of one machine"),
        ({"cells": [cell(1, stream("stdout", "/Users/me/x"))]}, "a path of one machine"),
        ({"cells": [cell(1, stream("stdout", "x" * LIMIT_BYTES))]}, "bytes"),
    ],
)
def test_each_problem_alone_is_found(bad, said):
    found = problems(copy.deepcopy(CLEAN) | bad)
    assert len(found) == 1
    assert said in found[0]
