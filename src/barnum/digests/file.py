"""Digests in files: ``trace_digest``, a gzip of safetensors; docs/formats.md describes it."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from barnum.digests.approaches import MOST_APPROACHES, Approaches
from barnum.digests.columns import changes, column, described, differences, packed, summed, unpacked
from barnum.digests.digest import SCHEMA, About, Digest, Taken, Ways
from barnum.errors import DigestError
from barnum.files import read_bounded, write_whole
from barnum.paths import KINDS
from barnum.texts import shortened

Arrays = dict[str, NDArray[Any]]

# bytes of a digest once unpacked; one with the most transfers that are kept takes less
LARGEST = 256 << 20
_LARGEST_ABOUT = 16 << 20
_ABOUT = "about"
# the highest takes four times as long, for one byte in a hundred
_LEVEL = 6
# fields of arrays are checked against each other only where there are as many as one may have
_MOST_ROWS = 1 << 22
_LOWER = np.uint64(0xFFFFFFFF)
_UPPER = np.uint64(32)
_ABOUT_DECODER = msgspec.json.Decoder(About)


def encoded(digest: Digest) -> bytes:
    """The content of a file, before it is packed; equal digests give equal bytes."""
    modules = np.array([upper for upper, _ in digest.about.modules], np.uint64)
    taken, ways = digest.taken, digest.ways
    entries, entry = np.unique(ways.entry, return_inverse=True)
    before = np.concatenate([np.zeros(1, np.uint64), taken.target[:-1]])[: len(taken)]
    arrays = {
        **_tokens("site", taken.site, modules, before),
        **_tokens("target", taken.target, modules),
        "kind": packed(taken.kind),
        "first": differences(taken.first),
        "step": differences(taken.step),
        "stretches": packed(taken.stretches),
        **_tokens("entries", entries, modules),
        "way.taken": differences(ways.taken),
        "way.entry": packed(entry),
        "way.first": differences(ways.first),
        "way.stretches": packed(ways.stretches),
        **_approaches(digest.approaches, modules),
        _ABOUT: np.frombuffer(msgspec.json.encode(digest.about), np.uint8),
    }
    return bytes(save({name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}))


def _approaches(approaches: Approaches | None, modules: NDArray[np.uint64]) -> Arrays:
    if approaches is None:
        return {}
    # by the way into the kernel, and from there: neighbours are near each other in the program as well
    order = np.lexsort((approaches.block, approaches.entry))
    entries, entry = np.unique(approaches.entry[order], return_inverse=True)
    return {
        **_tokens("approach.entries", entries, modules),
        "approach.entry": differences(entry),
        **_tokens("approach.block", approaches.block[order], modules),
        "approach.step": differences(approaches.step[order]),
    }


def _tokens(name: str, tokens: NDArray[np.uint64], modules: NDArray[np.uint64], before: Any = None) -> Arrays:
    """Columns of tokens: the module by its place in the list of modules, and differences of lower halves."""
    lower = tokens & _LOWER
    return {
        f"{name}.module": packed(np.searchsorted(modules, tokens >> _UPPER)),
        f"{name}.offset": differences(lower, None if before is None else before & _LOWER),
    }


def identity_of(content: bytes) -> int:
    """A number that tells digests apart: the first 63 bits of the SHA-256 of a file's content, unpacked."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") >> 1


def write_digest(file: Path, digest: Digest) -> None:
    """Write a digest.

    Raises:
        OSError: the file cannot be written.
    """
    write_whole(file, gzip.compress(encoded(digest), _LEVEL, mtime=0))


def read_digest(file: Path) -> tuple[Digest, int]:
    """A digest, and its identity (see identity_of()).

    Raises:
        DigestError: it is missing, broken, contradicts itself, or is of another schema.
    """
    content = read_bounded(file, LARGEST, DigestError)
    try:
        return decoded(content), identity_of(content)
    except (ValueError, OverflowError) as error:
        raise DigestError(
            f"{file}: is no digest that this version reads ({shortened(str(error))}): preprocess the sample "
            "again with --force"
        ) from None


def decoded(content: bytes) -> Digest:
    """The reverse of encoded().

    Raises:
        ValueError: it is none.
    """
    try:
        arrays = load(content)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    about = described(arrays.pop(_ABOUT, None), _ABOUT_DECODER, SCHEMA, _LARGEST_ABOUT)
    modules = np.array([upper for upper, _ in about.modules], np.uint64)
    if not (np.diff(modules.astype(np.int64)) > 0).all():
        raise ValueError("its modules are not in order")
    rows, way_rows, entry_rows = (_rows(arrays, name) for name in ("kind", "way.entry", "entries.module"))
    target = _joined(arrays, "target", modules, summed(column(arrays, "target.offset", rows)))
    before = np.concatenate([np.zeros(1, np.int64), (target & _LOWER).astype(np.int64)[:-1]])[:rows]
    site = _joined(arrays, "site", modules, changes(column(arrays, "site.offset", rows)) + before)
    taken = Taken(
        site=site,
        target=target,
        kind=_small(arrays, "kind", rows, len(KINDS)).astype(np.uint8),
        first=summed(column(arrays, "first", rows)),
        step=summed(column(arrays, "step", rows)).view(np.uint64),
        stretches=_small(arrays, "stretches", rows, 1 << 32).astype(np.uint32),
    )
    entries = _joined(arrays, "entries", modules, summed(column(arrays, "entries.offset", entry_rows)))
    entry = _small(arrays, "way.entry", way_rows, len(entries))
    ways = Ways(
        taken=_in_range(summed(column(arrays, "way.taken", way_rows)), rows).astype(np.uint32),
        entry=entries[entry],
        first=summed(column(arrays, "way.first", way_rows)),
        stretches=_small(arrays, "way.stretches", way_rows, 1 << 32).astype(np.uint32),
    )
    _check(about, taken, ways)
    return Digest(about, taken, ways, _approaches_in(arrays, modules, about.source.steps))


def _approaches_in(arrays: Arrays, modules: NDArray[np.uint64], steps: int) -> Approaches | None:
    if "approach.entry" not in arrays:
        return None
    rows, entry_rows = _rows(arrays, "approach.entry"), _rows(arrays, "approach.entries.module")
    if rows > MOST_APPROACHES or entry_rows > rows:
        raise ValueError("it has too many ways to the kernel")
    offset = summed(column(arrays, "approach.entries.offset", entry_rows))
    entries = _joined(arrays, "approach.entries", modules, offset)
    entry = _in_range(summed(column(arrays, "approach.entry", rows)), len(entries))
    block = _joined(arrays, "approach.block", modules, summed(column(arrays, "approach.block.offset", rows)))
    step = _in_range(summed(column(arrays, "approach.step", rows)), max(1, steps))
    site = entries[entry]
    if _twice(site, block):
        raise ValueError("a way to the kernel comes twice")
    order = np.lexsort((block, site, step))
    return Approaches(site[order], block[order], step[order])


def _rows(arrays: Arrays, name: str) -> int:
    planes = arrays.get(name)
    rows = planes.shape[1] if planes is not None and planes.ndim == 2 else -1
    if not 0 <= rows <= _MOST_ROWS:
        raise ValueError(f"column {name} is missing or too long")
    return rows


def _joined(
    arrays: Arrays, name: str, modules: NDArray[np.uint64], offset: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """u64[n]: tokens from their module and their lower half."""
    module = _small(arrays, f"{name}.module", len(offset), len(modules))
    lower = _in_range(offset, 1 << 32).astype(np.uint64)
    tokens: NDArray[np.uint64] = (modules[module] << _UPPER) | lower if len(module) else lower
    return tokens


def _small(arrays: Arrays, name: str, rows: int, end: int) -> NDArray[np.uint64]:
    """u64[rows]: a column of integers below ``end``."""
    values = unpacked(column(arrays, name, rows))
    if len(values) and int(values.max()) >= end:
        raise ValueError(f"column {name} holds a number that is out of its range")
    return values


def _in_range(values: NDArray[np.int64], end: int) -> NDArray[np.int64]:
    if len(values) and not 0 <= int(values.min()) <= int(values.max()) < end:
        raise ValueError("a number is out of its range")
    return values


def _check(about: About, taken: Taken, ways: Ways) -> None:
    """Raises ValueError where parts contradict each other."""
    transfers, stretches = about.transfers, len(about.stretches)
    _in_range(taken.first, max(1, transfers))
    if not (np.diff(taken.first) > 0).all() or not (np.diff(taken.step.astype(np.int64)) > 0).all():
        raise ValueError("its transfers are not in the order in which they came")
    if sum(about.stretches) != transfers or bool(transfers) != bool(len(taken)):
        raise ValueError("its transfers are not as many as it says")
    _in_range(taken.step.view(np.int64), max(1, about.source.steps))
    # the transfer after an entry may be one after the last
    _in_range(ways.first, transfers + 1)
    if not (np.diff(ways.first) >= 0).all() or (ways.first <= taken.first[ways.taken]).any():
        raise ValueError("its ways into the kernel are not in the order in which they came")
    for masks in (taken.stretches, ways.stretches):
        if len(masks) and not 1 <= int(masks.min()) <= int(masks.max()) < 1 << stretches:
            raise ValueError("it names a stretch that it lacks")
    if _twice(taken.site, taken.target) or _twice(ways.taken, ways.entry):
        raise ValueError("a transfer or a way comes twice")
    for counted in (about.cut, about.intact):
        if counted is not None and counted > transfers:
            raise ValueError("a part of it is longer than the whole")


def _twice(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether a pair of values comes twice."""
    order = np.lexsort((other, one))
    one, other = one[order], other[order]
    return bool(((one[1:] == one[:-1]) & (other[1:] == other[:-1])).any())
