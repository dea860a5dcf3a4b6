"""The documents of the demo: harmless ones do nothing but draw, abusive ones do what they say."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "demo"
sys.path.insert(0, str(DEMO))

from documents import encode, make  # noqa: E402  the demo is no package

TOOLS = ("gs", "groff", "enscript", "qpdf", "pdftops", "pdftocairo")
missing = [tool for tool in TOOLS if shutil.which(tool) is None]
needs_tools = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")

HARMLESS = defaultdict(list)
for _document in make.all_documents():
    if _document.benign:
        HARMLESS[_document.kind].append(_document)
ABUSIVE = [document for document in make.all_documents() if not document.benign]


def ghostscript(document: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run Ghostscript as the demo does, in a folder of its own; the text of the pages is the output."""
    folder.mkdir()
    command = ["gs", "-q", "-dBATCH", "-dNOPAUSE", *options, str(document)]
    environment = {**os.environ, "TMPDIR": str(folder)}
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
    )


def test_there_are_enough_of_each() -> None:
    harmless = [document for group in HARMLESS.values() for document in group]
    endings = {
        ending: sum(document.name.endswith(ending) for document in harmless) for ending in (".ps", ".pdf")
    }
    assert endings[".ps"] >= 40
    assert endings[".pdf"] >= 20
    assert len(ABUSIVE) >= 12
    assert all(len(group) >= 3 for group in HARMLESS.values())
    names = [document.name for document in make.all_documents()]
    assert len(names) == len(set(names))


@needs_tools
@pytest.mark.parametrize("kind", sorted(HARMLESS))
def test_harmless_documents_only_draw(kind: str, tmp_path: Path) -> None:
    """Under -dSAFER, files and commands are out of reach: what needs them ends in an error."""
    contents = set()
    for document in HARMLESS[kind]:
        path = tmp_path / document.name
        path.write_bytes(document.make())
        contents.add(path.read_bytes())
        ran = tmp_path / f"{document.name}.ran"
        done = ghostscript(path, ran, "-dSAFER", "-sDEVICE=ppmraw", "-r36", "-sOutputFile=/dev/null")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), document.name
        assert list(ran.iterdir()) == [], f"{document.name} left something behind"
    assert len(contents) == len(HARMLESS[kind])


@needs_tools
@pytest.mark.parametrize("document", ABUSIVE, ids=lambda document: document.name)
def test_abusive_documents_do_what_they_say(document: make.Document, tmp_path: Path) -> None:
    how, what = make.act_of(make.ABUSE / document.name)
    path = tmp_path / document.name
    path.write_bytes(document.make())
    for option, expected in (("-dNOSAFER", True), ("-dSAFER", False)):
        ran = tmp_path / option
        done = ghostscript(path, ran, option, "-sDEVICE=txtwrite", f"-sOutputFile={tmp_path / 'text'}")
        text = (tmp_path / "text").read_text(errors="replace") if (tmp_path / "text").exists() else ""
        acted = (ran / what).exists() if how == "creates" else what in text
        assert acted is expected, f"{option}: {done.stdout} {done.stderr}"
        if option == "-dNOSAFER":
            assert (done.returncode, done.stderr) == (0, "")
        (tmp_path / "text").unlink(missing_ok=True)


@pytest.mark.parametrize("path", sorted(make.ABUSE.glob("*.ps")), ids=lambda path: path.name)
def test_abusive_documents_explain_themselves(path: Path) -> None:
    text = path.read_text("ascii")
    head = text.split("\n", 6)
    assert head[0].startswith("%!")
    assert any(line.startswith("% Abuse: ") for line in head)
    assert any(line.startswith("% Harmless: ") for line in head)
    # the comment shows what is hidden, and it is what is there
    for command in re.findall(r"%pipe%([^)]*)\)", text):
        assert re.fullmatch(
            r"(true|echo [a-z ]+|(cat >/dev/null; )?touch [a-z-]+\.out(; head -c 1024 /dev/zero)?)", command
        )


def test_a_third_of_each_kind_is_held_out(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("demo_run", DEMO / "run.py")
    assert spec and spec.loader
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    documents = make.all_documents()
    folders = {"documents": tmp_path / "documents", "traces": tmp_path / "traces"}
    for document in documents:
        path = make.path_of(folders["documents"], document)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document.name)
    run._write_sets(tmp_path / "sets.txt", folders, documents)
    sections = {}
    for line in (tmp_path / "sets.txt").read_text().splitlines():
        if line.startswith("["):
            names = sections.setdefault(line, set())
        else:
            names.add(Path(line).name)
    assert not sections["[b_train]"] & sections["[b_test]"]
    assert sum(map(len, sections.values())) == len(documents)
    assert len(sections["[m_test]"]) == len(ABUSIVE)
    for kind, group in HARMLESS.items():
        samples = {run.sample_of(folders["documents"], document) for document in group}
        assert samples & sections["[b_train]"], kind
        assert samples & sections["[b_test]"], kind


@needs_tools
@pytest.mark.parametrize("size", [0, 1, 300, 5000])
def test_encoders_are_undone_by_ghostscript(size: int, tmp_path: Path) -> None:
    data = bytes((i * i // 7 + i // 50) % 256 for i in range(size))
    for filters, coded in (
        ("/LZWDecode", encode.lzw(data)),
        ("/RunLengthDecode", encode.run_length(data)),
        ("/FlateDecode", encode.flate(data)),
    ):
        start = f"%!\n/s 60000 string def currentfile /ASCIIHexDecode filter {filters} filter s readstring\n"
        program = start.encode() + encode.asciihex(coded) + b"\npop { = } forall\n"
        (tmp_path / "p.ps").write_bytes(program)
        done = ghostscript(tmp_path / "p.ps", tmp_path / filters[1:], "-dNODISPLAY")
        assert (done.returncode, done.stderr) == (0, "")
        assert bytes(map(int, done.stdout.split())) == data, filters
