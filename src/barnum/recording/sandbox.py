"""The sandbox of a run: bubblewrap's namespaces, so that a hostile document reaches nothing but itself.

The recorded program and its emulator see a read-only system, the one input, an empty folder of their own and
no network. The work folder of the recording is not among what they see: the recorder reaches it through a
:mod:`keeper <barnum.recording.keeper>`.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from barnum.recording.run import Apart, original_environment
from barnum.texts import printable, shortened

BUBBLEWRAP = "bwrap"
# where the run's own files lie, as it sees them
WORK = "/tmp/barnum-work"  # noqa: S108
HOME = "/tmp/barnum-home"  # noqa: S108
TEMPORARY = "/tmp"  # noqa: S108
KEEPER = "/run/barnum/keeper"
# descriptors that the supervisor opens for the sandbox: the filter of system calls, the keeper's key
FILTER_FD, KEY_FD = 3, 4

# Runs the recorded command. bubblewrap ends all processes as soon as its own command ends: this one gives
# those that are left running two seconds, and tells the supervisor how many still are. Besides them /proc has
# two: the first process of the sandbox, and this shell
_LAST = """exec 7>&2 2>/dev/null
( exec "$@" 2>&7 7>&- 5>&- )
status=$? turn=0
while set -- /proc/[0-9]*; [ $# -gt 2 ] && [ $turn -lt 20 ]; do sleep 0.1; turn=$((turn + 1)); done
[ $# -le 2 ] || echo $(($# - 2)) >&5
exit $status"""
# bytes of data that emulator and recorder have themselves in each process: a limit of data counts them
EMULATOR_DATA = 1 << 30

_OLDEST = (0, 8)
_PATIENCE = 30.0
# programs and libraries
_PROGRAMS = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/opt",
    "/nix/store",
    "/gnu/store",
)
# what programs read of a system's settings: nothing that is one user's or secret
_SETTINGS = tuple(
    f"/etc/{name}"
    for name in (
        "alternatives", "debian_version", "enscript.cfg", "fonts", "ghostscript", "group", "groff", "gss",
        "gtk-2.0", "gtk-3.0", "host.conf", "hostname", "hosts", "ImageMagick-6", "ImageMagick-7",
        "java-11-openjdk", "java-17-openjdk", "java-21-openjdk", "ld-musl-x86_64.path", "ld-musl-x86_64.d",
        "ld.so.cache",
        "ld.so.conf", "ld.so.conf.d", "libpaper.d", "libreoffice", "locale.alias", "localtime", "magic",
        "magic.mime", "mime.types", "networks", "nsswitch.conf", "os-release", "paperspecs", "papersize",
        "passwd", "perl", "protocols", "python3", "rpc", "services", "sgml", "ssl/certs", "ssl/openssl.cnf",
        "terminfo", "texmf", "timezone", "xattr.conf", "xdg", "xml", "xpdf",
    )
)  # fmt: skip
# caches without which programs would work otherwise, or longer
_CACHES = ("/var/cache/fontconfig", "/var/lib/ghostscript", "/var/lib/texmf")
SYSTEM = (*_PROGRAMS, *_SETTINGS, *_CACHES)
# variables that are handed on; all others are the user's own
_VARIABLES = re.compile(r"LANG|LANGUAGE|LC_[A-Z]+|PATH|TZ")


class Sandbox(msgspec.Struct, frozen=True, kw_only=True):
    """A sandbox that works on this machine, and its limits; :func:`sandbox_state` makes one.

    Attributes:
        program: path of bubblewrap.
        version: of bubblewrap, such as ``0.8.0``.
        memory: bytes that the processes of a run may take together, the emulator's own among them.
        processes: processes and threads that a run may have at a time.
        temporary: bytes of files that a run may write to /tmp, and a quarter of it to /dev/shm.
        readable: files and folders, besides the system's own, that the program may read.
    """

    program: str
    version: str
    memory: int = 4 << 30
    processes: int = 256
    temporary: int = 1 << 30
    readable: tuple[Path, ...] = ()


def sandbox_state(
    *, memory: int = 4 << 30, processes: int = 256, readable: Iterable[Path] = ()
) -> Sandbox | str:
    """A sandbox with these limits; or, where this machine can have none, why and what to do, in one line.

    It is tried out: bubblewrap runs a program that does nothing.
    """
    program = shutil.which(BUBBLEWRAP)
    if program is None:
        return "bubblewrap, which makes the sandbox, is missing: install it (Debian: apt install bubblewrap)"
    program = str(Path(program).absolute())
    version = re.search(r"(\d+)\.(\d+)(\.\d+)*", _ask(program, "--version")[1])
    if version is None or (int(version[1]), int(version[2])) < _OLDEST:
        return f"{printable(program)} is older than 0.8: install bubblewrap of Debian 12 or newer"
    sandbox = Sandbox(
        program=program, version=version[0], memory=memory, processes=processes, readable=tuple(readable)
    )
    status, said = _ask(program, *_namespaces(), *_system(), *_own(sandbox), *_closing(), "--", "/bin/true")
    if status == 0:
        return sandbox
    lines = said.strip().splitlines()
    why = f" ({shortened(lines[-1])})" if lines else ""
    return (
        f"bubblewrap cannot make a sandbox here{why}: allow namespaces to users "
        "(sysctl kernel.unprivileged_userns_clone=1; Ubuntu: kernel.apparmor_restrict_unprivileged_userns=0) "
        "or record outside of a container that forbids them"
    )


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What one run sees in the sandbox besides the system's own files, all of it read-only.

    Attributes:
        sandbox: the sandbox.
        programs: absolute paths of files and folders that code is loaded from: emulator, recorder, program.
        files: absolute paths of further files: the input, those that the command line names.
        hidden: folders that it must not see, even where they lie in a folder that it may read.
        directory: folder that it runs in; None takes an empty one of its own, which is not read-only.
    """

    sandbox: Sandbox
    programs: tuple[str, ...]
    files: tuple[str, ...]
    hidden: tuple[Path, ...]
    directory: Path | None = None

    def command(self, command: list[str], keeper: Path) -> list[str]:
        """The command that runs another in the sandbox. It reads its filter of calls from FILTER_FD, and
        tells how many processes were left running.

        Args:
            command: what is to run, the emulator with the program.
            keeper: socket of the keeper, which lies at KEEPER for it.
        """
        words = [self.sandbox.program, *_namespaces(), "--seccomp", str(FILTER_FD)]
        words += [*_system(), *_own(self.sandbox)]
        for folder in self._folders:
            words += ["--ro-bind", folder, folder]
        hidden = [str(folder) for folder in self.hidden if _is_within(str(folder), self._places)]
        for folder in hidden:
            words += ["--tmpfs", folder]
        for file in dict.fromkeys(self.programs):
            words += self._shown_program(file)
        for file in dict.fromkeys(self.files):
            words += self._shown(file)
        words += ["--ro-bind", str(keeper), KEEPER, *_closing(hidden)]
        words += ["--chdir", str(self.directory or WORK), "--"]
        return [*words, "/bin/sh", "-c", _LAST, "sh", *command]

    def apart(self, inputs: tuple[bytes, bytes]) -> Apart:
        """What is different for that command; ``inputs``: filter of calls, the keeper's key."""
        ours = {key: value for key, value in original_environment().items() if _VARIABLES.fullmatch(key)}
        environment = {"PATH": os.defpath, **ours, "HOME": HOME, "TMPDIR": TEMPORARY}
        return Apart(environment, inputs, self.sandbox.memory, self.sandbox.processes)

    def holds(self, path: Path) -> bool:
        """Whether a path that the program had is that of a file which it could not change: one of the
        system's, or of those that it was shown."""
        real = os.path.realpath(path)
        return _is_within(real, (*_with_real(self._places), *_with_real((*self.programs, *self.files))))

    @property
    def _folders(self) -> tuple[str, ...]:
        directory = (self.directory,) if self.directory else ()
        return tuple(map(str, (*self.sandbox.readable, *directory)))

    @property
    def _places(self) -> tuple[str, ...]:
        return (*SYSTEM, *self._folders)

    def _is_there(self, file: str) -> bool:
        """Whether a file is to be seen without being shown itself."""
        return _is_within(file, self._places) and not _is_within(file, map(str, self.hidden))

    def _shown(self, file: str) -> Iterator[str]:
        if not self._is_there(file):
            yield from ("--ro-bind", file, file)

    def _shown_program(self, file: str) -> Iterator[str]:
        """At its real place, as memory maps name that, with a link to it from where it was looked for."""
        real = os.path.realpath(file)
        yield from self._shown(real)
        if real != file and not self._is_there(file):
            yield from ("--symlink", real, file)


def named_files(words: Iterable[str], directory: Path | None) -> Iterator[str]:
    """Files that arguments name: by their whole path, alone or behind a =, and by one in ``directory``."""
    for word in words:
        for name in (word, word.partition("=")[2]):
            path = Path(name) if name.startswith("/") or directory is None else directory / name
            if name and path.is_absolute() and path.is_file():
                yield str(path)


def _namespaces() -> list[str]:
    return [
        "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session",
        "--cap-drop", "ALL", "--hostname", "sandbox",
    ]  # fmt: skip


def _system() -> Iterator[str]:
    """The system's own files, at their places; what is a link stays one."""
    for path in SYSTEM:
        if os.path.islink(path):  # noqa: PTH114
            yield from ("--symlink", str(Path(path).readlink()), path)
        elif os.path.exists(path):  # noqa: PTH110
            yield from ("--ro-bind", path, path)


def _own(sandbox: Sandbox) -> list[str]:
    """What a run has of its own; each piece of it in memory is bounded."""
    size, shared = str(sandbox.temporary), str(max(sandbox.temporary // 4, 1 << 20))
    return [
        "--proc", "/proc", "--dev", "/dev", "--size", shared, "--tmpfs", "/dev/shm",  # noqa: S108
        "--size", size, "--tmpfs", TEMPORARY, "--symlink", TEMPORARY, "/var/tmp",  # noqa: S108
        "--dir", WORK, "--dir", HOME,
    ]  # fmt: skip


def _closing(hidden: Iterable[str] = ()) -> list[str]:
    # else memory could be filled with files in the root and in /dev, and root change settings of the kernel
    return [word for place in (*hidden, "/proc", "/dev", "/") for word in ("--remount-ro", place)]


@functools.lru_cache(maxsize=16)
def _with_real(places: tuple[str, ...]) -> tuple[str, ...]:
    """The places, and where links lead from them, which is asked once: it takes long."""
    return tuple(dict.fromkeys((*places, *map(os.path.realpath, places))))


def _is_within(path: str, places: Iterable[str]) -> bool:
    """Whether a path is one of the places or below one; both without ``.`` and double slashes."""
    return any(path == place or path.startswith(f"{place.rstrip('/')}/") for place in places)


def _ask(*command: str) -> tuple[int, str]:
    """Exit status and output of a command; -1 where it does not run."""
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": os.defpath},
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return -1, str(error)
    return ended.returncode, ended.stdout.decode("utf-8", errors="replace")
