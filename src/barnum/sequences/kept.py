"""The training runs that a model keeps, so that more can be learnt later as if all were learnt at once.

What a model knows of new code comes from leaving each training run out in turn. So the distinct transfers of
all runs are kept: a row for each (stretch, edge), as indices into the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from barnum._sequences import STRETCHES, places_of
from barnum.errors import ModelError
from barnum.sequences.edges import Edges, Entries, RunEdges, add_up, all_of
from barnum.sequences.novelty import FEW_RUNS
from barnum.sequences.vocabulary import Vocabulary

Arrays = dict[str, NDArray[Any]]

_TYPES = {
    "stretches": np.uint32,
    "transfers": np.int64,
    "edges": np.uint32,
    "edge": np.uint32,
    "kind": np.uint8,
    "count": np.int64,
    "first": np.int64,
    "ways": np.uint32,
    "way_edge": np.uint32,
    "way_entry": np.uint64,
    "way_first": np.int64,
}
_EDGES = ("edge", "kind", "count", "first")
_WAYS = ("way_edge", "way_entry", "way_first")
_LONGEST_RUN = 1 << 42

NAMES = frozenset(_TYPES)
"""Names of the arrays in which runs are kept."""

MOST_TRANSFERS = 1 << 62
"""The most transfers that all runs together may have, so that sums stay within 63 bits."""


def pack_runs(vocabulary: Vocabulary, runs: Sequence[RunEdges]) -> Arrays:
    """Runs as arrays, in the numbers of the vocabulary that was learnt from them.

    ``stretches`` u32[runs]: how many stretches each run has; one, if there are FEW_RUNS or more. For each
    stretch: ``transfers`` i64, and ``edges`` u32 and ``ways`` u32, its numbers of rows. Rows of edges:
    ``edge`` u32, ``kind`` u8, ``count`` i64, ``first`` i64. Rows of ways into the kernel: ``way_edge`` u32,
    ``way_entry`` u64 (a token), ``way_first`` i64.
    """
    whole = len(runs) >= FEW_RUNS
    parts = [[run.whole] if whole else list(run.stretches) for run in runs]
    entered = [[run.entries] if whole else list(run.stretch_entries) for run in runs]
    edges = [edge for part in parts for edge in part]
    ways = [way for part in entered for way in part]
    find = _Finder(vocabulary)
    return {
        "stretches": np.array([len(part) for part in parts], np.uint32),
        "transfers": np.array([part.transfers for part in edges], np.int64),
        "edges": np.array([len(part) for part in edges], np.uint32),
        "edge": find(_joined(edges, "site", np.uint64), _joined(edges, "target", np.uint64)),
        "kind": _joined(edges, "kind", np.uint8),
        "count": _joined(edges, "count", np.int64),
        "first": _joined(edges, "first", np.int64),
        "ways": np.array([len(part) for part in ways], np.uint32),
        "way_edge": find(_joined(ways, "site", np.uint64), _joined(ways, "target", np.uint64)),
        "way_entry": _joined(ways, "entry", np.uint64),
        "way_first": _joined(ways, "first", np.int64),
    }


def check_runs(vocabulary: Vocabulary, arrays: Arrays, count: int | None = None) -> None:
    """Check arrays as unpack_runs() does, without making the runs; ``count`` is how many runs there must be.

    Raises:
        ModelError: arrays are missing or contradict each other or the vocabulary.
    """
    for name, dtype in _TYPES.items():
        if name not in arrays or arrays[name].dtype != dtype or arrays[name].ndim != 1:
            raise ModelError(f"it keeps no usable runs: {name} is missing or of another type")
    if count is not None and len(arrays["stretches"]) != count:
        raise ModelError("it keeps other runs than its document names")
    if not (_fit(arrays) and _usable(vocabulary, arrays)):
        raise ModelError("the runs that it keeps contradict themselves")


def _fit(arrays: Arrays) -> bool:
    """Whether the numbers of rows are right, and no run or stretch is empty: so the size of a file bounds
    the number of stretches."""
    stretches, edges, ways = (arrays[name].astype(np.int64) for name in ("stretches", "edges", "ways"))
    most = 1 if len(stretches) >= FEW_RUNS else 2 * STRETCHES
    return (
        bool(((stretches >= 1) & (stretches <= most)).all())
        and all(len(arrays[name]) == int(stretches.sum()) for name in ("transfers", "edges", "ways"))
        and bool((edges >= 1).all())
        and all(len(arrays[name]) == int(edges.sum()) for name in _EDGES)
        and all(len(arrays[name]) == int(ways.sum()) for name in _WAYS)
    )


def _usable(vocabulary: Vocabulary, arrays: Arrays) -> bool:
    """Whether the rows can be those of runs."""
    edge, way_edge = (arrays[name].astype(np.int64) for name in ("edge", "way_edge"))
    count, transfers = arrays["count"], arrays["transfers"]
    size = len(vocabulary.edge_target)
    if not len(edge):
        return True
    if (
        max(int(edge.max()), int(way_edge.max(initial=0))) >= size
        or int(count.min()) < 1
        # as floats first, as the sum may exceed 64 bits
        or float(count.sum(dtype=np.float64)) > 1.5 * MOST_TRANSFERS
        or int(count.sum()) > MOST_TRANSFERS
    ):
        return False
    stretch, way_stretch = (np.repeat(np.arange(len(transfers)), arrays[name]) for name in ("edges", "ways"))
    run_of = np.repeat(np.arange(len(arrays["stretches"])), arrays["stretches"])
    run, way_run = run_of[stretch], run_of[way_stretch]
    if bool((np.add.reduceat(count, _starts(arrays["edges"])) != transfers).any()):
        return False
    longest = np.add.reduceat(transfers, _starts(arrays["stretches"]))
    if int(longest.max()) > _LONGEST_RUN:
        return False
    # the transfer after an entry may be one after the last
    first, way_first = arrays["first"], arrays["way_first"]
    if not bool(((first >= 0) & (first < longest[run])).all()):
        return False
    if not bool(((way_first >= 0) & (way_first <= longest[way_run])).all()):
        return False
    # rows are in the order of tokens, and none comes twice
    key = vocabulary.edge_site.astype(np.int64) * len(vocabulary.target) + vocabulary.edge_target
    if not ascend(stretch, key[edge]) or not ascend(way_stretch, key[way_edge], arrays["way_entry"]):
        return False
    # ways are looked up among the edges of their run
    return bool(np.isin(way_run * size + way_edge, run * size + edge).all())


def ascend(*columns: NDArray[Any]) -> bool:
    """Whether the rows of columns [n] are strictly ascending; the first column counts most."""
    less = np.zeros(max(0, len(columns[0]) - 1), np.bool_)
    equal = ~less
    for column in columns:
        less |= equal & (column[1:] > column[:-1])
        equal &= column[1:] == column[:-1]
    return bool(less.all())


def unpack_runs(vocabulary: Vocabulary, arrays: Arrays, count: int | None = None) -> list[RunEdges]:
    """The reverse of pack_runs(); ``count`` is how many runs there must be.

    Raises:
        ModelError: arrays are missing or contradict each other or the vocabulary.
    """
    check_runs(vocabulary, arrays, count)
    stretches, per_edge, per_way = (arrays[name].astype(np.int64) for name in ("stretches", "edges", "ways"))
    site, target = vocabulary.site[vocabulary.edge_site], vocabulary.target[vocabulary.edge_target]
    edges, ways = [], []
    for i, begin in enumerate(_begins(per_edge)):
        part = slice(begin, begin + int(per_edge[i]))
        edge = arrays["edge"][part]
        kind, times, first = (arrays[name][part] for name in ("kind", "count", "first"))
        edges.append(Edges(site[edge], target[edge], kind, times, first, int(arrays["transfers"][i])))
    for i, begin in enumerate(_begins(per_way)):
        part = slice(begin, begin + int(per_way[i]))
        edge = arrays["way_edge"][part]
        ways.append(Entries(site[edge], target[edge], arrays["way_entry"][part], arrays["way_first"][part]))
    runs = []
    for begin, size in zip(_begins(stretches), stretches.tolist(), strict=True):
        part = slice(begin, begin + size)
        runs.append(RunEdges(add_up(edges[part]), tuple(edges[part]), all_of(ways[part]), tuple(ways[part])))
    return runs


class _Finder:
    """Finds the indices of edges, by their tokens."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        key = vocabulary.edge_site.astype(np.int64) * len(vocabulary.target) + vocabulary.edge_target
        self._order = np.argsort(key)
        self._key = key[self._order].view(np.uint64)

    def __call__(self, site: NDArray[np.uint64], target: NDArray[np.uint64]) -> NDArray[np.uint32]:
        sites = places_of(self._vocabulary.site, site)
        key = sites * len(self._vocabulary.target) + places_of(self._vocabulary.target, target)
        return self._order[places_of(self._key, key.view(np.uint64))].astype(np.uint32)


def _joined(parts: Sequence[Edges] | Sequence[Entries], name: str, dtype: type) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *(getattr(part, name) for part in parts)])


def _starts(sizes: NDArray[Any]) -> NDArray[np.int64]:
    ends: NDArray[np.int64] = np.cumsum(sizes, dtype=np.int64)
    begins: NDArray[np.int64] = ends - sizes
    return begins


def _begins(sizes: NDArray[np.int64]) -> list[int]:
    starts: list[int] = _starts(sizes).tolist()
    return starts
