"""Learns, evaluates, judges."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from barnum import evaluations as evaluation_files
from barnum.api.common import File, Progress, cores, listener_of, name_of
from barnum.api.opening import open_detector, open_path
from barnum.detector import Cut, Detector, Fitted, JudgedRun, Reading, judge_with, load_any
from barnum.errors import InputError, OptionsError
from barnum.evaluations import Evaluation
from barnum.learning.session import Learned
from barnum.models.model import Model
from barnum.paths import Learn
from barnum.samples import Sample
from barnum.verdicts.judgement import MAX_LOST, Judgement


def learn(
    root: File,
    *,
    network: str = "causal",
    calls: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Learned:
    """Learn what is normal from the benign samples of a folder, and evaluate those that are held out.

    Args:
        root: folder of samples that were preprocessed; with ``calls``, of reports of sandboxes.
        network: ``rote`` (tables of what followed what), or one that torch trains: ``causal``, ``paper``.
        calls: learn calls of sandboxes' reports instead of recorded transfers.
        progress: see the text of this module.
        settings: of the command that does the same (`barnum prob`, `barnum lstm`, `barnum syscall`), by the
            names of its options, such as ``train_size``, ``seed``, ``eval_dir``; see
            :mod:`barnum.learning.settings`.

    Raises:
        SetsError: there are too few samples.
        OptionsError: settings do not go together, or are unknown.
        MissingPackageError: the network needs torch, which is not installed.
    """
    from barnum.learning.settings import CallSettings, NetworkSettings, RoteSettings

    kind: type[CallSettings | NetworkSettings | RoteSettings]
    values = {"root": Path(root), **settings}
    if calls:
        kind, values = CallSettings, {"network": network} | values
    elif network == "rote":
        kind = RoteSettings
        values = {"preprocessed": True, "learn_ret": True, "learn_icall": True, "learn_ijmp": True} | values
    else:
        kind, values = NetworkSettings, {"preprocessed": True, "network": network} | values
    unknown = sorted(values.keys() - set(kind.__struct_fields__))
    if unknown:
        raise OptionsError(f"{unknown[0]} is no setting of learning: see help(barnum.learning.settings)")
    try:
        # names of files may be given as strings
        read = msgspec.convert(
            {name: os.fspath(v) if isinstance(v, os.PathLike) else v for name, v in values.items()},
            kind,
            dec_hook=lambda wanted, value: wanted(value),
        )
    except msgspec.ValidationError as error:
        raise OptionsError(f"a setting of learning cannot be: {error}") from None
    given, listener = frozenset(settings), listener_of(progress)
    if isinstance(read, RoteSettings):
        from barnum.learning.session_rote import RoteSession

        return RoteSession(read, given, listener).run()
    if isinstance(read, CallSettings):
        from barnum.learning.session_calls import CallSession

        return CallSession(read, given, listener).run()
    from barnum.learning.session_network import NetworkSession

    return NetworkSession(read, given, listener).run()


def evaluate(
    model: Model,
    samples: Iterable[Sample],
    folder: File,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> list[Evaluation]:
    """Score preprocessed samples with a model, and write an evaluation file of each into a folder.

    Raises:
        SampleError: a sample was not preprocessed.
        MissingPackageError: the network needs torch, which is not installed.
    """
    from barnum.models.evaluate import Evaluator
    from barnum.models.source import header_of

    place, wanted = Path(folder), list(samples)
    place.mkdir(parents=True, exist_ok=True)
    evaluator = Evaluator(model, threads or cores())
    learn = Learn() if model.document is None else model.document.learn
    written = []
    with listener_of(progress).progress("evaluate", len(wanted)) as advance:
        for sample in wanted:
            path = open_path(sample)
            file = place / evaluation_files.file_name(sample.label, sample.folder.name)
            header = header_of(model, learn, sample, path)
            with evaluation_files.EvaluationWriter(file, header) as writer:
                for columns in evaluator.columns(path):
                    writer.write(columns)
            written.append(evaluation_files.open_evaluation(file))
            advance(1)
    return written


def classify(
    folder: File,
    *,
    method: str | None = None,
    score: str | None = None,
    false_alarm_rate: float | None = None,
    cut: Cut | bool = False,
    max_lost: float = MAX_LOST,
    progress: Progress | None = None,
) -> Judgement:
    """Judge all evaluations of a folder, each by a classifier that was learnt from the others; see `barnum
    classifier`.

    Args:
        folder: the evaluation files.
        method: ``conformal`` (from nominal runs alone), ``logistic`` or ``svm``; None: what suits the files.
        score: what conformal goes by: ``novelty``, ``surprisal``, ``adjusted`` or ``combined``.
        false_alarm_rate: share of nominal runs that may be called anomalous.
        cut: judge only what came before another process was started (True or ``spawn``), or before the first
            effect that no nominal run had (``effect``).
        max_lost: runs of which a larger share was lost are refused, unless they begin in a way that is
            anomalous already (see :class:`barnum.verdicts.method.Classifier`, ``grows``).
        progress: see the text of this module.

    Returns:
        Verdicts, error rates and the classifier. A table of them is ``pyarrow.table(judgement)`` and the
        like.

    Raises:
        EvaluationError: there is no evaluation, one is broken, or they do not suffice.
    """
    from barnum.evaluations import find_evaluations
    from barnum.verdicts.judgement import judge as judge_folder

    place = Path(folder)
    with listener_of(progress).progress("read evaluations", len(find_evaluations(place))) as advance:
        return judge_folder(
            place,
            method=method,
            score=score,
            rate=false_alarm_rate,
            cut=cut,
            max_lost=max_lost,
            workers=cores(),
            advance=lambda: advance(1),
        )


def pack(
    folder: File,
    model: Model,
    judgement: Judgement,
    *,
    max_lost: float = MAX_LOST,
    calls: Reading | None = None,
) -> Detector:
    """Put a model and the classifier of a judgement into a new folder: a detector. ``calls`` says how calls
    were read from reports when they were learnt, where that differs from ``Reading()``.

    Raises:
        ModelError, EvaluationError: the two do not belong together.
        OutputExistsError: the folder is there already.
    """
    from barnum.detector import pack as pack_files
    from barnum.models.saved import save_document, save_weights
    from barnum.verdicts import methods

    if model.document is None:
        raise InputError("a model of Keras is packed from its files: use `barnum pack`")
    with tempfile.TemporaryDirectory(prefix="barnum-") as scratch:
        document, weights, classifier = (Path(scratch) / n for n in ("model.json", "weights", "c.json"))
        save_document(document, model.document)
        save_weights(weights, model)
        cut = any(run.cut for run in judgement.runs)
        methods.save(classifier, judgement.classifier, model.identity, cut)
        pack_files(Path(folder), document, weights, classifier, max_lost, calls)
    return open_detector(folder)


def judge(
    detector: Detector | Fitted | File,
    sample: File | Sample,
    *,
    bin_dir: File | None = None,
    process: str | None = None,
    cut: Cut | bool = False,
    timeout: float | None = None,
    threads: int | None = None,
) -> JudgedRun:
    """Judge one run by a detector: the verdict, and where the run went astray.

    For many runs open a judge once, which is faster: ``with barnum.detector.judge_with(detector) as judge``.
    Of runs that were judged so discoveries() chooses the anomalous ones at a false discovery rate, and
    ``barnum.detector.exchangeability_of`` tells whether they are still like those learnt.

    Args:
        detector: the detector, or its file or folder.
        sample: a sample, its folder, or a report of a sandbox.
        bin_dir: images of the recorded programs; needed where a sample was not preprocessed.
        process: whose calls, where reports are judged.
        cut: judge only what came before another process was started (True or ``spawn``), or before the first
            effect that no nominal run had (``effect``).
        timeout: seconds of decoding.
        threads: None: as many as there are cores.

    Raises:
        InputError: the sample cannot be judged; the message says why.
    """
    opened = detector
    if not isinstance(opened, Detector | Fitted):
        opened = load_any(Path(opened), bool(cut))
    until: Cut | None = cut if isinstance(cut, str) else "spawn" if cut else None
    with judge_with(
        opened,
        bin_dir=None if bin_dir is None else Path(bin_dir),
        process=process,
        cut=until,
        timeout=timeout,
        threads=threads,
    ) as judging:
        return judging.judge(name_of(sample))


def write_report(
    folder: File, output: File, *, traces: File | None = None, bin_dir: File | None = None
) -> None:
    """Write the page about the evaluations of a folder; see `barnum report`. With ``traces``, the folder of
    the samples, and ``bin_dir``, that of the images, places are named by module and function.

    Raises:
        EvaluationError: there is no evaluation, or one is broken.
        OutputError: the page cannot be written.
    """
    from barnum.files import write_result
    from barnum.report.build import Request, as_page, build

    request = Request(
        folder=Path(folder),
        traces=None if traces is None else Path(traces),
        bin_dir=None if bin_dir is None else Path(bin_dir),
    )
    write_result(Path(output), as_page(build(request)))
