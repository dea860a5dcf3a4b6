"""Joins the memory maps of a process to one: where it had code at any time of its life."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import msgspec

from barnum.recording.raw import Mapped

# as many as a sample's map may have
_MAX_REGIONS = 1 << 17


class Regions:
    """Regions without overlaps, painted one over the other.

    A later region replaces what lay there before, but a region without code does not hide one with code: the
    memory of an unloaded library is soon used for other things, and blocks that ran before need its name.
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._regions: list[Mapped] = []
        self.ignored = 0

    def paint(self, region: Mapped) -> None:
        """Add a region that was mapped later than all before; beyond a bound it is only counted (ignored)."""
        if not region.executable and not region.path.startswith(b"/"):
            return  # heap, stack: no code
        if len(self._regions) >= _MAX_REGIONS:
            self.ignored += 1
            return
        first = bisect_right(self._starts, region.start) - 1
        if first < 0 or self._regions[first].end <= region.start:
            first += 1
        last = bisect_left(self._starts, region.end)
        result = []
        position = region.start
        for old in self._regions[first:last]:
            if old.start < region.start:
                result.append(_cut(old, old.start, region.start))
            begin, end = max(old.start, region.start), min(old.end, region.end)
            if begin > position:
                result.append(_cut(region, position, begin))
            if old.executable and not region.executable:
                result.append(_cut(old, begin, end))
            else:
                result.append(_cut(region, begin, end))
            position = end
            if old.end > region.end:
                result.append(_cut(old, region.end, old.end))
        if position < region.end:
            result.append(_cut(region, position, region.end))
        result = _joined(result)
        self._regions[first:last] = result
        self._starts[first:last] = [part.start for part in result]

    def all(self) -> list[Mapped]:
        """All regions, by address."""
        return list(self._regions)


def _cut(region: Mapped, start: int, end: int) -> Mapped:
    return msgspec.structs.replace(
        region, start=start, end=end, offset=region.offset + start - region.start if region.path else 0
    )


def _joined(regions: list[Mapped]) -> list[Mapped]:
    """The same regions, with adjoining pieces of one mapping joined."""
    result: list[Mapped] = []
    for region in regions:
        last = result[-1] if result else None
        if (
            last is not None
            and last.end == region.start
            and last.path == region.path
            and last.executable == region.executable
            and (not last.path or last.offset + last.end - last.start == region.offset)
        ):
            result[-1] = msgspec.structs.replace(last, end=region.end)
        else:
            result.append(region)
    return result
