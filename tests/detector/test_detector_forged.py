"""Forged detectors and digests that hold more, or say other things, than any that was made."""

from __future__ import annotations

import gzip
import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load, save

from barnum.detector import Fitted, load_fitted, save_fitted
from barnum.detector import fitted as module
from barnum.detector.check import known_program
from barnum.detector.fitted import encoded
from barnum.digests import Program, digest_of_path, read_digest
from barnum.digests.file import encoded as encoded_digest
from barnum.digests.notes import KnownImage, KnownProgram
from barnum.errors import DigestError, EvaluationError, ModelError
from barnum.evidence.known import KnownKey
from barnum.paths import open_path
from barnum.samples import Sample
from learning import attack_path, barnum, write_sample, write_tree

RUNS = 5


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tree and the detector of its runs."""
    folder = tmp_path_factory.mktemp("few")
    ended = barnum("fit", write_tree(folder / "traces", RUNS, 1), "-o", folder / "detector")
    assert ended.code == 0, ended.err
    return folder


def forged(file: Path, content: bytes, change: Callable[[dict[str, Any]], object]) -> Path:
    """A file whose description of itself was changed."""
    arrays = load(content)
    about = json.loads(arrays["about"].tobytes())
    change(about)
    return with_text(file, arrays, json.dumps(about).encode())


def with_text(file: Path, arrays: dict[str, Any], text: bytes) -> Path:
    arrays["about"] = np.frombuffer(text, np.uint8)
    content = save({name: np.ascontiguousarray(each) for name, each in arrays.items()})
    file.write_bytes(gzip.compress(content, 1))
    return file


def with_notes(fitted: Fitted, **values: Any) -> Fitted:
    notes = msgspec.structs.replace(fitted.about.notes, **values)
    return Fitted(msgspec.structs.replace(fitted.about, notes=notes), fitted.counts)


def program(*command: str) -> Program:
    return Program(command=command, start="open", engine="emulator")


COUNTED: dict[str, dict[str, Any]] = {
    "programs": {"programs": (KnownProgram(program("cat", "{}"), RUNS + 1),)},
    "images": {"images": (KnownImage("/bin/cat", "00", 1 << 53),)},
    "evidence": {"evidence": (KnownKey("return a", RUNS + 1),)},
    "effects": {"effects": (KnownKey("open /", RUNS + 1),)},
    "watched": {"watched": RUNS + 1},
}


@pytest.mark.parametrize("what", COUNTED)
def test_more_runs_than_there_are_are_refused(few, tmp_path, what):
    save_fitted(tmp_path / "d", with_notes(load_fitted(few / "detector"), **COUNTED[what]))
    with pytest.raises(ModelError, match="counts more runs than it has learnt"):
        load_fitted(tmp_path / "d")


def test_a_rate_that_no_number_of_runs_allows_is_an_error_in_a_line(few, tmp_path):
    file = forged(
        tmp_path / "d", encoded(load_fitted(few / "detector")), lambda about: about.update(rate=5e-324)
    )
    with pytest.raises(EvaluationError, match="nominal runs, here are 5"):
        _ = load_fitted(file).classifier
    ended = barnum("score", file, few / "traces")
    assert ended.code == 22 and "Traceback" not in ended.err
    wished = barnum("fit", "--false-alarm-rate", "1e-320", "-o", tmp_path / "e", few / "traces")
    assert wished.code == 19 and "Traceback" not in wished.err


def test_what_a_detector_says_of_itself_is_not_unpacked_without_bound(few, tmp_path):
    arrays = load(encoded(load_fitted(few / "detector")))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # each element takes 20 times its text, were it kept
    file = with_text(tmp_path / "d", dict(arrays), b'{"schema":1,"x":[' + b"[]," * (10 << 20) + b"[]]}")
    with pytest.raises(ModelError, match="is no fitted detector"):
        load_fitted(file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 << 10
    large = with_text(tmp_path / "d", dict(arrays), b'{"schema":1}'.ljust((64 << 20) + 1))
    with pytest.raises(ModelError, match="says more than 67,108,864 bytes of itself"):
        load_fitted(large)


def test_long_columns_are_not_unpacked(few, tmp_path):
    arrays = load(encoded(load_fitted(few / "detector")))
    for name in ("site", "site_runs"):
        arrays[name] = np.zeros((1, (1 << 26) + 1), np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match="column site is missing or too long"):
        load_fitted(with_text(tmp_path / "d", arrays, arrays["about"].tobytes()))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20


def test_nothing_is_written_that_could_not_be_read(few, tmp_path, monkeypatch):
    fitted = load_fitted(few / "detector")
    monkeypatch.setattr(module, "_LARGEST_ABOUT", 100)
    with pytest.raises(ModelError, match="more than a detector is for"):
        save_fitted(tmp_path / "d", fitted)
    assert not (tmp_path / "d").exists()


def test_what_is_run_is_a_program_with_a_document(few):
    fitted = load_fitted(few / "detector")
    for command in ((), ("cat",), ("",)):
        odd = with_notes(fitted, programs=(KnownProgram(program(*command), RUNS),))
        with pytest.raises(ModelError, match="name it behind --"):
            known_program(odd)
    known = tuple(KnownProgram(program(*each), 1) for each in ((), ("cat", "{}"), ("sh",)))
    assert known_program(with_notes(fitted, programs=known)).command == ("cat", "{}")


ODD_COMMANDS = {
    "no name": ["", "{}"],
    "a NUL": ["/bin/c\0at", "{}"],
    "a NUL in a word": ["/bin/cat", "{}", "a\0b"],
    "no such program": ["/no/such/program", "{}"],
    "a folder": ["/tmp", "{}"],
    "more words than can be": ["/bin/cat", "{}", *["word"] * 1_000_000],
    "a longer word than can be": ["/bin/cat", "{}", "a" * (1 << 20)],
    "what a terminal obeys": ["/no/\x1b[2J\n\x07", "{}"],
}


@pytest.mark.parametrize("what", ODD_COMMANDS)
def test_odd_commands_end_in_a_line(few, tmp_path, what):
    named = (KnownProgram(program(*ODD_COMMANDS[what]), RUNS),)
    save_fitted(tmp_path / "d", with_notes(load_fitted(few / "detector"), programs=named))
    (tmp_path / "document").write_text("text")
    ended = barnum("check", "--no-sandbox", tmp_path / "d", tmp_path / "document")
    assert ended.code in (14, 22), ended.err
    assert "Traceback" not in ended.err
    assert not {"\x1b", "\x07"} & set(ended.out + ended.err)


@pytest.mark.parametrize("field", ["engine", "cpu"])
def test_odd_recorders_end_in_a_line(few, tmp_path, field):
    odd = msgspec.structs.replace(program("cat", "{}"), **{field: "x\x1b[2J,help"})
    fitted = with_notes(load_fitted(few / "detector"), programs=(KnownProgram(odd, RUNS),))
    save_fitted(tmp_path / "d", fitted)
    (tmp_path / "document").write_text("text")
    ended = barnum("check", "--no-sandbox", tmp_path / "d", tmp_path / "document")
    assert ended.code in (2, 15, 22)
    assert "Traceback" not in ended.err and "\x1b" not in ended.err


def finding(number: int, **values: Any) -> dict[str, Any]:
    place = {"module": "a", "offset": number}
    return {
        "kind": "return", "strong": True, "by": "return", "site": 1, "target": 2, "site_place": place,
        "target_place": place, "step": 5, "count": 1, "key": f"return a+{number}", **values,
    }  # fmt: skip


FINDINGS: dict[str, list[dict[str, Any]]] = {
    "too many": [finding(number) for number in range(1001)],
    "a long key": [finding(1, key="k" * 20_000)],
    "a step before the first": [finding(1, step=-1)],
    "a step that is no number of one": [finding(1, step=10**30)],
    "a kind that is none": [finding(1, kind="magic")],
}


@pytest.mark.parametrize("what", FINDINGS)
def test_forged_evidence_is_refused_in_a_line(tmp_path, what):
    sample = Sample.open(write_sample(tmp_path, "a.doc", "benign", attack_path(1)))
    assert sample.parsed is not None
    content = encoded_digest(digest_of_path(sample, open_path(sample.parsed)))
    file = tmp_path / "trace_digest"

    def put(findings: list[dict[str, Any]]) -> Callable[[dict[str, Any]], object]:
        return lambda about: about.update(evidence={"findings": findings})

    forged(file, content, put(FINDINGS[what]))
    with pytest.raises(DigestError) as refused:
        read_digest(file)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500
    read_digest(forged(file, content, put([finding(1)])))
