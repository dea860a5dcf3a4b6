"""What is read from a report: calls and processes, within bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

# how processes are chosen: by name or number; as they run the document; as their command line names it; as
# the only one with calls, where there is nothing to search for; or as the first, where nothing says which
ChosenBy = Literal["process", "program", "command line", "only", "guess"]


@dataclass(frozen=True, slots=True)
class Process:
    """One process of a report.

    Attributes:
        pid: its number; -1 if the report does not give one.
        parent: its parent's number; None if the report does not give one.
        name: the sandbox's name for it, or the file name of its program; text as it stands in the report.
        path: path of its program; empty if the report does not give one.
        command_line: with which it was started; empty if the report does not give one.
        calls: number of its calls in the report.
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
        names: distinct names of calls, in order of first occurrence; text as it stands in the report.
        call: u32[n], the index of each call's name in ``names``.
        first: bool[n], whether a stream (a process, or one thread of it) begins with this call.
        processes: whose calls these are, in the order of their streams.
        chosen_by: how they were chosen.
        others: the other processes of the report.
        format: ``cuckoo``, ``cape``, ``drakvuf`` or ``sequence``.
        document: file name of what was opened, from the caller or the report; None if unknown.
        truncated: whether the report breaks off; the calls before that are kept.
        skipped: number of entries that are no calls: of other plugins, without a name, of a wrong type.
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
    """Bounds on what a report may hold, far above what real reports hold.

    Attributes:
        calls: number of calls, also of processes that are left out. They take 5 bytes of memory each, and a
            few bytes of a compressed report can stand for very many.
        repeats: repetitions of one entry that count; more are left out, with a warning.
        names: number of distinct names.
        name: characters of a name; an entry with a longer one is skipped.
        processes: number of processes.
        threads: number of threads.
        started: lines of a log that give the command line of a started process.
        texts: characters of all names, paths and command lines together.
        blank: blank lines of a list or a log.
        depth: levels of nested JSON.
        text: bytes of one JSON string.
        line: bytes of one line of a log; longer ones are skipped.
        unpacked: bytes of the whole report once decompressed.
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
