"""Records the programs of the benchmark, once: what is kept of each run is its digest."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from documents import Document
from subjects import Subject

from barnum.digests import Digest
from barnum.digests.file import read_digest
from barnum.samples import find_samples

BARNUM = Path(sys.executable).with_name("barnum")
ENVIRONMENT = {
    # as many threads as cores make a run of each library that computes, which says nothing of the document
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}


class RecordingError(Exception):
    """A program cannot be recorded."""


@dataclass(frozen=True)
class Run:
    """A recorded run of a document.

    ``kind`` of the document; ``digest`` of the run and its ``identity``; ``hijack``: the row of the transfer
    that hijacks it among the distinct ones (None: not known, or it is harmless).
    """

    name: str
    kind: str
    harmful: bool
    digest: Digest
    identity: int
    hijack: int | None = None


def recorded(subject: Subject, folder: Path, jobs: int) -> list[Run]:
    """The runs of all documents of a program, by name; recorded if they are not there yet.

    Raises:
        RecordingError: the program cannot be recorded.
    """
    documents = subject.documents()
    told = _state(subject, documents)
    state = folder / "state.json"
    if not state.is_file() or state.read_text() != told:
        shutil.rmtree(folder, ignore_errors=True)
        _record(subject, documents, folder, jobs)
        state.write_text(told)
    return _read(subject, documents, folder)


def _state(subject: Subject, documents: list[Document]) -> str:
    """What a recording depends on: programs that are compiled anew may be others."""
    program = Path(subject.command[0])
    parts = [*subject.command, hashlib.sha256(program.read_bytes()).hexdigest() if program.is_file() else ""]
    parts += [f"{each.name} {hashlib.sha256(each.content).hexdigest()}" for each in documents]
    return json.dumps({"documents": hashlib.sha256("\n".join(parts).encode()).hexdigest()})


def _record(subject: Subject, documents: list[Document], folder: Path, jobs: int) -> None:
    for harmful, label in ((False, "benign"), (True, "malicious")):
        if not any(each.harmful == harmful for each in documents):
            continue
        inputs = folder / label
        inputs.mkdir(parents=True)
        for each in documents:
            if each.harmful == harmful:
                (inputs / each.name).write_bytes(each.content)
        _barnum(
            *("trace", f"--{label}", "-o", folder / "traces", "--bin-dir", folder / "images"),
            *(("--cpu", subject.cpu) if subject.cpu else ()),
            *("--timeout", subject.timeout, "-j", jobs, "-l", 40, inputs, "--", *subject.command),
        )
    _barnum("preprocess", "-j", jobs, "-l", 40, folder / "traces", folder / "images")
    for sample in find_samples(folder / "traces"):
        # what is judged is the digest; paths are a thousand times as large
        if sample.parsed is not None:
            sample.parsed.unlink()


def _barnum(*words: object) -> None:
    command = [str(BARNUM), *map(str, words)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, **ENVIRONMENT}
    )
    if done.returncode:
        raise RecordingError(f"{' '.join(command)[:300]}: {done.stderr.strip()[-500:]}")


def _read(subject: Subject, documents: list[Document], folder: Path) -> list[Run]:
    of = {hashlib.sha256(each.content).hexdigest(): each for each in documents}
    runs = []
    for sample in find_samples(folder / "traces"):
        document = of.get(sample.folder.name)
        if document is None or sample.digest is None:
            continue
        digest, identity = read_digest(sample.digest)
        hijack = _hijack(subject, digest) if document.harmful else None
        runs.append(Run(document.name, document.kind, document.harmful, digest, identity, hijack))
    return sorted(runs, key=lambda run: run.name)


def _hijack(subject: Subject, digest: Digest) -> int | None:
    """The row of the first transfer that leads to the hijack's target."""
    if subject.hijack is None:
        return None
    program = subject.command[0]
    for row, target in enumerate(digest.taken.target.tolist()):
        path, offset = digest.module_of(target)
        if path is not None and Path(path).name == Path(program).name and offset == subject.hijack:
            return row
    return None
