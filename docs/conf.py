"""Settings of the docs site, which `make docs` builds with Sphinx.

The source folder is the root of the repository, so that links between README.md, GUIDE.md and docs/ are the
same on the site and in the repository. Nothing is loaded from the network, neither when the site is built nor
when it is read.
"""

import importlib.util
import sys
from pathlib import Path

from barnum import __version__

sys.path.insert(0, str(Path(__file__).resolve().parent / "_ext"))

project = "Barnum"
author = "The Barnum developers"
release = __version__
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "front_page",
    "references",
    "room",
]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**"]
exclude_patterns = [".*", "build", "dist", "*-out", "demo", "native", "src", "tests", "docs/_*"]

# --- Markdown: headings can be linked to, as on the web pages of repositories
myst_heading_anchors = 3
highlight_language = "text"

# --- the reference: a broken reference in a docstring is an error, as is a broken link in Markdown. Types in
# signatures are not looked up: most are those of other packages
nitpicky = True
nitpick_ignore_regex = [("py:(class|obj|data|attr|exc)", ".*")]
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
# a part that is not installed (an extra) is stood in for, as far as modules only import it
autodoc_mock_imports = [name for name in ("torch", "redis") if importlib.util.find_spec(name) is None]

# --- the pages
html_theme = "furo"
html_title = f"Barnum {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
