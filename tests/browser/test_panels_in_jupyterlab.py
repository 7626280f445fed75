"""The panels of notebook 01 in a real JupyterLab."""

from playwright.sync_api import expect

NOTEBOOK = "notebooks/01_three_means.ipynb"
EXPLORER = 'img[alt^="Ratios on a number line"]'


def test_page_that_was_only_opened_shows_its_pictures(open_notebook):
    page = open_notebook(NOTEBOOK).page
    for picture in (page.locator(EXPLORER).last, page.locator('img[alt^="One arrow"]')):
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

    expect(caption).to_contain_text("HMPO, p = −1")
    before = shown()
    handle.focus()
    for key, expected in (("ArrowRight", "p = −0.75"), ("End", "max, p = +∞"), ("Home", "min, p = −∞")):
        page.keyboard.press(key)
        expect(caption).to_contain_text(expected)
        assert all(new != old for new, old in zip(shown(), before, strict=True))
    panel.get_by_role("button", name="Reset").click()
    expect(caption).to_contain_text("HMPO, p = −1")
    assert shown() == before
