"""Records the run of a program on one input: from the command line to the finished sample folder."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from barnum.errors import EngineError, InputError, OutputError, OutputExistsError, RecordingError, SampleError
from barnum.files import output_error
from barnum.recording.claim import Taken, claim, mark_unfinished, publish, remove
from barnum.recording.engine import EngineFiles, Kept, Start, can_record, command_line
from barnum.recording.finish import Finished, NothingRecordedError, RunDetails, finish
from barnum.recording.images import ImageStore
from barnum.recording.inputs import hash_input
from barnum.recording.keeper import Keeper
from barnum.recording.program import Program, find_program
from barnum.recording.run import Ended, Interrupted, Runs
from barnum.recording.sandbox import EMULATOR_DATA, KEEPER, KEY_FD, Sandbox, View, named_files
from barnum.recording.seccomp import call_filter
from barnum.samples import UNKNOWN, Info, LimitsMeta, Sample
from barnum.texts import printable, shortened, storable

PLACEHOLDER = "{}"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LITTLE = 1 << 20


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of all runs, for any source of traces.

    Attributes:
        command: program and arguments; in each of them ``{}`` stands for the path of the input.
        label: ``benign``, ``malicious`` or ``unknown``.
        extra_labels: further lines for info.txt.
        kind: of the documents, for meta.json; None: not told.
        output: folder of the samples.
        bin_dir: folder of the images.
        start: ``open`` records from when the program opens its input, ``exec`` from its first instruction.
        timeout: seconds after which a run is killed, and what was recorded is kept; None: no limit.
        max_bytes: bytes of PT packets after which recording of a stream stops.
        force: replace samples that exist.
        show_output: show the program's output on standard error.
        directory: where the program runs; None makes a new folder for each run.
        log: keep the recorder's own log of executed blocks in the sample, for tests.
        sandbox: where the program runs; None: with the rights of the user, on the user's files.
    """

    command: tuple[str, ...]
    label: str
    extra_labels: tuple[str, ...] = ()
    kind: str | None = None
    output: Path
    bin_dir: Path
    start: str = "open"
    timeout: float | None = None
    max_bytes: int = 1 << 32
    force: bool = False
    show_output: bool = False
    directory: Path | None = None
    log: bool = False
    sandbox: Sandbox | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one input.

    Attributes:
        path: the input.
        state: ``recorded`` or ``skipped``.
        note: why it was skipped; or how the program failed, and what is missing in the recording.
        folder: of the sample; None where another input or another run makes it.
        raw_bytes: bytes of its traces before compression.
        packed_bytes: bytes of its traces after compression.
        seconds: time of the run itself.
        total_seconds: time of the run and all work before and after it.
    """

    path: Path
    state: str
    note: str = ""
    folder: Path | None = None
    raw_bytes: int = 0
    packed_bytes: int = 0
    seconds: float = 0.0
    total_seconds: float = 0.0


class Recorder:
    """Records with the emulator; several threads may call record(), each for one input at a time.

    Raises:
        OutputError: the folders cannot be made.
        ProgramError: the program cannot be recorded.
        EngineError: the emulator for the program's mode is missing.
    """

    def __init__(self, settings: Settings, engine: EngineFiles) -> None:
        self.settings = settings
        self.engine = engine
        self.runs = Runs()
        self._seen: dict[str, Path] = {}
        self._lock = threading.Lock()
        self._program: Program | None = None
        if PLACEHOLDER not in settings.command[0]:
            self._program = find_program(settings.command[0])
            engine.program_for(self._program)
        for folder in (settings.output, settings.bin_dir):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(
                    f"{printable(str(folder))}: cannot be made a folder ({error.strerror}): choose another"
                ) from None
        self.store = ImageStore(settings.bin_dir)

    def record(self, path: Path) -> Outcome:
        """Record the run on one input, unless that is done already.

        Raises:
            Interrupted: the runs were stopped; the sample's `.part` folder stays as a mark.
            InputError: of the class that fits; nothing of the input is left.
        """
        self.runs.check()
        digest, status = hash_input(path)
        with self._lock:
            twin = self._seen.setdefault(digest, path)
        if twin != path:
            return Outcome(path=path, state="skipped", note=f"has the same content as {printable(str(twin))}")
        final = self.settings.output / digest
        if self._is_done(final):
            return Outcome(path=path, state="skipped", note="is recorded already", folder=final)
        try:
            part = claim(self.settings.output, digest, self.settings.force)
        except Taken as taken:
            return Outcome(path=path, state="skipped", note=str(taken))
        except OSError as error:
            raise output_error(error, Path(error.filename or self.settings.output)) from None
        try:
            # another run may have finished it between the first check and the claim
            if self._is_done(final):
                outcome = Outcome(path=path, state="skipped", note="is recorded already", folder=final)
            else:
                outcome = self._record_into(part, final, path, status)
        except Interrupted:
            mark_unfinished(part)
            raise
        except OSError as error:
            remove(part)
            raise self._judge(error, path, part) from None
        except (RecordingError, EngineError):
            remove(part)
            if folder := self._full_folder():
                raise output_error(OSError(errno.ENOSPC, ""), folder) from None
            raise
        except BaseException:
            remove(part)
            raise
        remove(part)
        return outcome

    def stop(self) -> None:
        """End all runs, and let no other begin."""
        self.runs.stop()

    def _is_done(self, final: Path) -> bool:
        """Whether the sample exists and is to be kept.

        Raises:
            OutputExistsError: it has another label than the one that is known now, or is no complete sample.
        """
        if self.settings.force or not os.path.lexists(final):
            return False
        try:
            sample = Sample.open(final)
        except SampleError as error:
            raise OutputExistsError(f"{error}; --force replaces it") from None
        if self.settings.label not in (UNKNOWN, sample.label):
            raise OutputExistsError(
                f"{printable(sample.name)}: is recorded as {sample.label} already ({final}); "
                f"correct line 2 of its info.txt, or record it anew as {self.settings.label} with --force"
            )
        return True

    def _record_into(self, part: Path, final: Path, path: Path, status: os.stat_result) -> Outcome:
        settings = self.settings
        began = time.monotonic()
        for name in ("raw", "work", "tmp", "new"):
            (part / name).mkdir()
        raw, fresh = part / "raw", part / "new"
        words = [word.replace(PLACEHOLDER, str(path)) for word in settings.command]
        program = self._program or find_program(words[0])
        start = Start("open", status.st_dev, status.st_ino) if settings.start == "open" else Start("exec")
        view = self._view(path, program)
        ended = self._run(part, view, program, words[1:], start)
        if not (raw / "process_0").exists():
            raise self._without_notes(part, path, program, ended)
        try:
            finished = finish(
                raw,
                fresh,
                self.store,
                RunDetails(
                    info=Info(storable(path.name), settings.label, settings.extra_labels),
                    engine=self.engine,
                    ended=ended,
                    command=settings.command,
                    start=settings.start,
                    limits=LimitsMeta(timeout=settings.timeout, max_size=settings.max_bytes),
                    kind=settings.kind,
                    lost=tuple(self._losses(ended, path, status)),
                    view=view,
                ),
                self.runs.check,
            )
        except NothingRecordedError:
            raise RecordingError(self._explain(path, ended)) from None
        except RecordingError as error:
            raise RecordingError(f"{printable(str(path))}: {error}{_last_words(ended)}") from None
        if not publish(fresh, final, settings.force):
            return Outcome(path=path, state="skipped", note="was recorded by another run", folder=final)
        return _outcome(path, final, finished, ended, time.monotonic() - began)

    def _view(self, path: Path, program: Program) -> View | None:
        """What the run on an input may see in the sandbox; None where there is none."""
        settings = self.settings
        if settings.sandbox is None:
            return None
        # the name of an input, which others may have chosen, names no further file
        fixed = [word for word in settings.command[1:] if PLACEHOLDER not in word]
        return View(
            sandbox=settings.sandbox,
            programs=(*self.engine.files, program.path),
            files=(str(path), *named_files((*program.arguments, *fixed), settings.directory)),
            hidden=(settings.output, settings.bin_dir),
            directory=settings.directory,
        )

    def _run(
        self, part: Path, view: View | None, program: Program, arguments: list[str], start: Start
    ) -> Ended:
        settings = self.settings
        raw = part / "raw"
        if view is None:
            command = command_line(
                self.engine, program, arguments, raw, start, settings.max_bytes, settings.log
            )
            return self.runs.run(
                command,
                settings.directory or part / "work",
                part / "tmp",
                settings.timeout,
                settings.show_output,
            )
        with Keeper(raw, part / "keeper") as keeper:
            kept = Kept(KEEPER, KEY_FD, view.sandbox.memory + EMULATOR_DATA, view.sandbox.processes)
            command = command_line(
                self.engine, program, arguments, kept, start, settings.max_bytes, settings.log
            )
            return self.runs.run(
                view.command(command, keeper.address),
                Path("/"),
                part / "tmp",
                settings.timeout,
                settings.show_output,
                view.apart((call_filter(), keeper.key)),
            )

    def _losses(self, ended: Ended, path: Path, before: os.stat_result) -> list[str]:
        lost = []
        if ended.timeout:
            lost.append(f"the run was ended after {self.settings.timeout:g} seconds")
        if ended.over:
            lost.append(f"the run was ended as it took more {ended.over} than the sandbox allows")
        if ended.left_over:
            lost.append(f"{ended.left_over} processes outlived the program and were killed")
        with suppress(OSError):
            after = path.stat()
            if (after.st_mtime_ns, after.st_size) != (before.st_mtime_ns, before.st_size):
                lost.append(
                    "the input was changed while it was recorded; the sample is named by what it was before"
                )
        return lost

    def _without_notes(self, part: Path, path: Path, program: Program, ended: Ended) -> InputError:
        """The error for a run that left no file.

        It ends all runs (EngineError) only if the recorder does not work: the program may have removed files.
        """
        shown = printable(str(path))
        if ended.timeout:
            return RecordingError(
                f"{shown}: the run was ended after {self.settings.timeout:g} seconds, before recording could "
                "begin: give it more time"
            )
        if self.settings.sandbox:
            return RecordingError(f"{shown}: the sandbox did not start the program{_last_words(ended)}")
        if can_record(self.engine, program.mode, part / "check", self.runs):
            return RecordingError(
                f"{shown}: the recorder left no file, as if the program had removed it{_last_words(ended)}"
            )
        emulator = self.engine.program_for(program)
        return EngineError(f"{emulator} did not start {printable(program.path)}{_last_words(ended)}")

    def _judge(self, error: OSError, path: Path, part: Path) -> InputError:
        """The error for a failed write: RecordingError if it concerns this run alone, else OutputError."""
        shown = printable(str(path))
        if error.errno in _NO_ROOM and not self._full_folder():
            return RecordingError(
                f"{shown}: there was no room on the disk for it: free space, record it again"
            )
        where = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None
        if where and error.errno not in _NO_ROOM and where.is_relative_to(part):
            return RecordingError(
                f"{shown}: its work folder was changed while the program ran ({error.strerror}): "
                "nothing of it can be kept"
            )
        return output_error(error, where or self.settings.output)

    def _full_folder(self) -> Path | None:
        """A folder of results that is still full once the files of this run are removed; None if none is."""
        return next((f for f in (self.settings.output, self.settings.bin_dir) if _is_full(f)), None)

    def _explain(self, path: Path, ended: Ended) -> str:
        shown = printable(str(path))
        if self.settings.start == "open":
            within, more = "", ""
            if ended.timeout:
                within, more = f" within {self.settings.timeout:g} seconds", "give it more time, or "
            return (
                f"{shown}: the program never opened it{within}, so nothing was recorded: {more}"
                f"use --start exec to record from the first instruction{_last_words(ended)}"
            )
        return f"{shown}: nothing was recorded{_last_words(ended)}"


def _is_full(folder: Path) -> bool:
    """Whether there is no room for 1 MiB more; tried out, as a quota cannot be asked for."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, _LITTLE)
    except OSError as error:
        return error.errno in _NO_ROOM
    return False


def _outcome(path: Path, final: Path, finished: Finished, ended: Ended, total: float) -> Outcome:
    notes = list(finished.meta.lost)
    if finished.meta.exit.signal is not None and not ended.timeout:
        notes.insert(0, f"the program ended by signal {finished.meta.exit.signal}")
    elif finished.meta.exit.status:
        notes.insert(0, f"the program ended with status {finished.meta.exit.status}")
    return Outcome(
        path=path,
        state="recorded",
        note="; ".join(notes),
        folder=final,
        raw_bytes=finished.raw_bytes,
        packed_bytes=finished.packed_bytes,
        seconds=ended.seconds,
        total_seconds=total,
    )


def _last_words(ended: Ended) -> str:
    """How the program ended and the last two lines of its standard error, to append to a message."""
    lines = ended.stderr.decode("utf-8", errors="replace").strip().splitlines()
    said = ": " + " | ".join(shortened(line) for line in lines[-2:]) if lines else ""
    if ended.timeout or ended.status is None:
        return f" (it was killed{said})"
    how = f"by signal {-ended.status}" if ended.status < 0 else f"with status {ended.status}"
    return f" (it ended {how}{said})"
