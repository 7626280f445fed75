"""Committed notebooks are clean: run once from top to bottom, small, and free of what one machine left in them."""

import ast
import copy
import json
import re
from pathlib import Path

import pytest

from .scripts import load_script

ROOT = Path(__file__).resolve().parent.parent
page_table = load_script("tools/page_table.py")
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


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path.parent == FOLDER], ids=lambda path: path.stem)
def test_minutes_of_a_notebook_are_those_that_the_start_page_and_the_readme_say(path):
    stated = page_table.measure(json.loads(path.read_text(encoding="utf-8"))).stated_minutes
    start = json.loads((FOLDER / "00_start_here.ipynb").read_text(encoding="utf-8"))
    the_map = "\n".join(map(page_table.source_of, start["cells"]))
    rows = [row for row in f"{the_map}\n{(ROOT / 'README.md').read_text(encoding='utf-8')}".splitlines() if "|" in row]
    said = [re.search(r"\| (\d+) \|$", row) for row in rows if f"{path.stem}.ipynb" in row and row.endswith("|")]
    assert {int(found[1]) for found in said if found} == {stated}


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


def page_problems(notebook: dict) -> list[str]:
    """What makes a page hard to read or to teach from, a sentence each, as far as a machine can tell."""
    found = []
    for part in page_table.visible(notebook["cells"]):
        source = page_table.source_of(part)
        first = source.strip().splitlines()[0]
        if (lines := page_table.code_lines(source)) > 25:
            found.append(f"a visible cell of {lines} lines, expected at most 25: {first}")
        defines = re.search(r"^(?:async )?(?:def|class) |^(?:from|import) ", source, re.MULTILINE)
        if not part["outputs"] and not defines:
            found.append(f"a visible cell is silent: print, draw or define something, or make it a check: {first}")
        if "fast_mode(" in source:
            found.append(f"`fast_mode()` in visible code: use `sized(full, fast=...)`: {first}")
        imports = re.findall(r"^(?:from|import) .*?(?:\([^)]*\)|$)", source, re.MULTILINE | re.DOTALL)
        if sum(len(lines.splitlines()) for lines in imports) > 20:
            found.append(f"more than 20 lines of imports in one cell: {first}")
    for part in notebook["cells"]:
        if page_table.is_check(part):
            if not page_table.source_of(part).startswith("# Check: "):
                found.append("a cell tagged `check` does not begin with `# Check: what is claimed`")
            if (
                not part["metadata"].get("jupyter", {}).get("source_hidden")
                or "hide-input" not in part["metadata"]["tags"]
            ):
                found.append(f"a check is not collapsed: {page_table.source_of(part).splitlines()[0]}")
    page = page_table.measure(notebook)
    if page.visible_asserts > 3:
        found.append(f"{page.visible_asserts} asserts in visible cells, expected at most 3: move them into checks")
    if page.stated_minutes is None:
        found.append("no `N minutes` at the top")
    else:
        if not 0.75 <= page.stated_minutes / page.computed_minutes <= 1.35:
            found.append(f"{page.stated_minutes} minutes are stated, {page.computed_minutes:.0f} computed")
        if page.section_minutes != page.stated_minutes:
            found.append(f"the sections' minutes sum to {page.section_minutes}, stated are {page.stated_minutes}")
    prose = [page_table.source_of(part) for part in notebook["cells"] if part["cell_type"] == "markdown"]
    if not re.search(r"\]\(https?://", "\n".join(prose)):
        found.append("no link leads out: name the papers that the page builds on")
    if not re.search(r"does not show", "\n".join(prose)):
        found.append("no word on what the page does not show")
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_page_keeps_what_a_machine_can_hold_of_a_page(path):
    assert page_problems(json.loads(path.read_text(encoding="utf-8"))) == []


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


PAGE = {
    "cells": [
        {
            "cell_type": "markdown",
            "metadata": {},
            "source": "# A page\n\nTakes 2 minutes. [A paper](https://example.org).",
        },
        {
            "cell_type": "markdown",
            "metadata": {},
            "source": "## One (2 min)\n\nWhat this does not show. " + "word " * 270,
        },
        cell(1, stream("stdout", "2\n")),
        cell(2, source="# Check: one is one\nassert 1 == 1")
        | {"metadata": {"tags": ["check", "hide-input"], "jupyter": {"source_hidden": True}}},
    ]
}


def test_good_page_has_no_problems():
    assert page_problems(PAGE) == []


@pytest.mark.parametrize(
    ("at", "bad", "said"),
    [
        (2, cell(1, stream("stdout", "2"), source="\n".join(["print(2)"] * 26)), "a visible cell of 26 lines"),
        (2, cell(1), "is silent"),
        (2, cell(1, stream("stdout", "2"), source="print(fast_mode())"), "fast_mode"),
        (2, cell(1, stream("stdout", "2"), source="\n".join(["assert True"] * 4)), "4 asserts in visible cells"),
        (2, cell(1, source="from a import (\n" + "    b,\n" * 20 + ")"), "lines of imports"),
        (3, PAGE["cells"][3] | {"source": "assert 1 == 1"}, "does not begin with"),
        (3, PAGE["cells"][3] | {"metadata": {"tags": ["check", "hide-input"]}}, "is not collapsed"),
        (0, PAGE["cells"][0] | {"source": "# A page\n\n[A paper](https://example.org)"}, "no `N minutes`"),
        (0, PAGE["cells"][0] | {"source": "Takes 2 minutes."}, "no link leads out"),
        (1, PAGE["cells"][1] | {"source": "## One (2 min)\n\n" + "word " * 270}, "does not show"),
        (1, PAGE["cells"][1] | {"source": "## One (3 min)\n\nWhat this does not show. " + "word " * 270}, "sum to 3"),
        (1, PAGE["cells"][1] | {"source": "## One (2 min)\n\nWhat this does not show. " + "word " * 700}, "computed"),
    ],
)
def test_each_problem_of_a_page_is_found(at, bad, said):
    cells = [bad if place == at else part for place, part in enumerate(PAGE["cells"])]
    assert any(said in problem for problem in page_problems({"cells": cells}))
