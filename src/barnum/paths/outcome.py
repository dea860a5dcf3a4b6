"""What became of a run, and how much of it could be read: from its path and its sample folder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Protocol

from barnum.errors import SampleError
from barnum.evaluations.header import Source
from barnum.paths.blocks import GapDetails
from barnum.paths.kinds import Gap
from barnum.samples import Meta, read_meta

_log = logging.getLogger(__name__)


class WholePath(Protocol):
    """What is known of a path once its last step is: see PathReader, which is one."""

    @property
    def rows(self) -> int: ...

    @property
    def first_stream(self) -> int: ...

    @property
    def spawn(self) -> int | None: ...

    @property
    def header(self) -> dict[str, Any]: ...

    @property
    def gaps(self) -> GapDetails: ...


def source_of(path: WholePath, folder: Path) -> Source:
    """What became of a run, from its path and its sample folder."""
    meta = None
    file = folder / "meta.json"
    if file.is_file():
        try:
            meta = read_meta(file)
        except SampleError as error:
            _log.warning("%s: how the program ended is not known", error)
    header = path.header
    statistics = header.get("statistics")
    if not isinstance(statistics, dict):
        statistics = {}
    size, lost, unmapped = (_count(statistics.get(name)) for name in ("bytes", "bytes_lost", "unmapped"))
    share = None if size is None or lost is None else min(1.0, lost / max(size, 1))
    if meta is not None and share is not None:
        blocks = sum(stream.lost_blocks for stream in meta.streams)
        share = 1 - (1 - share) * (1 - blocks / max(1, blocks + path.rows))
    truncated = header.get("truncated") is not None
    spawn = path.spawn
    if spawn is None and truncated and meta is not None and meta.spawn is not None:
        spawn = path.rows  # the path breaks off before
    return Source(
        steps=path.rows,
        cut=None if spawn is None else min(spawn, path.first_stream),
        lost=share,
        truncated=truncated,
        intact=_intact(path, meta) if truncated or share else None,
        unmapped=unmapped,
        status=meta.exit.status if meta else None,
        signal=meta.exit.signal if meta else None,
        timeout=meta.exit.timeout if meta else None,
        children=meta.children if meta else None,
    )


def _intact(path: WholePath, meta: Meta | None) -> int | None:
    """Number of steps before anything was lost; None where it is not known."""
    header = path.header
    if header.get("truncated") == "report":
        # only its reader knows; see calls/path.py
        return _count(header.get("intact"))
    statistics = header.get("statistics")
    if isinstance(statistics, dict) and statistics.get("bytes_lost") and not len(path.gaps):
        return None
    # packets that are damaged or missing may be noticed late, and lead astray before
    if (path.gaps.cause == Gap.LOST).any():
        return None
    losses = [path.rows, *path.gaps.step.tolist()]
    stopped = {stream.file for stream in meta.streams if stream.lost_blocks} if meta is not None else set()
    streams = header.get("streams")
    if stopped and not isinstance(streams, list):
        return None
    end = 0
    for stream in streams if stopped and streams else []:
        steps = _count(stream.get("steps")) if isinstance(stream, dict) else None
        if steps is None:
            return None
        end += steps
        name = stream.get("file")
        if not isinstance(name, str):
            return None
        if name in stopped:
            # what its recorder did not write would stand at its end
            losses.append(end)
    return int(min(losses))


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
