"""Sphinx's settings. `python -m tools.site` names the folders."""

from datetime import datetime, timezone

from dinov2_helpers import __version__
from tools.project import Project
from tools.site import contents
from tools.site.reference import ROOMS

_project = Project()
project = "DINOv2 in Practice"
version = release = __version__
author = "The DINOv2 in Practice authors"
copyright = f"{datetime.now(timezone.utc).year}, {author}"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "tools.site.mathml",
    "tools.site.docstrings",
]
root_doc = "index"
language = "en"

nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # they would come from another host
nb_render_markdown_format = "gfm"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_mock_imports: list[str] = []
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_preprocess_types = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # they are in the signature
maximum_signature_line_length = 70
python_use_unqualified_type_names = True
add_module_names = False
public_modules = [room.module for room in ROOMS]
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_math_renderer = "mathml"
html_title = "DINOv2 in Practice"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_sidebars: dict[str, list[str]] = {
    page: [] for page in (contents.FRONT, contents.LEDGER, contents.CHINESE, "search")
}
html_theme_options = {
    "logo": {"text": "DINOv2 in Practice"},
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": {"**": ["page-toc"], "docs/ledger": [], "notebooks/index": []},
    "footer_start": ["copyright"],
    "footer_end": [],
    "search_bar_text": "Search the course",
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "back_to_top_button": False,
}
html_context = {"default_mode": "auto"}
html_favicon = "static/favicon.svg"
if _project.repository:
    html_theme_options["github_url"] = f"https://github.com/{_project.repository}"

copybutton_selector = "div.cell_input pre, div.body pre, article div[class*=highlight-] pre"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"
