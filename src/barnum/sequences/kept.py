"""Runs kept in a model, so that more can be learnt later as if all had been learnt at once.

What a model knows of new code comes from leaving each training run out in turn, so their distinct transfers
are kept, a row a (stretch, edge), in the vocabulary's numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from barnum._contexts import places_of
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
_PLACES = ("transfers", "first", "way_first")
_MOST = float(1 << 62)


def pack_runs(vocabulary: Vocabulary, runs: Sequence[RunEdges]) -> Arrays:
    """Runs that the vocabulary was learnt from, as arrays.

    ``stretches`` u32[runs] how many stretches each has (one, where the runs are many enough to be left out as
    a whole); of each stretch ``transfers`` i64, ``edges`` u32 and ``ways`` u32 how many rows it has; rows of
    edges: ``edge`` u32, ``kind`` u8, ``count`` i64, ``first`` i64; rows of ways into the kernel: ``way_edge``
    u32, ``way_entry`` u64 a token, ``way_first`` i64.
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


def unpack_runs(vocabulary: Vocabulary, arrays: Arrays) -> list[RunEdges]:
    """The reverse of pack_runs().

    Raises:
        ModelError: arrays are missing or contradict each other.
    """
    for name, dtype in _TYPES.items():
        if name not in arrays or arrays[name].dtype != dtype or arrays[name].ndim != 1:
            raise ModelError(f"it keeps no usable runs: {name} is missing or of another type")
    stretches, per_edge, per_way = (arrays[name].astype(np.int64) for name in ("stretches", "edges", "ways"))
    rows = {"edge": per_edge.sum(), "kind": per_edge.sum(), "count": per_edge.sum(), "first": per_edge.sum()}
    rows |= {name: per_way.sum() for name in ("way_edge", "way_entry", "way_first")}
    rows |= {name: stretches.sum() for name in ("transfers", "edges", "ways")}
    numbers = np.concatenate([arrays["edge"], arrays["way_edge"]])
    if (
        any(len(arrays[name]) != int(size) for name, size in rows.items())
        or (len(numbers) and int(numbers.max()) >= len(vocabulary.edge_target))
        or not bool((arrays["count"] > 0).all())
        or float(arrays["count"].sum(dtype=np.float64)) > _MOST
        or any(len(arrays[name]) and int(arrays[name].min()) < 0 for name in _PLACES)
    ):
        raise ModelError("the runs that it keeps contradict themselves")
    site, target = vocabulary.site[vocabulary.edge_site], vocabulary.target[vocabulary.edge_target]
    edges, ways = [], []
    for i, begin in enumerate(_begins(per_edge)):
        part = slice(begin, begin + int(per_edge[i]))
        edge = arrays["edge"][part]
        kind, count, first = (arrays[name][part] for name in ("kind", "count", "first"))
        edges.append(Edges(site[edge], target[edge], kind, count, first, int(arrays["transfers"][i])))
    for i, begin in enumerate(_begins(per_way)):
        part = slice(begin, begin + int(per_way[i]))
        edge = arrays["way_edge"][part]
        ways.append(Entries(site[edge], target[edge], arrays["way_entry"][part], arrays["way_first"][part]))
    runs = []
    for begin, count in zip(_begins(stretches), stretches.tolist(), strict=True):
        part = slice(begin, begin + count)
        runs.append(RunEdges(add_up(edges[part]), tuple(edges[part]), all_of(ways[part]), tuple(ways[part])))
    return runs


class _Finder:
    """Finds numbers of edges."""

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


def _begins(sizes: NDArray[np.int64]) -> list[int]:
    starts: list[int] = (np.cumsum(sizes) - sizes).tolist()
    return starts
