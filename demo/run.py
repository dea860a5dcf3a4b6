"""The demo: documents, recordings, paths, a model, verdicts. ``make demo`` runs it.

    python demo/run.py [--out demo-out] [--jobs N]

Everything goes into one folder. What is there from an earlier run is kept (documents, recordings, paths) or
replaced (model, evaluations, verdicts). The work is done by calling the command line, as a user would do it.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from documents.make import Document, DocumentError, make_all, path_of

ROOT = Path(__file__).parent.parent
BARNUM = Path(sys.executable).with_name("barnum")
WARM_UP = Path(__file__).parent / "warm-up.ps"
# pages go nowhere, in a low resolution: what counts is the way there. Colours are not matched to profiles,
# which would be most of what is executed.
GHOSTSCRIPT = ("gs", "-q", "-dNOSAFER", "-dBATCH", "-dNOPAUSE", "-dUseFastColor", "-sDEVICE=ppmraw", "-r36",
               "-sOutputFile=/dev/null")  # fmt: skip
# of every kind of harmless documents one in three is held out
HELD_OUT = 3
# most transfers that the network learns of each run; the whole run is judged
MAX_TRANSFERS = 30_000
EPOCHS = 2


class StepError(Exception):
    """A command failed."""


class Steps:
    """Runs commands one after the other, says what they do and how long each took."""

    def __init__(self) -> None:
        self.times: list[tuple[str, float]] = []

    def title(self, text: str) -> float:
        """Announce a step."""
        print(f"\n=== {len(self.times) + 1}. {text}", flush=True)
        return time.monotonic()

    def done(self, text: str, start: float) -> None:
        """Note how long a step took."""
        self.times.append((text, time.monotonic() - start))
        print(f"    {text}: {self.times[-1][1]:.0f} s", flush=True)

    def barnum(self, *arguments: str | Path, quiet: bool = False) -> None:
        """Run barnum; its output and progress bars go to the terminal, its output nowhere when quiet."""
        words = [str(argument) for argument in arguments]
        print("$ .venv/bin/barnum " + shlex.join(words), flush=True)
        stdout = subprocess.DEVNULL if quiet else None
        code = subprocess.run([str(BARNUM), *words], check=False, stdout=stdout, cwd=ROOT).returncode
        if code:
            raise StepError(f"barnum {words[0]} ended with exit code {code}; what it said is above")


def main() -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(description="Detect documents that abuse Ghostscript, from scratch.")
    parser.add_argument("--out", type=Path, default=ROOT / "demo-out", help="folder of all results")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="runs at a time")
    options = parser.parse_args()
    try:
        _demo(options.out.resolve(), options.jobs)
    except (StepError, DocumentError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"demo: {error.strerror or error}: {error.filename}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; what was recorded is kept", file=sys.stderr)
        return 130
    return 0


def _demo(out: Path, jobs: int) -> None:
    steps = Steps()
    folders = {name: out / name for name in ("documents", "traces", "extract", "model", "eval")}
    for name in ("model", "eval"):
        shutil.rmtree(folders[name], ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    folders["model"].mkdir()

    start = steps.title("Make documents: harmless ones, and programs that abuse Ghostscript")
    documents = _documents(folders["documents"])
    steps.done("documents", start)

    start = steps.title("Record Ghostscript on each of them")
    _forget(folders["traces"], {_sample(folders["documents"], document) for document in documents})
    for label in ("benign", "malicious"):
        where = ("-o", folders["traces"], "--bin-dir", folders["extract"])
        program = ("--", *GHOSTSCRIPT, WARM_UP, "{}")
        inputs = folders["documents"] / label
        steps.barnum("trace", f"--{label}", *where, "--jobs", str(jobs), "-l", "30", inputs, *program)
    steps.done("recording", start)

    start = steps.title("Decode the recordings into paths of basic blocks")
    steps.barnum(
        "preprocess", "-j", str(jobs), "-t", "1800", "-p", "-l", "30", folders["traces"], folders["extract"]
    )
    steps.done("preprocessing", start)

    start = steps.title("Learn from two in three of the harmless documents, evaluate all others")
    sets = out / "sets.txt"
    _write_sets(sets, folders, documents)
    saved = (
        "--save-model",
        folders["model"] / "model.json",
        "--save-weights",
        folders["model"] / "weights.safetensors",
    )
    how = ("--max-transfers", str(MAX_TRANSFERS), "--epochs", str(EPOCHS), "-i", sets)
    steps.barnum("lstm", "-p", *how, *saved, "--eval-dir", folders["eval"], "-l", "30", folders["traces"])
    steps.done("learning and evaluation", start)

    start = steps.title("Classify")
    verdicts = out / "verdicts.csv"
    verdicts.unlink(missing_ok=True)
    saved = ("-s", folders["model"] / "classifier.json", "--csv", verdicts, "--json", out / "verdicts.json")
    for path in (folders["model"] / "classifier.json", out / "verdicts.json"):
        path.unlink(missing_ok=True)
    steps.barnum("classifier", *saved, folders["eval"])
    steps.done("classification", start)
    _close(out, steps, folders, verdicts)


def _documents(folder: Path) -> list[Document]:
    """Make the documents with a progress bar, like those of the commands."""
    from documents.make import all_documents

    from barnum.cli.common import progress

    with progress("documents", len(all_documents())) as bar:
        documents = make_all(folder, bar.advance)
    harmless = [document for document in documents if document.benign]
    kinds = len({document.kind for document in harmless})
    pdf = sum(document.name.endswith(".pdf") for document in harmless)
    print(
        f"{len(harmless)} harmless documents of {kinds} kinds ({len(harmless) - pdf} PostScript, {pdf} PDF), "
        f"{len(documents) - len(harmless)} abusive PostScript programs"
    )
    return documents


def _sample(folder: Path, document: Document) -> str:
    return hashlib.sha256(path_of(folder, document).read_bytes()).hexdigest()


def _forget(traces: Path, wanted: set[str]) -> None:
    """Remove recordings of documents that are no longer among those of the demo."""
    if traces.is_dir():
        for folder in traces.iterdir():
            if len(folder.name) == 64 and folder.name not in wanted:
                shutil.rmtree(folder)


def _write_sets(file: Path, folders: dict[str, Path], documents: list[Document]) -> None:
    """Hold out a third of each kind of harmless documents, chosen by the hash of their names alone."""
    kinds: dict[str, list[Document]] = defaultdict(list)
    for document in documents:
        if document.benign:
            kinds[document.kind].append(document)
    held_out = set()
    for group in kinds.values():
        group.sort(key=lambda document: hashlib.sha256(document.name.encode()).digest())
        held_out.update(document.name for document in group[: max(1, len(group) // HELD_OUT)])
    sections: dict[str, list[str]] = {"b_train": [], "b_test": [], "m_test": []}
    for document in documents:
        section = "m_test" if not document.benign else "b_test" if document.name in held_out else "b_train"
        sections[section].append(str(folders["traces"] / _sample(folders["documents"], document)))
    text = "".join(f"[{name}]\n" + "".join(f"{line}\n" for line in lines) for name, lines in sections.items())
    file.write_text(text)
    print(", ".join(f"{name} {len(lines)}" for name, lines in sections.items()) + f": {file}")


def _close(out: Path, steps: Steps, folders: dict[str, Path], verdicts: Path) -> None:
    with verdicts.open(newline="") as file:
        rows = len(list(csv.DictReader(file)))
    if not rows:
        raise StepError(f"{verdicts} holds no verdict")
    print("\n=== Where things are")
    for what, path in [
        ("documents", folders["documents"]),
        ("recordings and paths", folders["traces"]),
        ("images of the program", folders["extract"]),
        ("who was learnt, who was judged", out / "sets.txt"),
        ("model, classifier", folders["model"]),
        ("evaluations", folders["eval"]),
        (f"verdicts ({rows})", verdicts),
    ]:
        print(f"{what:32}{_shown(str(path))}")
    spent = ", ".join(f"{what} {seconds:.0f} s" for what, seconds in steps.times)
    print(f"\n{sum(seconds for _, seconds in steps.times):.0f} s in all: {spent}")


def _shown(word: str) -> str:
    """A path as it is seen from where the user stands."""
    path = Path(word)
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_absolute() and path.is_relative_to(here) else word


if __name__ == "__main__":
    sys.exit(main())
