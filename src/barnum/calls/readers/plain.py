"""Plain lists of calls: one name a line, a column of a CSV table, or numbers separated by blanks."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator

from barnum.calls.found import Found, integer, last_part
from barnum.calls.readers.reader import Likeness, ReportReader, start_of_text
from barnum.calls.recording import LONGEST_TEXT, Recording
from barnum.calls.source import Source
from barnum.errors import SampleError

_PIECE = 1 << 20
_HEAD = 1 << 18
_LONGEST_ROW = 1 << 20
# no number of a process is longer
_LONGEST_PID = 64
_SEPARATORS = ",;\t"
_COMMAS = bytes.maketrans(b",", b" ")
# what a column may be headed with, best first; an ending "_name" is ignored
_CALL = ("api", "call", "syscall", "function", "method", "name")
_PID = ("pid", "process_id")
_THREAD = ("tid", "thread_id")
_PROCESS = ("process", "process_path")
# columns of a table of many programs, such as MalBehavD's
_LABELS = {"sha256", "sha1", "md5", "hash", "label", "labels", "class", "malware"}
_NUMBER = re.compile(rb"[0-9]{1,10}")
# bytes of a wrong number that a message may show
_SHOWN = 400
# instead of the number of a name: the line is blank, or holds no name
_BLANK, _OTHER = -1, -2
# about so many bytes an entry of a dictionary takes
_ENTRY = 128
_NO_NAME = re.compile(r"[\s\"'{}\[\],;=\\]")


class PlainReader(ReportReader):
    """Reads plain lists of calls; any text that is no JSON may be one."""

    name = "sequence"
    names = ("calls.txt", "calls.csv")

    def likeness(self, head: bytes) -> Likeness:
        start = start_of_text(head)
        return Likeness.POSSIBLE if start and start[:1] not in b"{[" else Likeness.NONE

    def read(self, source: Source, recording: Recording) -> str | None:
        head = source.head(_HEAD)
        line, end, _ = head.lstrip().partition(b"\n")
        words = line.translate(_COMMAS).split()
        if len(head) == _HEAD and not end and len(words) > 1:
            del words[-1]  # it may be cut off
        if words and all(map(_NUMBER.fullmatch, words)):
            if len(words) > 1:
                _row(source, recording)
            else:
                _list(source, recording, numbers=True)
        elif any(separator in line.decode("latin-1") for separator in _SEPARATORS):
            _table(source, recording)
        else:
            _list(source, recording)
        if source.overlong:
            recording.skip("lines that are too long", source.overlong)
        return source.broken


PLAIN = PlainReader()


def _list(source: Source, recording: Recording, numbers: bool = False) -> None:
    """One name (or number) a line; a first line that heads a column is skipped."""
    process = recording.process()
    known = _Known(recording.limits.texts)
    before = 0
    for lines in source.lines():
        if source.cut and source.broken:
            break  # half a name
        ids = [number for number in map(known.get, lines) if number is not None]
        if len(ids) < len(lines):
            ids = []
            for place, line in enumerate(lines, before + 1):
                number = known.get(line)
                if number is None:
                    number = _new(source, recording, line, place, numbers)
                    known.add(line, number)
                ids.append(number)
        before += len(lines)
        if ids and min(ids) < 0:
            recording.blank(ids.count(_BLANK))
            ids = [number for number in ids if number >= 0]
        recording.extend(process, ids)


class _Known:
    """Numbers of names, by the line that was read.

    A name may have any number of blanks around it, so there is no end of lines, and memory is bounded.
    """

    def __init__(self, most: int) -> None:
        self._numbers: dict[bytes, int] = {}
        self.get = self._numbers.get
        self._most = most
        self._size = 0

    def add(self, line: bytes, number: int) -> None:
        """Remember a line; all others may be forgotten for it."""
        if number == _OTHER:
            return
        size = len(line) + _ENTRY
        if self._size + size > self._most:
            self._numbers.clear()
            self._size = 0
        if size <= self._most:
            self._size += size
            self._numbers[line] = number


def _new(source: Source, recording: Recording, line: bytes, place: int, numbers: bool) -> int:
    """The number of the name in a line that is not known; _BLANK or _OTHER if it holds none."""
    text = line[: 8 * recording.limits.name].decode("utf-8", errors="replace").strip()
    if not text:
        return _BLANK
    if place == 1 and _heading(text) in _CALL:
        return _OTHER
    if numbers:
        text = _as_number(source, line.strip())
    elif _NO_NAME.search(text) or not text.isprintable():
        shown = source.quoted(text)
        raise SampleError(
            f"{source.file}: line {place:,} is no name of a call: {shown}: give a report of Cuckoo or CAPE, "
            "a log of DRAKVUF, or a list with one name a line"
        )
    number = recording.number(text)
    return _OTHER if number is None else number


def _row(source: Source, recording: Recording) -> None:
    """Numbers of system calls in one line, which may be long."""
    process = recording.process()
    known: dict[bytes, int] = {}
    rest = b""
    ended = begun = False
    while piece := source.read(_PIECE):
        text = rest + piece.translate(_COMMAS)
        if not begun:
            text = text.lstrip()
            begun = bool(text)
        if ended:
            text, end, after = b"", b"", text
        else:
            text, end, after = text.partition(b"\n")
        if after.strip():
            raise SampleError(
                f"{source.file}: several lines hold several numbers each: write each trace to a file of its "
                "own, in one line or one number a line"
            )
        ended = ended or bool(end)
        cut = len(text) if ended else max(text.rfind(b" "), text.rfind(b"\t")) + 1
        rest = text[cut:]
        if len(rest) > recording.limits.name:
            raise _no_number(source, rest)
        _add_row(source, recording, process, known, text[:cut].split())
    if rest and not source.broken:
        _add_row(source, recording, process, known, [rest.strip()])


def _add_row(
    source: Source, recording: Recording, process: Found, known: dict[bytes, int], words: list[bytes]
) -> None:
    for word in set(words):
        if word not in known:
            number = recording.number(_as_number(source, word))
            if number is not None:
                known[word] = number
    recording.extend(process, [known[word] for word in words])


def _as_number(source: Source, word: bytes) -> str:
    """A number as a name, without leading zeros."""
    if not _NUMBER.fullmatch(word):
        raise _no_number(source, word)
    return str(int(word))


def _no_number(source: Source, word: bytes) -> SampleError:
    shown = source.quoted(word[:_SHOWN].decode("utf-8", errors="replace"))
    return SampleError(
        f"{source.file}: {shown} is no number of a system call, as those before it are: "
        "give either numbers or names"
    )


def _table(source: Source, recording: Recording) -> None:
    """A table with a heading: the column of calls, and those of processes and threads if there are any."""
    head = source.head(_HEAD).lstrip().partition(b"\n")[0].decode("utf-8", errors="replace")
    separator = max(_SEPARATORS, key=head.count)
    rows = csv.reader(_texts(source, recording), delimiter=separator)
    try:
        columns = [_heading(text) for text in next(row for row in rows if row)]
        call_column = _column(columns, _CALL)
        if call_column is None or _LABELS.intersection(columns):
            raise SampleError(
                f"{source.file}: is a table, but not of the calls of one program: it needs a first line that "
                f"heads the column of calls with {', '.join(_CALL[:-1])} or {_CALL[-1]}, and a line a call"
            )
        others = (_column(columns, names) for names in (_PROCESS, _PID, _THREAD))
        _rows(rows, recording, call_column, *others)
    except (csv.Error, StopIteration) as error:
        raise SampleError(f"{source.file}: is no table that can be read ({error})") from None


def _rows(
    rows: Iterator[list[str]],
    recording: Recording,
    call_column: int,
    process_column: int | None,
    pid_column: int | None,
    thread_column: int | None,
) -> None:
    processes: dict[tuple[str, str], Found] = {}
    for row in rows:
        if len(row) <= call_column:
            if row:
                recording.skip("rows without a call")
            else:
                recording.blank()
            continue
        # keys are kept, so they must not be longer than what is counted
        key = (_cell(row, process_column)[:LONGEST_TEXT], _cell(row, pid_column)[:_LONGEST_PID])
        process = processes.get(key)
        if process is None:
            process = processes[key] = recording.process()
            process.path = recording.text(key[0]) or ""
            process.name = last_part(process.path)
            pid = integer(recording.text(key[1]))
            process.pid = -1 if pid is None else pid
        recording.call(process, row[call_column].strip(), _cell(row, thread_column))


def _texts(source: Source, recording: Recording) -> Iterator[str]:
    for lines in source.lines():
        if source.cut and source.broken:
            return  # half a row
        for line in lines:
            if len(line) > _LONGEST_ROW:
                recording.skip("rows that are too long")
            else:
                yield line.decode("utf-8", errors="replace")


def _heading(text: str) -> str:
    name = text.strip().lower().replace(" ", "_")
    return name if name in _PROCESS else name.removesuffix("_name")


def _column(columns: list[str], names: tuple[str, ...]) -> int | None:
    for name in names:
        if name in columns:
            return columns.index(name)
    return None


def _cell(row: list[str], column: int | None) -> str:
    return "" if column is None or column >= len(row) else row[column].strip()
