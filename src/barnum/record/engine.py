"""The recorder of this machine: QEMU user mode with the project's plugin."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import msgspec

from barnum.errors import EngineError
from barnum.record.elf import program_that_does_nothing
from barnum.record.program import Program
from barnum.record.run import Runs
from barnum.samples import printable

QEMU64 = "qemu-x86_64"
QEMU32 = "qemu-i386"
# what QEMU takes where no model is asked for
DEFAULT_CPU = {64: "qemu64", 32: "qemu32"}

# the plugin speaks version 1 of QEMU's plugin interface
_OLDEST = (6, 0)
_TOO_NEW = (8, 2)
# seconds in which a program that does nothing ends on any machine
_PATIENCE = 60.0
_INSTALL = "install qemu-user 6.0 to 8.1 (Debian 12: apt install qemu-user, or run make setup)"


class EngineFiles(msgspec.Struct, frozen=True):
    """Where the recorder's parts are, and what they are.

    Attributes:
        qemu: path of the emulator by the program's mode (32, 64); a missing one is absent.
        version: of the emulator, such as ``7.2.22``.
        plugin: path of the project's plugin.
        cpu: the model asked for; None takes DEFAULT_CPU.
    """

    qemu: dict[int, str]
    version: str
    plugin: str
    cpu: str | None

    def cpu_of(self, mode: int) -> str:
        """The processor that programs of this mode see."""
        return self.cpu or DEFAULT_CPU[mode]

    def program_for(self, program: Program) -> str:
        """The emulator that runs a program.

        Raises:
            EngineError: the one for its mode is missing.
        """
        try:
            return self.qemu[program.mode]
        except KeyError:
            missing = QEMU32 if program.mode == 32 else QEMU64
            raise EngineError(f"{missing} is missing, which records {program.path}: {_INSTALL}") from None


class Start(msgspec.Struct, frozen=True):
    """When recording begins: at once, or when the file of this device and inode is opened."""

    when: str
    device: int = 0
    inode: int = 0


def find_engine(cpu: str | None = None) -> EngineFiles:
    """Find the emulator and the plugin and see that they fit each other.

    Raises:
        EngineError: one is missing, has no plugins, is too old or too new, or knows no such processor.
    """
    qemu = {mode: path for mode, name in ((64, QEMU64), (32, QEMU32)) if (path := shutil.which(name))}
    if 64 not in qemu:
        raise EngineError(f"{QEMU64} is missing: {_INSTALL}")
    for path in qemu.values():
        if "-plugin" not in _ask(path, "-h").split():
            raise EngineError(f"{path} was built without plugins: {_INSTALL}")
    said = _ask(qemu[64], "--version")
    found = re.search(r"version (\d+)\.(\d+)(\.\d+)*", said)
    if not found:
        raise EngineError(f"{qemu[64]} does not tell its version: {_INSTALL}")
    version = (int(found[1]), int(found[2]))
    if not _OLDEST <= version < _TOO_NEW:
        age = "old" if version < _OLDEST else "new"
        raise EngineError(f"{qemu[64]} is version {version[0]}.{version[1]}, too {age}: {_INSTALL}")
    if cpu is not None:
        _check_cpu(qemu[64], cpu)
    return EngineFiles(qemu, found[0].removeprefix("version "), str(_find_plugin()), cpu)


def command_line(
    engine: EngineFiles,
    program: Program,
    arguments: list[str],
    raw: Path,
    start: Start,
    max_bytes: int,
    log: bool = False,
) -> list[str]:
    """The command that records one run into the empty folder raw; max_bytes is per stream."""
    options = {
        "dir": str(raw),
        "start": start.when,
        "dev": str(start.device),
        "ino": str(start.inode),
        "max": str(max_bytes),
        "qemu64": engine.qemu.get(64, ""),
        "qemu32": engine.qemu.get(32, ""),
        "cpu": engine.cpu or "",
        "log": str(int(log)),
        "parent": "-1",
    }
    # a comma would begin the next option
    plugin = ",".join(
        [f"file={_doubled(engine.plugin)}", *(f"{key}={_doubled(value)}" for key, value in options.items())]
    )
    model = ["-cpu", engine.cpu] if engine.cpu else []
    return [
        engine.program_for(program),
        *model,
        "-plugin",
        plugin,
        "-0",
        program.name,
        program.path,
        *program.arguments,
        *arguments,
    ]


def can_record(engine: EngineFiles, mode: int, folder: Path, runs: Runs) -> bool:
    """Whether the recorder of a mode works: told by a program of our own, in a new folder.

    Raises:
        OSError: the folder cannot be made.
        Interrupted, RecordingError: as Runs.run does.
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


def _find_plugin() -> Path:
    # beside the extension, which an editable install keeps elsewhere than the sources; it is not imported
    found = importlib.util.find_spec("barnum._native")
    origin = found.origin if found else None
    plugin = Path(origin or __file__).with_name("recorder.so")
    if not plugin.is_file():
        raise EngineError(f"the recorder's plugin is missing ({plugin}): install the package anew")
    return plugin


def _check_cpu(qemu: str, cpu: str) -> None:
    model = cpu.split(",", 1)[0]
    # lines are `x86 NAME  description`, at times `NAME` alone
    known = {word for line in _ask(qemu, "-cpu", "help").splitlines() for word in line.split()[:2]}
    if model not in known or not cpu.isprintable():
        raise EngineError(f"processor model {printable(cpu)!r} is unknown: see {QEMU64} -cpu help")


def _ask(*command: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("QEMU_")}
    try:
        asked = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{command[0]} does not run ({error}): {_INSTALL}") from None
    return asked.stdout.decode("utf-8", errors="replace")
