"""``barnum score``: from recorded samples to verdicts in one step."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from barnum.cli.common import SECONDS, ended_like_an_interrupt, set_up_logging
from barnum.errors import InputError, SomeFailedError

if TYPE_CHECKING:
    from barnum.detector import Detector
    from barnum.models.evaluate import Evaluator
    from barnum.paths import PathReader
    from barnum.samples import Sample

_log = logging.getLogger("barnum")
_ANOMALOUS = 3


@click.command("score")
@click.option(
    "--bin-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Images of the recorded programs; needed where a sample is not preprocessed.",
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
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("samples", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SAMPLE...")
def command(
    bin_dir: Path | None,
    cut: bool,
    timeout: float | None,
    threads: int | None,
    fail_on_anomaly: bool,
    logging_level: int,
    model: Path,
    samples: tuple[Path, ...],
) -> int:
    """Judge recorded samples (their folders) by the detector in the folder MODEL, which barnum pack has
    written.

    Prints a JSON object a sample, each on a line of its own, as soon as it is judged: sample, name, verdict
    (nominal, anomalous or refused), score, threshold, p_value, where. A sample that cannot be judged has an
    error instead; the others are judged all the same, and the exit code is 22. With --fail-on-anomaly it is 3
    where any is anomalous, else 22 also where a verdict was refused.
    """
    set_up_logging(logging_level)
    from barnum.detector import load_detector
    from barnum.models.evaluate import Evaluator

    detector = load_detector(model, cut)
    cores = threads or len(os.sched_getaffinity(0))
    evaluator = Evaluator(detector.model, cores)
    failed, refused, anomalous = 0, 0, False
    with ended_like_an_interrupt(), tempfile.TemporaryDirectory(prefix="barnum-") as scratch:
        one = _Scorer(detector, evaluator, bin_dir, timeout, cut, Path(scratch))
        for folder in samples:
            try:
                told = one.judge(folder)
            except (InputError, OSError) as error:
                failed += 1
                told = {"sample": folder.name, "folder": str(folder), "error": str(error)}
            anomalous = anomalous or told.get("verdict") == "anomalous"
            refused += told.get("verdict") == "refused"
            _say(told)
    if fail_on_anomaly and anomalous:
        return _ANOMALOUS
    if failed or (fail_on_anomaly and refused):
        raise SomeFailedError(
            f"{failed + refused} of {len(samples)} samples could not be judged; their lines say why"
        )
    return 0


def _say(told: dict[str, Any]) -> None:
    import msgspec

    # names of files need not be UTF-8
    whole = {key: _text(value) if isinstance(value, str) else value for key, value in told.items()}
    click.echo(msgspec.json.encode(whole).decode())
    sys.stdout.flush()


def _text(value: str) -> str:
    return value.encode(errors="backslashreplace").decode()


class _Scorer:
    def __init__(
        self,
        detector: Detector,
        evaluator: Evaluator,
        bin_dir: Path | None,
        timeout: float | None,
        cut: bool,
        scratch: Path,
    ) -> None:
        self._detector = detector
        self._evaluator = evaluator
        self._options: dict[str, Any] = {"bin_dir": bin_dir, "timeout": timeout}
        self._cut = cut
        self._scratch = scratch

    def judge(self, folder: Path) -> dict[str, Any]:
        """What is said of a sample."""
        from barnum.cli.decoded import Decoded
        from barnum.errors import ImageError
        from barnum.samples import Sample

        sample = Sample.open(folder)
        preprocessed = sample.parsed is not None
        if not preprocessed and self._options["bin_dir"] is None:
            raise ImageError(f"{folder}: is not preprocessed: give --bin-dir, or run barnum preprocess first")
        timeout = None if preprocessed else self._options["timeout"]
        options = {**self._options, "preprocessed": preprocessed, "timeout": timeout}
        decoded = Decoded(options, self._scratch)
        try:
            with decoded.opener(sample)() as path:
                return self._judged(sample, path)
        finally:
            decoded.forget(sample)

    def _judged(self, sample: Sample, path: PathReader) -> dict[str, Any]:
        from barnum.cli.sources import header_of
        from barnum.paths import Learn
        from barnum.verdicts.evaluation import EvaluationWriter, file_name
        from barnum.verdicts.features import read_run
        from barnum.verdicts.judgement import refusal_of
        from barnum.verdicts.methods import Verdict

        detector = self._detector
        document = detector.model.document
        header = header_of(detector.model, Learn() if document is None else document.learn, sample, path)
        file = self._scratch / file_name(sample.label, sample.folder.name)
        try:
            with EvaluationWriter(file, header) as writer:
                for columns in self._evaluator.columns(path):
                    writer.write(columns)
            run = read_run(file, cut=self._cut)
        finally:
            file.unlink(missing_ok=True)
        refusal = refusal_of(run, detector.manifest.max_lost)
        if refusal is None:
            verdict = detector.classifier.judge(run)
        else:
            verdict = Verdict(anomalous=False, score=run.novelty_window or 0.0, refused=refusal)
        told: dict[str, Any] = {
            "sample": sample.folder.name,
            "name": sample.name,
            "verdict": verdict.word,
            "score": verdict.score,
            "threshold": detector.classifier.threshold,
            "p_value": verdict.p_value,
            "method": detector.classifier.name,
            "transfers": run.transfers,
            "cut": run.cut,
            "lost": None if run.source is None else run.source.lost,
        }
        if refusal is not None:
            told["refused"] = refusal
        if run.novelty_position is not None and run.novelty:
            told["where"] = _place(path, run.novelty_position)
        return told


def _place(path: PathReader, step: int) -> dict[str, Any]:
    """The block at a step, where the strangest window begins."""
    place: dict[str, Any] = {"step": step}
    passed = 0
    for chunk in path.chunks():
        if step < passed + len(chunk.block):
            block = int(chunk.block[step - passed])
            blocks = path.blocks
            module = int(blocks.module[block])
            place["module"] = blocks.modules[module] if module >= 0 else None
            place["offset"] = int(blocks.offset[block])
            break
        passed += len(chunk.block)
    return place
