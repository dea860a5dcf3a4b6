"""``report.json`` of Cuckoo 2 and of CAPEv2: one JSON object, whose ``behavior.processes`` hold the calls.

Both stand in the same place under names of their own. CAPE counts in ``repeated`` how often the same call
came again directly after; Cuckoo lists each. Keys come in any order, so the document and the command line
may follow the calls.
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
# events of one piece lie in the cache of the processor; larger ones are a fifth slower
_PIECE = 1 << 14
# anything that numbers and words of JSON consist of
_WORD = b"+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LONGEST_WORD = 1 << 12
# notes of Cuckoo's monitor stand among the calls; that the program raised an exception is its behaviour
_NOTE = "__notification__"
_EXCEPTION = "__exception__"
# CAPE's
_ANOMALY = "anomaly"
_STARTS = ("start_map", "start_array")
_ENDS = ("end_map", "end_array")
_NAMES = {
    "process_name": "name",
    "process_path": "path",
    "module_path": "path",
    "command_line": "command_line",
}
# of the file that was sent; hashes name it, too, for sandboxes store it by one
_HASHES = ("md5", "sha1", "sha256", "sha512")
_TARGETS = ("name", "path", "guest_paths", *_HASHES)
_NUMBERS = {"pid": "pid", "process_id": "pid", "ppid": "parent", "parent_id": "parent"}


class CuckooReader(ReportReader):
    """Reads both. The form is ``cape`` where processes have its ``process_id`` (as Cuckoo 1, where it comes
    from)."""

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
        broken: why the report breaks off; None when it is whole.
    """

    def __init__(self, source: Source, recording: Recording) -> None:
        self.broken: str | None = None
        self._listed = False
        self._source = source
        self._recording = recording
        self._deepest = recording.limits.depth
        # integers as C has them and floats: Decimal costs as much as all the rest
        self._events: Iterator[tuple[str, object]] = ijson.basic_parse(
            _Repaired(source, recording.limits.text), buf_size=_PIECE, use_float=True, multiple_values=True
        )

    def read(self) -> None:
        """Read all of it.

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
            # the second line shows a piece of the report, which may hold anything
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
        found = self._recording.process()
        for key in self._keys():
            event, value = self._next()
            if key == "calls" and event == "start_array":
                self._calls(found)
                continue
            if key == "environ" and event == "start_map":
                self._environ(found)
                continue
            if key == "calls":
                self._recording.skip("lists of calls that are no lists")
            elif key in _NUMBERS:
                if key == "process_id":
                    self._recording.form = "cape"
                number = integer(value)
                if number is not None:
                    setattr(found, _NUMBERS[key], number)
            elif key == "track":
                found.tracked = value is not False
            elif key in _NAMES:
                text = self._recording.text(value)
                if text is not None:
                    setattr(found, _NAMES[key], text)
            self._skip(event)
        found.name = found.name or last_part(found.path)

    def _environ(self, found: Found) -> None:
        for key in self._keys():
            event, value = self._next()
            if key == "CommandLine":
                found.command_line = self._recording.text(value) or found.command_line
            self._skip(event)

    def _target(self) -> None:
        for key in self._keys():
            event, value = self._next()
            if key == "file" and event == "start_map":
                for inner in self._keys():
                    event, value = self._next()
                    self._name_target(inner, event, value)
            elif key == "filename":
                # of Cuckoo, where an archive was sent: what was started from it
                self._name_target("name", event, value)
            else:
                self._skip(event)

    def _name_target(self, key: object, event: str, value: object) -> None:
        """What the report calls the file; some versions list all names that it was sent under."""
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

    def _calls(self, found: Found) -> None:
        """The list of calls that has begun. Most of a report is in here, so it is one flat loop."""
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
                    recording.call(found, name, thread, repeated)
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
        """Keys of the object that has begun; whoever takes one takes what it stands for, too."""
        for event, value in self._events:
            if event == "end_map":
                return
            yield value

    def _next(self) -> tuple[str, object]:
        for event in self._events:
            return event
        raise ijson.IncompleteJSONError("premature end")

    def _skip(self, event: str) -> None:
        """Pass the value that began with an event."""
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
    """A report with what Python's JSON allows and the reader does not made harmless, and bounded strings.

    Bytes that are no UTF-8 and halves of surrogate pairs are replaced, NaN and infinity become null, and
    integers that C cannot hold become the largest. No name of a call that is text is changed by that.
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
        # whether a backslash at the end of what was given escapes what comes next
        self._escaped = False

    def read(self, size: int) -> bytes:
        """At least one byte, nothing at the end."""
        if size <= 0:  # the reader asks whether this gives bytes
            return b""
        while not (text := self._whole_words(size)) and not self._ended:
            pass
        if text:
            self._check(text)
        return self._repair(text)

    def _whole_words(self, size: int) -> bytes:
        """More text, in which no number, no word and no escape is cut; maybe none yet."""
        parts = [self._rest]
        length = 0
        # the reader looks at a string from its beginning whenever it gets more of it, so that more and more
        # of a long one is given at once
        while not self._ended and length <= self._distance:
            piece = self._source.read(size)
            self._ended = not piece
            parts.append(self._utf8(piece))
            length += len(piece)
        text, self._rest = b"".join(parts), b""
        if not self._ended:
            # what stands before a word is kept with it, such as a backslash
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
        # a run of backslashes that began in the text before goes on
        run = len(text) - before - (begin if not before else 0)
        self._escaped = run % 2 == 1 if text else self._escaped
        if may_have(text):
            text = text[:begin] + mended(text[begin:])
        return text

    def _check(self, text: bytes) -> None:
        """Bound strings, which are held whole: each begins with a quote that no backslash stands before."""
        # what stands before the first byte is not known
        if self._quote.search(text, 1):
            self._distance = 0
            return
        self._distance += len(text)
        if self._distance > self._longest:
            raise SampleError(
                f"{self._source.file}: holds a text of more than {self._longest:,} bytes, which no report of "
                "calls needs"
            )
