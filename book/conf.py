"""Sphinx's settings; build.py lays out what it reads."""

from __future__ import annotations

import sys
from pathlib import Path

BOOK = Path(__file__).resolve().parent
sys.path.insert(0, str(BOOK))

from build import MATHJAX, NPM
from licences import copy_licences

project = "Saliency maps, from the gradient up"
author = "the authors of the course"
project_copyright = "MIT licence"
language = "en"

extensions = ["myst_nb", "sphinx_design", "sphinx_copybutton", "terms"]
exclude_patterns = ["downloads"]
nb_execution_mode = "off"  # notebooks.py ran them
nb_render_markdown_format = "myst"  # figures are Markdown pictures with an alternative text
nb_output_stderr = "error"
myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
copybutton_exclude = ".linenos, .gp"

# One file draws the formulas, from this folder: no network. Its menu would load more files, so there is none.
mathjax_path = "mathjax/tex-svg.js"
mathjax3_config = {
    "svg": {"fontCache": "global"},
    "options": {"enableMenu": False, "enableAssistiveMml": True},
}

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["static"]
html_css_files = ["book.css"]
html_js_files = ["book.js", "quiz.js"]
html_favicon = "static/icon.svg"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_search_summary = False  # a summary is fetched, which a browser forbids for pages from disk
html_context = {"default_mode": "auto"}
LOGO = "static/icon.svg"
html_theme_options = {
    "logo": {"text": "Saliency maps", "alt_text": "", "image_light": LOGO, "image_dark": LOGO},
    "home_page_in_toc": False,
    "show_navbar_depth": 1,
    "collapse_navbar": True,
    "toc_title": "On this page",
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "navigation_with_keys": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "back_to_top_button": False,
    "navbar_start": [],
    "navbar_center": [],
    "navbar_end": [],
    "navbar_persistent": [],
    "footer_content_items": [],
    "search_bar_text": "Search the book",
}


def setup(app):
    """MathJax and the licences of third-party files go beside the pages once these are written."""
    app.connect("build-finished", lambda app, error: error or copy_licences(Path(app.outdir), NPM / MATHJAX))
