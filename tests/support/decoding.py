"""What the decoder's tests share: recorded samples, and a trace decoded to its steps."""

import gzip
import itertools
import json
from pathlib import Path

import numpy as np

from barnum._decoder import AddressSpace, BlockTable, Decoder
from pt_program import Step

BASE = 0x400000
START, OFF, ASYNC, OVERFLOW, LOST, UNMAPPED, CHANGED = range(1, 8)
# kind of a place without known code
UNKNOWN = 9


class Recorded:
    """A sample recorded on hardware."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.expected = json.loads((folder / "expected.json").read_text())
        self.trace = gzip.decompress((folder / "trace_0.gz").read_bytes())
        cpu = self.expected["cpu"]
        self.cpu = (*map(int, cpu.split("/")), 0) if cpu else None

    def space(self) -> AddressSpace:
        space = AddressSpace(64)
        for line in (self.folder / "mapping.txt").read_text().splitlines():
            fields = line.split(maxsplit=5)
            start, end = (int(x, 16) for x in fields[0].split("-"))
            space.add_file(str(self.folder / "extract" / Path(fields[5]).name), 0, end - start, start)
        return space


def drain(decoder: Decoder, limit: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    ids, gaps = [], []
    while True:
        some_ids, some_gaps, _ = decoder.read(limit)
        assert len(some_ids) == len(some_gaps) <= limit
        if not len(some_ids):
            return ids, gaps
        ids.append(some_ids)
        gaps.append(some_gaps)


def decode(
    decoder: Decoder, trace: bytes, cuts: list[int] | None = None, limit: int = 1 << 20
) -> tuple[np.ndarray, np.ndarray]:
    ids, gaps = [np.empty(0, np.uint32)], [np.empty(0, np.uint8)]
    edges = [0, *sorted(cuts or []), len(trace)]
    for i, (begin, end) in enumerate(itertools.pairwise(edges)):
        decoder.feed(trace[begin:end], final=i == len(edges) - 2)
        more_ids, more_gaps = drain(decoder, limit)
        ids += more_ids
        gaps += more_gaps
    return np.concatenate(ids), np.concatenate(gaps)


def space_of(code: bytes, base: int = BASE, mode: int = 64) -> AddressSpace:
    space = AddressSpace(mode)
    space.add_bytes(code, base)
    return space


def steps_of(
    trace: bytes, space: AddressSpace, plain: bool = True, cuts: list[int] | None = None, limit: int = 1 << 20
) -> tuple[list[Step], Decoder]:
    table = BlockTable()
    decoder = Decoder(space, table, plain=plain)
    ids, gaps = decode(decoder, trace, cuts, limit)
    columns = table.arrays()
    start, end, count, kind = (columns[c][ids].tolist() for c in ("start", "end", "count", "kind"))
    return list(zip(start, end, count, kind, gaps.tolist(), strict=True)), decoder


def gaps_of(decoder: Decoder) -> list[tuple[int, int]]:
    return [(step, cause) for step, cause, *_ in decoder.gaps()]
