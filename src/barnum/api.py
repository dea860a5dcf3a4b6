"""The functions of ``import barnum``: from documents to a verdict, and to the place of the anomaly.

    barnum.record(["gs", "-dBATCH", "{}"], "documents")      recordings, one a document
    barnum.preprocess("traces")                               the path of blocks of each
    learned = barnum.learn("traces", network="rote")          what is normal, and evaluations of held-out runs
    classifier = barnum.classify(learned.evaluations)         verdicts, with a promised false-alarm rate
    detector = barnum.pack("detector", learned.model, classifier)
    barnum.judge(detector, "other-traces/…")                  the verdict on a new run, and its place

Names of files are strings or path-like objects. ``progress`` is called with the name of a task, how much of
it is done, and the total. Errors are those of :mod:`barnum.errors`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from barnum import evaluations as evaluation_files
from barnum.detector import Detector, JudgedRun, Reading, judge_with
from barnum.errors import BarnumError, InputError, OptionsError, SampleError, SomeFailedError
from barnum.evaluations import Evaluation
from barnum.learning.session import Learned
from barnum.models.model import Model
from barnum.paths import Learn, PathReader
from barnum.paths import Path as WholePath
from barnum.progress import CallbackListener, Listener
from barnum.samples import Sample
from barnum.verdicts.judgement import MAX_LOST, Judgement

File = str | os.PathLike[str]
Progress = Callable[[str, int, int], None]


def _listener(progress: Progress | None) -> Listener:
    return Listener() if progress is None else CallbackListener(progress)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


# opening


def open_sample(folder: File) -> Sample:
    """Open the folder of one recorded run, or of one report of a sandbox.

    Raises:
        SampleError: it is neither.
    """
    place = Path(folder)
    try:
        return Sample.open(place)
    except SampleError:
        try:
            return Sample.open(place, reports=True)
        except SampleError:
            pass
        raise


def find_samples(root: File, *, reports: bool = False) -> list[Sample]:
    """All samples below a folder, sorted by the name of their folders; with ``reports`` those that have a
    report of a sandbox, else those that have a trace.

    Raises:
        SampleError: it is no folder, or cannot be read.
    """
    from barnum import samples

    return samples.find_samples(Path(root), reports=reports)


def open_path(place: File | Sample) -> PathReader:
    """Open the path of a run that was preprocessed: a sample, its folder, or the file itself.

    Steps are read when they are asked for. A table of them (``step``, ``bbid``, ``module``, ``offset``,
    ``kind``, ``gap``, ``stream``) is ``pyarrow.table(path)``, ``polars.DataFrame(path)`` and the like.

    Raises:
        SampleError: the sample was not preprocessed.
        ParsedTraceError: the file is broken.
    """
    from barnum import paths

    file = place.parsed if isinstance(place, Sample) else Path(place)
    if file is not None and file.is_dir():
        file = open_sample(file).parsed
    if file is None:
        raise SampleError(f"{_name(place)}: is not preprocessed: call barnum.preprocess() first")
    return paths.open_path(file)


def open_evaluation(file: File) -> Evaluation:
    """Open an evaluation file; a table of its predictions is ``pyarrow.table(evaluation)`` and the like.

    Raises:
        EvaluationError: it is missing or broken.
    """
    return evaluation_files.open_evaluation(Path(file))


def open_model(document: File, weights: File | None = None) -> Model:
    """Read a model: the two files that ``barnum lstm`` saves, or the one of ``barnum prob``.

    Raises:
        ModelError: a file is missing or broken, or they do not belong together.
        MissingPackageError: it is a model of Keras, and torch is not installed.
    """
    from barnum.models.saved import load_model, load_whole

    return load_whole(Path(document)) if weights is None else load_model(Path(document), Path(weights))


def open_detector(folder: File, *, cut: bool | None = None) -> Detector:
    """Read a detector, which `barnum pack` or pack() has written; ``cut`` says whether it is to judge only
    what came before another process was started, where that is known.

    Raises:
        ModelError, EvaluationError: a part is missing, broken, changed, or of another version.
    """
    from barnum.detector import load_detector

    return load_detector(Path(folder), cut)


def _name(place: File | Sample) -> str:
    return str(place.folder if isinstance(place, Sample) else os.fspath(place))


# recording and decoding


def record(
    command: Sequence[str],
    inputs: File | Iterable[File],
    output: File = "traces",
    *,
    label: Literal["benign", "malicious"] = "benign",
    bin_dir: File = "extract",
    jobs: int = 1,
    timeout: float | None = None,
    cpu: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> list[Sample]:
    """Run a program once for each input and record each run; see `barnum trace`.

    ``command`` are the program and its arguments, in which ``{}`` stands for the path of the input; a folder
    among the ``inputs`` stands for the files in it. Samples are made in ``output``, images of the programs in
    ``bin_dir``; an input that is recorded already is not recorded again. ``timeout`` in seconds ends a run.
    The program runs with your rights, on your files.

    Returns:
        The samples of all inputs, in their order.

    Raises:
        EngineError: no emulator here can record.
        ProgramError: the program cannot be run.
        SomeFailedError: some inputs could not be recorded; the others are.
    """
    from barnum.recording import (
        PLACEHOLDER,
        Failure,
        Outcome,
        Recorder,
        Settings,
        find_engine,
        list_inputs,
        record_all,
    )

    if not any(PLACEHOLDER in word for word in command):
        raise OptionsError("no argument of the program holds {}, which stands for the input")
    named = [inputs] if isinstance(inputs, str | os.PathLike) else inputs
    files = list_inputs([Path(file) for file in named])
    settings = Settings(
        command=tuple(command),
        label=label,
        output=Path(output).absolute(),
        bin_dir=Path(bin_dir).absolute(),
        engine=find_engine(cpu),
        timeout=timeout,
        force=force,
    )
    folders: dict[Path, Path] = {}
    failures: list[Failure] = []
    with _listener(progress).progress("record", len(files)) as advance:

        def report(result: Outcome | Failure) -> None:
            if isinstance(result, Failure):
                failures.append(result)
            elif result.folder is not None:
                folders[result.path] = result.folder
            advance(1)

        record_all(Recorder(settings), files, jobs, report)
    if failures:
        if len(files) == 1:
            raise failures[0].error
        raise SomeFailedError(
            f"{len(failures)} of {len(files)} inputs failed; the others are recorded: {failures[0].error}"
        )
    return [Sample.open(folders[file]) for file in files if file in folders]


def preprocess(
    place: File | Sample,
    bin_dir: File = "extract",
    *,
    jobs: int | None = None,
    timeout: float | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> list[Sample]:
    """Decode recorded runs into paths of basic blocks; see `barnum preprocess`.

    ``place`` is a sample or a folder of samples, ``bin_dir`` holds the images of the recorded programs.
    ``jobs`` samples are decoded at a time (None: as many as there are cores), each in a process of its own
    and for at most ``timeout`` seconds.

    Returns:
        The samples that have a path now.

    Raises:
        SomeFailedError: some could not be decoded; the others are.
    """
    from barnum.paths.batch import Batch
    from barnum.paths.preprocess import Request, parsed_name

    single = isinstance(place, Sample) or (Path(place) / "info.txt").is_file()
    folders = [Path(_name(place))] if single else [sample.folder for sample in find_samples(_name(place))]
    requests = [
        Request(
            folder=str(folder),
            bin_dir=str(bin_dir),
            output=str(folder / parsed_name("parquet")),
            timeout=timeout,
        )
        for folder in folders
    ]
    batch = Batch(force=force)
    with _listener(progress).progress("preprocess", len(requests)) as advance:
        batch.run(requests, jobs or _cores(), lambda: advance(1))
    if batch.failed:
        if len(folders) == 1:
            raise batch.failed[0]
        raise SomeFailedError(
            f"{len(batch.failed)} of {len(folders)} samples failed; the others are preprocessed: "
            f"{batch.failed[0]}"
        )
    opened = [Sample.open(folder) for folder in folders]
    return [sample for sample in opened if sample.parsed is not None]


def decode(sample: File | Sample, bin_dir: File = "extract", *, timeout: float | None = None) -> WholePath:
    """Decode a recorded run into memory, without writing anything beside it.

    A hostile trace is decoded in a process of its own, which it may crash or stall.

    Raises:
        InputError: of the kind that fits.
    """
    from barnum import paths
    from barnum.paths.preprocess import Request
    from barnum.paths.supervisor import run_each

    with tempfile.TemporaryDirectory(prefix="barnum-") as folder:
        file = Path(folder) / "path.parquet"
        request = Request(folder=_name(sample), bin_dir=str(bin_dir), output=str(file), timeout=timeout)
        for _, outcome in run_each(iter([request]), 1):
            if isinstance(outcome, BarnumError):
                raise outcome
        return paths.open_path(file).read()


# learning and judging


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
    given, listener = frozenset(settings), _listener(progress)
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
    evaluator = Evaluator(model, threads or _cores())
    learn = Learn() if model.document is None else model.document.learn
    written = []
    with _listener(progress).progress("evaluate", len(wanted)) as advance:
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
    cut: bool = False,
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
        cut: judge only what came before another process was started.
        max_lost: runs of which a larger share was lost are refused.
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
    with _listener(progress).progress("read evaluations", len(find_evaluations(place))) as advance:
        return judge_folder(
            place,
            method=method,
            score=score,
            rate=false_alarm_rate,
            cut=cut,
            max_lost=max_lost,
            workers=_cores(),
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
    detector: Detector | File,
    sample: File | Sample,
    *,
    bin_dir: File | None = None,
    process: str | None = None,
    cut: bool = False,
    timeout: float | None = None,
    threads: int | None = None,
) -> JudgedRun:
    """Judge one run by a detector: the verdict, and where the run went astray.

    For many runs open a judge once, which is faster: ``with barnum.detector.judge_with(detector) as judge``.

    Args:
        detector: the detector, or its folder.
        sample: a sample, its folder, or a report of a sandbox.
        bin_dir: images of the recorded programs; needed where a sample was not preprocessed.
        process: whose calls, where reports are judged.
        cut: judge only what came before another process was started.
        timeout: seconds of decoding.
        threads: None: as many as there are cores.

    Raises:
        InputError: the sample cannot be judged; the message says why.
    """
    opened = detector if isinstance(detector, Detector) else open_detector(detector, cut=cut)
    with judge_with(
        opened,
        bin_dir=None if bin_dir is None else Path(bin_dir),
        process=process,
        cut=cut,
        timeout=timeout,
        threads=threads,
    ) as judging:
        return judging.judge(_name(sample))


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
