"""Records runs, decodes them, and hands them on to other tools."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from barnum.api.common import File, Progress, cores, listener_of, name_of
from barnum.api.opening import find_samples, open_sample
from barnum.errors import BarnumError, EngineError, OptionsError, SomeFailedError
from barnum.paths import Path as WholePath
from barnum.samples import LABELS, Sample, checked_kind
from barnum.texts import quoted

if TYPE_CHECKING:
    from barnum.recording import Sandbox


def record(
    command: Sequence[str],
    inputs: File | Iterable[File],
    output: File = "traces",
    *,
    label: Literal["benign", "malicious", "unknown"] = "unknown",
    kind: str | None = None,
    bin_dir: File = "extract",
    jobs: int = 1,
    timeout: float | None = None,
    source: str = "emulator",
    force: bool = False,
    sandbox: bool = False,
    progress: Progress | None = None,
    **options: str | None,
) -> list[Sample]:
    """Run a program once for each input and record each run; see `barnum trace`.

    ``command`` are the program and its arguments, in which ``{}`` stands for the path of the input; a folder
    among the ``inputs`` stands for the files in it. Samples are made in ``output``, images of the programs in
    ``bin_dir``; an input that is recorded already is not recorded again. ``label`` is what is known of the
    inputs: nothing is learnt from runs whose label is unknown, and no error rate counts them; ``kind`` is
    that of the documents, such as ``pdf``, with whose runs alone others of it are compared. ``timeout`` in
    seconds ends a run. The program runs with your rights, on your files, unless it is in a ``sandbox`` of
    bubblewrap (with the limits that ``barnum trace --sandbox`` has by default).

    ``source`` is what records, ``options`` are its own: the emulator's is ``cpu``, a model of QEMU, which the
    program sees as its processor.

    Returns:
        The samples of all inputs, in their order.

    Raises:
        EngineError: the source cannot record on this machine, or it can have no sandbox.
        OptionsError: there is no such source, option of it or label, the kind can be no name, or no
            word of the command holds ``{}``.
        ProgramError: the program cannot be run.
        SomeFailedError: some inputs could not be recorded; the others are.
    """
    from barnum.recording import PLACEHOLDER, Failure, Outcome, Settings, list_inputs, record_all
    from barnum.sources import new_recorder

    if not any(PLACEHOLDER in word for word in command):
        raise OptionsError("no argument of the program holds {}, which stands for the input")
    if label not in LABELS:
        raise OptionsError(f"label {quoted(str(label))} is none of {', '.join(map(repr, LABELS))}")
    if kind is not None:
        checked_kind(kind)
    named = [inputs] if isinstance(inputs, str | os.PathLike) else inputs
    files = list_inputs([Path(file) for file in named])
    settings = Settings(
        command=tuple(command),
        label=label,
        kind=kind,
        output=Path(output).absolute(),
        bin_dir=Path(bin_dir).absolute(),
        timeout=timeout,
        force=force,
        sandbox=_sandbox() if sandbox else None,
    )
    recorder = new_recorder(source, settings, options)
    folders: dict[Path, Path] = {}
    failures: list[Failure] = []
    with listener_of(progress).progress("record", len(files)) as advance:

        def report(result: Outcome | Failure) -> None:
            if isinstance(result, Failure):
                failures.append(result)
            elif result.folder is not None:
                folders[result.path] = result.folder
            advance(1)

        record_all(recorder, files, jobs, report)
    if failures:
        if len(files) == 1:
            raise failures[0].error
        raise SomeFailedError(
            f"{len(failures)} of {len(files)} inputs failed; the others are recorded: {failures[0].error}"
        )
    return [Sample.open(folders[file]) for file in files if file in folders]


def _sandbox() -> Sandbox:
    from barnum.recording import sandbox_state

    state = sandbox_state()
    if isinstance(state, str):
        raise EngineError(f"no sandbox: {state}")
    return state


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
    from barnum.digests.preprocess import with_digest
    from barnum.paths.batch import Batch
    from barnum.paths.preprocess import Request, parsed_name

    named = Path(name_of(place))
    single = isinstance(place, Sample) or (named / "info.txt").is_file()
    folders = [named] if single else [sample.folder for sample in find_samples(named)]
    requests = [
        Request(
            folder=str(folder),
            bin_dir=str(bin_dir),
            output=str(folder / parsed_name("parquet")),
            timeout=timeout,
        )
        for folder in folders
    ]
    batch = Batch(force=force, work=with_digest)
    with listener_of(progress).progress("preprocess", len(requests)) as advance:
        batch.run(requests, jobs or cores(), lambda: advance(1))
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
        request = Request(folder=name_of(sample), bin_dir=str(bin_dir), output=str(file), timeout=timeout)
        for _, outcome in run_each(iter([request]), 1):
            if isinstance(outcome, BarnumError):
                raise outcome
        return paths.open_path(file).read()


def export(
    sample: File | Sample,
    file: File,
    *,
    format: str,
    bin_dir: File = "extract",
    force: bool = False,
) -> None:
    """Write a sample in a format of other tools: ``drcov``, the blocks that a preprocessed run executed, for
    Lighthouse and others; see `barnum export`. Of Volatility's maps ``bin_dir``, the folder of images, tells
    how large modules are; ``force`` replaces a file that is there.

    Raises:
        OptionsError: there is no such format.
        SampleError, ParsedTraceError: the sample lacks what is written, or is broken.
        OutputExistsError: the file is there already.
        OutputError: it cannot be written.
    """
    from barnum.exporting import export_sample
    from barnum.files import check_place

    place = Path(file)
    check_place(place, force)
    opened = sample if isinstance(sample, Sample) else open_sample(sample)
    export_sample(opened, place, format, Path(bin_dir))
