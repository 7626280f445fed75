"""Sphinx's settings for the book; build.py puts this file and the pages into book/_build/source."""

import os
import sys
from pathlib import Path

BOOK = Path(os.environ["HMPO_BOOK_SOURCE"])  # book/ of the repository
sys.path.insert(0, str(BOOK))  # formulas.py and docstrings.py

project = "hmpo"
author = "The hmpo authors"
html_title = "hmpo"
language = "en"
extensions = ["myst_nb", "formulas", "docstrings", "sphinx_copybutton"]

# The notebooks have been executed already. No scripts for widgets from elsewhere: the pages have none.
nb_execution_mode = "off"
nb_ipywidgets_js = {}
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # a notebook's cells may begin with any level

katex_folder = str(BOOK)

# The library's reference: names as one imports them, in the docstrings' own order.
add_module_names = False
default_role = "code"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_display_short_literal_types = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_js_files = ["frames.js", "pictures.js"]
html_show_sourcelink = False
html_copy_source = False
html_show_search_summary = False  # it is fetched, which a browser refuses to a page from a folder
html_theme_options = {
    "use_download_button": False,
    "show_navbar_depth": 1,
    "navigation_with_keys": False,  # arrow keys belong to the sliders
}
copybutton_selector = "div.cell_input div.highlight pre, div.highlight pre"
