"""Builds the document of a report from a folder of evaluations, and writes it as a page, JSON, JSON lines."""

from __future__ import annotations

import logging
import math
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from barnum import __version__
from barnum.errors import EvaluationError
from barnum.pictures.report_document import (
    Alarm,
    CalibrationReport,
    Classifier,
    Overview,
    Place,
    Report,
    Roc,
    SampleReport,
    Transfer,
    Window,
)
from barnum.pictures.report_places import MOST_CLASSES, Located, Wanted, hex_of, locate
from barnum.pictures.report_scan import WINDOW, Budget, Scan, Stretch, scan
from barnum.verdicts.features import Run
from barnum.verdicts.judgement import MAX_LOST, Summary, check_model, judge, read_runs
from barnum.verdicts.methods import Score, Verdict
from barnum.verdicts.statistics import roc_of

_log = logging.getLogger(__name__)

# a score that is the largest sum within a window may differ this much from the sum: it was added up otherwise
_ROUNDING = 1e-6


class _Bar:
    def advance(self) -> None:
        """Nobody looks."""


@contextmanager
def _no_progress(_description: str, _total: int) -> Iterator[_Bar]:
    yield _Bar()


# a description and a number of steps → a context whose ``advance`` is called at each of them
Progress = Callable[[str, int], AbstractContextManager[Any]]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to report: ``windows`` most surprising ones a sample; how to judge, as judge() of verdicts takes
    it; ``traces`` the root of the sample folders and ``bin_dir`` that of the images, where blocks are to be
    named."""

    folder: Path
    windows: int = 5
    method: str | None = None
    rate: float | None = None
    score: Score | None = None
    load: Path | None = None
    cut: bool = False
    max_lost: float = MAX_LOST
    traces: Path | None = None
    bin_dir: Path | None = None
    workers: int = 1


class _Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What this file needs of judging. ``verdicts`` are None where nothing could judge, and ``why`` says
    what."""

    runs: list[Run]
    verdicts: list[Verdict] | None
    classifier: Classifier | None
    summary: Summary | None
    why: str | None = None


def build(request: Request, progress: Progress | None = None) -> Report:
    """Judge and sum up all evaluations of a folder.

    ``progress`` is called with a description and a number of steps, and gives a context whose ``advance`` is
    called at each of them.

    Raises:
        EvaluationError: there is none, one is broken, or the method asked for cannot judge them.
    """
    from barnum.verdicts.evaluation import find_evaluations

    progress = progress or _no_progress
    files = find_evaluations(request.folder)
    with progress("judge", len(files)) as bar:
        judged = _judge(request, files, bar.advance)
    budget = Budget.of(len(files), request.windows)
    tasks = _tasks(request, judged, files, budget)
    with progress("read windows", len(files)) as bar:
        looked = list(_all_looked(tasks, request.workers, bar.advance))
    places = _Places([located for _, located in looked])
    samples = [
        _sample(task, scanned, located, judged, index, places)
        for index, (task, (scanned, located)) in enumerate(zip(tasks, looked, strict=True))
    ]
    unread = places.name_functions(progress)
    calibration = judged.runs[0].calibration
    calls = all(scanned.calls is not None for scanned, _ in looked)
    return Report(
        version=__version__,
        evaluations=_text(str(request.folder)),
        model=judged.runs[0].model,
        window=calibration.window if calibration else WINDOW,
        classifier=judged.classifier,
        overview=_overview(judged),
        notes=[_text(note) for note in _notes(request, judged, samples, budget, calls) + unread],
        places=places.all,
        samples=samples,
        calls=calls,
    )


# judging


def _judge(request: Request, files: list[Path], advance: Callable[[], None]) -> _Judged:
    """The only place that knows how verdicts come about."""
    try:
        found = judge(
            request.folder,
            method=request.method,
            rate=request.rate,
            score=request.score,
            load=request.load,
            cut=request.cut,
            max_lost=request.max_lost,
            workers=request.workers,
            advance=advance,
        )
    except EvaluationError as error:
        if (
            request.method is not None
            or request.load is not None
            or request.rate is not None
            or request.score
        ):
            raise
        # a page without verdicts is still of use, but not one of broken files, or of ones that do not belong
        # together
        runs = read_runs(files, cut=request.cut, workers=request.workers)
        check_model(request.folder, runs)
        return _Judged(runs=runs, verdicts=None, classifier=None, summary=None, why=str(error))
    return _Judged(
        runs=found.runs,
        verdicts=found.verdicts,
        classifier=Classifier(
            method=found.method,
            description=_text(found.description),
            threshold=_finite(found.classifier.threshold),
        ),
        summary=found.summary,
    )


def _overview(judged: _Judged) -> Overview:
    runs, summary = judged.runs, judged.summary
    malicious = sum(run.malicious for run in runs)
    given = [
        (run, verdict)
        for run, verdict in zip(runs, judged.verdicts or [], strict=judged.verdicts is not None)
        if verdict.refused is None
    ]
    scores = {
        label: [verdict.score for run, verdict in given if run.malicious == label] for label in (False, True)
    }
    roc = None
    if summary is not None and summary.auc is not None:
        points = roc_of(scores[False], scores[True])
        roc = Roc(
            auc=summary.auc.auc,
            low=summary.auc.low,
            high=summary.auc.high,
            benign=[round(x, 6) for x, _ in points],
            malicious=[round(y, 6) for _, y in points],
        )
    p_values = sorted(
        verdict.p_value for run, verdict in given if verdict.p_value is not None and not run.malicious
    )
    calibration = None
    if p_values:
        held = runs[0].calibration
        calibration = CalibrationReport(scores=len(held.scores) if held else 0, p_values=p_values)
    return Overview(
        runs=len(runs),
        benign=len(runs) - malicious,
        malicious=malicious,
        anomalous=sum(verdict.anomalous for _, verdict in given),
        refused=summary.refused if summary is not None else 0,
        false_positives=summary.false_positives if summary is not None else None,
        false_negatives=summary.false_negatives if summary is not None else None,
        trivial=summary.trivial if summary is not None else [],
        roc=roc,
        calibration=calibration,
    )


# samples


class _Task(msgspec.Struct, frozen=True, kw_only=True):
    """What a process does for one sample."""

    file: Path
    count: int
    judged: int
    window: int
    threshold: float | None
    budget: Budget
    folder: Path | None
    bin_dir: Path | None


def _tasks(request: Request, judged: _Judged, files: list[Path], budget: Budget) -> list[_Task]:
    tasks = []
    for index, (file, run) in enumerate(zip(files, judged.runs, strict=True)):
        # the name of an evaluation comes from outside: it is to name a folder right below the root
        plain = run.sample == Path(run.sample).name and run.sample not in ("", ".", "..")
        tasks.append(
            _Task(
                file=file,
                count=_rows(file) if run.cut else run.transfers,
                judged=run.transfers,
                window=run.calibration.window if run.calibration else WINDOW,
                threshold=_alarm_threshold(judged, index),
                budget=budget,
                folder=request.traces / run.sample if request.traces and plain else None,
                bin_dir=request.bin_dir,
            )
        )
    return tasks


def _rows(file: Path) -> int:
    """Number of predictions in an evaluation of which only a part was judged: Parquet, as no other knows."""
    from barnum.verdicts.evaluation import ParquetEvaluation

    evaluation = ParquetEvaluation(file)
    try:
        return len(evaluation)
    finally:
        evaluation.close()


def _alarm_threshold(judged: _Judged, index: int) -> float | None:
    """What the sum within the window must exceed for this run to be anomalous; None where it was not judged
    by that sum, or is not anomalous."""
    if judged.verdicts is None or judged.classifier is None or judged.classifier.threshold is None:
        return None
    run, verdict = judged.runs[index], judged.verdicts[index]
    if run.novelty_window is None or verdict.refused is not None or not verdict.anomalous:
        return None
    if abs(verdict.score - run.novelty_window) > _ROUNDING:
        return None
    # a run that was left out was judged by a threshold of its own, which may be lower than that of all
    return min(judged.classifier.threshold, run.novelty_window - _ROUNDING)


def _all_looked(
    tasks: Sequence[_Task], workers: int, advance: Callable[[], None]
) -> Iterator[tuple[Scan, Located]]:
    if workers <= 1 or len(tasks) < 2:
        for task in tasks:
            yield _look(task)
            advance()
        return
    context = multiprocessing.get_context("spawn")
    # an interrupt ends this process, which ends them
    with ProcessPoolExecutor(
        min(workers, len(tasks)),
        mp_context=context,
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    ) as pool:
        try:
            for found in pool.map(_look, tasks):
                yield found
                advance()
        except BrokenProcessPool:
            raise EvaluationError(
                "a process that reads evaluations was ended from outside (is there enough memory?): use "
                "--workers 1"
            ) from None


def _look(task: _Task) -> tuple[Scan, Located]:
    scanned = scan(task.file, task.count, task.window, task.threshold, task.budget, task.judged)
    rows = [window.rows for window in scanned.windows if len(window.rows)]
    prediction = np.concatenate([np.zeros(0, np.int64), *(each.prediction for each in rows)])
    order = np.argsort(prediction)

    def column(name: str) -> Any:
        return np.concatenate([np.zeros(0, np.uint64), *(each.columns[name] for each in rows)])[order]

    wanted = Wanted(
        prediction=prediction[order],
        position=column("position") if "position" in scanned.columns else None,
        actual=column("actual"),
        classes=_classes(scanned),
        count=task.count,
    )
    # calls carry their names, and have no trace
    folder = task.folder if scanned.calls is None else None
    return scanned, locate(folder, task.bin_dir, wanted).trimmed()


def _classes(scanned: Scan) -> int | None:
    """Number of classes that the evaluation names targets by; None where it names whole blocks."""
    tokens = scanned.options.get("tokens")
    if isinstance(tokens, dict) and tokens.get("vocabulary") == "modulo":
        classes = tokens.get("classes")
        if isinstance(classes, int) and 1 <= classes <= MOST_CLASSES:
            return classes
    return None


def _sample(
    task: _Task, scanned: Scan, located: Located, judged: _Judged, index: int, places: _Places
) -> SampleReport:
    run = judged.runs[index]
    verdict = judged.verdicts[index] if judged.verdicts is not None else None
    refused = verdict.refused if verdict is not None else None
    word: Any = None
    if verdict is not None:
        word = "refused" if refused is not None else "anomalous" if verdict.anomalous else "nominal"
    namer = places.namer(index, _classes(scanned), scanned.calls)
    return SampleReport(
        # an evaluation in the original's format names the sample alone
        name=_text(located.name if located.name and run.name == run.sample else run.name),
        label=run.label,
        sample=_text(run.sample),
        verdict=word,
        refused=None if refused is None else _text(refused),
        score=_finite(verdict.score) if verdict is not None and refused is None else None,
        p_value=_finite(verdict.p_value) if verdict is not None and refused is None else None,
        transfers=task.count,
        judged=run.transfers,
        wrong=run.wrong,
        wrong_confidence=run.wrong_confidence,
        surprisal=run.surprisal,
        surprisal_window=run.surprisal_window,
        new=run.new,
        unknown=run.unknown,
        novelty=run.novelty,
        novelty_window=run.novelty_window,
        first_alarm=None
        if scanned.alarm is None
        else Alarm(prediction=scanned.alarm[0], position=scanned.alarm[1]),
        curve=scanned.curve,
        windows=[_window(window, scanned, located, namer, task) for window in scanned.windows],
        notes=[_text(note) for note in located.notes],
    )


def _text(text: str) -> str:
    """Names of files need not be Unicode; a document must be."""
    return text.encode("utf-8", errors="replace").decode()


def _finite(number: float | None) -> float | None:
    return None if number is None or not math.isfinite(number) else float(number)


def _window(window: Stretch, scanned: Scan, located: Located, namer: _Namer, task: _Task) -> Window:
    count = window.end - window.begin
    has = scanned.columns
    return Window(
        begin=window.begin,
        end=window.end,
        position=window.first,
        position_end=window.last,
        chosen_by=window.reason,
        novelty=round(window.novelty, 4) if "novelty" in has else None,
        surprisal=round(window.surprisal / count, 4) if "surprisal" in has else None,
        wrong=window.wrong / count,
        above_threshold=task.threshold is not None
        and window.begin < task.judged
        and window.novelty > task.threshold,
        transfers=_transfers(window, located, namer),
        left_out=count - int(window.rows.times.sum()),
        detail=window.detail,
    )


def _transfers(window: Stretch, located: Located, namer: _Namer) -> list[Transfer]:
    rows = window.rows
    columns = {name: column.tolist() for name, column in rows.columns.items()}
    before = columns.get("before", [0] * len(rows))
    made = []
    for row, prediction in enumerate(rows.prediction.tolist()):
        position = columns["position"][row] if "position" in columns else located.position.get(prediction)
        source, target = located.source.get(prediction), located.target.get(prediction)
        predicted, actual = columns["predicted"][row], columns["actual"][row]
        happened = namer.block(target) if target is not None else namer.token(actual)
        surprisal = columns["surprisal"][row] if "surprisal" in columns else None
        made.append(
            Transfer(
                prediction=prediction,
                position=position,
                source=namer.block(source) if source is not None else namer.call(before[row]),
                kind=located.kind(source) if source is not None else None,
                instruction=located.texts.get(source) if source is not None else None,
                instruction_offset=located.branches.get(source) if source is not None else None,
                expected=happened if predicted == actual else namer.token(predicted),
                confidence=round(min(columns["confidence"][row], 1.0), 4),
                actual=happened,
                correct=columns["correct"][row],
                probability=None if surprisal is None else float(f"{math.exp(-surprisal):.3g}"),
                surprisal=None if surprisal is None else round(surprisal, 3),
                seen=columns["seen"][row] if "seen" in columns else None,
                novelty=round(columns["novelty"][row], 3) if "novelty" in columns else None,
                times=int(rows.times[row]),
            )
        )
    return made


# places


class _Places:
    """All blocks of a report, each once, with the names of their functions."""

    def __init__(self, located: Sequence[Located]) -> None:
        self.all: list[Place] = []
        self._images: list[str | None] = []
        self._known: dict[tuple[Any, ...], int] = {}
        self._located = located
        # a block that was expected may lie in a module that only other runs have loaded
        self.modules: dict[int, str] = {}
        for each in located:
            for digest, path in each.modules.items():
                self.modules.setdefault(digest, path)
        self.files: dict[str, str] = {}
        for each in located:
            for path, file in each.images.items():
                self.files.setdefault(path, file)

    def namer(self, index: int, classes: int | None, calls: dict[str, str] | None = None) -> _Namer:
        """Names blocks as the sample of that number sees them."""
        return _Namer(self, self._located[index], classes, calls or {})

    def add(self, place: Place, image: str | None) -> int:
        """The number of a place."""
        key = (place.block, place.block_class, place.module, place.offset, image)
        if key not in self._known:
            self._known[key] = len(self.all)
            self.all.append(place)
            self._images.append(image)
        return self._known[key]

    def name_functions(self, progress: Progress) -> list[str]:
        """Look each place up in the symbols of its image. Returns what could not be read."""
        from barnum.pictures.symbols import read_symbols

        notes = []
        images = sorted({image for image in self._images if image is not None})
        with progress("read symbols", len(images)) as bar:
            for image in images:
                mapped = [
                    place.module for place, its in zip(self.all, self._images, strict=True) if its == image
                ]
                symbols, why = read_symbols(Path(image), mapped[0])
                if why is not None:
                    notes.append(f"Symbols of the image {Path(image).name} are unknown: it {why}.")
                for index, its in enumerate(self._images):
                    place = self.all[index]
                    if its == image and place.offset is not None:
                        function = symbols.find(place.offset)
                        if function is not None:
                            self.all[index] = msgspec.structs.replace(
                                place, function=function[0], function_offset=function[1]
                            )
                bar.advance()
        return notes


class _Namer:
    def __init__(self, places: _Places, located: Located, classes: int | None, calls: dict[str, str]) -> None:
        self._places = places
        self._located = located
        self._classes = classes
        self._calls = calls

    def block(self, block: int) -> int:
        """The place of a block of the sample's path."""
        return self._add(self._located.place(block))

    def token(self, token: int) -> int:
        """The place of a target by the name that the evaluation gives it."""
        name = self._calls.get(f"{token:016x}")
        if name is not None:
            return self._add(Place(block=hex_of(token), module=name))
        # the original's files do not say whether they name classes; a BBID as small as one there is not
        if self._classes is not None or token < MOST_CLASSES:
            return self._add(Place(block_class=token))
        digest = token >> 32
        module = self._located.modules.get(digest) or self._places.modules.get(digest)
        return self._add(Place(block=hex_of(token), module=module, offset=token & 0xFFFFFFFF))

    def call(self, token: int) -> int | None:
        """The place of a call that came before another; None where that is not known (0)."""
        return self.token(token) if token else None

    def _add(self, place: Place) -> int:
        image = None
        if place.module is not None:
            image = self._located.images.get(place.module)
            if image is None and place.module not in self._located.modules.values():
                image = self._places.files.get(place.module)
        return self._places.add(place, image)


# what is said about the whole


def _notes(
    request: Request, judged: _Judged, samples: Sequence[SampleReport], budget: Budget, calls: bool
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
    from barnum.pictures.report_lines import lines

    return lines(report)


def as_json_lines(report: Report) -> bytes:
    """What ``--jsonl`` writes."""
    return b"".join(msgspec.json.encode(line) + b"\n" for line in anomalies(report))


def as_page(report: Report) -> bytes:
    """The page: one HTML file without a reference to anything outside."""
    from barnum.pictures.report_page import page

    return page(report, as_json(report))
