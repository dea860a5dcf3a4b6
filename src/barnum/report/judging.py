"""How the runs of a report are judged; all else takes verdicts as they come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from barnum.errors import EvaluationError
from barnum.report.document import CalibrationReport, Classifier, Overview, Roc, finite
from barnum.report.request import Request
from barnum.texts import storable
from barnum.verdicts.exchangeability import Exchangeability
from barnum.verdicts.features import Run, labelled
from barnum.verdicts.judgement import Summary, check_model, evaluation_name, judge, read_runs
from barnum.verdicts.method import Measure, Verdict
from barnum.verdicts.statistics import roc_of

# a score that is the largest sum within a window may differ this much from the sum: it was added up otherwise
_ROUNDING = 1e-6


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What a report needs of judging. ``verdicts`` are None where nothing could judge, and ``why`` says what;
    ``exchangeability`` is that of a judgement; ``measures`` and ``window_sum`` are those of the classifier
    (see verdicts/method.py)."""

    runs: list[Run]
    verdicts: list[Verdict] | None
    classifier: Classifier | None
    measures: tuple[Measure, ...] = ("novelty",)
    window_sum: bool = False
    summary: Summary | None
    why: str | None = None
    exchangeability: Exchangeability | None = None


def judge_folder(request: Request, files: list[Path], advance: Callable[[], None]) -> Judged:
    """Judge all evaluations; without verdicts where none is possible and none was asked for.

    Raises:
        EvaluationError: one is broken, they do not belong together, or the method asked for cannot judge
            them.
    """
    try:
        judgement = judge(
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
        asked = (request.method, request.load, request.rate, request.score)
        if any(each is not None for each in asked) or request.cut == "effect":
            raise
        # a page without verdicts is still of use, but not one of broken files, or of ones that do not belong
        # together
        runs = read_runs(files, cut=request.cut, workers=request.workers)
        check_model(request.folder, runs, evaluation_name)
        return Judged(runs=runs, verdicts=None, classifier=None, summary=None, why=str(error))
    classifier = judgement.classifier
    return Judged(
        runs=judgement.runs,
        verdicts=judgement.verdicts,
        classifier=Classifier(
            method=judgement.method,
            description=storable(judgement.description),
            threshold=finite(classifier.threshold),
            by=classifier.score,
        ),
        measures=classifier.measures,
        window_sum=classifier.window_sum,
        summary=judgement.summary,
        exchangeability=judgement.exchangeability,
    )


def overview(judged: Judged) -> Overview:
    """How many runs there are, and how good the verdicts are."""
    runs, summary = judged.runs, judged.summary
    given = [
        (run, verdict)
        for run, verdict in zip(runs, judged.verdicts or [], strict=judged.verdicts is not None)
        if verdict.refused is None
    ]
    roc = None
    if summary is not None and summary.auc is not None:
        points = roc_of(
            [v.score for run, v in given if run.benign and not v.incomplete],
            [v.score for run, v in given if run.malicious and not v.incomplete],
        )
        roc = Roc(
            auc=summary.auc.auc,
            low=summary.auc.low,
            high=summary.auc.high,
            benign=[round(x, 6) for x, _ in points],
            malicious=[round(y, 6) for _, y in points],
        )
    p_values = sorted(
        verdict.p_value
        for run, verdict in given
        if verdict.p_value is not None and run.benign and not verdict.incomplete
    )
    calibration = None
    if p_values:
        known = runs[0].calibration
        calibration = CalibrationReport(scores=len(known.scores) if known else 0, p_values=p_values)
    return Overview(
        runs=len(runs),
        benign=sum(run.benign for run in runs),
        malicious=sum(run.malicious for run in runs),
        unknown=len(runs) - len(labelled(runs)),
        anomalous=sum(verdict.anomalous for _, verdict in given),
        refused=summary.refused if summary is not None else 0,
        false_positives=summary.false_positives if summary is not None else None,
        false_negatives=summary.false_negatives if summary is not None else None,
        trivial=summary.trivial if summary is not None else [],
        roc=roc,
        calibration=calibration,
        exchangeability=judged.exchangeability,
    )


def alarm_threshold(judged: Judged, index: int) -> float | None:
    """What the sum of novelty within the window must exceed for this run to be anomalous, nats; None where it
    was not judged by that sum, or is not anomalous."""
    if not judged.window_sum:
        return None
    if judged.verdicts is None or judged.classifier is None or judged.classifier.threshold is None:
        return None
    run, verdict = judged.runs[index], judged.verdicts[index]
    if run.novelty_window is None or verdict.refused is not None or not verdict.anomalous:
        return None
    if abs(verdict.score - run.novelty_window) > _ROUNDING:
        return None
    if verdict.because is not None and verdict.score <= judged.classifier.threshold:
        return None
    # a run that was left out was judged by a threshold of its own, which may be lower than that of all
    return min(judged.classifier.threshold, run.novelty_window - _ROUNDING)
