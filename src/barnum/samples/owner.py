"""Which process makes an unfinished result: machines and containers may share one tree of files.

A host's name does not identify a machine: two containers, or two machines installed from one image, may have
the same. The kernel's boot id (one for each start of a machine) and the inode of the PID namespace (one for
each container) do. Only where both are equal can a process look up the number of another. So whether an owner
elsewhere, or from before a restart of this machine, still runs is unknown: a user who knows that it does not
uses --force.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import msgspec

from barnum.files import open_regular
from barnum.texts import printable

State = Literal["alive", "dead", "elsewhere"]

_UNKNOWN = "-"
# bytes of a file that names an owner
_LONGEST = 4096
_LINE = re.compile(
    r"(\S{1,255}) ([0-9a-f-]{1,64}) ([0-9]{1,20}|-) ([0-9]{1,10}) ([0-9]{1,20})(?:\s.*)?",
    re.ASCII | re.DOTALL,
)


class Owner(msgspec.Struct, frozen=True):
    """A process on some machine.

    Attributes:
        host: name of its machine, for messages only.
        boot: boot id of the kernel on which it runs; ``-`` if unknown.
        namespace: inode of its PID namespace; ``-`` if unknown.
        pid: its number there.
        begun: when it began, in clock ticks since that machine's start.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    begun: int

    @classmethod
    def mine(cls) -> Owner:
        """This process."""
        pid = os.getpid()
        begun = started(pid)
        return cls(_host(), _boot(), _namespace(), pid, 0 if begun is None else begun)

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """The owner at the beginning of a text, as :meth:`text` writes it; None if there is none.

        Anything may follow after white space.
        """
        words = _LINE.fullmatch(text)
        if not words:
            return None
        return cls(printable(words[1]), words[2], words[3], int(words[4]), int(words[5]))

    def text(self) -> str:
        """Five words on one line, without a newline: host, boot id, PID namespace, pid, start time."""
        return f"{self.host} {self.boot} {self.namespace} {self.pid} {self.begun}"

    def state(self) -> State:
        """Whether that process still runs; ``elsewhere`` if this process cannot see it."""
        here = (_boot(), _namespace())
        if _UNKNOWN in here or (self.boot, self.namespace) != here:
            return "elsewhere"
        return "alive" if started(self.pid) == self.begun else "dead"


def owner_text(file: Path) -> str:
    """The first 4 KiB of a file that names an owner.

    Empty if it cannot be read, or is no regular file: a link is not followed, and a pipe not waited for.
    """
    try:
        with open_regular(file) as descriptor:
            return os.pread(descriptor, _LONGEST, 0).decode("utf-8", errors="replace")
    except OSError:
        return ""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, so that one process at a time checks and replaces an owner in it.

    On file systems without locks for folders (some network file systems) nothing is held.

    Raises:
        OSError: the folder cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def started(pid: int) -> int | None:
    """When the process with a number began, in clock ticks since boot; None if no such process runs."""
    try:
        # the name in the second field may hold anything, so fields are counted from its closing parenthesis
        words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if words[0] in (b"Z", b"X") else int(words[19])
    except (OSError, ValueError, IndexError):
        return None


def _host() -> str:
    return re.sub(r"[^!-~]", "-", socket.gethostname())[:255] or "unknown"


def _boot() -> str:
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text("ascii", errors="replace").strip()
    except OSError:
        return _UNKNOWN
    return text if re.fullmatch(r"[0-9a-f-]{1,64}", text) else _UNKNOWN


def _namespace() -> str:
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)  # noqa: PTH116
    except OSError:
        return _UNKNOWN
