"""Writes the tables of docs/results.md that come from data/results/evidence/, each in the place of its older self."""

import re
from pathlib import Path

from hmpo_lib.teach.what_the_evidence_says.records import load_evidence
from hmpo_lib.teach.what_the_evidence_says.settings import whole_blocks
from hmpo_lib.teach.what_the_evidence_says.shares import variance_shares
from hmpo_lib.teach.what_the_evidence_says.tables import cells_table, metrics_table, shares_table, verdict_table

PAGE = Path(__file__).resolve().parent.parent / "docs" / "results.md"

if __name__ == "__main__":
    evidence = load_evidence()
    page = PAGE.read_text(encoding="utf-8")
    for table in (
        cells_table(evidence),
        metrics_table(evidence),
        verdict_table(evidence),
        shares_table(variance_shares(evidence, whole_blocks(evidence))),
    ):
        header = re.escape(table.splitlines()[0])
        page, count = re.subn(rf"^{header}\n(\|.*\n)+", lambda _, table=table: table + "\n", page, flags=re.MULTILINE)
        assert count == 1, f"{PAGE.name} has {count} tables that begin with {table.splitlines()[0]!r}: expected one."
    runs = len(evidence.runs)
    broken = sum(run.status != "finished" for run in evidence.runs)
    hours = sum(run.cpu_seconds for run in evidence.runs) / 3600
    said = f"{runs} runs, {broken} of which broke off, {hours:.1f} hours of one processor core"
    page, count = re.subn(r"\d+ runs, \d+ of which broke off, [\d.]+ hours of one processor core", said, page)
    assert count == 1
    PAGE.write_text(page, encoding="utf-8")
