"""Sphinx extension: what docstrings refer to, looked up as Python would.

- Types in signatures are looked up by their whole names. Sphinx looks a type up by the end of its name where
  it does not find the whole, so that the type ``bytes`` would be a link to whatever attribute is called so.
- Bounds of numbers, by which input is checked, are left out of signatures.
- A reference to something of this package that is there, but has no place in the reference, is no link and no
  error. One to something that is not there is an error.
"""

from __future__ import annotations

import pkgutil
import re

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def _by_whole_names(_app: Sphinx, document: nodes.document) -> None:
    for reference in document.findall(pending_xref):
        # that the attribute is there, whatever its value, is what Sphinx asks for
        if reference.get("refspecific") is False:
            del reference["refspecific"]


def _without_bounds(
    _app: Sphinx,
    _what: str,
    _name: str,
    _of: object,
    _options: object,
    signature: str | None,
    returned: str | None,
) -> tuple[str | None, str | None]:
    bounds = re.compile(r"Annotated\[((?:[^][]|\[[^][]*\])*?), msgspec\.Meta\([^()]*\)\]")
    while signature is not None and bounds.search(signature):
        signature = bounds.sub(r"\1", signature)
    return signature, returned


def _without_a_place(
    _app: Sphinx, _env: BuildEnvironment, reference: pending_xref, text: nodes.TextElement
) -> nodes.TextElement | None:
    target = reference.get("reftarget", "")
    if reference.get("refdomain") != "py" or not target.startswith("barnum."):
        return None
    try:
        pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError):
        return None
    return text


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("doctree-read", _by_whole_names)
    app.connect("autodoc-process-signature", _without_bounds)
    app.connect("missing-reference", _without_a_place)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
