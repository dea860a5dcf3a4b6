"""The docs site, the glossary, and the files that repeat what stands elsewhere."""

import importlib
import inspect
import re
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import click
import pytest

from barnum import __version__
from barnum.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# what lists its public names
LISTED = (
    "barnum",
    "samples",
    "recording",
    "sources",
    "paths",
    "sequences",
    "evidence",
    "digests",
    "calls",
    "evaluations",
    "detector",
    "exporting",
)
CHOICES = {"--method", "--score", "--network", "--vocabulary", "--rule", "--algorithm"}


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", "docs", ".", str(out)]
    return subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)


class Loads(HTMLParser):
    """What a browser would fetch for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "embed"):
            self.found.append(given.get("src") or "")
        if tag == "link" and given.get("rel") not in ("canonical", "license"):
            self.found.append(given.get("href") or "")


def test_the_site_is_whole_and_loads_nothing_from_elsewhere(tmp_path):
    # one test, so that it is built once
    done = build(ROOT, tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'url=docs/index.html"' in (tmp_path / "index.html").read_text()
    assert "Barnum finds attacks" in (tmp_path / "docs/index.html").read_text()
    documents = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
    assert len(documents) > 20
    for file in documents:
        assert (tmp_path / file.relative_to(ROOT).with_suffix(".html")).exists(), file
    for page in tmp_path.rglob("*.html"):
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        assert not [place for place in loads.found if re.match(r"(\w+:)?//", place)], page
    for sheet in tmp_path.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"url\(\s*[\"']?(\w+:)?//|@import", text), sheet
    for room in LISTED:
        page = (tmp_path / f"docs/api/{room}.html").read_text(encoding="utf-8")
        module = "barnum" if room == "barnum" else f"barnum.{room}"
        package = importlib.import_module(module)
        described = re.findall(rf'id="{re.escape(module)}\.(\w+)"', page)
        linked = re.findall(r'href="\w+\.html#barnum\.[\w.]*\b(\w+)"', page)
        # constants and names of types have no docstring
        values = {name: getattr(package, name) for name in package.__all__}
        names = {name for name, value in values.items() if inspect.isroutine(value) or inspect.isclass(value)}
        assert names and names <= {*described, *linked}


def test_a_broken_link_is_an_error(tmp_path):
    for part in ("_ext", "_static"):
        shutil.copytree(DOCS / part, tmp_path / "docs" / part)
    shutil.copy(DOCS / "conf.py", tmp_path / "docs")
    index = tmp_path / "docs/index.md"
    index.write_text("# Title\n\n[there](other.md#part)\n\n```{toctree}\nother\n```\n")
    other = tmp_path / "docs/other.md"
    other.write_text("# Other\n\n## Part\n\n[back](index.md)\n")
    done = build(tmp_path, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    other.write_text("# Other\n\n[back](index.md)\n\n[nowhere](missing.md)\n")
    done = build(tmp_path, tmp_path / "out")
    assert done.returncode != 0
    assert "missing.md" in done.stderr and "part" in done.stderr


def test_the_glossary_is_in_order_and_brief():
    text = (DOCS / "glossary.md").read_text(encoding="utf-8")
    entries = re.findall(r"^## (.+)\n\n(.+)\n", text, re.MULTILINE)
    terms = [term for term, _ in entries]
    assert len(terms) == text.count("\n## ")
    assert terms == sorted(terms, key=str.casefold) and len(set(terms)) == len(terms)
    for term, meaning in entries:
        assert len(meaning) <= 240, term


def test_the_glossary_has_what_the_command_line_lets_one_choose():
    text = (DOCS / "glossary.md").read_text(encoding="utf-8").casefold()
    context = click.Context(cli)
    chosen = {
        value
        for name in cli.list_commands(context)
        for option in cli.get_command(context, name).params
        if CHOICES & set(option.opts)
        for value in re.findall(r"[\w-]+", option.make_metavar(context))
    }
    assert {"conformal", "novelty", "causal", "learnt", "likeliest", "dbscan"} <= chosen
    assert not [value for value in chosen if value.removesuffix("t") not in text]


def test_versions_agree():
    yaml = pytest.importorskip("yaml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert citation["license"] == project["license"]
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == __version__


def recipe(target: str) -> list[str]:
    lines = (ROOT / "Makefile").read_text().split(f"\n{target}:", 1)[1].splitlines()[1:]
    end = next((number for number, line in enumerate(lines) if not line.startswith("\t")), len(lines))
    return [line.strip().removeprefix("@") for line in lines[:end]]


def test_hooks_before_a_commit_run_what_lint_runs():
    yaml = pytest.importorskip("yaml")
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    entries = " ".join(hook["entry"] for hook in hooks).split()
    tools = [
        command.split()[0] for command in recipe("lint") if not command.startswith("sh scripts/setup.sh")
    ]
    assert len(tools) >= 4
    assert set(tools) <= set(entries)


def test_workflows_call_targets_that_there_are():
    yaml = pytest.importorskip("yaml")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = set()
    for file in (ROOT / ".github/workflows").glob("*.yml"):
        jobs = yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"]
        runs = [step.get("run", "") for job in jobs.values() for step in job["steps"]]
        called |= {target for run in runs for target in re.findall(r"^make (\S+)", run)}
    assert {"lint", "test", "docs"} <= called <= targets
