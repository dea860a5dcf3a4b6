"""``barnum score``: from recorded samples, or reports of calls, to verdicts in one step."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from barnum.cli.common import (
    SECONDS,
    CutCommand,
    cut_option,
    ended_like_an_interrupt,
    set_up_logging,
    usage_errors,
)
from barnum.cli.together import Together, as_document, fdr_option
from barnum.errors import InputError, SampleError, SomeFailedError
from barnum.texts import all_storable, printable_json

if TYPE_CHECKING:
    from barnum.detector import Cut, JudgedRun

_ANOMALOUS = 3


class _Place(click.Path):
    """Type of an argument that takes a file or a folder. It need not be readable: what cannot be judged is
    told in a line of its own. An empty name is refused, as it would stand for the current folder."""

    def __init__(self, **options: Any) -> None:
        super().__init__(readable=False, path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("the name is empty: give that of a file or a folder", param, ctx)
        return super().convert(value, param, ctx)


@click.command("score", cls=CutCommand)
@click.option(
    "--bin-dir",
    type=_Place(file_okay=False),
    help="Images of the recorded programs; needed where a sample is not preprocessed.",
)
@click.option(
    "--process",
    metavar="NAME",
    help="Whose calls, where reports are judged: a program's file name, a part of its path, or pid:NUMBER.  "
    "[default: the process that runs the submitted file or was given it]",
)
@cut_option
@fdr_option
@click.option("--timeout", type=SECONDS, help="Seconds of decoding a sample.")
@click.option("-t", "--threads", type=click.IntRange(1, 1024), help="Default: as many as there are cores.")
@click.option("--fail-on-anomaly", is_flag=True, help="Exit with 3 when something is anomalous.")
@click.option(
    "--logging",
    "logging_level",
    type=click.IntRange(0, 50),
    default=30,
    show_default=True,
    help="Lowest level that is logged: 10 debug, 20 info, 30 warning, 40 error.",
)
@click.argument("model", type=_Place())
@click.argument("samples", nargs=-1, required=True, type=_Place(), metavar="SAMPLE...")
def command(
    bin_dir: Path | None,
    process: str | None,
    cut: Cut | None,
    fdr: float | None,
    timeout: float | None,
    threads: int | None,
    fail_on_anomaly: bool,
    logging_level: int,
    model: Path,
    samples: tuple[Path, ...],
) -> int:
    """Judge samples by a detector: the file that barnum fit has written, or the folder by barnum pack.

    SAMPLE is the folder of a recorded trace, or a folder of several; where the detector was learnt from calls
    (barnum syscall), it is a sandbox's report, or a folder that holds one, with or without info.txt. It may
    also be TREE/DOCUMENT, for the sample in the folder TREE whose document has that name.

    Prints a JSON object a sample, each on a line of its own, as soon as it is judged: sample, name, verdict
    (nominal, anomalous or refused), score, threshold, p_value, where. A run that breaks off or lost too much
    is refused, unless it is anomalous by how it begins and the detector goes by novelty, which can only grow
    from there: then incomplete says why it is not whole. A sample that cannot be judged has an error instead;
    the others are judged all the same, and the exit code is 22. With --fail-on-anomaly it is 3 where any is
    anomalous, else 22 also where a verdict was refused.

    A last object, exchangeability, is printed where runs are no longer like those learnt.
    """
    set_up_logging(logging_level)
    if process is not None and not process.strip():
        raise click.UsageError("--process is empty: give a program's name or pid:NUMBER, or leave it out")
    from barnum.detector import judge_with, load_any
    from barnum.samples import folder_named

    detector = load_any(model, cut is not None)
    places = _each(samples)
    with (
        ended_like_an_interrupt(),
        usage_errors(),
        judge_with(
            detector, bin_dir=bin_dir, process=process, cut=cut, timeout=timeout, threads=threads
        ) as judge,
    ):
        told = _Told(Together(detector, fdr))
        for place in places:
            folder = place
            try:
                folder = folder_named(place)
                told.add(folder, place, judge.judge(folder))
            except (InputError, OSError) as error:
                told.add(folder, place, str(error))
        told.end()
    return told.exit_code(fail_on_anomaly)


class _Told:
    """Prints what is said of samples, and counts."""

    def __init__(self, together: Together) -> None:
        self._together = together
        self._waiting: list[tuple[dict[str, Any], JudgedRun | str]] = []
        self._folders: set[Path] = set()
        self._failed = self._refused = self._total = 0
        self._anomalous = False

    def add(self, folder: Path, place: Path, judged: JudgedRun | str) -> None:
        """Take in a sample: the verdict, or why there is none."""
        head = {"sample": _name(folder), "folder": str(place)}
        # the same run twice is not two runs
        if not isinstance(judged, str) and folder not in self._folders:
            self._folders.add(folder)
            self._together.add(judged, folder)
        if self._together.fdr is None:
            self._tell(head, judged)
        else:
            self._waiting.append((head, judged))

    def end(self) -> None:
        """Print what had to wait for the last run, and what is to be said of all."""
        decided = iter(
            self._together.decide([judged for _, judged in self._waiting if not isinstance(judged, str)])
        )
        for head, judged in self._waiting:
            self._tell(head, judged if isinstance(judged, str) else next(decided))
        found = self._together.exchangeability()
        if found is not None and found.alarm is not None:
            _say(as_document(found))

    def exit_code(self, fail_on_anomaly: bool) -> int:
        """The command's; raises where something could not be judged."""
        if fail_on_anomaly and self._anomalous:
            return _ANOMALOUS
        if self._failed or (fail_on_anomaly and self._refused):
            raise SomeFailedError(
                f"{self._failed + self._refused} of {self._total} samples could not be judged; their lines "
                "say why"
            )
        return 0

    def _tell(self, head: dict[str, Any], judged: JudgedRun | str) -> None:
        self._total += 1
        if isinstance(judged, str):
            self._failed += 1
            _say({**head, "error": judged})
            return
        self._anomalous = self._anomalous or judged.verdict == "anomalous"
        self._refused += judged.verdict == "refused"
        _say({**head, **judged.document()})


def _each(places: tuple[Path, ...]) -> list[Path]:
    """The same places, with folders of samples replaced by these. What holds no sample of a trace stays: it
    may be a report's folder, and is told of by who judges it."""
    from barnum.samples import folders_of, is_sample

    found: list[Path] = []
    for place in places:
        inside: list[Path] = []
        # what cannot be read is told of when it is judged
        with suppress(OSError, SampleError):
            if place.is_dir() and not is_sample(place):
                inside = [folder for folder in folders_of(place) if is_sample(folder)]
        found += inside or [place]
    return found


def _say(told: dict[str, Any]) -> None:
    # JSON leaves most of what a terminal obeys as it is
    click.echo(printable_json(msgspec.json.encode(all_storable(told))))
    sys.stdout.flush()


def _name(place: Path) -> str:
    return place.name or place.resolve().name
