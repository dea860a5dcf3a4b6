"""``report.json`` of Cuckoo 2 and of CAPEv2: one JSON object, whose ``behavior.processes`` hold the calls.

The two name some keys in it differently. CAPE counts in ``repeated`` how often the same call followed
directly; Cuckoo lists each. Keys come in any order, so the document and the command line may follow the
calls.
"""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Iterator

import ijson

from barnum.calls.found import Found, integer, last_part
from barnum.calls.readers.reader import Likeness, ReportReader, start_of_text
from barnum.calls.recording import Recording
from barnum.calls.source import Source
from barnum.calls.surrogates import LENGTH, is_first_half, may_have, mended
from barnum.errors import SampleError

_log = logging.getLogger(__name__)
# the events of one piece fit in the processor's cache; larger pieces are a fifth slower
_PIECE = 1 << 14
# characters of numbers and words of JSON
_WORD = b"+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LONGEST_WORD = 1 << 12
# notes of Cuckoo's monitor are among the calls; one of them, an exception, is behaviour of the program
_NOTE = "__notification__"
_EXCEPTION = "__exception__"
# notes of CAPE's monitor
_ANOMALY = "anomaly"
_STARTS = ("start_map", "start_array")
_ENDS = ("end_map", "end_array")
_NAMES = {
    "process_name": "name",
    "process_path": "path",
    "module_path": "path",
    "command_line": "command_line",
}
# keys of the file that was sent; hashes are names, too, as sandboxes store it under one
_HASHES = ("md5", "sha1", "sha256", "sha512")
_TARGETS = ("name", "path", "guest_paths", *_HASHES)
_NUMBERS = {"pid": "pid", "process_id": "pid", "ppid": "parent", "parent_id": "parent"}


class CuckooReader(ReportReader):
    """Reads reports of Cuckoo and of CAPE.

    The format is ``cape`` if processes have a ``process_id``, as in CAPE and Cuckoo 1, from which it comes.
    """

    name = "cuckoo"
    names = ("report.json",)

    def likeness(self, head: bytes) -> Likeness:
        return Likeness.POSSIBLE if start_of_text(head).startswith(b"{") else Likeness.NONE

    def read(self, source: Source, recording: Recording) -> str | None:
        report = _Report(source, recording)
        report.read()
        return report.broken


CUCKOO = CuckooReader()


class _Report:
    """Reads a report into a recording.

    Attributes:
        broken: why the report breaks off; None if it is whole.
    """

    def __init__(self, source: Source, recording: Recording) -> None:
        self.broken: str | None = None
        self._listed = False
        self._source = source
        self._recording = recording
        self._deepest = recording.limits.depth
        # with C's integers and floats, as Decimal takes as long as all the rest
        self._events: Iterator[tuple[str, object]] = ijson.basic_parse(
            _Repaired(source, recording.limits.text), buf_size=_PIECE, use_float=True, multiple_values=True
        )

    def read(self) -> None:
        """Read the whole report.

        Raises:
            SampleError: it is another JSON object, or a bound is exceeded.
        """
        try:
            self._next()
            for key in self._keys():
                event, _ = self._next()
                if key == "behavior" and event == "start_map":
                    self._behavior()
                elif key == "target" and event == "start_map":
                    self._target()
                else:
                    self._skip(event)
        except (ijson.JSONError, UnicodeDecodeError) as error:
            # the second line of the message quotes the report, which may hold anything
            self.broken = self._source.broken or str(error).partition("\n")[0].removeprefix("b'")
            return
        try:
            follows = next(self._events, None) is not None
        except (ijson.JSONError, UnicodeDecodeError):
            follows = True
        if follows:
            _log.warning("%s: what follows the report's end is ignored", self._source.file)
        self.broken = self._source.broken
        if not self._listed:
            raise SampleError(
                f"{self._source.file}: is JSON without behavior.processes: give the report.json of Cuckoo or "
                "CAPE, or a log of DRAKVUF"
            )

    def _behavior(self) -> None:
        for key in self._keys():
            event, _ = self._next()
            if key != "processes" or event != "start_array":
                self._skip(event)
                continue
            self._listed = True
            for event, _ in self._events:
                if event == "end_array":
                    break
                if event == "start_map":
                    self._process()
                else:
                    self._recording.skip("processes that are no objects")
                    self._skip(event)

    def _process(self) -> None:
        process = self._recording.process()
        for key in self._keys():
            event, value = self._next()
            if key == "calls" and event == "start_array":
                self._calls(process)
                continue
            if key == "environ" and event == "start_map":
                self._environ(process)
                continue
            if key == "calls":
                self._recording.skip("lists of calls that are no lists")
            elif key in _NUMBERS:
                if key == "process_id":
                    self._recording.form = "cape"
                number = integer(value)
                if number is not None:
                    setattr(process, _NUMBERS[key], number)
            elif key == "track":
                process.tracked = value is not False
            elif key in _NAMES:
                text = self._recording.text(value)
                if text is not None:
                    setattr(process, _NAMES[key], text)
            self._skip(event)
        process.name = process.name or last_part(process.path)

    def _environ(self, process: Found) -> None:
        for key in self._keys():
            event, value = self._next()
            if key == "CommandLine":
                process.command_line = self._recording.text(value) or process.command_line
            self._skip(event)

    def _target(self) -> None:
        for key in self._keys():
            event, value = self._next()
            if key == "file" and event == "start_map":
                for inner in self._keys():
                    event, value = self._next()
                    self._name_target(inner, event, value)
            elif key == "filename":
                # of Cuckoo, if an archive was sent: the file in it that was started
                self._name_target("name", event, value)
            else:
                self._skip(event)

    def _name_target(self, key: object, event: str, value: object) -> None:
        """Take a name, path or hash of the file; some versions list all names under which it was sent."""
        if key not in _TARGETS or event != "start_array":
            self._note_target(key, value)
            self._skip(event)
            return
        for event, value in self._events:
            if event == "end_array":
                return
            self._note_target(key, value)
            self._skip(event)

    def _note_target(self, key: object, value: object) -> None:
        if key not in _TARGETS or not isinstance(value, str):
            return
        text = self._recording.text(value) or ""
        if key in _HASHES:
            self._recording.target.add_hash(text)
            return
        if key == "name" and self._recording.document is None:
            self._recording.document = text
        if key != "name":
            self._recording.target.add_path(text)
        self._recording.target.add(text)

    def _calls(self, process: Found) -> None:
        """Read the list of calls that has begun. It is most of a report, so this is one flat loop."""
        recording, deepest = self._recording, self._deepest
        name: object = None
        key: object = None
        thread: object = None
        category: object = None
        repeated = depth = 0
        for event, value in self._events:
            if event == "map_key":
                if depth == 1:
                    key = value
            elif event in _STARTS:
                depth += 1
                if depth == 1:
                    name = thread = category = key = None
                    repeated = 0
                elif depth > deepest:
                    raise self._too_deep()
            elif event in _ENDS:
                if not depth:
                    return
                depth -= 1
                if depth:
                    continue
                if event == "end_array":
                    recording.skip("calls that are no objects")
                elif category == _ANOMALY or (category == _NOTE and name != _EXCEPTION):
                    recording.skip("notes of the sandbox", normal=True)
                else:
                    recording.call(process, name, thread, repeated)
            elif depth == 1:
                if key == "api":
                    name = value
                elif key == "category":
                    category = value
                elif key == "tid" or key == "thread_id":
                    thread = value
                elif key == "repeated":
                    repeated = integer(value) or 0
            elif not depth:
                recording.skip("calls that are no objects")

    def _keys(self) -> Iterator[object]:
        """Keys of the object that has begun. The caller must take the value of each before the next key."""
        for event, value in self._events:
            if event == "end_map":
                return
            yield value

    def _next(self) -> tuple[str, object]:
        for event in self._events:
            return event
        raise ijson.IncompleteJSONError("premature end")

    def _skip(self, event: str) -> None:
        """Skip the value that began with an event."""
        if event not in _STARTS:
            return
        depth, deepest = 1, self._deepest
        for event, _ in self._events:
            if event in _STARTS:
                depth += 1
                if depth > deepest:
                    raise self._too_deep()
            elif event in _ENDS:
                depth -= 1
                if not depth:
                    return

    def _too_deep(self) -> SampleError:
        return self._recording.too_much(f"{self._deepest:,} levels of nested JSON")


class _Repaired:
    """Reads a report for ijson: bounds its strings, and replaces what Python's JSON allows but ijson not.

    Bytes that are not UTF-8 and lone halves of surrogate pairs become U+FFFD, NaN and infinity become null,
    and integers that C cannot hold become the largest. Names of calls that are valid text stay as they are.
    """

    _quote = re.compile(rb'(?<!\\)"')
    _constant = re.compile(rb"(?<=[:\[,\s])(?:NaN|-?Infinity)(?=[\s,\]}]|\Z)")
    _integer = re.compile(rb"(?<=[:\[,\s-])[0-9]{19,}")
    _largest = b"%d" % ((1 << 63) - 1)
    _digits = bytes(48 if 48 <= code < 58 else 32 for code in range(256))
    _run = b"0" * 19

    def __init__(self, source: Source, longest: int) -> None:
        self._source = source
        self._longest = longest
        self._decode = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = b""
        self._distance = 0
        self._ended = False
        # whether a backslash at the end of the last text escapes the next byte
        self._escaped = False

    def read(self, size: int) -> bytes:
        """At least one byte; nothing at the end."""
        if size <= 0:  # ijson checks in this way that bytes are returned
            return b""
        while not (text := self._whole_words(size)) and not self._ended:
            pass
        if text:
            self._check(text)
        return self._repair(text)

    def _whole_words(self, size: int) -> bytes:
        """More text, in which no number, word or escape is cut; it may be empty before the end."""
        parts = [self._rest]
        length = 0
        # ijson scans a string from its beginning whenever it gets more of it, so more and more of a long one
        # is given at once
        while not self._ended and length <= self._distance:
            piece = self._source.read(size)
            self._ended = not piece
            parts.append(self._utf8(piece))
            length += len(piece)
        text, self._rest = b"".join(parts), b""
        if not self._ended:
            # the character before a word is kept with it, as it may be a backslash
            end = max(0, len(text.rstrip(_WORD)) - 1)
            if is_first_half(text[max(0, end - LENGTH) : end]):
                end -= LENGTH
            if len(text) - end < _LONGEST_WORD:
                text, self._rest = text[:end], text[end:]
        return text

    def _utf8(self, piece: bytes) -> bytes:
        if piece.isascii() and not self._decode.getstate()[0]:
            return piece
        return self._decode.decode(piece, self._ended).encode()

    def _repair(self, text: bytes) -> bytes:
        if b"NaN" in text or b"Infinity" in text:
            text = self._constant.sub(b"null", text)
        if self._run in text.translate(self._digits):
            text = self._integer.sub(self._largest, text)
        begin = 1 if self._escaped else 0
        before = len(text.rstrip(b"\\"))
        # a run of backslashes may have begun in the last text
        run = len(text) - before - (begin if not before else 0)
        self._escaped = run % 2 == 1 if text else self._escaped
        if may_have(text):
            text = text[:begin] + mended(text[begin:])
        return text

    def _check(self, text: bytes) -> None:
        """Bound the length of strings, as ijson holds them whole: each begins with an unescaped quote."""
        # whether the first byte is escaped is not known here
        if self._quote.search(text, 1):
            self._distance = 0
            return
        self._distance += len(text)
        if self._distance > self._longest:
            raise SampleError(
                f"{self._source.file}: holds a text of more than {self._longest:,} bytes, which no report of "
                "calls needs"
            )
