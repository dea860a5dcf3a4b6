"""What is read from a report: which calls, of which processes, within which bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

# why these processes and no others: asked for; run what was opened; its name is in their command line; no
# other made calls, and nothing was to be looked for; or nothing said which
ChosenBy = Literal["process", "program", "command line", "only", "guess"]


@dataclass(frozen=True, slots=True)
class Process:
    """One process of a report.

    Attributes:
        pid: its number; -1 where the report does not say.
        parent: its parent's number.
        name: last part of the path, or as the sandbox names it; text as it stands in the report.
        path: of the program.
        command_line: how it was started; empty where the report does not say.
        calls: how many of its calls the report holds.
    """

    pid: int
    parent: int | None
    name: str
    path: str
    command_line: str
    calls: int


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls of one or several processes, a stream after the other.

    Attributes:
        names: distinct names, in order of first occurrence; text as it stands in the report.
        call: u32[n], number of each call's name.
        first: bool[n], whether a stream (a process, or one thread of it) begins here.
        processes: those whose calls these are, in the order of their streams.
        chosen_by: why these.
        others: those of the report that were left out.
        format: ``cuckoo``, ``cape``, ``drakvuf`` or ``sequence``.
        document: file name of what was opened, as the caller or the report says.
        truncated: the report breaks off; what came before is here.
        skipped: entries that are no calls: of other plugins, without a name, of a wrong type.
    """

    names: tuple[str, ...]
    call: NDArray[np.uint32]
    first: NDArray[np.bool_]
    processes: tuple[Process, ...]
    chosen_by: ChosenBy
    others: tuple[Process, ...]
    format: str
    document: str | None
    truncated: bool
    skipped: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what a report may hold, far above what real ones do.

    Attributes:
        calls: in all, those of processes that are left out too. A few bytes of a packed report may say so
            many, so this bounds memory: 5 bytes each.
        repeats: how often one entry counts that says it was repeated; more are left out, with a warning.
        names: distinct names.
        name: characters of a name; an entry with a longer one is skipped.
        processes: in all.
        threads: in all.
        started: lines of a log that say which command line a process was started with.
        texts: characters of all names, paths and command lines together.
        blank: lines of a list or a log with nothing but blanks.
        depth: of nested JSON.
        text: bytes of one JSON string.
        line: bytes of one line of a log; longer ones are skipped.
        unpacked: bytes of the whole report.
    """

    calls: int = 1 << 26
    repeats: int = 1 << 16
    names: int = 1 << 16
    name: int = 1 << 10
    processes: int = 1 << 14
    threads: int = 1 << 16
    started: int = 1 << 17
    texts: int = 1 << 25
    blank: int = 1 << 24
    depth: int = 1 << 10
    text: int = 32 << 20
    line: int = 16 << 20
    unpacked: int = 1 << 36
