"""What a path consists of: a table of blocks, and for each step an index into it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
I32 = NDArray[np.int32]
Bool = NDArray[np.bool_]
# no module is as large, and no reader of JSON would have the number
OFFSET_LIMIT = 1 << 53


@dataclass(frozen=True, slots=True)
class Blocks:
    """The distinct blocks of one path, in order of first appearance; k of them.

    ``bbid`` u64[k], ``kind`` u8[k] (see kinds.Kind), ``module`` i32[k] index into ``modules`` (-1: none),
    ``offset`` u64[k] from the module's base, ``start`` u64[k] address of the first instruction,
    ``length`` u32[k] bytes, ``count`` u32[k] instructions, ``process`` u16[k] number of the process.

    For blocks imported from the original's rows ``start``, ``length`` and ``count`` are unknown (0). These
    blocks have the ``text`` and the ``mnemonic`` of their last instruction, and its number of ``words``
    u8[k]; all three are None for decoded blocks.
    """

    bbid: U64
    kind: U8
    module: I32
    modules: tuple[str, ...]
    offset: U64
    start: U64
    length: U32
    count: U32
    process: U16
    text: list[str] | None = None
    mnemonic: list[str] | None = None
    words: U8 | None = None

    def extended(self, more: Blocks) -> Blocks:
        """These decoded blocks, and behind them ``more``, whose ``modules`` begin with those of these."""
        return Blocks(
            bbid=np.concatenate([self.bbid, more.bbid]),
            kind=np.concatenate([self.kind, more.kind]),
            module=np.concatenate([self.module, more.module]),
            modules=more.modules,
            offset=np.concatenate([self.offset, more.offset]),
            start=np.concatenate([self.start, more.start]),
            length=np.concatenate([self.length, more.length]),
            count=np.concatenate([self.count, more.count]),
            process=np.concatenate([self.process, more.process]),
        )

    def __repr__(self) -> str:
        return f"<Blocks: {len(self):,} in {len(self.modules):,} modules>"

    def __len__(self) -> int:
        return len(self.bbid)

    def part(self, begin: int, end: int) -> Blocks:
        """The blocks ``begin : end``."""
        rows = slice(begin, end)
        columns = {
            each.name: column[rows]
            for each in fields(self)
            if each.name != "modules" and (column := getattr(self, each.name)) is not None
        }
        return replace(self, **columns)


class Chunk(NamedTuple):
    """A stretch of a path: ``block`` u32[n], ``gap`` u8[n] (see kinds.Gap), ``stream`` u16[n].

    ``turns`` u32[t], where they are told, are indices of steps, ascending: of all whose block ends with a
    call, a return, an indirect or a far branch, or has no known code, and of some others.
    """

    block: U32
    gap: U8
    stream: U16
    turns: U32 | None = None

    @classmethod
    def empty(cls) -> Chunk:
        """No steps."""
        return cls(np.zeros(0, np.uint32), np.zeros(0, np.uint8), np.zeros(0, np.uint16))

    def part(self, begin: int, end: int) -> Chunk:
        """The steps ``begin : end``."""
        turns = self.turns
        if turns is not None:
            low, high = np.searchsorted(turns, (begin, min(end, len(self.block))))
            turns = turns[low:high] - np.uint32(begin)
        return Chunk(self.block[begin:end], self.gap[begin:end], self.stream[begin:end], turns)


@dataclass(frozen=True, slots=True)
class GapDetails:
    """Overflows, losses and missing code one by one: the first 65,536 of a stream, 1,048,576 in all.

    ``step`` u64[g] is the step of the path after the gap, ``cause`` u8[g] (see kinds.Gap), ``stream`` u16[g],
    ``offset`` u64[g] the byte in the raw stream, ``address`` u64[g] where decoding was last (0: unknown),
    ``bytes_lost`` u64[g] bytes of the stream until decoding could go on.
    """

    step: U64
    cause: U8
    stream: U16
    offset: U64
    address: U64
    bytes_lost: U64

    @classmethod
    def empty(cls) -> GapDetails:
        """No gaps."""
        wide = np.zeros(0, np.uint64)
        return cls(wide, np.zeros(0, np.uint8), np.zeros(0, np.uint16), wide, wide, wide)

    @classmethod
    def join(cls, parts: Sequence[GapDetails]) -> GapDetails:
        """The gaps of all parts, in turn."""
        if not parts:
            return cls.empty()
        names = ("step", "cause", "stream", "offset", "address", "bytes_lost")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def __len__(self) -> int:
        return len(self.step)


@dataclass(frozen=True, slots=True)
class Path:
    """A whole path in memory: n steps over ``blocks``.

    ``block`` u32[n], ``gap`` u8[n], ``stream`` u16[n]; ``header`` is the JSON document of the file. There is
    a transfer from step i to step i + 1 where ``gap[i + 1]`` is 0, of kind ``blocks.kind[block[i]]``.
    """

    blocks: Blocks
    block: U32
    gap: U8
    stream: U16
    header: dict[str, Any] = field(default_factory=dict)
    gaps: GapDetails = field(default_factory=GapDetails.empty)

    def __len__(self) -> int:
        return len(self.block)

    def __repr__(self) -> str:
        return f"<Path: {len(self):,} steps over {len(self.blocks):,} blocks>"

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """A table of the steps; see paths.arrow."""
        from barnum.paths.arrow import stream_of

        return stream_of(self.blocks, self.chunks(), requested_schema)

    def chunks(self, rows: int = 1 << 20) -> Iterator[Chunk]:
        """The path in stretches of at most ``rows`` steps."""
        for begin in range(0, len(self.block), rows):
            yield Chunk(self.block, self.gap, self.stream).part(begin, begin + rows)
