"""What a report shows of each sample: read by several processes, then named."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from barnum.evaluations.signs import Shown
from barnum.evaluations.windows import window_of
from barnum.processes import in_order
from barnum.report.document import Alarm, SampleReport, Sign, Transfer, Window, finite
from barnum.report.judging import Judged, alarm_threshold
from barnum.report.names import Namer, Places
from barnum.report.places import MOST_CLASSES, Located, Wanted, locate
from barnum.report.request import Request
from barnum.report.scan import Budget, Scan, scan
from barnum.report.windows import Stretch
from barnum.texts import storable
from barnum.verdicts.method import Measure, Verdict


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What a process does for one sample."""

    file: Path
    count: int
    judged: int
    window: int
    threshold: float | None
    measures: tuple[Measure, ...]
    budget: Budget
    folder: Path | None
    bin_dir: Path | None


def tasks_of(request: Request, judged: Judged, files: list[Path], budget: Budget) -> list[Task]:
    """A task for each evaluation, in the same order."""
    tasks = []
    for index, (file, run) in enumerate(zip(files, judged.runs, strict=True)):
        # the name of an evaluation comes from outside: it is to name a folder right below the root
        plain = run.sample == Path(run.sample).name and run.sample not in ("", ".", "..")
        tasks.append(
            Task(
                file=file,
                count=_rows(file) if run.cut or _incomplete(judged, index) is not None else run.transfers,
                judged=run.transfers,
                window=window_of(run.calibration),
                threshold=alarm_threshold(judged, index),
                measures=judged.measures,
                budget=budget,
                folder=request.traces / run.sample if request.traces and plain else None,
                bin_dir=request.bin_dir,
            )
        )
    return tasks


def _incomplete(judged: Judged, index: int) -> str | None:
    """Why only the beginning of a run was judged; None where it was judged as any other."""
    return None if judged.verdicts is None else judged.verdicts[index].incomplete


def _rows(file: Path) -> int:
    """Number of predictions in an evaluation of which only a part was judged: Parquet, as no other knows."""
    from barnum.evaluations.parquet import ParquetEvaluation

    evaluation = ParquetEvaluation(file)
    try:
        return len(evaluation)
    finally:
        evaluation.close()


def look_at_all(
    tasks: Sequence[Task], workers: int, advance: Callable[[], None]
) -> Iterator[tuple[Scan, Located]]:
    """Carry all tasks out, by so many processes; ``advance`` is called after each.

    Raises:
        EvaluationError: an evaluation is broken, or a process was killed.
    """
    for looked in in_order(tasks, _look, workers):
        yield looked
        advance()


def _look(task: Task) -> tuple[Scan, Located]:
    scanned = scan(
        task.file, task.count, task.window, task.threshold, task.budget, task.judged, task.measures
    )
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


def sample_of(
    task: Task, scanned: Scan, located: Located, judged: Judged, index: int, places: Places
) -> SampleReport:
    """What a report says of the sample of number ``index``; its places are added to all of them."""
    run = judged.runs[index]
    verdict = judged.verdicts[index] if judged.verdicts is not None else None
    refused = verdict.refused if verdict is not None else None
    incomplete = _incomplete(judged, index)
    word: Any = None
    if verdict is not None:
        word = "refused" if refused is not None else "anomalous" if verdict.anomalous else "nominal"
    namer = places.namer(located, _classes(scanned), scanned.calls)
    return SampleReport(
        # an evaluation in the original's format names the sample alone
        name=storable(located.name if located.name and run.name == run.sample else run.name),
        label=run.label,
        sample=storable(run.sample),
        verdict=word,
        refused=None if refused is None else storable(refused),
        incomplete=None if incomplete is None else storable(incomplete),
        score=finite(verdict.score) if verdict is not None and refused is None else None,
        p_value=finite(verdict.p_value) if verdict is not None and refused is None else None,
        because=because_of(verdict),
        evidence=None if run.signs is None else signs_in(run.signs.evidence),
        effects=None if run.signs is None or run.signs.effects is None else signs_in(run.signs.effects),
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
        notes=[storable(note) for note in located.notes],
    )


def because_of(verdict: Verdict | None) -> Literal["evidence", "effect", "score"] | None:
    """What made a run anomalous; None where it is not."""
    if verdict is None or not verdict.anomalous:
        return None
    return verdict.because or "score"


def signs_in(shown: Sequence[Shown]) -> list[Sign]:
    """Evidence or effects, as a report has them."""
    return [
        Sign(
            kind=storable(each.kind),
            text=storable(each.text),
            position=each.step,
            strong=each.strong,
            module=None if each.module is None else storable(each.module),
            offset=each.offset,
        )
        for each in shown
    ]


def _window(window: Stretch, scanned: Scan, located: Located, namer: Namer, task: Task) -> Window:
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


def _transfers(window: Stretch, located: Located, namer: Namer) -> list[Transfer]:
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
