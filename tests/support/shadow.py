"""Made-up paths, and a model in Python of what a shadow stack says of their returns."""

from __future__ import annotations

import numpy as np

from barnum.paths import Blocks, Chunk, Kind

SIZE = 16  # bytes of a block


def table(kinds: list[int], base: int = 0x400000, module: str = "/bin/made", places=None) -> Blocks:
    """Blocks one behind the other, of these kinds."""
    count = len(kinds)
    kind = np.array(kinds, np.uint8)
    start = np.array(places if places is not None else [base + SIZE * n for n in range(count)], np.uint64)
    return Blocks(
        bbid=start - np.uint64(base) + np.uint64(77 << 32),
        kind=kind,
        module=np.zeros(count, np.int32),
        modules=(module,),
        offset=start - np.uint64(base),
        start=start,
        length=np.where(kind == Kind.UNKNOWN, 0, SIZE).astype(np.uint32),
        count=np.where(kind == Kind.UNKNOWN, 0, 4).astype(np.uint32),
        process=np.zeros(count, np.uint16),
    )


def chunk(steps: list[int], gaps: dict[int, int] | None = None) -> Chunk:
    """Steps of one stream, with a gap at its start and others by step."""
    gap = np.zeros(len(steps), np.uint8)
    gap[:1] = 1
    for step, cause in (gaps or {}).items():
        gap[step] = cause
    return Chunk(np.array(steps, np.uint32), gap, np.zeros(len(steps), np.uint16))


def watch_of(blocks: Blocks, function=None, start=None):
    """A Watch that knows these blocks; ``function`` and ``start`` as a finder would have them."""
    from barnum import _evidence
    from barnum.evidence.finder import ROLES

    role = np.zeros(256, np.uint8)
    for kind, value in ROLES.items():
        role[kind] = value
    count = len(blocks)
    watch = _evidence.Watch()
    after = blocks.start + blocks.length.astype(np.uint64)
    watch.extend(
        blocks.start,
        after,
        blocks.bbid + blocks.length.astype(np.uint64),
        blocks.bbid,
        np.zeros(count, np.uint32) if function is None else np.array(function, np.uint32),
        blocks.process,
        role[blocks.kind],
        np.zeros(count, np.uint8) if start is None else np.array(start, np.uint8),
    )
    return watch


MATCHED, UNWOUND, UNKNOWN, ELSEWHERE, RESUMED = 1, 2, 3, 4, 5


def model(rows: list[tuple[int, int, int]], starts: list[int]) -> list[int]:
    """What a plain shadow stack says of the transfer to each step, of a run without signals and switches.

    Args:
        rows: kind of the last instruction, and address behind it, of each step; third, its first address.
        starts: steps at which the stack is forgotten.
    """
    stack: list[int] = []
    verdicts = [0] * len(rows)
    fresh = set(starts)
    for step in range(1, len(rows)):
        kind, behind, _ = rows[step - 1]
        to = rows[step][2]
        if step in fresh:
            stack.clear()
            continue
        if kind in (Kind.CALL, Kind.INDIRECT_CALL):
            stack.append(behind)
        elif kind == Kind.RETURN:
            if stack and stack[-1] == to:
                verdicts[step] = MATCHED
                stack.pop()
            elif to in stack:
                verdicts[step] = UNWOUND
                while stack.pop() != to:
                    pass
            else:
                verdicts[step] = ELSEWHERE if stack else UNKNOWN
    return verdicts
