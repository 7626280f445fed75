"""Every claim in docs/claims.md says of which kind it is and points at what checks it."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in TEXT.split("## Accuracy")[0].splitlines()
    if line.startswith("| ") and not line.startswith("| claim")
]
KINDS = ("theorem", "measured", "guess", "no difference found")


def exists(reference: str) -> bool:
    """Whether a test of this name, or a code cell with this id, is there."""
    if "::" in reference:
        path, _, name = reference.partition("::")
        return re.search(rf"^def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE) is not None
    page, _, cell_id = reference.partition("#")
    (path,) = (ROOT / "notebooks").glob(f"{page}.ipynb" if page.startswith("deeper/") else f"{page}_*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return any(cell["id"] == cell_id and cell["cell_type"] == "code" for cell in cells)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_claim_names_its_kind_and_what_checks_it(row):
    _, kind, where = row
    assert kind.startswith(KINDS)
    references = re.findall(r"`([^`]+)`", where)
    assert references or kind.startswith(("guess", "no difference"))
    assert [reference for reference in references if not exists(reference)] == []


@pytest.mark.parametrize("reference", ["tests/test_means.py::test_of_nothing", "01#no-such-cell", "01#title"])
def test_a_reference_to_nothing_is_found(reference):
    assert not exists(reference)
