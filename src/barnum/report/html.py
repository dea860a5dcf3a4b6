"""The page of a report: one HTML file that holds its style, its script and its data."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from barnum.report.document import Report
from barnum.report.script import joined

# what could end a script, begin a comment in it, or is no character of a line in JavaScript
_ESCAPES = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}


def page(report: Report, data: bytes) -> bytes:
    """The page of a report whose document in JSON is ``data``.

    Text goes into the page escaped by the template, or through the data and the text of elements; nothing of
    a report is ever read as HTML.
    """
    from markupsafe import Markup

    style, script = _part("report.css"), _script()
    html: str = _template().render(
        report=report,
        title=report.evaluations,
        style=Markup(style),  # noqa: S704 - our own, without a closing tag
        script=Markup(script),  # noqa: S704
        style_hash=Markup(_hash(style)),  # noqa: S704
        script_hash=Markup(_hash(script)),  # noqa: S704
        data=Markup(embedded(data)),  # noqa: S704 - escaped for a script
    )
    # a name of a file need not be Unicode
    return html.encode("utf-8", errors="replace")


def embedded(data: bytes) -> str:
    """JSON that may stand in a script element: the same document, with what HTML could obey escaped."""
    text = data.decode("utf-8", errors="replace").strip()
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return text


def _part(name: str) -> str:
    return (files("barnum.report") / "page" / name).read_text(encoding="utf-8")


@cache
def _script() -> str:
    return joined("main.js", _part)


def _hash(text: str) -> str:
    """What a content security policy names an inline style or script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(_part("report.html"))
