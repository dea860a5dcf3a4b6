"""Chooses the processes of a report whose calls are wanted."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from barnum.calls.calls import ChosenBy
from barnum.calls.found import Found, last_part, plain_path
from barnum.calls.target import Target
from barnum.calls.tree import Tree
from barnum.errors import SampleError
from barnum.texts import quoted

_log = logging.getLogger(__name__)
_PID = re.compile(r"pid:(\d{1,10})", re.ASCII)
_LISTED = 8
# sandboxes look into it to read TLS keys; it is never what they started
_NOT_STARTED = "lsass.exe"
# these may only pass a file on to the program that opens it
_SHELL = "explorer.exe"
_PROMPT = "cmd.exe"
_START = re.compile(r"/[ck][\s\"]*start\b", re.IGNORECASE)
# folders of programs of Windows, into which no sandbox puts a file that it was sent
_SYSTEM = re.compile(r"/(?:windows|systemroot)(?:/(?:system32|syswow64))?/[^/]*")


class Choice:
    """Chooses among the processes of one report.

    Args:
        file: the report.
        found: all processes with entries in the report, in its order; at least one has calls.
        silent: further processes that were started, of which no call is known.
        children: also take the processes that descend from a chosen one.
        quotable: whether messages may name processes of the report (see Source).
        ordered: as in Recording.
        whole_machine: as in Recording.
    """

    def __init__(
        self,
        file: Path,
        found: Sequence[Found],
        silent: Sequence[Found],
        *,
        children: bool,
        quotable: bool,
        ordered: bool,
        whole_machine: bool,
    ) -> None:
        self._file = file
        self._found = found
        self._children = children
        self._quotable = quotable
        self._whole_machine = whole_machine
        self._tree = Tree([*silent, *found], strict=ordered)

    def called(self, process: str) -> list[Found]:
        """The processes with calls that match a name, a part of a path, or ``pid:`` and a number.

        Their descendants are among them where these are wanted.

        Raises:
            SampleError: there is none, or no number follows ``pid:``.
        """
        wanted = self._wanted(process)
        places = [place for place, found in enumerate(self._tree.processes) if wanted(found)]
        chosen = self._with_calls(places)
        if not chosen:
            raise SampleError(f"{self._file}: holds no call of {quoted(process)}; {self._list()}")
        return chosen

    def given(self, target: Target) -> tuple[list[Found], ChosenBy]:
        """The process that runs the target, else the first that was started with it, else the first of all.

        Returns:
            The process, with its descendants where these are wanted, and how it was chosen.

        Raises:
            SampleError: nothing says which process it is, and the report is of a whole machine.
        """
        active = [process for process in self._found if process.count]
        if len(active) == 1 and not (active[0].known and target.known):
            # a plain list of calls, or there is nothing to search for
            return active, "only"
        processes = self._tree.processes
        everywhere = range(len(processes))
        programs = self._programs(target)
        given = [place for place in programs if not _of_system(processes[place])] or programs
        if not given:
            named = [place for place in everywhere if target.is_named(processes[place])]
            given = [place for place in named if not _hands_on(processes[place])] or named
            if target.unsearched:
                _log.warning(
                    "%s: %s command lines are not searched for the document, as all together are too long",
                    self._file,
                    f"{target.unsearched:,}",
                )
        active_places = {place for place in everywhere if processes[place].count}
        with_calls = self._tree.with_calls() if self._children else active_places
        candidates = [place for place in given if place in with_calls]
        if candidates:
            place = self._tree.topmost(candidates[0], set(candidates))
            paths = {plain_path(processes[program].path) for program in programs} - {""}
            if len(paths) > 1:
                _log.warning(
                    "%s: programs at %s different paths have the document's name; taken is one of them%s",
                    self._file,
                    f"{len(paths):,}",
                    self._shown(processes[place]),
                )
            elif len(candidates) > 1:
                self._log_several(place, candidates)
            return self._with_calls([place]), "program" if programs else "command line"
        why = "no process was given the document"
        if given:
            why = f"what was given the document{self._shown(processes[given[0]])}, made no call"
        if self._whole_machine and len(active) > 1:
            # the first process of a machine is not what the sandbox started
            raise SampleError(f"{self._file}: {why}: name a process; {self._list()}")
        started = [process for process in active if process.tracked and process.name.lower() != _NOT_STARTED]
        first = (started or active)[0]
        position = "first" if len(active) > 1 else "only one with calls"
        _log.warning("%s: %s; taken is the %s%s", self._file, why, position, self._shown(first))
        return self._with_calls([place for place in active_places if processes[place] is first]), "guess"

    def _programs(self, target: Target) -> list[int]:
        """Places of the processes that run the target: only those at its path, if the report gives one."""
        programs = [place for place, found in enumerate(self._tree.processes) if target.is_program(found)]
        # the file may have the name of a program of Windows that runs as well
        return [place for place in programs if target.is_at_path(self._tree.processes[place])] or programs

    def _log_several(self, place: int, given: list[int]) -> None:
        # a program often starts others with the same file
        usual = self._tree.descendants([place]).issuperset(given)
        _log.log(
            logging.INFO if usual else logging.WARNING,
            "%s: %s processes were given the document; taken is the first of them in the tree%s",
            self._file,
            f"{len(given):,}",
            self._shown(self._tree.processes[place]),
        )

    def _shown(self, found: Found) -> str:
        return f", {found.shown()}" if self._quotable else ""

    def _with_calls(self, places: list[int]) -> list[Found]:
        """The processes with calls at these places, in the report's order; descendants too, if wanted."""
        reached = self._tree.descendants(places) if self._children else set(places)
        kept = {id(self._tree.processes[place]) for place in reached}
        return [found for found in self._found if found.count and id(found) in kept]

    def _wanted(self, process: str) -> Callable[[Found], bool]:
        if process.startswith("pid:"):
            number = _PID.fullmatch(process)
            if not number:
                raise SampleError(f"process {quoted(process)}: pid: must be followed by a number")
            pid = int(number[1])
            return lambda found: found.pid == pid
        name = process.lower()

        def called(found: Found) -> bool:
            return name in (found.name.lower(), last_part(found.path).lower())

        if any(called(found) for found in (self._tree.processes if self._children else self._found)):
            return called
        return lambda found: bool(name) and name in f"{found.path}\n{found.name}".lower()

    def _list(self) -> str:
        if not self._quotable:
            return "its processes are not shown, as the report is a link"
        if not any(found.name or found.pid >= 0 for found in self._found):
            return "it names no processes: leave out which one is wanted"
        most = sorted(self._found, key=lambda found: -found.count)
        shown = [f"{found.shown()} with {found.count:,} calls" for found in most[:_LISTED]]
        if len(most) > _LISTED:
            shown.append(f"{len(most) - _LISTED:,} more")
        return f"its processes are {', '.join(shown)}"


def _of_system(found: Found) -> bool:
    """Whether a program with the document's name is probably one of Windows that was there before."""
    path = plain_path(found.path)
    if not found.tracked or _SYSTEM.fullmatch(path):
        return True
    return "/" not in path and _hands_on(found)


def _hands_on(found: Found) -> bool:
    name = found.name.lower()
    return name == _SHELL or (name == _PROMPT and _START.search(found.command_line) is not None)
