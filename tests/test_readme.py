"""The README's code runs, and what it links to is there."""

import re
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).parent.parent
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def test_the_ten_lines_for_people_who_only_want_the_loss_give_a_gradient():
    code = re.search(r"```python\n(.*?)```", PAGES[0].read_text(encoding="utf-8"), re.DOTALL)[1]
    names = {}
    exec(code, names)
    gradient = names["logprobs"].grad
    assert gradient.shape == (8, 20)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_measured_numbers_of_the_readme_are_those_of_the_results():
    section = PAGES[0].read_text(encoding="utf-8").split("## What was measured")[1].split("\n## ")[0]
    measured = re.findall(r"\d\.\d+ \(\d\.\d+ to \d\.\d+\)", section.replace("\n", " "))
    results = (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8")
    assert len(measured) == 3
    for p, numbers in zip(("1", "0", "−1"), measured, strict=True):
        assert f"| {p} | none |  | 10 | {numbers} |" in results
    for pair in ("p = −1 minus p = 0", "p = 1 minus p = 0", "p = 1 minus p = −1"):
        verdicts = re.findall(rf"\| 16 steps, tokens clipped to [^|]*\| {pair} \|.*", results)
        assert verdicts
        assert all("does not differ by more than 0.02" in verdict for verdict in verdicts)
