"""The recorder of this machine: QEMU user mode with the project's plugin."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec

from barnum.errors import EngineError
from barnum.processes import whole_environment
from barnum.recording.elf import program_that_does_nothing
from barnum.recording.program import Program
from barnum.recording.run import Runs
from barnum.texts import printable, quoted, shortened

QEMU64 = "qemu-x86_64"
QEMU32 = "qemu-i386"
# processor models that are passed where none is asked for
DEFAULT_CPU = {64: "qemu64", 32: "qemu32"}
# names an emulator, or a folder of emulators, to use instead of those that are searched for
VARIABLE = "BARNUM_QEMU"

# the plugin speaks versions 1 to 6 of QEMU's plugin interface
_OLDEST = (6, 0)
_TOO_NEW = (11, 0)
# the plugin's answer to check=on, in an emulator that it works in
_FITS = "recorder: fits"
# seconds in which a program that does nothing ends on any machine
_PATIENCE = 60.0


class EngineFiles(msgspec.Struct, frozen=True):
    """Where the recorder's parts are, and what they are.

    Attributes:
        qemu: paths of the emulators, by the mode of programs (32, 64); one may be missing.
        version: of the emulator for 64 bit, such as ``7.2.22``.
        plugin: path of the project's plugin.
        cpu: model of the processor; None takes DEFAULT_CPU.
    """

    qemu: dict[int, str]
    version: str
    plugin: str
    cpu: str | None

    def cpu_of(self, mode: int) -> str:
        """Model of the processor that programs of this mode see."""
        return self.cpu or DEFAULT_CPU[mode]

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of all that a recorded process loads of it: emulators, their own libraries, the plugin."""
        libraries = {str(Path(os.path.realpath(file)).parents[1] / "lib") for file in self.qemu.values()}
        return (
            *self.qemu.values(),
            *(path for path in sorted(libraries) if Path(path).is_dir()),
            self.plugin,
        )

    def program_for(self, program: Program) -> str:
        """Path of the emulator that runs a program.

        Raises:
            EngineError: the emulator for its mode is missing.
        """
        try:
            return self.qemu[program.mode]
        except KeyError:
            missing = QEMU32 if program.mode == 32 else QEMU64
            where = Path(self.qemu[64]).parent if 64 in self.qemu else "PATH"
            raise EngineError(
                f"{missing}, which records {program.path}, is missing in {where} or does not fit: {_advice()}"
            ) from None


class Start(msgspec.Struct, frozen=True):
    """When recording begins.

    Attributes:
        when: ``exec`` at the first instruction, ``open`` when the file below is opened.
        device: number of the file's device.
        inode: its number on that device.
    """

    when: str
    device: int = 0
    inode: int = 0


def find_engine(cpu: str | None = None) -> EngineFiles:
    """Find the plugin, and an emulator that can record with it.

    If BARNUM_QEMU is set, only the emulator that it names is tried. Otherwise the first that fits is taken:
    of the source tree (``build/qemu``), then of the folders in PATH.

    Args:
        cpu: model of the processor that programs see; None takes DEFAULT_CPU.

    Raises:
        EngineError: there is no emulator, or none fits (it is too old or too new, was built without plugins,
            or lacks what the plugin needs); the plugin is missing; or the emulator does not know ``cpu``.
    """
    engine, unfit = _first_that_fits(str(_find_plugin()), cpu)
    if engine is None:
        raise EngineError(f"{'; '.join(unfit)}: {_advice()}")
    return engine


def missing_for_engine() -> list[str]:
    """Why find_engine() finds no emulator, a line for each that was tried; empty where it finds one."""
    try:
        engine, unfit = _first_that_fits(str(_find_plugin()), None)
    except EngineError as error:
        return [str(error)]
    return [] if engine else unfit


def find_engines() -> list[EngineFiles]:
    """All emulators that fit: the one that BARNUM_QEMU names, that of the source tree, those in PATH.

    Raises:
        EngineError: the plugin is missing.
    """
    plugin = str(_find_plugin())
    named = os.environ.get(VARIABLE)
    engines: dict[str, EngineFiles] = {}
    for place in [*([Path(named)] if named else []), *_places()]:
        with contextlib.suppress(_UnfitError):
            engine = _engine_at(place, plugin, None)
            engines.setdefault(os.path.realpath(engine.qemu[64]), engine)
    return list(engines.values())


class Kept(msgspec.Struct, frozen=True):
    """How the recorder reaches its work folder from a sandbox, and limits that it sets on its processes.

    Attributes:
        address: path of the keeper's socket.
        key: descriptor from which the recorder reads its key.
        memory: bytes of data that a process may have.
        processes: processes and threads that there may be at a time.
    """

    address: str
    key: int
    memory: int
    processes: int


def command_line(
    engine: EngineFiles,
    program: Program,
    arguments: list[str],
    raw: Path | Kept,
    start: Start,
    max_bytes: int,
    log: bool = False,
) -> list[str]:
    """The command that records one run.

    Args:
        engine: what records.
        program: what is recorded.
        arguments: the user's own arguments of the program.
        raw: the work folder, which is empty, or the way to it.
        start: when recording begins.
        max_bytes: bytes of packets after which recording of a stream stops.
        log: write a log of executed blocks too.

    Raises:
        EngineError: the emulator for the program's mode is missing.
    """
    if isinstance(raw, Kept):
        place = {
            "keeper": raw.address,
            "key": str(raw.key),
            "memory": str(raw.memory),
            "processes": str(raw.processes),
        }
    else:
        place = {"dir": str(raw)}
    options = {
        **place,
        "start": start.when,
        "dev": str(start.device),
        "ino": str(start.inode),
        "max": str(max_bytes),
        "qemu64": engine.qemu.get(64, ""),
        "qemu32": engine.qemu.get(32, ""),
        # the program may start one of the other mode
        "cpu64": engine.cpu_of(64),
        "cpu32": engine.cpu_of(32),
        "log": str(int(log)),
        "parent": "-1",
    }
    # a comma would begin the next option
    plugin = ",".join(
        [f"file={_doubled(engine.plugin)}", *(f"{key}={_doubled(value)}" for key, value in options.items())]
    )
    return [
        engine.program_for(program),
        "-cpu",
        engine.cpu_of(program.mode),
        "-plugin",
        plugin,
        "-0",
        program.name,
        program.path,
        *program.arguments,
        *arguments,
    ]


def can_record(engine: EngineFiles, mode: int, folder: Path, runs: Runs) -> bool:
    """Whether the recorder works for a mode (32, 64): it records a program that does nothing.

    Raises:
        OSError: the folder cannot be made.
        Interrupted, RecordingError: as Runs.run() does.
    """
    raw = folder / "raw"
    raw.mkdir(parents=True)
    file = folder / "nothing"
    file.write_bytes(program_that_does_nothing(mode))
    file.chmod(0o755)
    program = Program(str(file), mode, (), "nothing")
    ended = runs.run(
        command_line(engine, program, [], raw, Start("exec"), 1 << 20), folder, folder, _PATIENCE
    )
    return ended.status == 0 and (raw / "process_0").exists()


def _doubled(value: str) -> str:
    return value.replace(",", ",,")


class _UnfitError(Exception):
    """An emulator cannot record, and why."""


def _first_that_fits(plugin: str, cpu: str | None) -> tuple[EngineFiles | None, list[str]]:
    """The first emulator that fits, if there is one, and why each of those before it does not fit.

    Raises:
        EngineError: it does not know the model of processor.
    """
    named = os.environ.get(VARIABLE)
    unfit: list[str] = []
    for place in [Path(named)] if named else _places():
        try:
            engine = _engine_at(place, plugin, cpu)
            if cpu is not None:
                _check_cpu(engine.qemu[64], cpu)
            return engine, unfit
        except _UnfitError as error:
            unfit.append(str(error))
    return None, unfit or [f"{QEMU64} is missing"]


def _source_tree() -> Path | None:
    """The tree of sources that this package runs from; None where it was copied out of it."""
    package = Path(__file__).resolve().parents[1]
    tree = package.parent.parent
    return tree if package.parent.name == "src" and (tree / "scripts" / "setup.sh").is_file() else None


def _advice() -> str:
    """What to do where no emulator fits, in the words that end a message."""
    if os.environ.get(VARIABLE):
        return f"set {VARIABLE} to another QEMU 6.0 to 10.2 with plugins, or unset it"
    tree = _source_tree()
    if tree:
        return f"run make setup in {printable(str(tree))}"
    return (
        "run scripts/fetch-qemu.sh in a tree of Barnum's sources and set "
        f"{VARIABLE} to its build/qemu (Debian 12: apt install qemu-user does)"
    )


def _places() -> Iterator[Path]:
    """Where an emulator may lie: the source tree's folder, then those of PATH that have one."""
    tree = _source_tree()
    if tree and (tree / "build" / "qemu").is_dir():
        yield tree / "build" / "qemu"
    for folder in dict.fromkeys(os.get_exec_path()):
        if _executable(Path(folder) / QEMU64):
            yield Path(folder)


def _executable(file: Path) -> bool:
    # not by Path, which raises an error for a folder that may not be read and for a name that is too long
    return os.path.isfile(file) and os.access(file, os.X_OK)  # noqa: PTH113


def _engine_at(place: Path, plugin: str, cpu: str | None) -> EngineFiles:
    """The plugin with the emulators of a folder, or with one emulator and its neighbour.

    Raises:
        _UnfitError: there is no emulator, or it does not fit.
    """
    qemu = {}
    if os.path.isfile(place):  # noqa: PTH113
        if place.name != QEMU32:
            qemu[64] = place
        place = place.parent
    elif _executable(place / "bin" / QEMU64):
        place = place / "bin"
    for mode, name in ((64, QEMU64), (32, QEMU32)):
        if mode not in qemu and _executable(place / name):
            qemu[mode] = place / name
    if 64 not in qemu:
        raise _UnfitError(f"{QEMU64} is missing in {printable(str(place))}")
    files = {mode: str(file.absolute()) for mode, file in qemu.items()}
    version = _version(files[64], plugin)
    if 32 in files:
        try:
            _version(files[32], plugin)
        except _UnfitError:
            del files[32]  # reported once a program of that mode is to be recorded
    return EngineFiles(files, version, plugin, cpu)


def _version(emulator: str, plugin: str) -> str:
    """The version of an emulator that can record.

    Raises:
        _UnfitError: it cannot.
    """
    shown = printable(emulator)
    output = _ask(emulator, "--version")
    version = re.search(r"version (\d+)\.(\d+)(\.\d+)*", output)
    if not version:
        raise _UnfitError(f"{shown} does not tell its version{_last_line(output)}")
    number = (int(version[1]), int(version[2]))
    if not _OLDEST <= number < _TOO_NEW:
        age = "old" if number < _OLDEST else "new"
        raise _UnfitError(f"{shown} is version {number[0]}.{number[1]}, too {age}")
    # the program, which must be one, is not run
    output = _ask(emulator, "-plugin", f"file={_doubled(plugin)},check=on", emulator)
    if _FITS not in output.splitlines():
        if "-plugin" not in _ask(emulator, "-h").split():
            raise _UnfitError(f"{shown} was built without plugins")
        ours = [line for line in output.splitlines() if line.startswith("recorder: ")]
        raise _UnfitError(f"{shown} does not load the recorder{_last_line(ours[0] if ours else output)}")
    return version[0].removeprefix("version ")


def _last_line(output: str) -> str:
    lines = output.strip().splitlines()
    return f" ({shortened(lines[-1])})" if lines else ""


def _find_plugin() -> Path:
    # it lies beside the extension, which an editable install keeps apart from the sources
    extension = importlib.util.find_spec("barnum._decoder")
    origin = extension.origin if extension else None
    plugin = Path(origin or __file__).with_name("recorder.so")
    if not plugin.is_file():
        raise EngineError(f"the recorder's plugin is missing ({plugin}): install the package anew")
    return plugin


def _check_cpu(qemu: str, cpu: str) -> None:
    model = cpu.split(",", 1)[0]
    # lines are `x86 NAME  description`, at times `NAME` alone
    known = {word for line in _ask(qemu, "-cpu", "help").splitlines() for word in line.split()[:2]}
    if model not in known or not cpu.isprintable():
        raise EngineError(f"processor model {quoted(cpu)} is unknown: see {printable(qemu)} -cpu help")


def _ask(*command: str) -> str:
    environment = {key: value for key, value in whole_environment().items() if not key.startswith("QEMU_")}
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _UnfitError(f"{printable(command[0])} does not run ({error})") from None
    return ended.stdout.decode("utf-8", errors="replace")
