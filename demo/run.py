"""The demo: documents, recordings, paths, a model, verdicts. ``make demo`` runs it.

    python demo/run.py [--out demo-out] [--jobs N] [--quick] [--rote | --without-network]

First from documents to verdicts, by what a digest of each run holds (fit, check); then the same runs by a
sequence learner, which predicts each transfer, with a page that shows where runs went astray.

Everything goes into one folder. What is there from an earlier run is kept (documents, recordings, paths) or
replaced (model, evaluations, verdicts). The work is done by calling the command line, as a user would do it.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.util
import json
import os
import shutil
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from documents.make import Document, DocumentError, make_all
from steps import StepError, Steps, sample_of

ROOT = Path(__file__).parent.parent
WARM_UP = Path(__file__).parent / "warm-up.ps"
# pages go nowhere, in a low resolution: what counts is the way there. Colours are not matched to profiles,
# which would be most of what is executed.
GHOSTSCRIPT = ("gs", "-q", "-dNOSAFER", "-dBATCH", "-dNOPAUSE", "-dUseFastColor", "-sDEVICE=ppmraw", "-r36",
               "-sOutputFile=/dev/null")  # fmt: skip
# of every kind of harmless documents one in three is held out
HELD_OUT = 3
# most transfers that the network learns of each run; the whole run is judged
MAX_TRANSFERS = 30_000
EPOCHS = 1
# share of harmless documents that may be called anomalous
RATE = 0.02
# of whole traces, and of those cut before another process starts
VERDICTS = ("verdicts.json", "verdicts-cut.json")
# an abusive document that is judged alone
EXAMPLE = "pipe-read.ps"


# answers that are shown
SHOWN = 8


def main() -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(description="Detect documents that abuse Ghostscript, from scratch.")
    parser.add_argument("--out", type=Path, default=ROOT / "demo-out", help="folder of all results")
    # one more than there are processors: while a run begins or ends it does not use one up
    runs = len(os.sched_getaffinity(0)) + 1
    parser.add_argument("--jobs", type=int, default=runs, help="runs at a time")
    learners = parser.add_mutually_exclusive_group()
    learners.add_argument("--rote", action="store_true", help="run the same by the rote learner as well")
    learners.add_argument(
        "--without-network", action="store_true", help="learn by rote alone, which needs no torch"
    )
    parser.add_argument("--quick", action="store_true", help="stop at the verdicts of fit and check")
    options = parser.parse_args()
    network = not options.without_network
    if network and not options.quick and importlib.util.find_spec("torch") is None:
        print("demo: torch, which networks need, is not installed (make demo installs it): learning by rote")
        network = False
    try:
        _demo(options.out.resolve(), options.jobs, options.quick, network, options.rote and network)
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


def _demo(out: Path, jobs: int, quick: bool, network: bool, rote: bool) -> None:
    """All steps, or the ``quick`` ones; by the network or by rote, and ``rote`` as well."""
    steps = Steps()
    folders = {name: out / name for name in ("documents", "traces", "extract", "model", "eval", "eval-rote")}
    for name in (*VERDICTS, "verdicts-rote.json", "verdicts-rote-cut.json", "report-rote.html"):
        (out / name).unlink(missing_ok=True)
    for name in ("model", "eval", "eval-rote"):
        shutil.rmtree(folders[name], ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    folders["model"].mkdir()

    start = steps.title("Make documents: harmless ones, and programs that abuse Ghostscript")
    documents = _documents(folders["documents"])
    steps.done("documents", start)

    sets, detector = out / "sets.txt", folders["model"] / "gs.barnum"
    _first_layer(steps, folders, documents, sets, detector, jobs)
    if quick:
        return
    _second_layer(out, steps, folders, documents, sets, network, rote)


def _first_layer(
    steps: Steps, folders: dict[str, Path], documents: list[Document], sets: Path, detector: Path, jobs: int
) -> None:
    """From documents to verdicts by ``fit`` and ``check``."""
    start = steps.title("Record Ghostscript on the harmless ones")
    _forget(folders["traces"], {sample_of(folders["documents"], document) for document in documents})
    where = ("-o", folders["traces"], "--bin-dir", folders["extract"], *_sandbox())
    program = ("--", *GHOSTSCRIPT, WARM_UP, "{}")
    inputs = folders["documents"] / "benign"
    steps.barnum("trace", "--benign", *where, "--jobs", str(jobs), "-l", "30", inputs, *program)
    steps.done("recording", start)

    start = steps.title("Decode that, and learn from two in three; compare with the others as well")
    _write_sets(sets, folders, documents)
    rate = ("--false-alarm-rate", str(RATE))
    images = ("--bin-dir", folders["extract"])
    steps.barnum("fit", "-i", sets, *rate, *images, "-l", "40", "-o", detector, folders["traces"])
    steps.done("decoding and learning", start)

    start = steps.title("Check the abusive documents: record each, and judge it")
    answers = steps.check(
        detector, folders["documents"] / "malicious", *where[:4], *_sandbox(), "--jobs", str(jobs)
    )
    steps.done("check", start)

    start = steps.title("Judge the harmless ones that were held out")
    whole = [*answers, *steps.score(detector, folders, documents, sets)]
    # what is known of those that were checked, for what follows
    _label(folders, documents)
    cut = steps.score(detector, folders, documents, sets, "--cut", malicious=True)
    steps.done("verdicts", start)
    _say_verdicts(whole)
    kinds = {document.name: "benign" if document.benign else "malicious" for document in documents}
    for judged in (whole, cut):
        for line in judged:
            line["label"] = kinds[line["name"]]
    _figures(whole, cut)
    print(f"{sum(seconds for _, seconds in steps.times):.0f} s so far")


def _second_layer(
    out: Path,
    steps: Steps,
    folders: dict[str, Path],
    documents: list[Document],
    sets: Path,
    network: bool,
    rote: bool,
) -> None:
    """The same runs by a sequence learner: predictions of each transfer, methods to choose from, a page."""
    start = steps.title("Decode the recordings into paths of basic blocks")
    _preprocess(steps, folders, len(os.sched_getaffinity(0)))
    steps.done("preprocessing", start)

    start = steps.title("Learn from two in three of the harmless documents, evaluate all others")
    model = _learn(steps, folders, sets) if network else _learn_by_rote(steps, folders, sets, folders["eval"])
    steps.done("learning and evaluation", start)

    start = steps.title("Classify, and compare methods")
    verdicts = out / "verdicts.csv"
    verdicts.unlink(missing_ok=True)
    classifier = folders["model"] / "classifier.json"
    rate = ("--false-alarm-rate", str(RATE))
    steps.barnum(
        "classifier",
        *rate,
        "-s",
        classifier,
        "--csv",
        verdicts,
        "--json",
        out / "verdicts.json",
        folders["eval"],
    )
    steps.barnum(
        "classifier", *rate, "--cut", "--json", out / "verdicts-cut.json", folders["eval"], quiet=True
    )
    _compare(folders["eval"])
    steps.done("classification", start)

    start = steps.title("Pack the detector, and judge one recording by it, as a pipeline would")
    detector = folders["model"] / "detector"
    shutil.rmtree(detector, ignore_errors=True)
    steps.barnum("pack", *model, "-l", classifier, detector)
    example = next(document for document in documents if document.name == EXAMPLE)
    steps.barnum("score", detector, folders["traces"] / sample_of(folders["documents"], example))
    steps.done("packing and scoring", start)

    start = steps.title("Write a page that shows what was anomalous, and where")
    page = out / "report.html"
    steps.barnum(
        "report", folders["eval"], "-f", "-o", page, *rate, "--traces", folders["traces"],
        "--bin-dir", folders["extract"], quiet=True,
    )  # fmt: skip
    steps.done("report", start)
    if rote:
        _by_rote(out, steps, folders, sets)
    _close(out, steps, folders, verdicts)
    _figures(*(_read(out / name) for name in VERDICTS))
    if rote:
        print("\nby rote:", end="")
        _figures(*(_read(out / name) for name in ("verdicts-rote.json", "verdicts-rote-cut.json")))


def _sandbox() -> tuple[str, ...]:
    """Runs that are compared are recorded alike: all in a sandbox, or none."""
    from barnum.recording import sandbox_state

    state = sandbox_state()
    if isinstance(state, str):
        print(f"without a sandbox: {state}")
        return ("--no-sandbox",)
    return ("--sandbox",)


def _preprocess(steps: Steps, folders: dict[str, Path], jobs: int) -> None:
    steps.barnum(
        "preprocess", "-j", str(jobs), "-t", "1800", "-p", "-l", "30", folders["traces"], folders["extract"]
    )


def _label(folders: dict[str, Path], documents: list[Document]) -> None:
    """Write into the samples of abusive documents that they are."""
    for document in documents:
        info = folders["traces"] / sample_of(folders["documents"], document) / "info.txt"
        lines = info.read_text().splitlines()
        lines[1] = "benign" if document.benign else "malicious"
        info.write_text("".join(f"{line}\n" for line in lines))


def _say_verdicts(answers: list[dict[str, Any]]) -> None:
    """A line an answer, the strangest first, with what it did that no harmless run did."""
    print(f"\n{'document':<28}{'score':>9}{'p':>8}  verdict")
    for line in sorted(answers, key=lambda line: -line["score"])[:SHOWN]:
        print(f"{line['name']:<28}{line['score']:>9.2f}{line['p_value']:>8.3f}  {line['verdict']}")
        for effect in line.get("effects", ())[:2]:
            print(f"{'':>28}{effect['text'][:80]}")
    print(f"and {max(0, len(answers) - SHOWN)} more, down to {min(line['score'] for line in answers):.2f}")


def _learn(steps: Steps, folders: dict[str, Path], sets: Path) -> tuple[str | Path, ...]:
    """Learn by the network, evaluate; the model's files as options of ``barnum pack``."""
    document, weights = folders["model"] / "model.json", folders["model"] / "weights.safetensors"
    how = ("--max-transfers", str(MAX_TRANSFERS), "--epochs", str(EPOCHS), "-i", sets)
    steps.barnum("lstm", "-p", *how, "--save-model", document, "--save-weights", weights, "--eval-dir",
                 folders["eval"], "-l", "30", folders["traces"])  # fmt: skip
    return "--use-model", document, "--use-weights", weights


def _learn_by_rote(
    steps: Steps, folders: dict[str, Path], sets: Path, evaluations: Path
) -> tuple[str | Path, ...]:
    """The same by rote, of whole runs."""
    kinds = ("--learn-ret", "--learn-icall", "--learn-ijmp")
    file = folders["model"] / "rote"
    steps.barnum("prob", "-p", *kinds, "-i", sets, "--save", file, "--eval-dir", evaluations, "-l", "30",
                 folders["traces"])  # fmt: skip
    return "--prob", file


def _by_rote(out: Path, steps: Steps, folders: dict[str, Path], sets: Path) -> None:
    """The same runs by the other learner: what it learns, evaluates and finds."""
    start = steps.title("Learn the same runs by rote, whole, and judge by that")
    evaluations = folders["eval-rote"]
    _learn_by_rote(steps, folders, sets, evaluations)
    rate = ("--false-alarm-rate", str(RATE))
    for cut, name in (([], "verdicts-rote.json"), (["--cut"], "verdicts-rote-cut.json")):
        steps.barnum("classifier", *rate, *cut, "--json", out / name, evaluations, quiet=True)
    steps.barnum("report", evaluations, "-f", "-o", out / "report-rote.html", *rate, "--traces",
                 folders["traces"], "--bin-dir", folders["extract"], quiet=True)  # fmt: skip
    steps.done("by rote", start)


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
        sections[section].append(str(folders["traces"] / sample_of(folders["documents"], document)))
    text = "".join(f"[{name}]\n" + "".join(f"{line}\n" for line in lines) for name, lines in sections.items())
    file.write_text(text)
    print(", ".join(f"{name} {len(lines)}" for name, lines in sections.items()) + f": {file}")


def _compare(evaluations: Path) -> None:
    """A table of methods: what each makes of the same runs, whole and cut. In this process, as each command
    would be imported anew."""
    from barnum.verdicts.cache import RunCache
    from barnum.verdicts.judgement import judge

    cache, cores = RunCache(), len(os.sched_getaffinity(0))
    methods: list[tuple[str, dict[str, Any]]] = [
        *((f"conformal {rate:g}", {"rate": rate}) for rate in (0.01, RATE, 0.05, 0.1)),
        ("logistic", {"method": "logistic"}),
        ("svm", {"method": "svm"}),
    ]
    print(f"\n{'method':<24}{'harmless flagged':>18}{'abusive missed':>16}{'cut: missed':>13}")
    for name, options in methods:
        judged = []
        for cut in (False, True):
            made = judge(evaluations, cut=cut, workers=cores, cache=cache, **options)
            judged.append(
                [
                    {"label": run.label, "verdict": verdict.word, "cut": run.cut}
                    for run, verdict in zip(made.runs, made.verdicts, strict=True)
                ]
            )
        flagged, harmless, missed, abusive = _errors(judged[0])
        _, _, missed_cut, cut_ones = _errors([run for run in judged[1] if run["cut"]])
        print(f"{name:<24}{f'{flagged} of {harmless}':>18}{f'{missed} of {abusive}':>16}"
              f"{f'{missed_cut} of {cut_ones}':>13}")  # fmt: skip


def _read(file: Path) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = json.loads(file.read_text())["runs"]
    return runs


def _errors(runs: list[dict[str, Any]]) -> tuple[int, int, int, int]:
    """Harmless runs flagged, of how many; abusive ones missed, of how many."""
    harmless = [run for run in runs if run["label"] == "benign"]
    abusive = [run for run in runs if run["label"] == "malicious"]
    flagged = sum(run["verdict"] == "anomalous" for run in harmless)
    missed = sum(run["verdict"] != "anomalous" for run in abusive)
    return flagged, len(harmless), missed, len(abusive)


def _figures(whole: list[dict[str, Any]], cut: list[dict[str, Any]]) -> None:
    flagged, harmless, missed, abusive = _errors(whole)
    flagged_cut = _errors(cut)[0]
    _, _, missed_cut, started = _errors([run for run in cut if run["cut"]])
    print(
        f"\nwhole traces: {abusive - missed} of {abusive} abusive documents found, "
        f"{flagged} of {harmless} held-out harmless ones flagged"
    )
    print(
        f"cut before the first other process starts: {started - missed_cut} of {started} abusive documents "
        f"that start one found, {flagged_cut} of {harmless} harmless ones flagged"
    )


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
        ("detectors, model, classifier", folders["model"]),
        ("evaluations", folders["eval"]),
        (f"verdicts ({rows})", verdicts),
        ("the page", out / "report.html"),
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
