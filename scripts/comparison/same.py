"""Whether two files say the same: byte for byte, or by what they mean."""

from __future__ import annotations

import base64
import gzip
import json
import re
import struct
import zlib
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

# What may differ, and why. Nothing else is left out.
EXEMPT = {
    "version": 'the key "version" at the top of a JSON document (of a file, of an HTML page, or within '
    "Parquet or safetensors): the version of barnum that wrote it; the files that detector.json lists count "
    "by their content instead of their SHA-256 then, as these hold that key; and what --version prints",
    "time": "in what is printed: transfers or calls a second, the peak of memory that preprocess took, and "
    "the time and the process at the begin of a line of the log. Files hold no time",
    "recording": "in a meta.json: the time of the recording (recorded), and the numbers that the kernel gave "
    "to processes (pid) and threads (thread)",
    "folder": "the path of the folder in which a version works, where it stands in a text",
    "order": "in what is printed on stderr, the order of lines: processes and threads write there at a time",
    "storage": "how the same content is stored: order of keys in JSON, row groups and compression in "
    "Parquet, order of arrays in safetensors, compression of gzip and PNG, and the library that wrote it",
    "page": "script and style of an HTML page; its data (the report) is compared",
}
# what is printed on stdout or stderr
PRINTED = (".stdout", ".stderr")
_PAGE = re.compile(rb'(<script[^>]*\bid="report"[^>]*>)(.*?)(</script>)', re.S)
_SHOWN = 60
_LONG_TEXT = 1 << 26
# bytes of a text around a difference
_AROUND = 40
_MASKS = [
    (re.compile(pattern, re.M), f"{before}#{behind}")
    for pattern, before, behind in (
        (rb"[\d,.]+ (?=(?:transfers|calls|blocks)/s)", "", " "),
        (rb"[\d,]+ MiB of memory at most", "", " MiB of memory at most"),
        (rb"^\d\d:\d\d:\d\d \S+ (?=[A-Z]+ )", "", " "),
    )
]
_VERSION = re.compile(rb"(?<=^barnum, version )\S+$", re.M)


@dataclass(frozen=True)
class Outcome:
    """What came of comparing: the reasons (keys of EXEMPT) for which bytes differ, and the first difference
    in meaning, if there is one."""

    reasons: frozenset[str] = frozenset()
    difference: str | None = None

    def __or__(self, other: Outcome) -> Outcome:
        return Outcome(self.reasons | other.reasons, self.difference or other.difference)


_IDENTICAL = Outcome()
_STORAGE = Outcome(frozenset({"storage"}))


@dataclass(frozen=True)
class Sides:
    """The folders in which both versions work."""

    old: Path
    new: Path

    def compare(self, name: Path) -> Outcome:
        """Compare a file that both have written, by its path within their folders."""
        old, new = self.old / name, self.new / name
        if _same_bytes(old, new):
            return _IDENTICAL
        return self._contents(name.name, old.read_bytes(), new.read_bytes())

    def _contents(self, name: str, old: bytes, new: bytes) -> Outcome:
        if old == new:
            return _IDENTICAL
        for begin, compare in (
            (b"PAR1", self._parquet),
            (b"\x89PNG", self._png),
            (b"\x1f\x8b", self._gzip),
            (b"\x89HDF", self._hdf5),
        ):
            if old.startswith(begin) and new.startswith(begin):
                return compare(name, old, new)
        if _arrays(old) is not None and _arrays(new) is not None:
            return self._safetensors(old, new)
        pages = _PAGE.search(old), _PAGE.search(new)
        if pages[0] and pages[1]:
            return self._json(pages[0][2], pages[1][2]) | self._around(old, new)
        if old[:1] in (b"{", b"[") and name.endswith(".json"):
            return self._json(old, new, name)
        return self._text(name, old, new)

    # texts

    def _text(self, name: str, old: bytes, new: bytes) -> Outcome:
        if max(len(old), len(new)) > _LONG_TEXT:
            # millions of blocks: there is nothing to mask
            return Outcome(difference=f"byte {_first_byte(old, new):,}")
        reasons = set()
        for reason, mask in (
            ("folder", self._without_folder),
            ("time", _without_time),
            ("version", _unversioned),
        ):
            if reason != "folder" and not name.endswith(PRINTED):
                continue
            before = old, new
            old, new = mask(old, self.old), mask(new, self.new)
            if old == new:
                return Outcome(frozenset({*reasons, reason}))
            if before != (old, new):
                reasons.add(reason)
        if name.endswith(".stderr"):
            old, new = (b"\n".join(sorted(text.split(b"\n"))) for text in (old, new))
            if old == new:
                return Outcome(frozenset({*reasons, "order"}))
        return Outcome(difference=_first_line(old, new))

    @staticmethod
    def _without_folder(text: bytes, folder: Path) -> bytes:
        return text.replace(str(folder).encode(), b"FOLDER")

    # documents

    def _json(self, old: bytes, new: bytes, name: str = "") -> Outcome:
        if old == new:
            return _IDENTICAL
        try:
            documents = [json.loads(text) for text in (old, new)]
        except ValueError:
            return Outcome(difference="is no JSON")
        return self._documents(*documents, name)

    def _documents(self, old: Any, new: Any, name: str) -> Outcome:
        reasons: set[str] = set()
        if isinstance(old, dict) and isinstance(new, dict) and old.get("version") != new.get("version"):
            if not isinstance(old.get("version"), str) or not isinstance(new.get("version"), str):
                return Outcome(
                    difference=f"version: {_shown(old.get('version'))} → {_shown(new.get('version'))}"
                )
            reasons.add("version")
            left_out = ("version", "files") if name == "detector.json" else ("version",)
            old, new = ({k: v for k, v in one.items() if k not in left_out} for one in (old, new))
        if name == "meta.json":
            before, (old, new) = (old, new), map(_without_numbers, (old, new))
            if before != (old, new):
                reasons.add("recording")
        difference = self._value(old, new, "", reasons)
        return Outcome(frozenset(reasons or {"storage"}), difference)

    def _value(self, old: Any, new: Any, place: str, reasons: set[str]) -> str | None:
        """The first difference of two values of JSON; reasons may be added."""
        if isinstance(old, dict) and isinstance(new, dict):
            for key in [*old, *(key for key in new if key not in old)]:
                inside = f"{place}.{key}" if place else str(key)
                if key not in old or key not in new:
                    return f"{inside}: only in {'the new' if key in new else 'the old'} version"
                found = self._value(old[key], new[key], inside, reasons)
                if found:
                    return found
            return None
        if isinstance(old, list) and isinstance(new, list):
            if len(old) != len(new):
                return f"{place}: {len(old):,} → {len(new):,} entries"
            for number, (one, other) in enumerate(zip(old, new, strict=True)):
                found = self._value(one, other, f"{place}[{number}]", reasons)
                if found:
                    return found
            return None
        if isinstance(old, str) and isinstance(new, str) and old != new:
            old, new = old.replace(str(self.old), "FOLDER"), new.replace(str(self.new), "FOLDER")
            if old == new:
                reasons.add("folder")
        # 1, 1.0 and true are not the same; nan is nan
        if type(old) is not type(new) or (old != new and not (old != old and new != new)):
            return f"{place}: {_shown(old)} → {_shown(new)}"
        return None

    def _around(self, old: bytes, new: bytes) -> Outcome:
        """What is around the data of a page."""
        shells = [_PAGE.sub(rb"\1\3", page) for page in (old, new)]
        return Outcome(frozenset({"page"})) if shells[0] != shells[1] else _IDENTICAL

    # binary files

    def _gzip(self, name: str, old: bytes, new: bytes) -> Outcome:
        try:
            inner = [gzip.decompress(data) for data in (old, new)]
        except (OSError, EOFError, zlib.error):
            return Outcome(difference="is broken gzip")
        return _STORAGE if inner[0] == inner[1] else self._contents(name.removesuffix(".gz"), *inner)

    def _png(self, _name: str, old: bytes, new: bytes) -> Outcome:
        pictures = [_pixels(data) for data in (old, new)]
        if pictures[0] == pictures[1]:
            return _STORAGE
        what = "pixels" if pictures[0][0] == pictures[1][0] else "size, kind or colours of the picture"
        return Outcome(difference=f"other {what}")

    def _parquet(self, _name: str, old: bytes, new: bytes) -> Outcome:
        tables = [pq.read_table(pa.BufferReader(data)) for data in (old, new)]
        metadata = [table.schema.metadata or {} for table in tables]
        outcome = _IDENTICAL
        for key in sorted({*metadata[0], *metadata[1]}):
            one, other = metadata[0].get(key), metadata[1].get(key)
            place = key.decode(errors="replace")
            if one is None or other is None:
                return Outcome(difference=f"metadata {place}: only in {'new' if one is None else 'old'}")
            if one == other:
                continue
            if one[:1] == b"{":
                inner = self._json(one, other)
            else:
                inner = _tables(*(_table_of(text) for text in (one, other)))
            if inner.difference:
                return Outcome(difference=f"metadata {place}: {inner.difference}")
            outcome |= inner
        outcome |= _tables(*tables)
        return outcome if outcome.reasons or outcome.difference else _STORAGE

    def _safetensors(self, old: bytes, new: bytes) -> Outcome:
        one, other = _arrays(old), _arrays(new)
        assert one is not None
        assert other is not None
        outcome = _IDENTICAL
        for name in [*one, *(name for name in other if name not in one)]:
            if name not in one or name not in other:
                return Outcome(difference=f"array {name}: only in {'new' if name in other else 'old'}")
            if one[name] == other[name]:
                continue
            if name == "document.json" or name == "__metadata__":
                inner = self._json(one[name][2], other[name][2])
                if inner.difference:
                    return Outcome(difference=f"{name}: {inner.difference}")
                outcome |= inner
            elif one[name][:2] != other[name][:2]:
                kinds = [f"{kind} {shape}" for kind, shape, _ in (one[name], other[name])]
                return Outcome(difference=f"array {name}: {kinds[0]} → {kinds[1]}")
            else:
                at = _first_byte(one[name][2], other[name][2])
                size = len(one[name][2]) // max(1, int(np.prod(one[name][1])))
                return Outcome(difference=f"array {name}: number {at // max(1, size):,} of its numbers")
        return outcome if outcome.reasons else _STORAGE

    def _hdf5(self, _name: str, old: bytes, new: bytes) -> Outcome:
        # plain arrays without times: the same version writes the same bytes
        return Outcome(difference=f"byte {_first_byte(old, new):,}")


def _same_bytes(old: Path, new: Path) -> bool:
    if old.stat().st_size != new.stat().st_size:
        return False
    with old.open("rb") as one, new.open("rb") as other:
        while True:
            parts = one.read(1 << 22), other.read(1 << 22)
            if parts[0] != parts[1]:
                return False
            if not parts[0]:
                return True


def _without_time(text: bytes, _folder: Path) -> bytes:
    for pattern, mask in _MASKS:
        text = pattern.sub(mask.encode(), text)
    return text


def _unversioned(text: bytes, _folder: Path) -> bytes:
    return _VERSION.sub(b"#", text)


def _without_numbers(meta: Any) -> Any:
    """A meta.json without what no two recordings share."""
    return {
        key: [
            {name: part for name, part in entry.items() if name not in ("pid", "thread")} for entry in value
        ]
        if key in ("processes", "streams")
        else value
        for key, value in meta.items()
        if key != "recorded"
    }


def _first_line(old: bytes, new: bytes) -> str:
    for number, (one, other) in enumerate(zip_longest(old.split(b"\n"), new.split(b"\n")), 1):
        if one != other:
            if one is None or other is None:
                return f"line {number:,}: only in {'the new' if one is None else 'the old'} version"
            # begin where they part
            at = max(0, _first_byte(one, other) - _AROUND)
            shown = [_shown(line[at:].decode(errors="replace")) for line in (one, other)]
            return f"line {number:,}: {shown[0]} → {shown[1]}"
    return "nothing"


def _first_byte(old: bytes, new: bytes) -> int:
    size = min(len(old), len(new))
    unlike = np.frombuffer(old, np.uint8, size) != np.frombuffer(new, np.uint8, size)
    return int(unlike.argmax()) if unlike.any() else size


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _pixels(data: bytes) -> tuple[list[bytes], bytes]:
    """Header and palette of a PNG, and its unpacked pixels; comments and the like are left out."""
    head, packed, at = [], b"", 8
    while at + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        content = data[at + 8 : at + 8 + length]
        if kind == b"IDAT":
            packed += content
        elif kind in (b"IHDR", b"PLTE", b"tRNS"):
            head.append(content)
        at += length + 12
    return head, zlib.decompress(packed)


def _arrays(data: bytes) -> dict[str, tuple[str, list[int], bytes]] | None:
    """Type, shape and bytes of each array of a safetensors file; None where it is none."""
    size = struct.unpack("<Q", data[:8])[0] if len(data) > 8 else 0
    if data[8:9] != b"{" or not 2 <= size <= len(data) - 8:
        return None
    header = json.loads(data[8 : 8 + size])
    found: dict[str, tuple[str, list[int], bytes]] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            found[name] = ("", [], json.dumps(entry).encode())
            continue
        begin, end = entry["data_offsets"]
        found[name] = (entry["dtype"], entry["shape"], data[8 + size + begin : 8 + size + end])
    return found


def _table_of(text: bytes) -> pa.Table:
    return pa.ipc.open_stream(base64.b64decode(text)).read_all()


def _tables(old: pa.Table, new: pa.Table) -> Outcome:
    if old.schema.names != new.schema.names or old.schema.types != new.schema.types:
        kinds = [", ".join(f"{field.name} {field.type}" for field in table.schema) for table in (old, new)]
        return Outcome(difference=f"columns: {kinds[0]} → {kinds[1]}")
    if old.num_rows != new.num_rows:
        return Outcome(difference=f"{old.num_rows:,} → {new.num_rows:,} rows")
    for name in old.schema.names:
        one, other = (_plain(table.column(name)) for table in (old, new))
        if isinstance(one, np.ndarray):
            unlike = one.view(np.uint8).reshape(len(one), -1) != other.view(np.uint8).reshape(len(one), -1)
            rows = np.flatnonzero(unlike.any(1)) if len(one) else np.zeros(0, np.int64)
            row = int(rows[0]) if len(rows) else None
        else:
            row = next(
                (number for number, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1]),
                None,
            )
        if row is not None:
            values = [_shown(_scalar(column[row])) for column in (one, other)]
            return Outcome(difference=f"column {name}, row {row:,}: {values[0]} → {values[1]}")
    return _IDENTICAL


def _plain(column: pa.ChunkedArray) -> Any:
    """Numbers as an array, all else, and numbers that may be missing, as a list."""
    if column.null_count or not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        return column.to_pylist()
    return np.ascontiguousarray(column.to_numpy())


def _scalar(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
