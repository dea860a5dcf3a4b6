"""Which transfers are learnt: filters on the kind of the source block, as array work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from barnum.paths.blocks import U32, U64, Blocks, Bool, Chunk
from barnum.paths.kinds import Gap, Kind

U8 = NDArray[np.uint8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


class Source(Protocol):
    """Anything that holds a path: a reader, a Path in memory, or a Decoding, whose table grows on the way."""

    @property
    def blocks(self) -> Blocks: ...

    def chunks(self, rows: int = ...) -> Iterator[Chunk]: ...


class Learn(msgspec.Struct, frozen=True):
    """Kinds of transfers that are learnt. Far transfers count where they are indirect, as jumps."""

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
        """u8[k]: 1 where transfers out of a block are learnt, 2 more where it enters the kernel."""
        role = self.mask(blocks).astype(np.uint8)
        role[(blocks.kind == Kind.FAR) | (blocks.kind == Kind.INDIRECT_FAR)] += 2
        return role

    def mask(self, blocks: Blocks) -> Bool:
        """bool[k]: whether transfers out of each block are learnt."""
        chosen = np.zeros(256, np.bool_)
        chosen[list(self.kinds())] = True
        mask: Bool = chosen[blocks.kind]
        return mask


# after these nothing that was remembered holds: code without an image is left only where tracing starts anew.
# a signal or a pause of tracing leaves the program as it was
RESTARTS = (Gap.START, Gap.OVERFLOW, Gap.LOST, Gap.UNMAPPED)


@dataclass(frozen=True, slots=True)
class Transfers:
    """m learnt transfers in order.

    ``source`` u32[m] and ``target`` u32[m] number ``blocks``; ``position`` u64[m] is the step of the target
    in the path; ``first`` bool[m] tells where a model's state must start anew: in a new stream, or where data
    was lost since the transfer before. ``entry`` i32[m] is the block by which the kernel was entered since
    the transfer before (the last one, where there are several), -1 where none was, and where ``first``.
    """

    blocks: Blocks
    source: U32
    target: U32
    position: U64
    first: Bool
    entry: I32

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True, slots=True)
class Windows:
    """m learnt transfers in order, and the steps that led to each.

    ``block`` u32[n] is a stretch of the path; ``at`` i64[m] is where in it each transfer's source is. The
    window of a transfer is ``block[at - length + 1 : at + 1]``. It runs on over gaps and from one stream into
    the next; what would lie before ``block`` lies before the path.
    """

    transfers: Transfers
    block: U32
    at: I64

    def __len__(self) -> int:
        return len(self.at)


def iter_transfers(path: Source, learn: Learn | None = None, limit: int | None = None) -> Iterator[Transfers]:
    """The learnt transfers of a path part by part, for paths larger than memory; at most ``limit`` in all."""
    for part in _iter_parts(path, learn, limit, 1):
        yield part.transfers


def iter_windows(path: Source, learn: Learn | None = None, length: int = 32) -> Iterator[Windows]:
    """The same parts as of iter_transfers, with windows of ``length`` steps, 1 or more."""
    return _iter_parts(path, learn, None, length)


def gather(windows: Windows, token: NDArray[np.integer], length: int, pad: int, rows: slice) -> I64:
    """i64[r, length]: windows of the transfers ``rows`` as tokens, the source last; ``pad`` before the path.

    ``token`` [k] is that of each block of the table; ``rows`` has no step, and ``length`` is at most that
    given to iter_windows.
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


def _iter_parts(path: Source, learn: Learn | None, limit: int | None, keep: int) -> Iterator[Windows]:
    """A part a chunk, whose first ``keep`` steps are the last ones of the part before."""
    blocks = path.blocks
    learn = learn or Learn()
    roles = learn.roles(blocks)
    restart = np.zeros(256, np.bool_)
    restart[list(RESTARTS)] = True
    last = np.zeros(0, np.uint32)
    pending = True  # a restart that no transfer has carried yet
    entered = -1  # block of a way into the kernel that no transfer has carried yet
    position = 0  # of the chunk in the path
    left = limit
    for chunk in path.chunks():
        if not len(chunk.block):
            continue
        if int(chunk.block.max()) >= len(roles):
            # a path that is being decoded: its table grows with it
            blocks = path.blocks
            roles = learn.roles(blocks)
        block = np.concatenate([last, chunk.block])
        # the first step that may be a source: the last one before the chunk, where there is one
        begin = max(0, len(last) - 1)
        role = roles[block[begin:-1]]
        joined = (role & 1).astype(np.bool_)
        gap = chunk.gap[len(chunk.block) - len(joined) :]
        gaps = np.flatnonzero(gap)
        joined[gaps] = False
        at = np.flatnonzero(joined)
        if left is not None:
            at = at[:left]
            left -= len(at)
        first = np.zeros(len(at), np.bool_)
        # each restart is carried by the first transfer after it
        carriers = np.searchsorted(at, gaps[restart[gap[gaps]]])
        first[carriers[carriers < len(at)]] = True
        if len(at):
            first[0] |= pending
        pending = (pending and not len(at)) or bool((carriers == len(at)).any())
        entry = np.full(len(at), -1, np.int32)
        into = np.flatnonzero(role & 2)
        carriers = np.searchsorted(at, into)
        ways = block[begin + into].astype(np.int32)
        here = carriers < len(at)
        entry[carriers[here]] = ways[here]
        if len(at):
            entry[0] = entered if entry[0] < 0 else entry[0]
            entry[first] = -1
            entered = -1
        if not here.all():
            entered = int(ways[-1])
        at += begin
        position_of_target = (at + (position - len(last) + 1)).astype(np.uint64)
        yield Windows(
            Transfers(blocks, block[at], block[at + 1], position_of_target, first, entry), block, at
        )
        last = block[-keep:]
        position += len(chunk.block)
        if left == 0:
            return


def transfers(path: Source, learn: Learn | None = None, limit: int | None = None) -> Transfers:
    """The learnt transfers of a path, at most ``limit`` of them."""
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
