"""A live run answers its buttons in a real JupyterLab while it runs, and while it is paused."""

import re

import nbformat
import pytest
from playwright.sync_api import expect

STEP_SECONDS = 0.3
TOTAL = 200  # far more than the test waits for: only Stop ends this run
SOME_RECORDS = re.compile(r"through ([3-9]|\d\d+) records")  # a busy page may not show every single one

CELL = f"""
import time
from hmpo_lib.teach import Canvas, LiveRun, tidy_axes

canvas = Canvas(600, 240)
axes = canvas.figure.subplots()
tidy_axes(axes, title="Steps", xlabel="step", ylabel="record", xlim=(0, {TOTAL}), ylim=(0, {TOTAL}))
canvas.figure.subplots_adjust(bottom=0.25)
line = canvas.animate(axes.plot([], [])[0])

def steps():
    for k in range({TOTAL}):
        end = time.monotonic() + {STEP_SECONDS}
        while time.monotonic() < end:  # busy, as torch is
            pass
        yield k

live = LiveRun(
    steps,
    total={TOTAL},
    canvas=canvas,
    draw=lambda records: line.set_data(range(len(records)), records),
    caption=lambda records: f"the last record is {{records[-1]}}",
    alt=lambda records: f"a line through {{len(records)}} records",
)
records = await live.run()
"""


def alt_that_holds_still(page, picture):
    """The picture's text once the step in progress is drawn: after a pause at most one more picture may come."""
    deadline = 10
    for _ in range(deadline):
        before = picture.get_attribute("alt")
        page.wait_for_timeout(2_000)
        if picture.get_attribute("alt") == before:
            return before
    raise AssertionError(f"the picture went on changing for {2 * deadline} s after the pause")


@pytest.fixture
def notebook(lab, open_notebook):
    source = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(CELL), nbformat.v4.new_code_cell('print("kept", records == live.records)')],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}},
    )
    nbformat.write(source, lab.folder / "notebooks" / "live.ipynb")
    return open_notebook("notebooks/live.ipynb")


def test_live_run_draws_pauses_continues_and_stops_when_asked(notebook):
    notebook.run_all()
    page = notebook.page
    output = page.locator(".jp-OutputArea").first
    picture, button = output.locator("img"), output.get_by_role("button")

    expect(picture).to_have_attribute("alt", SOME_RECORDS, timeout=30_000)
    button.filter(has_text="Pause").click()
    expect(output).to_contain_text("paused", timeout=3_000)

    at_pause = alt_that_holds_still(page, picture)

    button.filter(has_text="Continue").click()
    expect(output).to_contain_text("running", timeout=3_000)
    expect(picture).not_to_have_attribute("alt", at_pause)

    button.filter(has_text="Pause").click()
    expect(output).to_contain_text("paused", timeout=3_000)
    button.filter(has_text="Stop").click()  # a paused run can be stopped, too
    notebook.wait_until_run()
    expect(output).to_contain_text("stopped")
    expect(button).to_have_count(0)  # what stays is the last picture, without dead buttons
    expect(picture).to_be_visible()
    expect(page.locator(".jp-OutputArea").last).to_contain_text("kept True")


def test_interrupted_live_run_ends_and_can_be_started_again(notebook):
    notebook.run_all()
    output = notebook.page.locator(".jp-OutputArea").first
    expect(output.locator("img")).to_have_attribute("alt", SOME_RECORDS, timeout=30_000)
    notebook.menu("Kernel", "Interrupt Kernel")
    expect(output).to_contain_text("broken off")
    expect(output).to_contain_text("CancelledError")

    notebook.run_all()
    expect(output.locator("img")).to_have_attribute("alt", SOME_RECORDS, timeout=30_000)
    output.get_by_role("button").filter(has_text="Stop").click()
    expect(output).to_contain_text("stopped")


def test_notebook_08_pauses_and_stops_a_real_fine_tuning(lab, open_notebook):
    # In full mode: the fast run would be over before a hand is at the button.
    source = nbformat.read(lab.folder / "notebooks" / "08_fine_tuning_with_ratio_means.ipynb", as_version=4)
    source.cells.insert(0, nbformat.v4.new_code_cell('import os\n\nos.environ["HMPO_FAST"] = "0"'))
    nbformat.write(source, lab.folder / "notebooks" / "full.ipynb")
    notebook = open_notebook("notebooks/full.ipynb")
    notebook.run_all()
    page = notebook.page
    output = page.locator(".jp-OutputArea", has=page.get_by_role("button", name="Stop")).first
    picture, button = output.locator("img"), output.get_by_role("button")
    expect(picture).to_have_attribute("alt", re.compile("^Six plots after"), timeout=90_000)
    button.filter(has_text="Pause").click()
    expect(output).to_contain_text("paused", timeout=10_000)
    at_pause = alt_that_holds_still(page, picture)
    button.filter(has_text="Continue").click()
    expect(picture).not_to_have_attribute("alt", at_pause, timeout=20_000)
    button.filter(has_text="Stop").click()
    expect(page.get_by_text(re.compile(r"\(stopped: \d+ of \d+\)"))).to_be_visible(timeout=20_000)
