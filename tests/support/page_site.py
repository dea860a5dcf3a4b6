"""The page's modules on a server of this machine, one by one or as a whole page, under a strict policy."""

import re
from contextlib import contextmanager
from importlib.resources import files

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import page_documents as documents
from barnum.report import script as report_script
from barnum.report.build import as_page
from browsing import open_address, served, wait_until_drawn

PAGE = files(report_script.__package__) / "page"
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:"
SCRIPTS = re.compile(rb'<script type="application/json".*', re.S)
HEAD = re.compile(rb"<meta http-equiv.*?>\n<meta", re.S)
STYLE = re.compile(rb"<style>.*?</style>", re.S)
KINDS = {".js": "text/javascript", ".css": "text/css"}

MARKUP = "</script><img src=x onerror=alert(1)><svg onload=alert(2)>&lt;&#x3c;<!--'\"`${1}"
# overrides and isolates of the direction, controls, ends of lines, combining marks, half of a flag
STRANGE = (
    "\u202egnp.exe\u202c\u2067x\u2069\u200f\u061c\u0000\u0007\u001b[31m\r\n\t"
    "\u2028\u2029e\u0301\ufeff\U0001f1e9"
)

# examples are few and big, as each is a way to the browser and back
some = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
texts = st.one_of(
    st.text(max_size=40), st.sampled_from([MARKUP, STRANGE, MARKUP + STRANGE, "", " ", "javascript:1"])
)
numbers = st.one_of(
    st.floats(0, 1e38), st.floats(0, 1), st.sampled_from([0.0, 0.9995, 1.0, 1e-30, 20.0, 2.0**53, 1e21, 3e38])
)


class Site:
    """``report`` is shown at /page by modules; /bare is a page without any script."""

    def __init__(self):
        self.report = documents.report()
        self.address = ""

    def page(self):
        page = HEAD.sub(b"<meta", as_page(self.report))
        return STYLE.sub(b'<link rel="stylesheet" href="/report.css">', page)

    def file(self, path):
        if path == "/bare":
            return "text/html", SCRIPTS.sub(b"</body></html>", self.page())
        if path == "/page":
            page = self.page()
            script = b'<script type="module" src="/main.js"></script>\n</body>\n</html>'
            return "text/html", page[: page.rindex(b"<script>")] + script
        kind = KINDS.get(path[path.rfind(".") :])
        file = PAGE / path.lstrip("/")
        return (kind, file.read_bytes()) if kind and file.is_file() else None


@contextmanager
def page_site():
    site = Site()
    with served(site.file, POLICY) as address:
        site.address = address
        yield site


@contextmanager
def runner(browser, site):
    """run(module, body, *given): what ``body``, which sees a module as ``m``, returns on the bare page."""

    def run(module, body, *given):
        answer = browser.execute_async_script(
            "const [given, done] = arguments;"
            f"import('/{module}.js').then((m) => {{ {body} }})"
            ".then((value) => done({ value }), (error) => done({ error: error.stack }));",
            given,
        )
        assert "error" not in answer, answer["error"]
        return answer.get("value")

    open_address(browser, f"{site.address}/bare")
    yield run
    # nor was anything else logged, such as what the policy forbids
    assert browser.get_log("browser") == []


TAGS = {
    *("a", "b", "body", "br", "button", "caption", "circle", "clippath", "dd", "defs", "details", "div"),
    *("dl", "dt", "figcaption", "figure", "footer", "g", "h1", "h2", "h3", "head", "header", "html", "i"),
    *("input", "kbd", "label", "li", "line", "link", "main", "meta", "noscript", "option", "p", "path"),
    *("rect", "script", "section", "select", "span", "strong", "summary", "svg", "table", "tbody", "td"),
    *("text", "th", "thead", "title", "tr", "ul"),
}

LOOK = """
    const nodes = [...document.querySelectorAll("*")];
    const attributes = nodes.flatMap((node) => [...node.attributes].map(({ name, value }) => [name, value]));
    const drawn = attributes.filter(([name]) => /^([xyr]|[xy][12]|c[xy]|d|width|height|viewBox)$/.test(name));
    return {
        tags: [...new Set(nodes.map((node) => node.localName.toLowerCase()))],
        scripts: document.scripts.length,
        names: [...new Set(attributes.map(([name]) => name))],
        addresses: attributes.filter(([name]) => /href|src|action/.test(name)).map(([, value]) => value),
        unsound: drawn.map(([, value]) => value).filter((value) => /NaN|Infinity|undefined|null/.test(value)),
        text: [...document.body.children].filter((node) => node !== document.getElementById("report"))
            .map((node) => node.textContent).join(" "),
    };"""


def look_at(browser, site, report):
    """What a page made of modules shows of a report: with elements and attributes that it may have."""
    site.report = report
    open_address(browser, f"{site.address}/page")
    wait_until_drawn(browser)
    seen = browser.execute_script(LOOK)
    assert browser.get_log("browser") == []
    assert set(seen["tags"]) <= TAGS
    assert seen["scripts"] == 2
    assert not [name for name in seen["names"] if name.startswith("on") or name == "style"]
    assert set(seen["addresses"]) <= {"#runs", "data:,", "/main.js", "/report.css"}
    assert seen["unsound"] == []
    return seen
