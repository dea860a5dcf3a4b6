"""Builds the document of a report from a folder of evaluations, and writes it as a page, JSON, JSON lines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from barnum import __version__
from barnum.evaluations.windows import window_of
from barnum.report.document import Report, SampleReport
from barnum.report.judging import Judged, judge_folder, overview
from barnum.report.names import Places
from barnum.report.request import Progress, Request, no_progress
from barnum.report.samples import look_at_all, sample_of, tasks_of
from barnum.report.scan import Budget
from barnum.texts import storable
from barnum.verdicts.scores import SCORES

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
        notes=[storable(note) for note in _notes(request, judged, samples, budget, calls) + unread],
        places=places.all,
        samples=samples,
        calls=calls,
    )


def _notes(
    request: Request, judged: Judged, samples: Sequence[SampleReport], budget: Budget, calls: bool
) -> list[str]:
    notes = []
    if judged.why is not None:
        notes.append(f"There are no verdicts: {judged.why}.")
    most = max(sample.transfers for sample in samples)
    total = sum(sample.transfers for sample in samples)
    each = max(sample.curve.each for sample in samples)
    notes.append(
        f"{total:,} predictions were read, all of them. Each curve has at most {budget.bins:,} bins, of up "
        f"to {math.ceil(each):,} predictions (the longest run has {most:,}); of each bin the mean and the "
        "maximum are shown, so no peak is lost."
    )
    left_out = sum(window.left_out for sample in samples for window in sample.windows)
    shown = sum(len(window.transfers) for sample in samples for window in sample.windows)
    notes.append(
        f"Of each run at most {budget.windows} windows are listed, and of each window the {budget.transfers} "
        f"most telling transfers, alike ones once: {shown:,} in all; {left_out:,} others in these windows "
        "are left out."
    )
    unmarked = sum(sample.curve.news_left_out for sample in samples)
    if unmarked:
        notes.append(
            f"Curves mark the {budget.news} most novel transfers of a run; {unmarked:,} others are not "
            "marked."
        )
    if samples[0].curve.value == "mistakes":
        notes.append(
            "The evaluations are in the original's format, which holds neither surprisal nor positions nor "
            "what training saw: curves show the confidence of wrong predictions, and windows are those with "
            "the most confident mistakes. Evaluate with --eval-format parquet for more."
        )
    elif samples[0].novelty is None:
        notes.append(
            "The model does not know what its training saw, so there is no novelty: windows are chosen by "
            "surprisal."
        )
    elif judged.classifier is not None and judged.classifier.by is not None and not judged.window_sum:
        first, *others = judged.measures
        how = f"in turn by {' and by '.join(judged.measures)}" if others else f"by {first} first"
        text = SCORES[judged.classifier.by].text
        notes.append(f"Verdicts go by {text}, and windows are chosen {how}.")
    if calls:
        notes.append("These runs are calls that a sandbox reported: where one came from is the call before.")
    elif request.traces is None:
        notes.append(
            "Blocks are named by their numbers alone, as no traces were given (--traces): the sources of "
            "transfers, modules, functions and instructions are unknown."
        )
    elif request.bin_dir is None:
        notes.append("No folder of images was given (--bin-dir), so functions and code are unknown.")
    return notes


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
