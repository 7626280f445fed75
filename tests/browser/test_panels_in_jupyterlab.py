"""Panels and predictions in a real JupyterLab."""

import nbformat
import pytest
from playwright.sync_api import expect

NOTEBOOK = "notebooks/01_three_means.ipynb"
EXPLORER = 'img[alt^="Ratios on a number line"]'


def test_page_that_was_only_opened_shows_its_pictures(open_notebook):
    page = open_notebook(NOTEBOOK).page
    for picture in (page.locator(EXPLORER).last, page.locator('img[alt^="The answer 9+19"]')):
        picture.scroll_into_view_if_needed()
        expect(picture).to_be_visible()
        assert picture.evaluate("image => image.naturalWidth") > 0


def test_slider_moved_by_keyboard_changes_picture_alt_and_caption_and_comes_back(open_notebook):
    notebook = open_notebook(NOTEBOOK)
    notebook.run_all()
    notebook.wait_until_run()
    page = notebook.page
    panel = page.locator(".widget-vbox", has=page.locator(EXPLORER)).last
    picture, caption = panel.locator("img"), panel.locator(".widget-html").nth(1)
    handle = panel.get_by_role("slider")

    def shown():
        return picture.get_attribute("src"), picture.get_attribute("alt"), caption.inner_text()

    expect(caption).to_contain_text("harmonic (HMPO), p = −1")
    before = shown()
    handle.focus()
    for key, expected in (("ArrowRight", "p = −0.75"), ("End", "max, p = +∞"), ("Home", "min, p = −∞")):
        page.keyboard.press(key)
        expect(caption).to_contain_text(expected)
        assert all(new != old for new, old in zip(shown(), before, strict=True))
    panel.get_by_role("button", name="Reset").click()
    expect(caption).to_contain_text("harmonic (HMPO), p = −1")
    assert shown() == before


def source(*cells):
    return nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}},
    )


PANEL_AND_COUNT = """
import ipywidgets
from IPython import get_ipython
from hmpo_lib.teach.three_means import power_mean_explorer

panel = power_mean_explorer([0.5, 1.0, 1.5])
drawn = []
panel.controls["p"].observe(lambda change: drawn.append(change.new), names="value")


def held():
    models = ipywidgets.Widget.get_manager_state()["state"]
    return f"{len(models)} models, {len(get_ipython().kernel.comm_manager.comms)} comms"


@panel.reset_button.on_click
def print_what_is_held(button):
    panel.status.say(f"{held()}, {len(drawn)} moves")


panel
"""


def test_sixty_moves_leave_no_nodes_in_the_page_and_no_widgets_in_the_kernel(lab, open_notebook):
    nbformat.write(source(PANEL_AND_COUNT), lab.folder / "notebooks" / "moves.ipynb")
    notebook = open_notebook("notebooks/moves.ipynb")
    notebook.run_all()
    notebook.wait_until_run()
    page = notebook.page
    panel = page.locator(".widget-vbox", has=page.locator(EXPLORER)).last
    caption, status = panel.locator(".widget-html").nth(1), panel.locator(".widget-html").nth(2)
    expect(caption).to_contain_text("p = −1")

    def held_after_moves_by(keys):
        """Nodes in the page, and what the kernel says after a click on Reset."""
        panel.get_by_role("slider").focus()
        for key in keys:
            page.keyboard.press(key)  # faster than pictures come: the page sends the newest position only
        expect(caption).to_contain_text("max, p = +∞" if keys[-1] == "End" else "min, p = −∞")
        panel.get_by_role("button", name="Reset").click()
        expect(caption).to_contain_text("p = −1")
        expect(status).to_contain_text("models")
        return page.locator("*").count(), status.inner_text().split(", ")

    # The first moves focus the slider and fill the status line once and for all.
    nodes, (models, comms, first_moves) = held_after_moves_by(["Home", "End"])
    nodes_after, (models_after, comms_after, moves) = held_after_moves_by(
        ["ArrowLeft", "ArrowRight"] * 29 + ["Home", "End"]
    )
    assert (nodes_after, models_after, comms_after) == (nodes, models, comms)
    assert int(moves.split()[0]) > int(first_moves.split()[0]) + 2


LONG = "the direction of the step, since other tokens are heard, and what they do turns round with the advantage"
QUESTION = f"""
import os

os.environ["HMPO_FAST"] = "0"
from hmpo_lib.teach import predict

predict("What differs?", ["nothing", "{LONG}", "only the size"], "Nothing differs on the first step.")
"""


@pytest.mark.parametrize("width", [1280, 800])
def test_options_of_a_prediction_are_whole_and_one_is_chosen_by_keyboard(lab, open_notebook, width):
    nbformat.write(source(QUESTION), lab.folder / "notebooks" / "question.ipynb")
    notebook = open_notebook("notebooks/question.ipynb")
    notebook.run_all()
    notebook.wait_until_run()
    page = notebook.page
    page.set_viewport_size({"width": width, "height": 900})
    output = page.locator(".jp-OutputArea").first
    options = output.get_by_role("button")
    expect(options).to_have_count(3)
    right_edge = output.bounding_box()["x"] + output.bounding_box()["width"]
    for option in options.all():
        assert option.evaluate("b => b.scrollWidth <= b.clientWidth && b.scrollHeight <= b.clientHeight")
        assert option.bounding_box()["x"] + option.bounding_box()["width"] <= right_edge
    expect(output).not_to_contain_text("first step")

    options.first.focus()
    page.keyboard.press("Tab")
    expect(output).not_to_contain_text("first step")  # passing by an option is not choosing it
    page.keyboard.press("Space")
    expect(output).to_contain_text(f"You chose: {LONG}")
    expect(output).to_contain_text("Nothing differs on the first step.")
