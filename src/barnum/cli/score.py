"""``barnum score``: from recorded samples, or reports of calls, to verdicts in one step."""

from __future__ import annotations

import os
import sys
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
import numpy as np

from barnum.cli.common import SECONDS, ended_like_an_interrupt, set_up_logging
from barnum.errors import EvaluationError, InputError, SampleError, SomeFailedError

if TYPE_CHECKING:
    from barnum.cli.reported import Told
    from barnum.detector import Detector, Reading
    from barnum.models.evaluate import Columns, Evaluator
    from barnum.paths import PathReader
    from barnum.samples import Sample
    from barnum.verdicts.features import Run
    from barnum.verdicts.methods import Verdict

_ANOMALOUS = 3
# transfers in the windows that are searched for the most surprising one
_WINDOW = 100


class _Place(click.Path):
    """Type of an argument that takes a file or a folder. It need not be readable: what cannot be judged is
    told in a line of its own. An empty name is refused, as it would stand for the current folder."""

    def __init__(self, **options: Any) -> None:
        super().__init__(readable=False, path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("the name is empty: give that of a file or a folder", param, ctx)
        return super().convert(value, param, ctx)


@click.command("score")
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
@click.option("--cut", is_flag=True, help="Judge only what came before another process was started.")
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
    cut: bool,
    timeout: float | None,
    threads: int | None,
    fail_on_anomaly: bool,
    logging_level: int,
    model: Path,
    samples: tuple[Path, ...],
) -> int:
    """Judge samples by the detector in the folder MODEL, which barnum pack has written.

    SAMPLE is the folder of a recorded trace; where the detector was learnt from calls (barnum syscall), it is
    a sandbox's report, or a folder that holds one, with or without info.txt.

    Prints a JSON object a sample, each on a line of its own, as soon as it is judged: sample, name, verdict
    (nominal, anomalous or refused), score, threshold, p_value, where. A sample that cannot be judged has an
    error instead; the others are judged all the same, and the exit code is 22. With --fail-on-anomaly it is 3
    where any is anomalous, else 22 also where a verdict was refused.
    """
    set_up_logging(logging_level)
    if process is not None and not process.strip():
        raise click.UsageError("--process is empty: give a program's name or pid:NUMBER, or leave it out")
    from barnum.detector import load_detector
    from barnum.models.evaluate import Evaluator

    detector = load_detector(model, cut)
    given: dict[str, object] = {"--bin-dir": bin_dir, "--timeout": timeout, "--cut": cut or None}
    if detector.calls is None:
        given = {"--process": process}
    for option, value in given.items():
        if value is not None:
            judges, other = ("traces", "calls") if detector.calls is None else ("calls", "traces")
            raise click.UsageError(f"{option} is for {other}, this detector judges {judges}: leave it out")
    cores = threads or len(os.sched_getaffinity(0))
    evaluator = Evaluator(detector.model, cores)
    failed, refused, anomalous = 0, 0, False
    with ended_like_an_interrupt(), tempfile.TemporaryDirectory(prefix="barnum-") as scratch:
        one: _Scorer
        if detector.calls is None:
            one = _TraceScorer(detector, evaluator, Path(scratch), cut, bin_dir, timeout)
        else:
            one = _CallScorer(detector, evaluator, Path(scratch), detector.calls, process)
        for place in samples:
            try:
                told = one.judge(place)
            except (InputError, OSError) as error:
                failed += 1
                told = {"error": str(error)}
            anomalous = anomalous or told.get("verdict") == "anomalous"
            refused += told.get("verdict") == "refused"
            _say({"sample": _name(place), "folder": str(place), **told})
    if fail_on_anomaly and anomalous:
        return _ANOMALOUS
    if failed or (fail_on_anomaly and refused):
        raise SomeFailedError(
            f"{failed + refused} of {len(samples)} samples could not be judged; their lines say why"
        )
    return 0


def _say(told: dict[str, Any]) -> None:
    line = msgspec.json.encode(_text(told)).decode()
    # JSON leaves most of what a terminal obeys as it is; escaped, it says the same
    click.echo(line if line.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in line))
    sys.stdout.flush()


def _text(value: Any) -> Any:
    """The same with texts that can be written: names of files need not be UTF-8."""
    if isinstance(value, dict):
        return {key: _text(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_text(inner) for inner in value]
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def _escaped(character: str) -> str:
    # above U+FFFF, JSON has two escapes
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _name(place: Path) -> str:
    return place.name or place.resolve().name


class _Scorer(ABC):
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
        from barnum.cli.reported import LONGEST_NAME
        from barnum.cli.sources import header_of
        from barnum.paths import Learn
        from barnum.verdicts.evaluation import EvaluationWriter, file_name
        from barnum.verdicts.features import read_run

        detector = self._detector
        document = detector.model.document
        header = header_of(detector.model, Learn() if document is None else document.learn, sample, path)
        limit = header.source.cut if self._cut and header.source is not None else None
        # the sample's own name may be of any length and of any bytes
        file = self._scratch / file_name(sample.label, "run")
        by = getattr(detector.classifier, "score", None)
        surprise = _Surprise(limit) if by in ("surprisal", "adjusted") else None
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


class _TraceScorer(_Scorer):
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
        from barnum.cli.decoded import Decoded
        from barnum.errors import ImageError

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
        from barnum.cli.reported import ToJudge
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


class _CallScorer(_Scorer):
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
        from barnum.cli.reported import Reported, ToJudge

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


class _Surprise:
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
