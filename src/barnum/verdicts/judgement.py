"""Verdicts on all evaluations of a folder, and how good they are: what commands print, save and draw."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from barnum.errors import EvaluationError
from barnum.evaluations.folder import find_evaluations
from barnum.evaluations.header import Calibration, Source
from barnum.evaluations.signs import Cut
from barnum.verdicts import methods
from barnum.verdicts.alarms import by_evidence
from barnum.verdicts.cache import RunCache
from barnum.verdicts.conformal import ConformalClassifier
from barnum.verdicts.exchangeability import Exchangeability, exchangeability
from barnum.verdicts.features import Run, labelled, read_run
from barnum.verdicts.method import Classifier, Verdict
from barnum.verdicts.statistics import Auc, Rate, auc_of, rate_of

_NUMBERS = re.compile(r"([0-9]{1,18})")
# a run of which more than this share was lost is not judged
MAX_LOST = 0.05


class Trivial(msgspec.Struct, frozen=True, kw_only=True):
    """A detector that looks at how the program ended alone, and how it does on runs that say so."""

    name: str
    false_positives: Rate | None
    false_negatives: Rate | None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """How good verdicts are on the runs that were judged; what takes a label that is not there is None. Runs
    whose label is unknown count in ``refused`` alone. A run that is anomalous though incomplete counts in the
    rates as found; ``auc`` takes scores of whole runs."""

    false_positives: Rate | None
    false_negatives: Rate | None
    auc: Auc | None
    refused: int
    trivial: list[Trivial]


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """``verdicts`` are in the order of ``runs``, which are what was judged: of one that is anomalous though
    incomplete its beginning. ``description`` says in a line how was judged. ``model`` is the identity of the
    model that scored the runs (empty where their files do not say). ``exchangeability`` is what a bet says
    against the runs, but for malicious ones, being like those learnt; None where it is not made."""

    method: str
    description: str
    model: str
    runs: list[Run]
    verdicts: list[Verdict]
    classifier: Classifier
    summary: Summary
    exchangeability: Exchangeability | None = None


def judge(
    folder: Path,
    *,
    method: str | None = None,
    rate: float | None = None,
    score: str | None = None,
    load: Path | None = None,
    force: bool = False,
    cut: Cut | bool = False,
    max_lost: float = MAX_LOST,
    workers: int = 1,
    cache: RunCache | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Judgement:
    """Judge every evaluation of a folder, by a classifier that is learnt from the others, or by a saved one.

    Args:
        folder: of evaluations of one model.
        method: name of the method (None: default_method()).
        rate: share of nominal runs that may be called anomalous, and
        score: name of the score to go by (None: the method's choice of both).
        load: file of a saved classifier.
        force: judge all by one threshold above all benign runs, whatever evidence they show.
        cut: judge what came before the first other process was started (True or ``spawn``), or before the
            first effect that no nominal run has.
        max_lost: runs of which more than this share was lost are incomplete: nothing is learnt from them, and
            they are refused unless they begin in a way that is anomalous already.
        workers: files that are read at a time.
        cache: where features of files are kept.
        advance: called after each file.

    Raises:
        EvaluationError: the folder holds no evaluation, one is broken, or they do not suffice for the method.
    """
    loaded = None if load is None else methods.load(load, bool(cut))
    files = find_evaluations(folder)
    runs = read_runs(files, cut=cut, workers=workers, cache=cache, advance=advance)
    check_model(folder, runs, evaluation_name)
    _check_cut(folder, runs, cut)
    refusals = [refusal_of(run, max_lost) for run in runs]
    usable = [run for run, refusal in zip(runs, refusals, strict=True) if refusal is None]
    nothing = f"{folder}: no run can be judged: {refusals[0]} ({runs[0].sample}, as an example)"
    if not usable and loaded is None:
        raise EvaluationError(nothing)
    if loaded is not None:
        classifier, model = loaded
        if model is not None and model != runs[0].model:
            why = "" if model and runs[0].model else " (those in gz name none)"
            raise EvaluationError(
                f"{load}: was learnt from evaluations of another model than those in {folder}{why}"
            )
        held_out: list[Verdict] = []
    else:
        # a rate and a score are conformal's
        own = "conformal" if rate or score else default_method(usable)
        chosen = methods.by_name(method or own, rate, score)
        known = labelled(usable)
        # of runs whose label is unknown the headers may tell of nominal ones, and of nothing else
        classifier = chosen.fit(known or usable)
        held_out = chosen.held_out(known) if known and not force else []
    incomplete = [(file, run, why) for file, run, why in zip(files, runs, refusals, strict=True) if why]
    if force:
        classifier = classifier.without_false_positives(labelled(usable))
        if found := [run for run, v in _judge_each(classifier, incomplete, max_lost, cut) if v.anomalous]:
            classifier = classifier.without_false_positives(labelled(found))
    left_out = iter(held_out)
    others = iter(_judge_each(classifier, incomplete, max_lost, cut))
    answers = []
    for run, refusal in zip(runs, refusals, strict=True):
        if refusal is not None:
            answers.append(next(others))
        elif held_out and (run.benign or run.malicious):
            answers.append((run, next(left_out)))
        else:
            answers.append((run, classifier.judge(run)))
    verdicts = [verdict if force else _with_evidence(classifier, run, verdict) for run, verdict in answers]
    if all(verdict.refused for verdict in verdicts):
        raise EvaluationError(nothing)
    judgement = _judgement(classifier, [run for run, _ in answers], verdicts, forced=force)
    return judgement if cut or force else _with_exchangeability(judgement)


def _with_exchangeability(judgement: Judgement) -> Judgement:
    """The same with whether runs are like the training runs, whose scores the model tells; in the order of
    their names, as evaluations do not say when they were recorded."""
    classifier = judgement.classifier
    if not isinstance(classifier, ConformalClassifier) or not classifier.exact:
        return judgement
    stream = sorted(
        (_by_numbers(run.name or run.sample), run.sample, verdict.score)
        for run, verdict in zip(judgement.runs, judgement.verdicts, strict=True)
        if not (run.malicious or verdict.refused or verdict.incomplete)
    )
    try:
        training = classifier.by.learn(judgement.runs).training
    except EvaluationError:
        # of these runs alone the score, which a loaded classifier brings, could not be learnt
        training = []
    if not training:
        return judgement
    found = exchangeability(training, [score for *_, score in stream])
    return msgspec.structs.replace(judgement, exchangeability=found)


def _by_numbers(name: str) -> list[tuple[int, str]]:
    """A key that sorts names by the numbers in them: a9 before a10."""
    return [
        (int(part), "") if part.isascii() and part.isdecimal() else (-1, part)
        for part in _NUMBERS.split(name)
        if part
    ]


def _check_cut(folder: Path, runs: Sequence[Run], cut: Cut | bool) -> None:
    if cut == "effect" and not any(run.signs is not None and run.signs.effects is not None for run in runs):
        raise EvaluationError(
            f"{folder}: no evaluation names effects: --cut effect takes runs whose effects were noted, and "
            "that were learnt and evaluated with digests beside them (barnum preprocess makes these)"
        )


def _with_evidence(classifier: Classifier, run: Run, verdict: Verdict) -> Verdict:
    return by_evidence(verdict, run.signs, run.source, classifier.alarm_rate)[0]


def _judgement(classifier: Classifier, runs: list[Run], verdicts: list[Verdict], forced: bool) -> Judgement:
    return Judgement(
        method=classifier.name,
        description=classifier.describe() + (", set above all benign runs here" if forced else ""),
        model=runs[0].model,
        runs=runs,
        verdicts=verdicts,
        classifier=classifier,
        summary=summary_of(runs, verdicts),
    )


def default_method(runs: Sequence[Run]) -> str:
    """Name of the method where none is asked for: conformal where evaluations hold novelty, else one that
    learns from both labels, if both are there."""
    if all(run.novelty_window is not None for run in runs):
        return "conformal"
    both = len({run.label for run in labelled(runs)}) == 2
    return "logistic" if both else "conformal"


def read_runs(
    files: Sequence[Path],
    *,
    cut: Cut | bool = False,
    workers: int = 1,
    cache: RunCache | None = None,
    advance: Callable[[], None] = lambda: None,
) -> list[Run]:
    """Sum up evaluation files, ``workers`` of them at a time; in the order of ``files``.

    Raises:
        EvaluationError: one is broken.
    """
    first: list[Calibration] = []

    def read(file: Path) -> Run:
        run = read_run(file, cut=cut) if cache is None else cache.read_run(file, cut=cut)
        if run.calibration is None:
            return run
        if not first:
            first.append(run.calibration)
        # all runs of a model have the same, which may be long: it is kept once
        return msgspec.structs.replace(run, calibration=first[0]) if run.calibration == first[0] else run

    with ThreadPoolExecutor(max(1, workers)) as pool:
        waiting = [pool.submit(read, file) for file in files]
        try:
            runs = []
            for future in waiting:
                runs.append(future.result())
                advance()
        except BaseException:
            for future in waiting:
                future.cancel()
            raise
    if cache is not None:
        cache.tidy()
    return runs


class Scored(Protocol):
    """What tells which model scored a run."""

    @property
    def model(self) -> str: ...

    @property
    def calibration(self) -> Calibration | None: ...


_Scored = TypeVar("_Scored", bound=Scored)


def evaluation_name(run: Run) -> str:
    """The name of a run's evaluation, without its ending."""
    return f"{run.label}-{run.sample}"


def check_model(folder: Path, runs: Sequence[_Scored], name: Callable[[_Scored], str]) -> None:
    """All runs of a folder were scored by one model, in one format; ``name`` gives their names for messages.

    Raises:
        EvaluationError: they were not.
    """
    for run in runs:
        first = runs[0]
        if (not run.model) != (not first.model):
            unnamed, named = (run, first) if first.model else (first, run)
            raise EvaluationError(
                f"{folder}: {name(unnamed)} does not say which model scored it (gz), {name(named)} does "
                "(Parquet): keep them in different folders"
            )
        if run.model != first.model or run.calibration != first.calibration:
            raise EvaluationError(
                f"{folder}: {name(run)} was scored by another model than {name(first)}: keep evaluations of "
                "different models in different folders"
            )


def refusal_of(run: Run, max_lost: float) -> str | None:
    """Why a run is not judged; None where it is."""
    if not run.transfers:
        return "nothing was executed before the first other process was started"
    return incomplete_because(run.source, max_lost)


def incomplete_because(source: Source | None, max_lost: float) -> str | None:
    """Why a run is not whole, of which at most the share ``max_lost`` may be lost; None where it is."""
    if source is not None and source.truncated:
        return "it breaks off: a time limit ended its decoding: give more time; or its report is not whole"
    if source is None or source.lost is None or source.lost <= max_lost:
        return None
    missing = f", code without an image was met {source.unmapped:,} times" if source.unmapped else ""
    return f"{100 * source.lost:.1f} % of the trace was lost{missing} (at most {100 * max_lost:.3g} % may be)"


def refused(classifier: Classifier, run: Run, why: str) -> Verdict:
    """The verdict on a run that is not judged; its score is that of what is there, 0 where nothing is."""
    score = 0.0
    if run.transfers:
        with suppress(EvaluationError):
            score = classifier.judge(run).score
    return Verdict(anomalous=False, score=score, refused=why)


def judge_incomplete(
    classifier: Classifier, run: Run, why: str, max_lost: float, read: Callable[[int], Run]
) -> tuple[Run, Verdict]:
    """The verdict on a run that is not to be judged as a whole, for the reason ``why``, and what was judged.

    It is refused, unless it begins in a way that is anomalous already and the classifier's score can only
    grow from there. Of a run that lost at most ``max_lost``, all that is there is its beginning; of any
    other, what came before the first loss. Of the rest nothing is sure: there is no transfer over a gap, but
    a loss brings others together that lay apart.

    Args:
        read: sums up so many steps of the path, from the first on.
    """
    verdict = refused(classifier, run, why)
    source = run.source
    if not classifier.grows or source is None or source.intact is None or not run.transfers:
        return run, verdict
    # no beginning has a larger score than what is there
    if verdict.score > classifier.threshold:
        borne = source.lost is not None and source.lost <= max_lost
        part = run if borne or source.intact >= source.steps else read(source.intact)
        judged = classifier.judge(part) if part.transfers else verdict
        if judged.anomalous:
            return part, msgspec.structs.replace(judged, incomplete=why)
    return run, verdict


def _judge_each(
    classifier: Classifier, incomplete: Sequence[tuple[Path, Run, str]], max_lost: float, cut: Cut | bool
) -> list[tuple[Run, Verdict]]:
    """The same of several runs: their evaluations, what these sum up to, and why they are incomplete."""

    def judged(file: Path, run: Run, why: str) -> tuple[Run, Verdict]:
        def read(steps: int) -> Run:
            # the calibration may be long: it is kept once
            return msgspec.structs.replace(read_run(file, cut=cut, steps=steps), calibration=run.calibration)

        return judge_incomplete(classifier, run, why, max_lost, read)

    return [judged(*each) for each in incomplete]


def summary_of(runs: Sequence[Run], verdicts: Sequence[Verdict]) -> Summary:
    """Error rates, AUC and what trivial detectors do."""
    judged = [(run, verdict) for run, verdict in zip(runs, verdicts, strict=True) if verdict.refused is None]
    benign = [verdict.score for run, verdict in judged if run.benign and not verdict.incomplete]
    malicious = [verdict.score for run, verdict in judged if run.malicious and not verdict.incomplete]
    return Summary(
        **_errors([(run, verdict.anomalous) for run, verdict in judged]),
        auc=auc_of(benign, malicious) if benign and malicious else None,
        refused=len(runs) - len(judged),
        trivial=_trivial(labelled([run for run, _ in judged])),
    )


def _trivial(runs: Sequence[Run]) -> list[Trivial]:
    trivial = []
    for name, answer_of in (
        ("crashed", lambda source: None if source.timeout is None else source.signal is not None),
        ("started a process", lambda source: None if source.children is None else source.children > 0),
    ):
        answers = [(run, answer_of(run.source)) for run in runs if run.source is not None]
        known = [(run, answer) for run, answer in answers if answer is not None]
        if known:
            trivial.append(Trivial(name=name, **_errors(known)))
    return trivial


def _errors(answers: Sequence[tuple[Run, bool]]) -> dict[str, Rate | None]:
    benign = [anomalous for run, anomalous in answers if run.benign]
    malicious = [anomalous for run, anomalous in answers if run.malicious]
    return {
        "false_positives": rate_of(sum(benign), len(benign)) if benign else None,
        "false_negatives": rate_of(len(malicious) - sum(malicious), len(malicious)) if malicious else None,
    }
