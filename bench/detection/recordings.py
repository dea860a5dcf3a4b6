"""Records the programs of the benchmark, once: what is kept of each run is its digest."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench_document import Document
from subjects import Subject

from barnum.digests import Digest
from barnum.digests.make import digests_of
from barnum.errors import BarnumError
from barnum.samples import find_samples

HERE = Path(__file__).parent
# endings of files that make documents
_CODE = (".py", ".c", ".cpp", ".h", ".ps", ".txt")
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
    told = _state(subject)
    state = folder / "state.json"
    if not state.is_file() or state.read_text() != told:
        shutil.rmtree(folder, ignore_errors=True)
        documents = subject.documents()
        _record(subject, documents, folder, jobs)
        made = [(_hash(each.content), each.name, each.kind, each.harmful) for each in documents]
        (folder / "documents.json").write_text(json.dumps(made))
        state.write_text(told)
    return _read(subject, folder, jobs)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _state(subject: Subject) -> str:
    """What a recording depends on: programs that are compiled anew may be others."""
    program = Path(subject.command[0])
    parts = [*subject.command, _hash(program.read_bytes()) if program.is_file() else ""]
    files = {file for pattern in subject.sources for file in HERE.glob(pattern) if file.suffix in _CODE}
    parts += [f"{file.name} {_hash(file.read_bytes())}" for file in sorted(files)]
    return json.dumps({"made by": _hash("\n".join(parts).encode())})


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


def _barnum(*words: object) -> None:
    command = [str(BARNUM), *map(str, words)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, **ENVIRONMENT}
    )
    if done.returncode:
        raise RecordingError(f"{' '.join(command)[:300]}: {done.stderr.strip()[-500:]}")


def _read(subject: Subject, folder: Path, jobs: int) -> list[Run]:
    documents = json.loads((folder / "documents.json").read_text())
    of = {sample: (name, kind, harmful) for sample, name, kind, harmful in documents}
    runs = []
    samples = [each for each in find_samples(folder / "traces") if each.folder.name in of]
    with tempfile.TemporaryDirectory() as scratch:
        # what is judged is the digest, which is made once; paths are a thousand times as large
        made = list(digests_of(samples, Path(scratch), bin_dir=folder / "images", jobs=jobs))
    for sample, outcome in made:
        name, kind, harmful = of[sample.folder.name]
        if isinstance(outcome, BarnumError):
            raise RecordingError(f"{subject.name}, {name}: {outcome}")
        digest, identity = outcome
        hijack = _hijack(subject, digest) if harmful else None
        runs.append(Run(name, kind, harmful, digest, identity, hijack))
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
