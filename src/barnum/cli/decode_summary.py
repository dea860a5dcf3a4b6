"""The summary that ``barnum decode`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from barnum.paths.kinds import Kind
from barnum.texts import printable

if TYPE_CHECKING:
    from barnum.paths.decode import Decoding

_PAGES_SHOWN = 10
_PLACES_SHOWN = 10
_NO_MODULE = "(in no module)"


def summarize(decoding: Decoding) -> str:
    """Decode all and say what was decoded, lost and unmapped, and how it spreads over modules and streams."""
    times = np.zeros(0, np.int64)
    for chunk in decoding.chunks():
        counted = np.bincount(chunk.block, minlength=len(times))
        counted[: len(times)] += times
        times = counted
    blocks = decoding.blocks
    times = np.pad(times, (0, len(blocks) - len(times)))
    statistics = decoding.statistics
    lost = statistics["bytes_lost"]
    header = decoding.header()
    instructions = times * blocks.count
    lines = [
        f"sample        {printable(header['name'])} ({header['label']})",
        f"bytes         {statistics['bytes'] - lost:,} decoded, {lost:,} lost",
        f"blocks        {decoding.steps:,} ({int((times > 0).sum()):,} distinct)",
        f"instructions  {int(instructions.sum()):,}",
        f"unmapped      {statistics['unmapped']:,} times in {len(decoding.unmapped):,} pages",
        *_unknown(blocks, times),
        "gaps          "
        + (", ".join(f"{count:,} {name}" for name, count in decoding.causes.items()) or "none"),
    ]
    lines += ["", f"{'blocks':>15} {'instructions':>15} {'share':>7}  module"]
    total = max(int(instructions.sum()), 1)
    for name, block_count, instruction_count in _by_module(blocks, times, instructions):
        share = instruction_count / total
        lines.append(f"{block_count:>15,} {instruction_count:>15,} {share:>7.2%}  {printable(name)}")
    lines += _losses(decoding)
    lines += ["", f"{'blocks':>15} {'process':>7} {'thread':>9}  stream"]
    for stream in header["streams"]:
        note = f" ({printable(stream['broken'])})" if "broken" in stream else ""
        if "ends_at" in stream:
            end = stream["ends_at"]
            note += f", ends at {end['address']}, where no code is known ({printable(end['place'])})"
        lines.append(
            f"{stream['steps']:>15,} {stream['process']:>7} {stream['thread']:>9}  {stream['file']}{note}"
        )
    if decoding.missing:
        lines += ["", f"without image: {', '.join(map(printable, decoding.missing))}"]
    if decoding.unmapped:
        most = sorted(decoding.unmapped.items(), key=lambda page: (-page[1], page[0]))[:_PAGES_SHOWN]
        lines += ["", "unmapped pages: " + ", ".join(f"{page:x} ({count:,})" for page, count in most)]
    return "\n".join(lines)


def _unknown(blocks: Any, times: Any) -> list[str]:
    """A line on transfers to places without known code, where there are any."""
    places = np.flatnonzero((blocks.kind == Kind.UNKNOWN) & (times > 0))
    if not len(places):
        return []
    most = places[np.argsort(-times[places], kind="stable")][:_PLACES_SHOWN].tolist()
    shown = [f"{int(blocks.start[at]):x} in {printable(blocks.modules[blocks.module[at]])}" for at in most]
    more = ", …" if len(places) > len(most) else ""
    return [
        f"unknown       {int(times[places].sum()):,} transfers to {len(places):,} places without known code: "
        + ", ".join(shown)
        + more
    ]


def _losses(decoding: Decoding) -> list[str]:
    """A table of the modules in which something could not be decoded."""
    rows = [
        (loss.bytes_lost, loss.gaps, loss.unmapped, loss.pages, loss.module or _NO_MODULE)
        for loss in decoding.losses()
    ]
    # only so many gaps and pages are kept one by one
    lost = decoding.statistics["bytes_lost"] - sum(row[0] for row in rows)
    unmapped = decoding.statistics["unmapped"] - sum(row[2] for row in rows)
    if lost > 0 or unmapped > 0:
        rows.append((max(lost, 0), 0, max(unmapped, 0), 0, "(not told apart)"))
    if not rows:
        return []
    lines = ["", f"{'bytes lost':>15} {'gaps':>9} {'unmapped':>11} {'pages':>7}  module"]
    for lost, gaps, unmapped, pages, name in rows:
        lines.append(f"{lost:>15,} {gaps:>9,} {unmapped:>11,} {pages:>7,}  {printable(name)}")
    return lines


def _by_module(blocks: Any, times: Any, instructions: Any) -> list[tuple[str, int, int]]:
    index = blocks.module + 1  # 0: in no module
    size = len(blocks.modules) + 1
    block_counts = np.bincount(index, weights=times, minlength=size).astype(np.int64)
    instruction_counts = np.bincount(index, weights=instructions, minlength=size).astype(np.int64)
    names = [_NO_MODULE, *blocks.modules]
    rows = [
        (name, int(some), int(most))
        for name, some, most in zip(names, block_counts, instruction_counts, strict=True)
        if some
    ]
    return sorted(rows, key=lambda row: (-row[2], row[0]))
