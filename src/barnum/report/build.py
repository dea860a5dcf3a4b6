"""Builds the document of a report from a folder of evaluations, and writes it as a page, JSON, JSON lines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from barnum import __version__
from barnum.evaluations.windows import window_of
from barnum.report.document import Report
from barnum.report.judging import judge_folder, overview
from barnum.report.names import Places
from barnum.report.notes import notes_of
from barnum.report.request import Progress, Request, no_progress
from barnum.report.samples import look_at_all, sample_of, tasks_of
from barnum.report.scan import Budget
from barnum.texts import storable

__all__ = ["Request", "anomalies", "as_json", "as_json_lines", "as_page", "build"]


def build(request: Request, progress: Progress | None = None) -> Report:
    """Judge and sum up all evaluations of a folder.

    ``progress`` is called with a description and a number of steps, and gives a context whose ``advance`` is
    called at each of them.

    Raises:
        EvaluationError: there is none, one is broken, or the method asked for cannot judge them.
    """
    from barnum.evaluations.folder import find_evaluations

    progress = progress or no_progress
    files = find_evaluations(request.folder)
    with progress("judge", len(files)) as bar:
        judged = judge_folder(request, files, bar.advance)
    budget = Budget.of(len(files), request.windows)
    tasks = tasks_of(request, judged, files, budget)
    with progress("read windows", len(files)) as bar:
        looked = list(look_at_all(tasks, request.workers, bar.advance))
    places = Places([located for _, located in looked])
    samples = [
        sample_of(task, scanned, located, judged, index, places)
        for index, (task, (scanned, located)) in enumerate(zip(tasks, looked, strict=True))
    ]
    unread = places.name_functions(progress)
    calibration = judged.runs[0].calibration
    calls = all(scanned.calls is not None for scanned, _ in looked)
    return Report(
        version=__version__,
        evaluations=storable(str(request.folder)),
        model=judged.runs[0].model,
        window=window_of(calibration),
        classifier=judged.classifier,
        overview=overview(judged),
        notes=[storable(note) for note in (*notes_of(request, judged, samples, budget, calls), *unread)],
        places=places.all,
        samples=samples,
        calls=calls,
        cut="spawn" if request.cut is True else request.cut or None,
    )


# writing


def as_json(report: Report) -> bytes:
    """The whole document, as ``--json`` writes it."""
    return msgspec.json.encode(report) + b"\n"


def anomalies(report: Report) -> Iterable[dict[str, Any]]:
    """One document for each anomalous window, with the fields of a signature's result in CAPE and DRAKVUF."""
    from barnum.report.lines import lines

    return lines(report)


def as_json_lines(report: Report) -> bytes:
    """What ``--jsonl`` writes."""
    return b"".join(msgspec.json.encode(line) + b"\n" for line in anomalies(report))


def as_page(report: Report) -> bytes:
    """The page: one HTML file without a reference to anything outside."""
    from barnum.report.html import page

    return page(report, as_json(report))
