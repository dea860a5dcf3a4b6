"""``barnum check``: from documents to verdicts in one step."""

from __future__ import annotations

import math
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from barnum.cli.common import (
    SECONDS,
    SIZE,
    ProgramCommand,
    cut_option,
    kind_option,
    program_of,
    set_up_logging,
    usage_errors,
)
from barnum.cli.sandbox_options import SandboxChoice, sandbox_options
from barnum.cli.together import Together, as_document, fdr_option
from barnum.errors import SomeFailedError
from barnum.texts import all_storable, printable, printable_json, shortened, storable

if TYPE_CHECKING:
    from barnum.detector import Cut, Fitted, JudgedRun
    from barnum.detector.check import Checked, CheckSettings, Look
    from barnum.report.checked import CheckedReport
    from barnum.samples import Sample

_ANOMALOUS = 3
# findings and effects that are told of a document
_MOST_LINES = 5
# characters of a command line that are shown
_LONGEST_COMMAND = 2000


@click.command(
    "check", cls=ProgramCommand, short_help="Record a program on documents, and judge what it did."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a document, each on a line.")
@click.option("--fail-on-anomaly", is_flag=True, help="Exit with 3 when something is anomalous.")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the recordings in this folder.  [default: they are removed]",
)
@click.option(
    "--bin-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the images of programs and libraries.  [default: beside the recordings]",
)
@click.option(
    "--report",
    "page_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a page about all that was judged: what is new in it, and where (HTML, one file).",
)
@click.option(
    "--report-json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the same content as JSON.",
)
@click.option("-f", "--force", is_flag=True, help="Replace these two where they are there already.")
@kind_option
@cut_option
@fdr_option
@click.option(
    "-j", "--jobs", type=click.IntRange(1, 1024), default=1, show_default=True, help="Runs at a time."
)
@click.option(
    "-t",
    "--timeout",
    type=SECONDS,
    metavar="SECONDS",
    help="Seconds that a run may take.  [default: as the learnt runs, else 600]",
)
@click.option(
    "--max-size",
    type=SIZE,
    metavar="SIZE",
    help="Stop recording a thread after this many bytes of packets.  [default: as the learnt runs, else 4G]",
)
@sandbox_options(default=True, learnt=True)
@click.option(
    "--logging",
    "logging_level",
    type=click.IntRange(0, 50),
    default=30,
    show_default=True,
    help="Lowest level that is logged: 10 debug, 20 info, 30 warning, 40 error.",
)
@click.argument("detector", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("documents", nargs=-1, required=True, metavar="DOCUMENT...", type=click.Path(path_type=Path))
@click.pass_context
def command(
    ctx: click.Context,
    /,
    as_json: bool,
    fail_on_anomaly: bool,
    output: Path | None,
    bin_dir: Path | None,
    page_file: Path | None,
    json_file: Path | None,
    force: bool,
    kind: str | None,
    cut: Cut | None,
    fdr: float | None,
    jobs: int,
    timeout: float | None,
    max_size: int | None,
    sandbox: SandboxChoice,
    logging_level: int,
    detector: Path,
    documents: tuple[Path, ...],
) -> int:
    """Let the program that DETECTOR (by barnum fit) has learnt open each DOCUMENT, and judge what it did.

    \b
      barnum check detector suspicious.ps

    A DOCUMENT that is a folder stands for the files in it; the folder of a recording, or of several, is
    judged as it is. Where the program, a library or the model of processor differs from what was learnt, a
    line says so. Another command line may be given after --, as barnum trace takes it.

    The detector's file names the program and its arguments. A line says what is run, and it is run in a
    sandbox, or not at all: without one only what is named after --, or with --no-sandbox. No shell is called.

    --report writes a page that shows of each run where it did what no nominal run does, with functions and
    instructions.

    Prints a line a document as soon as it is judged. A document that cannot be judged has an error instead;
    the others are judged all the same, and the exit code is 22. With --fail-on-anomaly it is 3 where any is
    anomalous, else 22 also where a verdict was refused.
    """
    set_up_logging(logging_level)
    program = program_of(ctx)
    from barnum.detector import load_fitted
    from barnum.detector.check import CheckSettings, check_samples
    from barnum.detector.limits import TIMEOUT, limits_for
    from barnum.files import check_places
    from barnum.recording import PLACEHOLDER

    if program and not any(PLACEHOLDER in word for word in program):
        raise click.UsageError("no argument of the program holds {}, which stands for the document")
    # runs are not to be lost to a folder that is missing
    check_places({"--report": page_file, "--report-json": json_file}, force)
    fitted = load_fitted(detector)
    limits = limits_for(fitted)
    settings = CheckSettings(
        output=output,
        bin_dir=bin_dir,
        command=program,
        timeout=timeout or limits.timeout,
        decoding=timeout or max(TIMEOUT, limits.timeout or TIMEOUT),
        max_bytes=max_size or limits.max_size,
        cut=cut,
        jobs=jobs,
        kind=kind,
    )
    # a polite kill is like Ctrl-C: the runs must not go on without us
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    samples, files = _recorded_and_others(documents)
    wanted = page_file is not None or json_file is not None
    page = _page_of(detector, fitted, len(files) + len(samples), cut) if wanted else None
    with usage_errors():
        told, look = _Told(as_json, page, Together(fitted, fdr)), None if page is None else page.add
        if samples:
            check_samples(fitted, samples, settings, told.add, look)
        if files:
            _check_files(fitted, files, settings, sandbox, told, look)
    told.end(files)
    if page is not None:
        _write(page, page_file, json_file)
    return told.exit_code(fail_on_anomaly)


def _page_of(detector: Path, fitted: Fitted, count: int, cut: Cut | None) -> CheckedReport:
    from barnum.report.checked import CheckedReport

    return CheckedReport(str(detector), fitted.describe(), fitted.threshold, count, cut=cut)


def _write(page: CheckedReport, page_file: Path | None, json_file: Path | None) -> None:
    from barnum.files import write_result
    from barnum.report.build import as_json, as_page

    report = page.done()
    for file, made in ((page_file, as_page), (json_file, as_json)):
        if file is not None:
            write_result(file, made(report))


def _check_files(
    fitted: Fitted,
    files: list[Path],
    settings: CheckSettings,
    sandbox: SandboxChoice,
    told: _Told,
    look: Look | None,
) -> None:
    """Check documents in the sandbox that was chosen, with limits as the learnt runs had, where none are
    given."""
    from barnum.detector.check import check, known_program
    from barnum.detector.limits import limits_for, sandbox_with

    words = settings.command or known_program(fitted).command
    chosen = sandbox.preferred(named=bool(settings.command))
    if not settings.command:
        where = "with your rights, on your files" if chosen is None else "in a sandbox"
        click.echo(f"runs {where}: {shortened(shlex.join(words), _LONGEST_COMMAND)}", err=True)
    if chosen is not None:
        chosen = sandbox_with(chosen, limits_for(fitted), sandbox.memory, sandbox.processes)
    check(fitted, files, msgspec.structs.replace(settings, sandbox=chosen), told.add, look)


def _recorded_and_others(places: Sequence[Path]) -> tuple[list[Sample], list[Path]]:
    """Recordings, and documents that are to be recorded."""
    from barnum.recording import list_inputs
    from barnum.samples import samples_in

    recordings = [place for place in places if place.is_dir() and _holds_samples(place)]
    files = list_inputs([place for place in places if place not in recordings])
    return samples_in(recordings) if recordings else [], files


def _holds_samples(place: Path) -> bool:
    from barnum.samples import folders_of, is_sample

    return is_sample(place) or any(is_sample(folder) for folder in folders_of(place))


class _Told:
    """Prints what became of documents, and counts; tells the page of those that could not be judged."""

    def __init__(self, as_json: bool, page: CheckedReport | None, together: Together) -> None:
        self._as_json, self._page, self._together = as_json, page, together
        self._waiting: list[Checked] = []
        self._judged: list[Checked] = []
        self._differs: set[str] = set()
        self._anomalous = self._refused = self._failed = self._total = 0

    def add(self, checked: Checked) -> None:
        """Take in a document, after the page has taken in its run."""
        if checked.judged is not None and checked.copy_of is None:
            self._judged.append(checked)
        if checked.judged is None and self._page is not None:
            self._page.failed(checked.path.name, checked.error or "")
        if self._together.fdr is None:
            self._tell(checked)
        else:
            self._waiting.append(checked)

    def end(self, files: Sequence[Path]) -> None:
        """Print what had to wait for the last run, and what is to be said of all. ``files`` are the documents
        that were recorded, in their order."""
        decided = iter(
            self._together.decide([each.judged for each in self._waiting if each.judged is not None])
        )
        chosen = [
            each if each.judged is None else msgspec.structs.replace(each, judged=next(decided))
            for each in self._waiting
        ]
        for each in chosen:
            self._tell(each)
        if self._page is not None and self._together.fdr is not None:
            own = [each.judged for each in chosen if each.judged is not None and each.copy_of is None]
            self._page.choose([judged.q for judged in own], self._together.fdr)
        # runs end in an order that hangs on what they do
        place = {file: number for number, file in enumerate(files)}
        for each in sorted(self._judged, key=lambda each: place.get(each.path, -1)):
            if each.judged is not None:
                self._together.add(each.judged, None if each.path in place else each.sample)
        found = self._together.exchangeability()
        if self._page is not None:
            self._page.told_of_all(found)
        if found is not None and found.alarm is not None:
            text = f"note: {found.text}"
            click.echo(printable_json(msgspec.json.encode(as_document(found))) if self._as_json else text)
            sys.stdout.flush()

    def _tell(self, checked: Checked) -> None:
        judged = checked.judged
        self._total += 1
        if judged is None:
            self._failed += 1
        else:
            self._anomalous += judged.verdict == "anomalous"
            self._refused += judged.verdict == "refused"
        if self._as_json:
            click.echo(printable_json(msgspec.json.encode(_document(checked))))
        else:
            for sentence in checked.differs:
                if sentence not in self._differs:
                    self._differs.add(sentence)
                    click.echo(f"differs: {printable(sentence)}", err=True)
            name = printable(storable(checked.path.name))
            click.echo(f"{name}: {_line(judged) if judged else 'error: ' + printable(checked.error or '')}")
            for shown in _shown(judged) if judged and judged.verdict == "anomalous" else ():
                click.echo(f"    {printable(shown)}")
        sys.stdout.flush()

    def exit_code(self, fail_on_anomaly: bool) -> int:
        """The command's; raises where something could not be judged."""
        if fail_on_anomaly and self._anomalous:
            return _ANOMALOUS
        if self._failed or (fail_on_anomaly and self._refused):
            raise SomeFailedError(
                f"{self._failed + self._refused} of {self._total} documents could not be judged; their lines "
                "say why"
            )
        return 0


def _line(judged: JudgedRun) -> str:
    words = [judged.verdict]
    if judged.refused:
        words.append(judged.refused)
    else:
        above = "" if math.isinf(judged.threshold) else f" (anomalous above {judged.threshold:.2f})"
        words.append(f"{judged.score:.2f} nats{above}")
        if judged.p_value is not None:
            words.append(f"p = {judged.p_value:.3g}")
        if judged.q is not None:
            words.append(f"q = {judged.q:.3g}")
    if judged.kind is not None:
        words.append(f"kind {judged.kind}")
    if judged.among_all:
        words.append(f"compared with all kinds: {judged.among_all}")
    if judged.incomplete:
        words.append(f"though incomplete: {judged.incomplete}")
    if judged.because in ("evidence", "effect"):
        words.insert(1, f"by {'an ' if judged.because == 'effect' else ''}{judged.because}")
    elif judged.where is not None and judged.verdict == "anomalous":
        words.append(f"at {judged.where.text()}")
    return printable(", ".join(words))


def _shown(judged: JudgedRun) -> Iterator[str]:
    """What the run shows that no nominal run does, a line each."""
    from barnum.evaluations import MOST_SHOWN

    for what, some in (("evidence", judged.evidence), ("effect", judged.effects)):
        for each in some[:_MOST_LINES]:
            # evidence says at which step it is
            at = f" at step {each.step:,}" if what == "effect" and each.step is not None else ""
            yield f"{what}{at}: {each.text}"
        if len(some) > _MOST_LINES:
            # of very many a verdict names the first alone
            least = "at least " if len(some) == MOST_SHOWN else ""
            yield f"{least}{len(some) - _MOST_LINES} more"


def _document(checked: Checked) -> dict[str, Any]:
    told: dict[str, Any] = {"document": storable(os.fspath(checked.path))}
    if checked.error is not None:
        told["error"] = storable(checked.error)
    if checked.judged is not None:
        told |= all_storable(checked.judged.document())
    if checked.differs:
        told["differs"] = list(checked.differs)
    if checked.sample is not None:
        told["sample"] = storable(os.fspath(checked.sample))
    return told
