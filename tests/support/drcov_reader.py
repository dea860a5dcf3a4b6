"""Reads drcov files, written after what DynamoRIO's source says of the format and what readers of it do."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

_LINE = re.compile(
    r" *(\d+), +(\d+), 0x([0-9a-f]{16}), 0x([0-9a-f]{16}), 0x([0-9a-f]{16}), 0x([0-9a-f]{16}), (\S.*)"
)


@dataclass(frozen=True)
class Module:
    start: int
    end: int
    offset: int
    path: str


@dataclass(frozen=True)
class Drcov:
    """Modules, and blocks as (number of the module, offset, bytes)."""

    flavor: str
    modules: list[Module]
    blocks: list[tuple[int, int, int]]


def read_drcov(data: bytes) -> Drcov:
    # one reader goes by lines, the other looks for the table of blocks: both must find the same
    head, blocks = data.split(b"BB Table: ", 1)
    lines = head.decode("utf-8").split("\n")
    assert lines.pop() == ""
    assert lines[0] == "DRCOV VERSION: 2"
    flavor = lines[1].removeprefix("DRCOV FLAVOR: ")
    version, count = re.fullmatch(r"Module Table: version (\d+), count (\d+)", lines[2]).groups()
    assert version == "4"
    columns = lines[3].removeprefix("Columns: ").split(", ")
    assert columns == ["id", "containing_id", "start", "end", "entry", "offset", "path"]
    assert len(lines) == 4 + int(count)
    modules = []
    for number, line in enumerate(lines[4:]):
        found = _LINE.fullmatch(line)
        assert (int(found[1]), int(found[2])) == (number, number)
        # as a reader does that splits all columns
        assert len(line.split(", ")) == len(line.split(",")) == len(columns)
        assert found[7].isprintable() and found[7] == found[7].strip() and len(found[7].encode()) < 260
        modules.append(Module(*(int(found[group], 16) for group in (3, 4, 6)), found[7]))
    number, table = blocks.split(b" bbs\n", 1)
    assert len(table) == 8 * int(number)
    entries = [(module, start, size) for start, size, module in struct.iter_unpack("<IHH", table)]
    for module, start, size in entries:
        assert size > 0 and start + size <= modules[module].end - modules[module].start
    return Drcov(flavor, modules, entries)
