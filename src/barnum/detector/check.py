"""Checks documents: records what a detector's program does with each, and judges that."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from barnum.detector.fitted import Fitted
from barnum.detector.fitted_judge import FittedJudge
from barnum.detector.judged import Cut, JudgedRun
from barnum.digests.digest import Program
from barnum.digests.judged import JudgedDigest
from barnum.digests.notes import Notes
from barnum.errors import InputError, ModelError
from barnum.paths import OpenPath
from barnum.recording import PLACEHOLDER, Failure, Outcome, Sandbox, Settings, record_all
from barnum.recording.inputs import hash_input
from barnum.samples import UNKNOWN, Sample
from barnum.sources import new_recorder
from barnum.texts import printable, shortened, storable

# differences that are told one by one
_TOLD = 8

# looks at a run while its recording and images are there: what its verdict was made of, the folder of images
# (None: there is none), what opens its path, and how it differs from what was learnt
Look = Callable[[JudgedDigest, Path | None, OpenPath, tuple[str, ...]], object]


class CheckSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How documents are checked.

    Attributes:
        output: folder in which recordings are kept; None: they are removed.
        bin_dir: folder of the images of recorded programs; None: one beside the recordings.
        command: the program and its arguments, ``{}`` being the document; empty: what the detector knows.
        timeout: seconds after which a run is ended; None: no limit.
        decoding: seconds after which decoding a run is ended; None: no limit.
        max_bytes: bytes of packets after which recording of a thread stops.
        cut: judge only what came before another process was started.
        jobs: documents that are recorded at a time.
        sandbox: where the program runs; None: with the rights of the user, on the user's files.
        kind: of the documents, and of recordings that tell none; None: not told.
    """

    output: Path | None = None
    bin_dir: Path | None = None
    command: tuple[str, ...] = ()
    timeout: float | None = None
    decoding: float | None = None
    max_bytes: int = 1 << 32
    cut: Cut | None = None
    jobs: int = 1
    sandbox: Sandbox | None = None
    kind: str | None = None


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a document: how it was judged, or why it was not (``error``); ``differs`` says in
    sentences how what ran differs from what the detector has learnt; ``sample`` is the folder of the
    recording, None where it is not kept; ``copy_of`` is the document with the same content whose run is
    meant, None where this one was recorded itself."""

    path: Path
    judged: JudgedRun | None = None
    error: str | None = None
    differs: tuple[str, ...] = ()
    sample: Path | None = None
    copy_of: Path | None = None


def known_program(fitted: Fitted) -> Program:
    """What a detector was learnt from: of several programs that of most runs.

    Raises:
        ModelError: it does not know.
    """
    programs = [
        known
        for known in fitted.about.notes.programs
        if any(PLACEHOLDER in word for word in known.program.command)
    ]
    if not programs:
        raise ModelError(
            "the detector was learnt from recordings that do not say of which program they are: name it "
            "behind --, as `barnum trace` takes it"
        )
    return max(programs, key=lambda known: known.runs).program


def differences(notes: Notes, program: Program | None) -> tuple[str, ...]:
    """How what ran differs from what was learnt, in sentences."""
    if program is None or not notes.programs:
        return ()
    told = []
    known = [each.program for each in notes.programs]
    for field, what, meaning in (
        ("cpu", "processor", "libraries choose other code by it"),
        ("start", "start of recording", "what comes before is new"),
        ("engine", "recorder", "it may see the program differently"),
        ("sandbox", "sandbox", "the program sees other files and settings there"),
    ):
        value = getattr(program, field)
        if value not in {getattr(each, field) for each in known}:
            others = ", ".join(sorted({getattr(each, field) or "none" for each in known}))
            told.append(f"{what}: {value or 'none'}, learnt with {others}: {meaning}")
    if program.command not in {each.command for each in known}:
        told.append(
            f"command line: {shortened(' '.join(program.command))}, learnt with "
            f"{shortened(' '.join(known[0].command))}: other options may take other ways"
        )
    shas: dict[str, set[str]] = {}
    for image in notes.images:
        shas.setdefault(image.path, set()).add(image.sha256)
    changed = [path for path, sha in program.images.items() if path in shas and sha not in shas[path]]
    told += [
        f"{printable(path)} is another version than was learnt: its code lies elsewhere, so that much of it "
        "seems new: fit the detector anew with this version"
        for path in changed[:_TOLD]
    ]
    if len(changed) > _TOLD:
        told.append(f"{len(changed) - _TOLD} more files are of other versions")
    return tuple(told)


def check(
    fitted: Fitted,
    documents: Sequence[Path],
    settings: CheckSettings,
    report: Callable[[Checked], object],
    look: Look | None = None,
) -> None:
    """Record the program on each document, and judge the runs. Of documents with the same content one is
    recorded, and what is said of it is said of all.

    Args:
        fitted: the detector.
        documents: files.
        settings: how.
        report: called with each document as soon as it is judged, in the order in which they end.
        look: called before with each run that was judged.

    Raises:
        ModelError: the detector does not know its program.
        EngineError, ProgramError: the program cannot be recorded here.
        OutputError: recordings cannot be written.
    """
    program = known_program(fitted) if not settings.command else None
    with _folders(settings) as (output, bin_dir):
        recorder = new_recorder(
            "emulator" if program is None else program.engine,
            Settings(
                command=settings.command or (program.command if program else ()),
                label=UNKNOWN,
                output=output,
                bin_dir=bin_dir,
                start="open" if program is None else program.start,
                timeout=settings.timeout,
                max_bytes=settings.max_bytes,
                sandbox=settings.sandbox,
                kind=settings.kind,
            ),
            {"cpu": program.cpu or None} if program else {},
        )
        kept = settings.output is not None
        with FittedJudge(fitted, settings.cut, bin_dir, settings.decoding, settings.kind) as judge:
            copies = _with_copies(documents)

            def judged(result: Outcome | Failure) -> None:
                checked = _judged(judge, fitted.about.notes, result, kept, bin_dir, look)
                report(checked)
                for copy in copies[result.path]:
                    report(_of_copy(checked, copy))

            record_all(recorder, list(copies), settings.jobs, judged)


def _with_copies(documents: Sequence[Path]) -> dict[Path, list[Path]]:
    """The documents, each content once, and which others have it."""
    first: dict[str, Path] = {}
    found: dict[Path, list[Path]] = {}
    for document in documents:
        try:
            twin = first.setdefault(hash_input(document)[0], document)
        except InputError:
            twin = document  # why it cannot be read is told when it is recorded
        if twin is document:
            found[document] = []
        else:
            found[twin].append(document)
    return found


def _of_copy(checked: Checked, copy: Path) -> Checked:
    judged = checked.judged
    if judged is not None:
        judged = msgspec.structs.replace(judged, name=storable(copy.name))
    return msgspec.structs.replace(checked, path=copy, judged=judged, copy_of=checked.path)


def check_samples(
    fitted: Fitted,
    samples: Sequence[Sample],
    settings: CheckSettings,
    report: Callable[[Checked], object],
    look: Look | None = None,
) -> None:
    """Judge runs that are recorded already; see check()."""
    with FittedJudge(fitted, settings.cut, settings.bin_dir, settings.decoding, settings.kind) as judge:
        for sample in samples:
            found = Outcome(path=Path(sample.name), state="recorded", folder=sample.folder)
            bin_dir = settings.bin_dir or _images_beside(sample.folder)
            report(_judged(judge, fitted.about.notes, found, True, bin_dir, look))


def _images_beside(folder: Path) -> Path | None:
    """Where the images of a recording are, if they are where `trace` and check() put them."""
    root = folder.resolve().parent
    places = (root / "extract", root.parent / "extract", root.with_name(f"{root.name}-extract"))
    return next((place for place in places if place.is_dir()), None)


def _judged(
    judge: FittedJudge,
    notes: Notes,
    result: Outcome | Failure,
    kept: bool,
    bin_dir: Path | None,
    look: Look | None,
) -> Checked:
    if isinstance(result, Failure):
        return Checked(path=result.path, error=str(result.error))
    if result.folder is None:
        return Checked(path=result.path, error=result.note or "was not recorded")
    try:
        judged, made_of = judge.judge_with_digest(result.folder)
    except InputError as error:
        return Checked(path=result.path, error=str(error))
    differs = differences(notes, made_of.digest.about.program)
    if look is not None:
        look(made_of, bin_dir, partial(judge.path, made_of.sample, bin_dir), differs)
    return Checked(
        path=result.path,
        judged=judged,
        differs=differs,
        sample=result.folder if kept else None,
    )


@contextmanager
def _folders(settings: CheckSettings) -> Iterator[tuple[Path, Path]]:
    """Folders of the recordings and of the images."""
    if settings.output is not None:
        output = settings.output.absolute()
        bin_dir = settings.bin_dir or output.with_name(f"{output.name}-extract")
        yield output, bin_dir.absolute()
        return
    with TemporaryDirectory(prefix="barnum-check-") as temporary:
        folder = Path(os.path.realpath(temporary))
        yield folder / "traces", (settings.bin_dir or folder / "extract").absolute()
