"""Which transfers are learnt: filters on the kind of the source block, as array work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from barnum._sequences import TransferFilter as _Filter
from barnum.paths.blocks import U32, U64, Blocks, Bool, Chunk
from barnum.paths.kinds import Gap, Kind

U8 = NDArray[np.uint8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


class Source(Protocol):
    """Anything that gives a path: a reader, a Path in memory, or a Decoding, whose blocks grow meanwhile."""

    @property
    def blocks(self) -> Blocks: ...

    def chunks(self, rows: int = ...) -> Iterator[Chunk]: ...


class Learn(msgspec.Struct, frozen=True):
    """The kinds of transfers that are learnt.

    Indirect far transfers count as indirect jumps (``ijmp``). Other far transfers are never learnt.
    """

    ret: bool = True
    icall: bool = True
    ijmp: bool = True
    call: bool = False
    jmp: bool = False

    def kinds(self) -> tuple[Kind, ...]:
        """The chosen kinds."""
        chosen: list[Kind] = []
        if self.ret:
            chosen.append(Kind.RETURN)
        if self.icall:
            chosen.append(Kind.INDIRECT_CALL)
        if self.ijmp:
            chosen += [Kind.INDIRECT_JUMP, Kind.INDIRECT_FAR]
        if self.call:
            chosen.append(Kind.CALL)
        if self.jmp:
            chosen.append(Kind.JUMP)
        return tuple(chosen)

    def roles(self, blocks: Blocks) -> U8:
        """u8[k]: the sum of 1 if transfers out of a block are learnt, and 2 if it enters the kernel."""
        role = self.mask(blocks).astype(np.uint8)
        role[(blocks.kind == Kind.FAR) | (blocks.kind == Kind.INDIRECT_FAR)] += 2
        return role

    def mask(self, blocks: Blocks) -> Bool:
        """bool[k]: whether transfers out of each block are learnt."""
        chosen = np.zeros(256, np.bool_)
        chosen[list(self.kinds())] = True
        mask: Bool = chosen[blocks.kind]
        return mask


# after a gap of these causes the history says nothing about what follows: after unmapped code, too, as it is
# left only where tracing begins again. A signal or a pause of tracing is no such cause
RESTARTS = (Gap.START, Gap.OVERFLOW, Gap.LOST, Gap.UNMAPPED)


@dataclass(frozen=True, slots=True)
class Transfers:
    """m learnt transfers in order.

    ``source`` u32[m] and ``target`` u32[m] are indices into ``blocks``. ``position`` u64[m] is the step of
    the target in the path. ``first`` bool[m] is set where a model's state must start anew: at the first
    transfer of a stream, or after data was lost. ``entry`` i32[m] is the last block by which the kernel was
    entered since the transfer before; -1 if there was none, or if ``first`` is set.
    """

    blocks: Blocks
    source: U32
    target: U32
    position: U64
    first: Bool
    entry: I32

    def __len__(self) -> int:
        return len(self.source)

    def part(self, begin: int, end: int) -> Transfers:
        """The transfers ``begin : end``."""
        rows = slice(begin, end)
        return Transfers(
            self.blocks,
            self.source[rows],
            self.target[rows],
            self.position[rows],
            self.first[rows],
            self.entry[rows],
        )


@dataclass(frozen=True, slots=True)
class Windows:
    """m learnt transfers in order, and the steps that led to each.

    ``block`` u32[n] is a stretch of the path, and ``at`` i64[m] the index of each transfer's source in it.
    The window of a transfer is ``block[at - length + 1 : at + 1]``. Windows run on over gaps and from one
    stream into the next. A negative index means a step before the start of the path.
    """

    transfers: Transfers
    block: U32
    at: I64

    def __len__(self) -> int:
        return len(self.at)


def iter_transfers(path: Source, learn: Learn | None = None, limit: int | None = None) -> Iterator[Transfers]:
    """The learnt transfers of a path part by part, for paths larger than memory.

    ``learn`` says which kinds are learnt (default: Learn()); at most ``limit`` transfers are given in all.
    """
    found = TransferFilter(learn)
    left = limit
    for chunk in path.chunks():
        if not len(chunk.block):
            continue
        part = found.add(path.blocks if found.outgrown(chunk) else None, chunk)
        if left is not None:
            part = part.part(0, left)
            left -= len(part)
        yield part
        if left == 0:
            return


class TransferFilter:
    """Finds the learnt transfers of one path, chunk by chunk."""

    def __init__(self, learn: Learn | None = None) -> None:
        """``learn`` says which kinds are learnt (default: Learn())."""
        restart = np.zeros(256, np.bool_)
        restart[list(RESTARTS)] = True
        self._native = _Filter(restart)
        self._learn = learn or Learn()
        self._blocks: Blocks | None = None
        self._roles: U8 = np.zeros(0, np.uint8)

    def outgrown(self, chunk: Chunk) -> bool:
        """Whether the chunk names a block that is not in the table which was given last: where a path is
        being decoded, its table grows."""
        return len(chunk.block) > 0 and int(chunk.block.max()) >= len(self._roles)

    def add(self, blocks: Blocks | None, chunk: Chunk) -> Transfers:
        """The transfers that end in the next steps of the path.

        Args:
            blocks: the table of blocks, where it is another one than before; None: it is the same.
            chunk: the next steps.
        """
        if blocks is not None and blocks is not self._blocks:
            self._blocks = blocks
            self._roles = self._learn.roles(blocks)
        assert self._blocks is not None
        source, target, position, first, entry = self._native.add(
            self._roles, chunk.block, chunk.gap, None if self._learn.jmp else chunk.turns
        )
        return Transfers(self._blocks, source, target, position, first.view(np.bool_), entry)


def iter_windows(path: Source, learn: Learn | None = None, length: int = 32) -> Iterator[Windows]:
    """The same parts as iter_transfers() gives, with the steps for windows of ``length`` steps, 1 or more."""
    return _iter_parts(path, learn, length)


def gather(windows: Windows, token: NDArray[np.integer], length: int, pad: int, rows: slice) -> I64:
    """i64[r, length]: the windows of r transfers as tokens, the source last.

    Args:
        windows: a part from iter_windows().
        token: [k], the token of each block of the table.
        length: steps of a window, at most the length given to iter_windows().
        pad: the token of steps before the start of the path.
        rows: which transfers of the part, as a slice with step 1.
    """
    at = windows.at[rows]
    if not len(at):
        return np.zeros((0, length), np.int64)
    begin = int(at[0]) - length + 1
    missing = max(0, -begin)
    begin = max(0, begin)
    tokens = np.full(missing + int(at[-1]) + 1 - begin, pad, np.int64)
    tokens[missing:] = token[windows.block[begin : int(at[-1]) + 1]]
    gathered: I64 = sliding_window_view(tokens, length)[at - at[0]]
    return gathered


def _iter_parts(path: Source, learn: Learn | None, keep: int) -> Iterator[Windows]:
    """One part for each chunk. Each begins with the last ``keep`` steps of the part before."""
    blocks = path.blocks
    learn = learn or Learn()
    roles = learn.roles(blocks)
    restart = np.zeros(256, np.bool_)
    restart[list(RESTARTS)] = True
    last = np.zeros(0, np.uint32)
    pending = True  # whether there was a restart since the last transfer
    entered = -1  # the last block by which the kernel was entered since the last transfer
    position = 0  # of the chunk in the path
    for chunk in path.chunks():
        if not len(chunk.block):
            continue
        if int(chunk.block.max()) >= len(roles):
            # a path that is being decoded: its table of blocks has grown
            blocks = path.blocks
            roles = learn.roles(blocks)
        block = np.concatenate([last, chunk.block])
        # the first step that may be a source is the last one before the chunk
        begin = max(0, len(last) - 1)
        role = roles[block[begin:-1]]
        joined = (role & 1).astype(np.bool_)
        gap = chunk.gap[len(chunk.block) - len(joined) :]
        gaps = np.flatnonzero(gap)
        joined[gaps] = False
        at = np.flatnonzero(joined)
        first = np.zeros(len(at), np.bool_)
        # a restart is marked at the first transfer after it
        carriers = np.searchsorted(at, gaps[restart[gap[gaps]]])
        first[carriers[carriers < len(at)]] = True
        if len(at):
            first[0] |= pending
        pending = (pending and not len(at)) or bool((carriers == len(at)).any())
        entry = np.full(len(at), -1, np.int32)
        entries = np.flatnonzero(role & 2)
        carriers = np.searchsorted(at, entries)
        entry_blocks = block[begin + entries].astype(np.int32)
        carried = carriers < len(at)
        entry[carriers[carried]] = entry_blocks[carried]
        if len(at):
            entry[0] = entered if entry[0] < 0 else entry[0]
            entry[first] = -1
            entered = -1
        if not carried.all():
            entered = int(entry_blocks[-1])
        at += begin
        position_of_target = (at + (position - len(last) + 1)).astype(np.uint64)
        yield Windows(
            Transfers(blocks, block[at], block[at + 1], position_of_target, first, entry), block, at
        )
        last = block[-keep:]
        position += len(chunk.block)


def transfers(path: Source, learn: Learn | None = None, limit: int | None = None) -> Transfers:
    """The learnt transfers of a path in memory, at most ``limit`` of them; see iter_transfers()."""
    parts = list(iter_transfers(path, learn, limit))
    if not parts:
        nothing = np.zeros(0, np.uint32)
        return Transfers(
            path.blocks,
            nothing,
            nothing,
            np.zeros(0, np.uint64),
            np.zeros(0, np.bool_),
            np.zeros(0, np.int32),
        )
    return Transfers(
        parts[-1].blocks,
        np.concatenate([part.source for part in parts]),
        np.concatenate([part.target for part in parts]),
        np.concatenate([part.position for part in parts]),
        np.concatenate([part.first for part in parts]),
        np.concatenate([part.entry for part in parts]),
    )
