"""Collects processes and calls while a report is read, and returns those that are wanted."""

from __future__ import annotations

import logging
from array import array
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from barnum.calls.calls import Calls, ChosenBy, Limits
from barnum.calls.choice import Choice
from barnum.calls.found import Found
from barnum.calls.target import Target
from barnum.errors import SampleError

_log = logging.getLogger(__name__)
# Windows allows no longer command line
LONGEST_TEXT = 32767
_LONGEST_THREAD = 64
_LISTED = 8
_STEP = 1 << 20


class Recording:
    """Names, processes and calls as they are read; 4 bytes a call.

    Attributes:
        names: the number of each name of a call.
        found: processes, in the order of the report.
        silent: further processes that were started, of which no call is known.
        document: file name of what was opened; None if unknown.
        target: names, paths and hashes of that file.
        form: format of the report.
        ordered: whether ``born`` says when each process began; else a child may stand before its parent.
        whole_machine: whether all processes of a machine are recorded, not only those that descend from
            what was opened.
    """

    def __init__(self, file: Path, limits: Limits, threads: bool, quotable: bool = True) -> None:
        """Prepare to collect.

        Args:
            file: the report, for messages.
            limits: bounds on what it may hold.
            threads: make each thread a stream of its own.
            quotable: whether messages may name processes of the report (see Source).
        """
        self.file = file
        self.form = ""
        self.ordered = self.whole_machine = False
        self._quotable = quotable
        self.limits = limits
        self.names: dict[str, int] = {}
        self.found: list[Found] = []
        self.silent: list[Found] = []
        self.document: str | None = None
        self.target = Target()
        self._by_thread = threads
        self._threads: dict[tuple[int, object], array[int]] = {}
        self._skipped: dict[str, int] = {}
        self._normal: set[str] = set()
        self._overrepeated = 0
        self._calls = 0
        self._blank = 0
        self._texts = 0

    def process(self) -> Found:
        """Add a process; the reader fills it.

        Raises:
            SampleError: a bound is exceeded, as in all methods that add something.
        """
        if len(self.found) == self.limits.processes:
            raise self.too_much(f"{self.limits.processes:,} processes")
        self.found.append(Found())
        return self.found[-1]

    def text(self, value: object) -> str | None:
        """A text to keep, counted against the bound and cut to LONGEST_TEXT; None for what is no text."""
        if not isinstance(value, str):
            return None
        value = value[:LONGEST_TEXT]
        self._texts += len(value)
        if self._texts > self.limits.texts:
            raise self.too_much(f"{self.limits.texts:,} characters of names and command lines")
        return value

    def number(self, name: object) -> int | None:
        """The number of a call's name. If it cannot be a name: None, and the entry is counted as skipped."""
        if not isinstance(name, str):
            self.skip("calls whose name is no text")
            return None
        number = self.names.get(name)
        if number is not None:
            return number
        if not name or name.isspace():
            self.skip("calls without a name")
            return None
        if len(name) > self.limits.name:
            self.skip(f"calls whose name has more than {self.limits.name:,} characters")
            return None
        if len(self.names) == self.limits.names:
            raise self.too_much(f"{self.limits.names:,} different names of calls")
        self.text(name)
        number = self.names[name] = len(self.names)
        return number

    def call(self, found: Found, name: object, thread: object = None, repeated: int = 0) -> None:
        """Add a call, and its repetitions directly after it."""
        number = self.number(name)
        if number is None:
            return
        if repeated > self.limits.repeats:
            self._overrepeated += 1
            repeated = self.limits.repeats
        self._count(found, 1 + repeated)
        stream = self._stream(found, thread)
        if not repeated:
            stream.append(number)
        else:
            stream.extend([number] * (1 + repeated))

    def extend(self, found: Found, numbers: list[int]) -> None:
        """Add several calls of a process, by the numbers of their names; their threads are not known."""
        self._count(found, len(numbers))
        self._stream(found, None).extend(numbers)

    def blank(self, count: int = 1) -> None:
        """Count blank lines; they are bounded, as a few compressed bytes can stand for very many."""
        self._blank += count
        if self._blank > self.limits.blank:
            raise self.too_much(f"{self.limits.blank:,} blank lines")

    def skip(self, kind: str, count: int = 1, normal: bool = False) -> None:
        """Count entries that are no calls; ``normal`` ones, which any such report has, cause no warning."""
        self._skipped[kind] = self._skipped.get(kind, 0) + count
        if normal:
            self._normal.add(kind)

    def too_much(self, what: str) -> SampleError:
        """The error for a report that exceeds a bound."""
        return SampleError(
            f"{self.file}: holds more than {what}, which no report of a run needs: "
            "give a report of a shorter run"
        )

    def result(self, process: str | None, truncated: bool, children: bool = False) -> Calls:
        """The calls that are wanted, with a stream for each process or thread.

        Args:
            process: as in read_calls().
            truncated: whether the report breaks off.
            children: as in read_calls().

        Raises:
            SampleError: there are none.
        """
        for kind, count in self._skipped.items():
            level = logging.INFO if kind in self._normal else logging.WARNING
            _log.log(level, "%s: skipped %s %s", self.file, f"{count:,}", kind)
        if self._overrepeated:
            _log.warning(
                "%s: %s calls were repeated more than %s times; the rest is left out",
                self.file,
                f"{self._overrepeated:,}",
                f"{self.limits.repeats:,}",
            )
        chosen, chosen_by = self._choose(process, children)
        kept = {id(found) for found in chosen}
        left_out = [found for found in self.found if id(found) not in kept]
        others = tuple(found.process() for found in left_out)
        for found in left_out:
            found.streams = []
        processes = tuple(found.process() for found in chosen)
        call, first = self._streams(chosen)
        return Calls(
            names=_renumber(call, list(self.names)),
            call=call,
            first=first,
            processes=processes,
            chosen_by=chosen_by,
            others=others,
            format=self.form,
            document=self.document,
            truncated=truncated,
            skipped=sum(self._skipped.values()),
        )

    def _streams(self, chosen: list[Found]) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        streams = [stream for found in chosen for stream in found.streams if stream]
        for found in chosen:
            found.streams = []
        self._threads.clear()
        first = np.zeros(sum(map(len, streams)), np.bool_)
        if len(streams) == 1:
            first[0] = True
            return np.frombuffer(streams[0], np.uint32), first
        call = np.empty(len(first), np.uint32)
        start = 0
        streams.reverse()
        while streams:
            # each is freed before the next is copied, so that the calls are not held twice
            stream = streams.pop()
            first[start] = True
            call[start : start + len(stream)] = np.frombuffer(stream, np.uint32)
            start += len(stream)
        return call, first

    def _choose(self, process: str | None, children: bool) -> tuple[list[Found], ChosenBy]:
        if not any(found.count for found in self.found):
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in list(self._skipped.items())[:_LISTED])
            items = f"{len(self.found):,} processes without calls" if self.found else kinds or "nothing"
            raise SampleError(
                f"{self.file}: holds no call, only {items}: let the sandbox record calls, and give its report"
            )
        choice = Choice(
            self.file,
            self.found,
            self.silent,
            children=children,
            quotable=self._quotable,
            ordered=self.ordered,
            whole_machine=self.whole_machine,
        )
        if process is not None:
            return choice.called(process), "process"
        return choice.given(self.target)

    def _count(self, found: Found, calls: int) -> None:
        found.count += calls
        self._calls += calls
        if self._calls > self.limits.calls:
            raise self.too_much(f"{self.limits.calls:,} calls")

    def _stream(self, found: Found, thread: object) -> array[int]:
        """The stream of a call; streams of a process are in the order of their first calls."""
        if not self._by_thread:
            if not found.streams:
                found.streams.append(array("I"))
            return found.streams[0]
        if isinstance(thread, str):
            thread = thread[:_LONGEST_THREAD]
        elif not isinstance(thread, int):
            thread = None
        key = (id(found), thread)
        stream = self._threads.get(key)
        if stream is None:
            if len(self._threads) == self.limits.threads:
                raise self.too_much(f"{self.limits.threads:,} threads")
            stream = self._threads[key] = array("I")
            found.streams.append(stream)
        return stream


def _renumber(call: NDArray[np.uint32], names: list[str]) -> tuple[str, ...]:
    """Number the names u32[n] anew by first occurrence, in place; returns the names that occur."""
    first = np.full(len(names), len(call), np.int64)
    for start in reversed(range(0, len(call), _STEP)):
        piece = call[start : start + _STEP]
        # of several values for one index the last is kept: reversed, the first occurrence
        first[piece[::-1]] = np.arange(start + len(piece) - 1, start - 1, -1)
    order = np.argsort(first, kind="stable")[: np.count_nonzero(first < len(call))]
    number = np.zeros(len(names), np.uint32)
    number[order] = np.arange(len(order), dtype=np.uint32)
    for start in range(0, len(call), _STEP):
        call[start : start + _STEP] = number[call[start : start + _STEP]]
    return tuple(names[place] for place in order)
