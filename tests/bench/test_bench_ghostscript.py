"""Documents of the benchmark for Ghostscript: harmless ones do nothing, harmful ones what they are for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_effects import can_strace

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench" / "detection"))
import evasion
import ghostscript
import ghostscript_tricks as tricks
from bench_document import Document

BENCH = Path(evasion.__file__).parent
needs_ghostscript = pytest.mark.skipif(
    shutil.which("gs") is None or not can_strace(),
    reason="Ghostscript is not installed, or may not be traced",
)
HARMLESS = {document.name: document for document in ghostscript.warning_documents()}
HARMFUL = {document.name: document for document in tricks.documents()}
SOME_HARMLESS = ("pdf-xref-missing-0.pdf", "pdf-image-long-1.pdf", "ps-caught-2.ps", "ps-file-missing-0.ps")
SOME_HARMFUL = (
    "pipe-of-raster.ps",
    "users-by-resource.ps",
    "written-by-device.ps",
    "removed.ps",
    "listed.ps",
    "in-spot-function.ps",
    "by-numbers.ps",
    "after-pdf-operators-bad.ps",
)


def test_there_are_many_and_each_differs():
    documents = [*HARMLESS.values(), *HARMFUL.values()]
    assert len(HARMLESS) >= 80 and len(ghostscript.warning_kinds()) >= 12
    assert len(HARMFUL) >= 15
    assert len({document.content for document in documents}) == len(documents)
    assert not any(document.harmful for document in HARMLESS.values())
    assert all(document.harmful for document in HARMFUL.values())
    assert not HARMLESS.keys() & HARMFUL.keys()


def test_they_are_the_same_in_another_process():
    program = (
        "import hashlib, ghostscript as g, ghostscript_tricks as t\n"
        "for d in [*g.warning_documents(), *t.documents()]:\n"
        "    print(d.name, hashlib.sha256(d.content).hexdigest())"
    )
    listed = [
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=BENCH,
            env={"PYTHONPATH": str(BENCH), "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    ]
    assert listed[0] == listed[1]
    assert listed[0].count("\n") == len(HARMLESS) + len(HARMFUL)


def test_the_command_is_that_of_the_demo():
    command = ghostscript.command()
    assert command[0] == "gs" and command[-1] == "{}"
    assert "-dNOSAFER" in command and Path(command[-2]).is_file()


@needs_ghostscript
@pytest.mark.parametrize("name", SOME_HARMLESS)
def test_a_damaged_document_is_warned_of_and_does_nothing(name, tmp_path):
    assert ghostscript.warned(HARMLESS[name], tmp_path)
    assert ghostscript.checked(HARMLESS[name], tmp_path)


@needs_ghostscript
@pytest.mark.parametrize("ending", ["ps", "pdf"])
def test_a_sound_document_is_not_warned_of(ending, tmp_path):
    content = {
        "ps": b"%!PS\n/Times-Roman 9 selectfont 9 9 moveto (sound) show showpage\n",
        "pdf": HARMLESS["pdf-xref-wrong-0.pdf"].content,
    }[ending]
    # the offset of the table that is wrong, and so the whole table, put right
    if ending == "pdf":
        content = mended(content)
    assert not ghostscript.warned(Document(f"sound.{ending}", "sound", content), tmp_path)


def mended(content: bytes) -> bytes:
    """A document whose table of offsets is wrong, with one that is right."""
    start = content.rindex(b"xref\n0 ")
    lines = content[start:].split(b"\n")
    for number in range(1, int(lines[1].split()[1])):
        lines[2 + number] = b"%010d 00000 n " % (content.index(b"\n%d 0 obj" % number) + 1)
    lines[lines.index(b"startxref") + 1] = b"%d" % start
    return content[:start] + b"\n".join(lines)


@needs_ghostscript
@pytest.mark.parametrize("name", SOME_HARMFUL)
def test_a_trick_does_what_it_is_for(name, tmp_path):
    assert ghostscript.checked(HARMFUL[name], tmp_path)


@needs_ghostscript
def test_what_is_harmful_is_not_taken_for_harmless(tmp_path):
    for name in ("in-spot-function.ps", "users-run.ps", "removed.ps"):
        trick = HARMFUL[name]
        assert not ghostscript.checked(Document(trick.name, trick.kind, trick.content), tmp_path)
    idle = Document("removed.ps", "removed", HARMLESS["ps-caught-0.ps"].content, harmful=True)
    assert not ghostscript.checked(idle, tmp_path)


@needs_ghostscript
def test_the_safer_mode_keeps_commands_out_of_reach(tmp_path):
    assert "runs /bin/sh" in ghostscript.effects(HARMFUL["in-spot-function.ps"], tmp_path)
    assert not ghostscript.effects(HARMFUL["in-spot-function.ps"], tmp_path, safer=True)


ACTS = {
    "runs a command": "runs /bin/sh",
    "reads a file": "reads /etc/passwd",
    "writes a file": "writes evades.out",
    "lists a folder": "lists /etc",
    "asks for a file": None,
}


@needs_ghostscript
@pytest.mark.parametrize("act", ACTS)
def test_what_tries_to_pass_does_what_it_does_plainly(tmp_path, act):
    made = [each for each in evasion.of_program("ghostscript") if each.act == act]
    assert len({each.document.name for each in made}) == len(made) == 12
    assert {each.manner for each in made} == {"plain", "pages around", "pages between", "sums between"}
    done = []
    for number, each in enumerate((made[0], made[1], made[2], made[-3])):
        folder = tmp_path / str(number)
        folder.mkdir()
        done.append(ghostscript.effects(each.document, folder))
    assert all(effects == done[0] for effects in done)
    assert (ACTS[act] in done[0]) if ACTS[act] else not done[0]
