"""Single runs as bytes: what a store keeps of a run that was learnt (docs/formats.md)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from barnum.errors import ModelError
from barnum.models.arrays import Arrays
from barnum.models.networks.rote import F64
from barnum.sequences import Edges, RunEdges
from barnum.sequences.edges import Entries, add_up, all_of
from barnum.sequences.kept import ascend
from barnum.texts import quoted, reason

U64 = NDArray[np.uint64]

LARGEST_RUN = 256 << 20
"""The most bytes of a run; larger ones are not read."""

LONGEST_NAME = 1 << 16
"""The most bytes of the name of a sample."""

# transfers of a run: with the most runs of a store, sums stay within 62 bits
_MOST_TRANSFERS = 1 << 42

_EDGES = {"site": np.uint64, "target": np.uint64, "kind": np.uint8, "count": np.int64, "first": np.int64}
_WAYS = {"way_site": np.uint64, "way_target": np.uint64, "way_entry": np.uint64, "way_first": np.int64}
_TYPES: dict[str, type] = {
    "sample": np.uint8,
    "transfers": np.int64,
    "edges": np.uint32,
    "ways": np.uint32,
    **_EDGES,
    **_WAYS,
    "tried": np.float64,
    "escaped": np.float64,
    "base": np.float64,
}


def pack_run(sample: str, run: RunEdges, measured: tuple[F64, F64, F64], whole: bool) -> bytes:
    """A run as bytes in the format of safetensors.

    Args:
        sample: name of the sample.
        run: its distinct transfers.
        measured: escapes (tried, escaped, base; see RoteNetwork) measured when it was learnt.
        whole: leave out its stretches.
    """
    edges = [run.whole] if whole else list(run.stretches)
    ways = [run.entries] if whole else list(run.stretch_entries)
    tried, escaped, base = measured
    arrays: Arrays = {
        "sample": np.frombuffer(sample.encode(), np.uint8),
        "transfers": np.array([part.transfers for part in edges], np.int64),
        "edges": np.array([len(part) for part in edges], np.uint32),
        "ways": np.array([len(part) for part in ways], np.uint32),
        **{name: np.concatenate([getattr(part, name) for part in edges]) for name in _EDGES},
        **{
            name: np.concatenate([getattr(part, name.removeprefix("way_")) for part in ways])
            for name in _WAYS
        },
        "tried": tried,
        "escaped": escaped,
        "base": base,
    }
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def unpack_run(data: bytes, cells: int) -> tuple[str, RunEdges, tuple[F64, F64, F64]]:
    """The reverse of pack_run(); ``cells`` is the length of the arrays of escapes.

    Raises:
        ModelError: the run is missing, too large, or contradicts itself.
    """
    if not 0 < len(data) <= LARGEST_RUN:
        raise ModelError("is missing, or larger than a run")
    try:
        arrays: Arrays = load(data)
    except Exception as error:  # the library raises whatever it likes on broken headers
        raise ModelError(f"is no safetensors ({reason(error)})") from None
    for name in sorted(_TYPES.keys() | arrays.keys()):
        array = arrays.get(name)
        if array is None or name not in _TYPES or array.dtype != _TYPES[name] or array.ndim != 1:
            raise ModelError(f"{quoted(name)} is missing, unknown or of another type")
    try:
        sample = arrays["sample"].tobytes().decode()
    except UnicodeDecodeError:
        raise ModelError("its name is no UTF-8") from None
    if not 0 < len(arrays["sample"]) <= LONGEST_NAME:
        raise ModelError("its name is too short or too long")
    return sample, _run_of(arrays), _escapes_of(arrays, cells)


def _run_of(arrays: Arrays) -> RunEdges:
    contradiction = ModelError("its transfers contradict themselves")
    transfers, edges, ways = (arrays[name].astype(np.int64) for name in ("transfers", "edges", "ways"))
    parts = len(transfers)
    count, total = arrays["count"], float(transfers.sum(dtype=np.float64))
    if (
        not parts
        or not parts == len(edges) == len(ways)
        or any(len(arrays[name]) != int(edges.sum()) for name in _EDGES)
        or any(len(arrays[name]) != int(ways.sum()) for name in _WAYS)
        or int(min(transfers.min(), edges.min())) < 1
        or not total <= _MOST_TRANSFERS
        or int(count.min()) < 1
        or not float(count.sum(dtype=np.float64)) <= _MOST_TRANSFERS
    ):
        raise contradiction
    begin = np.cumsum(edges) - edges
    if bool((np.add.reduceat(count, begin) != transfers).any()):
        raise contradiction
    # the transfer after an entry may be one after the last
    for name, last in (("first", int(total) - 1), ("way_first", int(total))):
        first = arrays[name]
        if len(first) and not 0 <= int(first.min()) <= int(first.max()) <= last:
            raise contradiction
    stretches, entries = [], []
    for i, (at, way) in enumerate(zip(begin.tolist(), (np.cumsum(ways) - ways).tolist(), strict=True)):
        site, target, kind, times, first = (arrays[name][at : at + int(edges[i])] for name in _EDGES)
        stretches.append(Edges(site, target, kind, times, first, int(transfers[i])))
        entries.append(Entries(*(arrays[name][way : way + int(ways[i])] for name in _WAYS)))
    if not all(ascend(each.site, each.target) for each in stretches):
        raise contradiction
    if not all(ascend(each.site, each.target, each.entry) for each in entries):
        raise contradiction
    run = RunEdges(add_up(stretches), tuple(stretches), all_of(entries), tuple(entries))
    # each way must be of an edge of the run: together they have no more distinct pairs than the edges alone
    pairs = [np.concatenate([getattr(run.whole, n), getattr(run.entries, n)]) for n in ("site", "target")]
    order = np.lexsort(pairs[::-1])
    if int(changes(*(column[order] for column in pairs)).sum()) != len(run.whole):
        raise contradiction
    return run


def _escapes_of(arrays: Arrays, cells: int) -> tuple[F64, F64, F64]:
    tried, escaped, base = arrays["tried"], arrays["escaped"], arrays["base"]
    if len(tried) != cells or len(escaped) != cells or len(base) != 2:
        raise ModelError("its escapes are of other contexts")
    # a transfer asks at most one context of each length
    most = float(arrays["transfers"].sum())
    asked, vain = np.append(tried, base[0]), np.append(escaped, base[1])
    if not bool(((vain >= 0) & (vain <= asked) & (asked <= most)).all()):
        raise ModelError("its escapes are no numbers of times")
    return tried, escaped, base


def changes(*columns: NDArray[Any]) -> NDArray[np.bool_]:
    """bool[n]: whether each row of sorted columns [n] differs from the one before; set for the first row."""
    new = np.ones(len(columns[0]), np.bool_)
    new[1:] = False
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    return new
