"""Functions whose address a program takes nowhere, and what it means to reach one by its address."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_effects import effects_of, needs_strace
from test_evidence_functions import BASE, laid_out
from test_evidence_recorded import MODES, record

from barnum.evidence import EvidenceFinder, find_evidence
from barnum.evidence.elf import read_elf
from barnum.evidence.kept import kept_functions
from barnum.paths import open_path
from barnum.paths.preprocess import Request, preprocess

sys.path.insert(0, str(Path(__file__).parents[2] / "bench" / "detection"))
import hijacks
from hijack_forms import FORMS

SOURCE = """
#define KEPT __attribute__((noinline, noclone, used))
extern int put(int);
KEPT static int by_name(int a) { return put(a) + 1; }
KEPT static int in_data(int a) { return put(a) + 2; }
KEPT static int in_code(int a) { return put(a) + 3; }
KEPT static int as_argument(int a) { return put(a) + 4; }
KEPT __attribute__((visibility("hidden"))) int hidden(int a) { return by_name(a) + put(a); }
KEPT int put(int a) { __asm__ volatile("" : "+r"(a)); return a; }
int (*const table[])(int) = {in_data, 0};
int (*changed)(int);
KEPT int apply(int (*what)(int), int a) { return what(a) + put(a); }
KEPT int run(int a) {
  changed = in_code;
  return apply(as_argument, a) + apply(changed, a) + table[0](a) + hidden(a);
}
"""
NAMES = ("by_name", "in_data", "in_code", "as_argument", "hidden", "put", "apply", "run")
TAKEN = {"in_data", "in_code", "as_argument"}


@pytest.fixture(scope="module", params=MODES)
def mode(request):
    return request.param


def built(folder: Path, mode: int, *words: str) -> Path:
    source, program = folder / "source.c", folder / "program"
    source.write_text(
        SOURCE + ("int main(int c, char **v) { return run(c); }" if "-shared" not in words else "")
    )
    command = ["gcc", f"-m{mode}", "-O1", "-fcf-protection=none", *words, source, "-o", program]
    subprocess.run(command, check=True, timeout=120)
    return program


@pytest.mark.parametrize("words", [("-no-pie", "-fno-pie"), ("-pie", "-fpie"), ("-shared", "-fPIC")])
def test_what_is_called_by_name_alone_is_told_apart(tmp_path, mode, words):
    program = built(tmp_path, mode, *words)
    listed = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout.splitlines()
    places = {line.split()[2]: int(line.split()[0], 16) for line in listed if len(line.split()) == 3}
    image = laid_out(program)
    lowest = 0 if "-no-pie" not in words else min(places[name] for name in NAMES) & ~0xFFFFF
    if mode == 32 and "-no-pie" in words:
        lowest = 0x8048000
    functions = read_elf(image, BASE)
    assert functions is not None and functions.taken is not None
    offsets = np.array([places[name] - lowest for name in NAMES], np.uint64)
    assert functions.at_start(offsets).all()
    untaken = {name for name, is_so in zip(NAMES, functions.untaken(offsets), strict=True) if is_so}
    assert not untaken & TAKEN
    # numbers in code may look like an address; what a library exports anybody may ask for
    others = {"by_name", "hidden"} | (set() if "-shared" in words else {"put", "apply", "run"})
    assert len(untaken & others) >= len(others) - 1


def test_an_image_of_code_alone_says_nothing(tmp_path):
    image = laid_out(built(tmp_path, 64, "-pie", "-fpie")).copy()
    whole = read_elf(image, BASE)
    assert whole is not None and whole.taken is not None
    # the last segment is that of data that is written
    functions = read_elf(image[: len(image) & ~0xFFF], BASE)
    image[0x2000:] = 0
    for bare in (functions, read_elf(image, BASE)):
        if bare is not None and bare.taken is not None:
            assert bare.taken.tolist() == whole.taken.tolist()
    assert read_elf(image, BASE).taken is None
    assert not read_elf(image, BASE).untaken(whole.starts).any()


def test_what_is_known_of_a_file_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    program = built(tmp_path, 64, "-pie", "-fpie")
    for known in (True, False):
        functions = read_elf(laid_out(program), BASE)
        if not known:
            functions.taken = None
        base = BASE + known
        assert kept_functions(program, base, lambda found=functions: found) is functions
        again = kept_functions(program, base, lambda: pytest.fail("is read again"))
        assert again.starts.tolist() == functions.starts.tolist()
        if known:
            assert again.taken.tolist() == functions.taken.tolist()
        else:
            assert again.taken is None


# --- programs that documents take over


def findings(folder: Path, document: bytes, program: Path):
    sample = record(folder, document, program)
    parsed = folder / "parsed.parquet"
    preprocess(Request(folder=str(sample.folder), bin_dir=str(folder / "extract"), output=str(parsed)))
    path = open_path(parsed)
    finder = EvidenceFinder(sample, folder / "extract")
    find_evidence(path, finder)
    return sample, finder.done(path.gaps)


# code that is written is run by programs that are meant to; parts of functions are gone to by compilers
WEAK = {"data_code": "code", "heap_code": "code", "exception_frames": "entry", "jump_oriented": "entry"}


@needs_strace
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_a_hijack_is_evidence_and_a_harmless_document_is_none(tmp_path, form):
    program = hijacks.compiled(form, 64, tmp_path)
    good, (bad, target) = hijacks.harmless(form, program, 0), hijacks.hijacking(form, program)
    assert hijacks.ends_well(program, good)
    sample, found = findings(tmp_path / "good", good, program.file)
    assert sample.meta.exit.status == 0
    # a context that is gone on with is a return that no call explains
    assert {each.kind for each in found.findings} <= ({"return"} if form.name == "saved_context" else set())
    assert not found.strong
    usual = found.keys
    sample, found = findings(tmp_path / "bad", bad, program.file)
    assert any(effect.path == hijacks.HELPER for effect in effects_of(sample))
    if form.name in WEAK:
        assert WEAK[form.name] in {each.kind for each in found.findings if each.key not in usual}
        return
    assert found.strong
    if target is not None:
        first = next(each for each in found.findings if each.key not in usual)
        assert first.target_place.module == program.file.name
        assert first.target_place.offset == program.at(target) - (0 if "-pie" in form.flags else 0x400000)
