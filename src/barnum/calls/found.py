"""A process while its report is read, and helpers for what a report says of one."""

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
        pid: its number; -1 if the report does not give one.
        parent: its parent's number; None if the report does not give one.
        count: number of its calls.
        tracked: False if the sandbox says that it did not track the process.
        born: when it began, in seconds; equal for all where only the order in the report shows it.
        streams: u32 arrays with the number of each call's name: one, or one for each thread.
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
        """Whether the report says which process it is."""
        return self.pid >= 0 or bool(self.name or self.path or self.command_line)

    def process(self) -> Process:
        """The process as read_calls() returns it."""
        return Process(self.pid, self.parent, self.name, self.path, self.command_line, self.count)

    def shown(self) -> str:
        """Its name and number, for messages."""
        name = shortened(self.name, 80) or "a process without a name"
        return name if self.pid < 0 else f"{name} (pid {self.pid})"


def last_part(path: str) -> str:
    """The file name at the end of a path of Windows or Unix."""
    return path[max(path.rfind("\\"), path.rfind("/")) + 1 :]


def plain_path(path: str) -> str:
    """A path in a form that can be compared: without drive, in lower case, with forward slashes."""
    return _DRIVE.sub("", path.replace("\\", "/").lower(), count=1)


def integer(value: object) -> int | None:
    """A number from 0 to 2^63 - 1, which some versions write as text of digits; None for anything else."""
    if type(value) is int and 0 <= value < 1 << 63:
        return value
    if isinstance(value, str) and len(value) <= 18 and value.isascii() and value.isdigit():
        return int(value)
    return None
