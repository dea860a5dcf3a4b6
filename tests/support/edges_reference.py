"""What a run's distinct transfers are, counted plainly: one transfer after the other, in dicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from barnum.paths import Blocks, Transfers
from barnum.sequences import REACH, WHOLE, Edges, RunEdges, Tokens
from barnum.sequences.edges import STRETCHES, Entries

SHORTEST = 1024


@dataclass
class Counted:
    """``edges`` by (site, target): kind, how often, when first; ``ways`` by (site, target, entry): when
    first."""

    transfers: int = 0
    edges: dict[tuple[int, int], tuple[int, int, int]] = field(default_factory=dict)
    ways: dict[tuple[int, int, int], int] = field(default_factory=dict)


def counted(parts: Sequence[Transfers], tokens: Tokens = WHOLE) -> tuple[Counted, list[Counted]]:
    """A run, and its stretches."""
    rows, length = [], SHORTEST
    for part in parts:
        while not rows and len(part) >= 2 * STRETCHES * length:
            length *= 2
        columns = (part.source, part.target, part.first, part.entry)
        rows += zip(*(column.tolist() for column in columns), strict=True)
    stretches, begin = [], 0
    while begin < len(rows):
        stretches.append(_stretch(rows, begin, min(begin + length, len(rows)), parts[-1].blocks, tokens))
        begin += length
        if len(stretches) == 2 * STRETCHES and begin <= len(rows):
            stretches = [_joined(stretches[i : i + 2]) for i in range(0, len(stretches), 2)]
            length *= 2
    return _joined(stretches), stretches


def _stretch(
    rows: list[tuple[int, int, bool, int]], begin: int, end: int, blocks: Blocks, tokens: Tokens
) -> Counted:
    site, target = tokens.sites(blocks).tolist(), tokens.targets(blocks).tolist()
    made = Counted(end - begin)
    # where blocks of several kinds have one name, the first of them says the kind
    for source, reached, *_ in sorted(rows[begin:end]):
        made.edges.setdefault((site[source], target[reached]), (int(blocks.kind[source]), 0, end))
    for at in range(begin, end):
        source, reached, _, entry = rows[at]
        kind, count, first = made.edges[site[source], target[reached]]
        made.edges[site[source], target[reached]] = (kind, count + 1, min(first, at))
        if entry < 0:
            continue
        back = at
        while back > max(0, at - REACH) and not rows[back][2]:
            back -= 1
            source, reached, *_ = rows[back]
            made.ways.setdefault((site[source], target[reached], site[entry]), at)
    return made


def _joined(stretches: Sequence[Counted]) -> Counted:
    made = Counted()
    for stretch in stretches:
        made.transfers += stretch.transfers
        for edge, (kind, count, first) in stretch.edges.items():
            mine = made.edges.get(edge, (kind, 0, first))
            made.edges[edge] = (mine[0], mine[1] + count, mine[2])
        for way, first in stretch.ways.items():
            made.ways.setdefault(way, first)
    return made


def assert_counts(run: RunEdges, parts: Sequence[Transfers], tokens: Tokens = WHOLE) -> None:
    """A run was counted as it would be here."""
    whole, stretches = counted(parts, tokens)
    assert len(run.stretches) == len(run.stretch_entries) == len(stretches) <= 2 * STRETCHES
    pairs = zip(run.stretches, run.stretch_entries, stretches, strict=True)
    for edges, entries, wanted in [(run.whole, run.entries, whole), *pairs]:
        assert_edges(edges, wanted)
        assert_entries(entries, wanted)


def assert_edges(edges: Edges, wanted: Counted) -> None:
    columns = (edges.site, edges.target, edges.kind, edges.count, edges.first)
    assert [column.dtype.str for column in columns] == ["<u8", "<u8", "|u1", "<i8", "<i8"]
    found = list(zip(*(column.tolist() for column in columns), strict=True))
    assert found == [(*edge, *row) for edge, row in sorted(wanted.edges.items())]
    assert edges.transfers == wanted.transfers


def assert_entries(entries: Entries, wanted: Counted) -> None:
    columns = (entries.site, entries.target, entries.entry, entries.first)
    assert [column.dtype.str for column in columns] == ["<u8", "<u8", "<u8", "<i8"]
    found = list(zip(*(column.tolist() for column in columns), strict=True))
    assert found == [(*way, first) for way, first in sorted(wanted.ways.items())]
