"""drcov: which blocks of which modules a run executed, as the tool of that name of DynamoRIO writes it.

Lighthouse (IDA, Binary Ninja), bncov (Binary Ninja), Lightkeeper (Ghidra) and drcov2lcov read it. It is text
up to the line that heads the table of blocks, and binary behind it: of each block ``u32`` offset from the
base of its module, ``u16`` bytes, ``u16`` number of its module. Version 2 of the format counts offsets from
the module's base (version 3 does from a segment's), version 4 of its table of modules is the one that all of
these readers know. DynamoRIO's source is what describes both (``ext/drcovlib``).
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from barnum.errors import InputError, ParsedTraceError, SampleError
from barnum.exporting.exporter import Exporter
from barnum.paths import Blocks, Kind, PathReader, open_path
from barnum.samples import Process, Sample
from barnum.texts import printable

_log = logging.getLogger(__name__)
# the number behind them stands for "no module" in what DynamoRIO writes
_MOST_MODULES = (1 << 16) - 1
_LONGEST = (1 << 16) - 1
_SPACE = 1 << 32
_HIGHEST = (1 << 64) - 1
# pieces of long blocks: 64 GiB of code that runs straight on
_MOST_PIECES = 1 << 20
# bytes of a path; DynamoRIO's own reader has room for 259 of them
_LONGEST_PATH = 255
_ENTRY = np.dtype([("start", "<u4"), ("size", "<u2"), ("module", "<u2")])

Bool = NDArray[np.bool_]
I64 = NDArray[np.int64]


class DrcovExporter(Exporter):
    """Writes each block once, in the order of the table of blocks. A module that several processes
    have is one; its addresses are those of the first of them."""

    name = "drcov"

    def export(self, sample: Sample, bin_dir: Path, file: BinaryIO) -> str:
        if sample.parsed is None:
            raise SampleError(f"{sample.folder}: is not preprocessed: run barnum preprocess on it first")
        path = open_path(sample.parsed)
        if path.blocks.text is not None:
            raise ParsedTraceError(
                f"{path.file}: rows of the original do not say how long blocks are: preprocess the recorded "
                "trace to Parquet"
            )
        kept = _kept(path)
        module = path.blocks.module[kept]
        first = np.sort(np.unique(module, return_index=True)[1])
        entries = _entries(path, kept, _numbers(module, first))
        modules, mode = _modules(sample, bin_dir, path.blocks, kept, first)
        head = (
            f"DRCOV VERSION: 2\nDRCOV FLAVOR: drcov-{mode}\nModule Table: version 4, count {len(modules)}\n"
            "Columns: id, containing_id, start, end, entry, offset, path\n"
        )
        table = "".join(each.line(number) for number, each in enumerate(modules))
        file.write(f"{head}{table}BB Table: {len(entries)} bbs\n".encode())
        file.write(entries.tobytes())
        return f"{len(kept):,} blocks of {len(modules):,} modules"


DRCOV = DrcovExporter()


def _kept(path: PathReader) -> I64:
    """Numbers of the blocks that were executed and can be written, each place of code once."""
    blocks = path.blocks
    kept: Bool = np.zeros(len(blocks), np.bool_)
    for chunk in path.chunks():
        kept[chunk.block] = True
    length = blocks.length.astype(np.uint64)

    def leave_out(these: Bool, why: str) -> None:
        count = int(np.count_nonzero(kept & these))
        if count:
            _log.warning("%s: left out %s blocks that %s", path.file, f"{count:,}", why)
            kept[these] = False

    leave_out(blocks.kind == Kind.UNKNOWN, "are places without known code")
    leave_out(blocks.module < 0, "lie in no module")
    leave_out(blocks.offset > np.uint64(_SPACE) - length, "lie beyond 4 GiB of their module")
    leave_out(length == 0, "have no length")
    used, first = np.unique(blocks.module[kept], return_index=True)
    beyond = used[np.argsort(first)][_MOST_MODULES:]
    leave_out(np.isin(blocks.module, beyond), f"lie in further modules than the first {_MOST_MODULES:,}")
    numbers = np.flatnonzero(kept)
    places = np.stack([blocks.module[numbers].astype(np.uint64), blocks.offset[numbers], length[numbers]])
    return numbers[np.sort(np.unique(places, axis=1, return_index=True)[1])]


def _numbers(module: NDArray[np.int32], first: I64) -> I64:
    """Number of each block's module in the table, which begins with the module of the block ``first[0]``."""
    number = np.zeros(int(module.max(initial=0)) + 1, np.int64)
    number[module[first]] = np.arange(len(first))
    return number[module]


def _entries(path: PathReader, kept: I64, module: I64) -> NDArray[Any]:
    """The table of blocks; those that are too long for it come in pieces.

    Raises:
        ParsedTraceError: they claim more code than a program has.
    """
    offset, length = path.blocks.offset[kept].astype(np.int64), path.blocks.length[kept].astype(np.int64)
    pieces = -(-length // _LONGEST)
    if int(pieces.sum()) - len(kept) > _MOST_PIECES:
        raise ParsedTraceError(
            f"{path.file}: its blocks claim {int(length.sum()):,} bytes of code: damaged or hostile"
        )
    index = np.repeat(np.arange(len(kept)), pieces)
    skipped = _LONGEST * (np.arange(len(index)) - (np.cumsum(pieces) - pieces)[index])
    entries = np.empty(len(index), _ENTRY)
    entries["start"] = offset[index] + skipped
    entries["size"] = np.minimum(length[index] - skipped, _LONGEST)
    entries["module"] = module[index]
    return entries


@dataclass(frozen=True, slots=True)
class _Module:
    """A line of the table of modules: addresses [base, end), and the place of the base in the file."""

    base: int
    end: int
    offset: int
    path: str

    def line(self, number: int) -> str:
        # where the program begins in it is not known
        addresses = (self.base, self.end, 0, self.offset)
        numbers = ", ".join(f"0x{address:016x}" for address in addresses)
        return f"{number:3}, {number:3}, {numbers}, {_plain(self.path)}\n"


def _modules(
    sample: Sample, bin_dir: Path, blocks: Blocks, kept: I64, first: I64
) -> tuple[list[_Module], int]:
    """The modules of the blocks ``kept[first]``, as the sample's map has them; without one, as far as their
    blocks reach. And the mode of the first process."""
    number = _numbers(blocks.module[kept], first)
    reach = np.zeros(len(first), np.int64)
    np.maximum.at(reach, number, (blocks.offset[kept] + blocks.length[kept]).astype(np.int64))
    processes = _processes(sample, bin_dir, blocks.process[kept[first]].tolist())
    modules = []
    for block, size in zip(kept[first].tolist(), reach.tolist(), strict=True):
        start, path = int(blocks.start[block]), blocks.modules[int(blocks.module[block])]
        base, offset = (start - int(blocks.offset[block])) & _HIGHEST, 0
        process = processes.get(int(blocks.process[block]))
        mapped = process.mapping.find(start) if process else None
        if mapped is not None and (mapped.base, mapped.path) == (base, path):
            size, offset = max(size, mapped.end - base), mapped.regions[0].offset
        modules.append(_Module(base, min(base + size, _HIGHEST), offset, path))
    return modules, next((process.mode for process in processes.values()), 64)


def _processes(sample: Sample, bin_dir: Path, wanted: Collection[int]) -> dict[int, Process]:
    """Processes that are wanted, by index; none where the sample has no map that can be read."""
    if not wanted:
        return {}
    try:
        return {process.index: process for process in sample.processes(bin_dir, wanted)}
    except InputError as error:
        _log.warning("%s; modules are taken to end where their last block does", error)
        return {}


def _plain(path: str) -> str:
    """The end of a path, so that it neither ends its line or column nor is taken for the next table."""
    text = printable(path).replace(",", "?").replace("BB Table", "BB?Table")
    return text.encode()[-_LONGEST_PATH:].decode(errors="ignore").strip() or "?"
