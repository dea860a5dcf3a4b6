"""A process while its report is read, and small parts of what a report says of one."""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, field

from barnum.calls.calls import Process
from barnum.texts import shortened

# sandboxes write the same drive in several ways
_DRIVE = re.compile(r"\A(?:(?:/[/?]\?/)?[a-z]:|/device/[^/]*)(?=/)")


@dataclass(slots=True, eq=False)
class Found:
    """A process while its report is read.

    Attributes:
        count: of its calls.
        tracked: False where the sandbox says that it only looked into it.
        born: when it began, in seconds; the same for all where their order says it.
        streams: u32, number of each call's name; one where threads are not told apart, else one a thread.
    """

    pid: int = -1
    parent: int | None = None
    name: str = ""
    path: str = ""
    command_line: str = ""
    count: int = 0
    tracked: bool = True
    born: float = 0.0
    streams: list[array[int]] = field(default_factory=list)

    @property
    def known(self) -> bool:
        """Whether anything tells it from others."""
        return self.pid >= 0 or bool(self.name or self.path or self.command_line)

    def process(self) -> Process:
        """As the caller sees it."""
        return Process(self.pid, self.parent, self.name, self.path, self.command_line, self.count)

    def shown(self) -> str:
        """Its name and number, for messages."""
        name = shortened(self.name, 80) or "a process without a name"
        return name if self.pid < 0 else f"{name} (pid {self.pid})"


def last_part(path: str) -> str:
    """File name at the end of a path of Windows or Unix."""
    return path[max(path.rfind("\\"), path.rfind("/")) + 1 :]


def plain_path(path: str) -> str:
    """A path so that it can be compared: without its drive, in small letters, with one kind of slash."""
    return _DRIVE.sub("", path.replace("\\", "/").lower(), count=1)


def integer(value: object) -> int | None:
    """A number of a process, which some versions write as a text."""
    if type(value) is int and 0 <= value < 1 << 63:
        return value
    if isinstance(value, str) and len(value) <= 18 and value.isascii() and value.isdigit():
        return int(value)
    return None
