"""Judges samples by a detector: from a recorded trace, or a report of calls, to a verdict in one step."""

from __future__ import annotations

import os
from abc import abstractmethod
from pathlib import Path

import msgspec

from barnum.calls.opened import LONGEST_NAME, Reported, ToJudge
from barnum.calls.opened import Told as Report
from barnum.detector.fitted import Fitted, load_fitted
from barnum.detector.folder import Detector, Reading, load_detector
from barnum.detector.judged import CallPlace, CodePlace, Cut, Judge, JudgedRun, ProcessName, Where
from barnum.digests.preprocess import with_digest
from barnum.digests.signs import signs_beside
from barnum.errors import EvaluationError, ImageError, OptionsError, SampleError
from barnum.evaluations import EvaluationWriter, file_name
from barnum.evaluations.signs import Shown, Signs
from barnum.evaluations.windows import Surprise, surprisal_window, window_of
from barnum.models.evaluate import Evaluator
from barnum.models.source import header_of
from barnum.paths import Learn, PathReader
from barnum.paths.blocks import OFFSET_LIMIT
from barnum.paths.opened import Decoded
from barnum.samples import Sample
from barnum.verdicts.alarms import by_evidence
from barnum.verdicts.conformal import ConformalClassifier
from barnum.verdicts.discoveries import Candidate, candidate_of
from barnum.verdicts.features import Run, cut_of, read_run
from barnum.verdicts.judgement import judge_incomplete, refusal_of
from barnum.verdicts.method import Verdict


class _Evaluating(Judge):
    """Judges by a model's evaluation of the run."""

    # why a sample may hold nothing to judge
    _lacks: str

    def __init__(self, detector: Detector, threads: int, cut: Cut | None = None) -> None:
        super().__init__()
        self._detector = detector
        self._evaluator = Evaluator(detector.model, threads)
        self._cut = cut

    @abstractmethod
    def _place(self, path: PathReader, block: int) -> CodePlace | CallPlace:
        """How a block of a path is called."""

    def _judged(self, sample: Sample, path: PathReader, signs: Signs | None = None) -> JudgedRun:
        detector = self._detector
        document = detector.model.document
        learn = Learn() if document is None else document.learn
        header = header_of(detector.model, learn, sample, path, signs)
        limit = cut_of(self._cut or False, header.source, signs)
        # the sample's own name may be of any length and of any bytes
        file = self._scratch / file_name(sample.label, "run")
        length = surprisal_window(window_of(header.calibration))
        surprise = Surprise(limit, length) if detector.classifier.measures[0] == "surprisal" else None
        rows = 0
        try:
            with EvaluationWriter(file, header) as writer:
                for columns in self._evaluator.columns(path):
                    writer.write(columns)
                    rows += len(columns["position"])
                    if surprise is not None:
                        surprise.add(columns)
            if not rows and limit is None:
                raise EvaluationError(
                    f"{sample.folder}: holds nothing that this detector judges: {self._lacks}"
                )
            run, verdict = self._verdict(file)
            verdict, alarm = by_evidence(verdict, run.signs, run.source, detector.classifier.alarm_rate)
        finally:
            file.unlink(missing_ok=True)
        step = run.novelty_position if run.novelty else None
        if surprise is not None:
            step = surprise.step
        where = None if alarm is None else where_of(alarm, verdict)
        if where is None and step is not None:
            where = Where("novelty" if surprise is None else "surprisal", step, self._at(path, step))
        return JudgedRun(
            name=sample.name[:LONGEST_NAME],
            verdict=verdict.word,
            score=verdict.score,
            threshold=detector.classifier.threshold,
            p_value=verdict.p_value,
            method=detector.classifier.name,
            by=detector.classifier.score,
            transfers=run.transfers,
            cut=run.cut,
            lost=None if run.source is None else run.source.lost,
            refused=verdict.refused,
            incomplete=verdict.incomplete,
            because=_because(verdict, run, detector.classifier.score),
            evidence=() if run.signs is None else run.signs.evidence,
            effects=() if run.signs is None else run.signs.effects or (),
            where=where,
            candidate=self._candidate(run, verdict),
            fresh=not (
                verdict.refused
                or verdict.incomplete
                or self._cut
                or (document is not None and sample.folder.name in document.samples)
            ),
        )

    def _candidate(self, run: Run, verdict: Verdict) -> Candidate | None:
        classifier = self._detector.classifier
        if not isinstance(classifier, ConformalClassifier):
            return None
        because = None if run.signs is None else classifier.score
        return candidate_of(verdict, classifier, run.signs, classifier.alarm_rate, because)

    def _verdict(self, file: Path) -> tuple[Run, Verdict]:
        """What was judged of a run, by its evaluation, and the verdict on it."""
        run, classifier = read_run(file, cut=self._cut or False), self._detector.classifier
        refusal = self._refusal(run)
        if refusal is None:
            return run, classifier.judge(run)

        def read(steps: int) -> Run:
            return read_run(file, cut=self._cut or False, steps=steps)

        return judge_incomplete(classifier, run, refusal, self._detector.manifest.max_lost, read)

    def _refusal(self, run: Run) -> str | None:
        """Why a run is not judged as a whole; None where it is."""
        return refusal_of(run, self._detector.manifest.max_lost)

    def _at(self, path: PathReader, step: int) -> CodePlace | CallPlace | None:
        """The place of a step."""
        passed = 0
        for chunk in path.chunks():
            if step < passed + len(chunk.block):
                return self._place(path, int(chunk.block[step - passed]))
            passed += len(chunk.block)
        return None


def where_of(alarm: Shown, verdict: Verdict) -> Where | None:
    """Where what made a run anomalous beside its score is; None where that is not known. Of an effect the
    step alone is."""
    if alarm.step is None or verdict.because is None:
        return None
    place = CodePlace(alarm.module, alarm.offset) if verdict.because == "evidence" else None
    return Where(verdict.because, alarm.step, place)


def _because(verdict: Verdict, run: Run, score: str | None) -> str | None:
    """What made a run anomalous of which evidence is known."""
    if run.signs is None or not verdict.anomalous:
        return None
    return verdict.because or score


class TraceJudge(_Evaluating):
    """Judges recorded traces; see judge_with() for the options."""

    _lacks = "it has no transfer of the kinds that were learnt"

    def __init__(
        self, detector: Detector, threads: int, cut: Cut | None, bin_dir: Path | None, timeout: float | None
    ) -> None:
        document = detector.model.document
        self._known = None if document is None else document.known
        if cut == "effect" and (self._known is None or not self._known.watched):
            raise OptionsError("--cut effect: the detector was learnt from runs whose effects nobody noted")
        super().__init__(detector, threads, cut)
        self._bin_dir, self._timeout = bin_dir, timeout

    def judge(self, place: str | os.PathLike[str]) -> JudgedRun:
        folder = Path(place)
        sample = opened_trace(folder)
        linked = (folder / "info.txt").is_symlink()
        preprocessed = sample.parsed is not None
        if not preprocessed and self._bin_dir is None:
            raise ImageError(f"{folder}: is not preprocessed: give --bin-dir, or run barnum preprocess first")
        decoded = Decoded(
            self._scratch,
            preprocessed=preprocessed,
            bin_dir=self._bin_dir,
            timeout=None if preprocessed else self._timeout,
            work=None if self._known is None else with_digest,
        )
        try:
            with decoded.opener(sample)() as path:
                made = None if preprocessed else decoded.beside(sample)
                judged = self._judged(sample, path, self._signs(sample, path, made))
            # what a link leads to is not to be read through us
            return msgspec.structs.replace(judged, name=None) if linked else judged
        finally:
            decoded.forget(sample)

    def _signs(self, sample: Sample, path: PathReader, made: Path | None) -> Signs | None:
        """What is new in the digest that was ``made`` with the path, or (None) lies beside the sample."""
        document = self._detector.model.document
        if self._known is None or document is None:
            return None
        return signs_beside(self._known, len(document.samples), sample, path.rows, made)

    def _place(self, path: PathReader, block: int) -> CodePlace:
        module = int(path.blocks.module[block])
        name = path.blocks.modules[module] if module >= 0 else None
        offset = int(path.blocks.offset[block])
        return CodePlace(name, offset if offset < OFFSET_LIMIT else None)


def opened_trace(place: Path) -> Sample:
    """The sample of a recorded trace."""
    try:
        return Sample.open(place)
    except SampleError:
        try:
            report = ToJudge(place)
        except SampleError:
            report = None
        if report is not None and not place.is_dir():
            what = "is a file" if place.is_file() else "is no sample folder"
            raise SampleError(
                f"{place}: {what}, but this detector judges recorded traces: give the folder of a sample"
            ) from None
        if report is None or report.has_trace:
            raise
        raise SampleError(
            f"{place}: holds a report of calls and no trace, but this detector was learnt from traces: "
            "judge it by one of calls"
        ) from None


class CallJudge(_Evaluating):
    """Judges reports of calls; see judge_with() for the options."""

    _lacks = "its calls are fewer than a window of --no-overlap takes"

    def __init__(self, detector: Detector, threads: int, reading: Reading, process: str | None) -> None:
        super().__init__(detector, threads)
        self._reading, self._process = reading, process
        self._quotable = True

    def judge(self, place: str | os.PathLike[str]) -> JudgedRun:
        sample = ToJudge(Path(place))
        # as in messages about reports: what a link leads to is not to be read through us
        self._quotable = sample.report is None or not sample.report.is_symlink()
        # a new one each time: it remembers all names it has met
        reported = Reported(
            self._scratch,
            process=self._process,
            by_thread=self._reading.by_thread,
            children=self._reading.children,
            apart=self._reading.apart,
        )
        try:
            with reported.opener(sample)() as path:
                judged = self._judged(sample, path)
            return self._with_processes(judged, sample, reported.told[sample.folder])
        finally:
            reported.forget(sample)

    def _with_processes(self, judged: JudgedRun, sample: Sample, report: Report) -> JudgedRun:
        """The same with what the report says of its run."""
        if not self._quotable:
            return msgspec.structs.replace(judged, name=sample.name or None)
        known = tuple(
            ProcessName(name or None, None if pid < 0 else pid)
            for name, pid in report.processes
            if name or pid >= 0
        )
        chosen_by = report.chosen_by if known or report.chosen_by != "only" else None
        return msgspec.structs.replace(
            judged, name=report.document or None, processes=known, chosen_by=chosen_by
        )

    def _refusal(self, run: Run) -> str | None:
        if run.source is None or not run.source.truncated:
            return super()._refusal(run)
        return "its report breaks off, so that calls are missing: let the sandbox write it anew"

    def _place(self, path: PathReader, block: int) -> CallPlace:
        name = path.blocks.modules[int(path.blocks.module[block])]
        return CallPlace(name if self._quotable else None)


def load_any(place: Path, cut: bool | None = None) -> Detector | Fitted:
    """Read a detector: a folder that pack() has written, or a file by fit(). ``cut`` as in load_detector().

    Raises:
        ModelError, EvaluationError: it is missing, broken, or of another version.
    """
    try:
        fitted = place.is_file()
    except OSError:
        fitted = False  # why it cannot be read is told below
    return load_fitted(place) if fitted else load_detector(place, cut)


def judge_with(
    detector: Detector | Fitted,
    *,
    bin_dir: Path | None = None,
    process: str | None = None,
    cut: Cut | None = None,
    timeout: float | None = None,
    threads: int | None = None,
) -> Judge:
    """A judge by a detector.

    Of traces: ``bin_dir`` is the folder of images of recorded programs, needed where a sample is not
    preprocessed; ``cut``: judge only what came before another process was started (``spawn``), or before the
    first effect that no nominal run had (``effect``); ``timeout`` in seconds for decoding a sample. Of
    reports: ``process`` says whose calls (a program's file name, a part of its path, or pid:NUMBER; None:
    those of the process that ran the submitted file). ``threads`` None: as many as there are cores.

    Raises:
        OptionsError: an option is for the other kind of detector.
        MissingPackageError: a package that computes the detector's network is not installed.
    """
    cores = threads or len(os.sched_getaffinity(0))
    if isinstance(detector, Fitted):
        from barnum.detector.fitted_judge import FittedJudge

        if process is not None:
            raise OptionsError("--process is for calls, this detector judges traces: leave it out")
        return FittedJudge(detector, cut, bin_dir, timeout)
    given: dict[str, object] = {"--bin-dir": bin_dir, "--timeout": timeout, "--cut": cut}
    judges, other = "calls", "traces"
    if detector.calls is None:
        given, judges, other = {"--process": process}, other, judges
    for option, value in given.items():
        if value is not None:
            raise OptionsError(f"{option} is for {other}, this detector judges {judges}: leave it out")
    if detector.calls is None:
        return TraceJudge(detector, cores, cut, bin_dir, timeout)
    return CallJudge(detector, cores, detector.calls, process)
