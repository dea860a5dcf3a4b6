"""Judges samples by a detector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from barnum.errors import EvaluationError, SampleError

if TYPE_CHECKING:
    from barnum.calls.opened import Told
    from barnum.detector.folder import Detector, Reading
    from barnum.models.evaluate import Evaluator
    from barnum.models.scoring import Columns
    from barnum.paths import PathReader
    from barnum.samples import Sample
    from barnum.verdicts.features import Run
    from barnum.verdicts.method import Verdict

# transfers in the windows that are searched for the most surprising one
_WINDOW = 100


class Judge(ABC):
    # why a sample may hold nothing to judge
    _lacks: str

    def __init__(self, detector: Detector, evaluator: Evaluator, scratch: Path, cut: bool = False) -> None:
        self._detector = detector
        self._evaluator = evaluator
        self._scratch = scratch
        self._cut = cut

    @abstractmethod
    def judge(self, place: Path) -> dict[str, Any]:
        """What is said of a sample."""

    @abstractmethod
    def _place(self, path: PathReader, block: int) -> dict[str, Any]:
        """How a block of a path is called."""

    def _judged(self, sample: Sample, path: PathReader) -> dict[str, Any]:
        from barnum.calls.opened import LONGEST_NAME
        from barnum.evaluations.header import file_name
        from barnum.evaluations.parquet import EvaluationWriter
        from barnum.models.source import header_of
        from barnum.paths import Learn
        from barnum.verdicts.features import read_run

        detector = self._detector
        document = detector.model.document
        header = header_of(detector.model, Learn() if document is None else document.learn, sample, path)
        limit = header.source.cut if self._cut and header.source is not None else None
        # the sample's own name may be of any length and of any bytes
        file = self._scratch / file_name(sample.label, "run")
        by = getattr(detector.classifier, "score", None)
        surprise = Surprise(limit) if by in ("surprisal", "adjusted") else None
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
            run = read_run(file, cut=self._cut)
        finally:
            file.unlink(missing_ok=True)
        verdict = self._verdict(run)
        told: dict[str, Any] = {
            "name": sample.name[:LONGEST_NAME],
            "verdict": verdict.word,
            "score": verdict.score,
            "threshold": detector.classifier.threshold,
            "p_value": verdict.p_value,
            "method": detector.classifier.name,
            "by": by,
            "transfers": run.transfers,
            "cut": run.cut,
            "lost": None if run.source is None else run.source.lost,
        }
        if verdict.refused is not None:
            told["refused"] = verdict.refused
        step, where = run.novelty_position if run.novelty else None, "novelty"
        if surprise is not None:
            step, where = surprise.step, "surprisal"
        if step is not None:
            told["where"] = {"by": where, "step": step, **self._at(path, step)}
        return told

    def _verdict(self, run: Run) -> Verdict:
        from barnum.verdicts.judgement import refusal_of, refused

        refusal = refusal_of(run, self._detector.manifest.max_lost)
        if refusal is None:
            return self._detector.classifier.judge(run)
        return refused(self._detector.classifier, run, refusal)

    def _at(self, path: PathReader, step: int) -> dict[str, Any]:
        """The place of a step."""
        passed = 0
        for chunk in path.chunks():
            if step < passed + len(chunk.block):
                return self._place(path, int(chunk.block[step - passed]))
            passed += len(chunk.block)
        return {}


class TraceJudge(Judge):
    _lacks = "it has no transfer of the kinds that were learnt"

    def __init__(
        self,
        detector: Detector,
        evaluator: Evaluator,
        scratch: Path,
        cut: bool,
        bin_dir: Path | None,
        timeout: float | None,
    ) -> None:
        super().__init__(detector, evaluator, scratch, cut)
        self._options: dict[str, Any] = {"bin_dir": bin_dir, "timeout": timeout}

    def judge(self, place: Path) -> dict[str, Any]:
        from barnum.errors import ImageError
        from barnum.paths.opened import Decoded

        sample = self._opened(place)
        linked = (place / "info.txt").is_symlink()
        preprocessed = sample.parsed is not None
        if not preprocessed and self._options["bin_dir"] is None:
            raise ImageError(f"{place}: is not preprocessed: give --bin-dir, or run barnum preprocess first")
        timeout = None if preprocessed else self._options["timeout"]
        options = {**self._options, "preprocessed": preprocessed, "timeout": timeout}
        decoded = Decoded(options, self._scratch)
        try:
            with decoded.opener(sample)() as path:
                told = self._judged(sample, path)
            # what a link leads to is not to be read through us
            return told | {"name": None} if linked else told
        finally:
            decoded.forget(sample)

    def _opened(self, place: Path) -> Sample:
        from barnum.calls.opened import ToJudge
        from barnum.samples import Sample

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

    def _place(self, path: PathReader, block: int) -> dict[str, Any]:
        module = int(path.blocks.module[block])
        return {
            "module": path.blocks.modules[module] if module >= 0 else None,
            "offset": int(path.blocks.offset[block]),
        }


class CallJudge(Judge):
    _lacks = "its calls are fewer than a window of --no-overlap takes"

    def __init__(
        self,
        detector: Detector,
        evaluator: Evaluator,
        scratch: Path,
        reading: Reading,
        process: str | None,
    ) -> None:
        super().__init__(detector, evaluator, scratch)
        self._options: dict[str, Any] = {
            "process": process,
            "by_thread": reading.by_thread,
            "children": reading.children,
            "no_overlap": reading.apart is not None,
            "sequence_len": reading.apart,
        }
        self._quotable = True

    def judge(self, place: Path) -> dict[str, Any]:
        from barnum.calls.opened import Reported, ToJudge

        sample = ToJudge(place)
        # as in messages about reports: what a link leads to is not to be read through us
        self._quotable = sample.report is None or not sample.report.is_symlink()
        # a new one each time: it remembers all names it has met
        reported = Reported(self._options, self._scratch)
        try:
            with reported.opener(sample)() as path:
                return self._judged(sample, path) | self._about(sample, reported.told[sample.folder])
        finally:
            reported.forget(sample)

    def _about(self, sample: Sample, told: Told) -> dict[str, Any]:
        if not self._quotable:
            return {"name": sample.name or None}
        known = [
            {"name": name or None, "pid": None if pid < 0 else pid}
            for name, pid in told.processes
            if name or pid >= 0
        ]
        about: dict[str, Any] = {"name": told.document or None}
        if known:
            about["processes"] = known
        if known or told.chosen_by != "only":
            about["chosen_by"] = told.chosen_by
        return about

    def _verdict(self, run: Run) -> Verdict:
        verdict = super()._verdict(run)
        if run.source is None or not run.source.truncated:
            return verdict
        why = "its report breaks off, so that calls are missing: let the sandbox write it anew"
        return msgspec.structs.replace(verdict, refused=why)

    def _place(self, path: PathReader, block: int) -> dict[str, Any]:
        name = path.blocks.modules[int(path.blocks.module[block])]
        return {"call": name if self._quotable else None}


class Surprise:
    """The most surprising transfer of the most surprising window."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._surprisal = np.zeros(0)
        self._position = np.zeros(0, np.uint64)
        self._worst = 0.0
        self.step: int | None = None

    def add(self, columns: Columns) -> None:
        """The next rows; those from step ``limit`` on do not count."""
        surprisal, position = columns["surprisal"].astype(np.float64), columns["position"]
        if self._limit is not None:
            end = int(np.searchsorted(position, np.uint64(max(0, self._limit))))
            surprisal, position = surprisal[:end], position[:end]
        if not len(surprisal):
            return
        surprisal = np.concatenate([self._surprisal, surprisal])
        position = np.concatenate([self._position, position])
        length = min(_WINDOW, len(surprisal))
        total = np.concatenate([[0.0], np.cumsum(surprisal)])
        sums = total[length:] - total[:-length]
        begin = int(sums.argmax())
        if sums[begin] > self._worst:
            self._worst = float(sums[begin])
            self.step = int(position[begin + int(surprisal[begin : begin + length].argmax())])
        self._surprisal, self._position = surprisal[1 - _WINDOW :], position[1 - _WINDOW :]
