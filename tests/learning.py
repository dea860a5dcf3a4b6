"""Samples of an imaginary program, and transfers, for tests of learning and judging."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from barnum.paths import Blocks, GapDetails, Kind, Transfers
from barnum.paths.blocks import Chunk
from barnum.paths.parquet import Ending, write_parquet

MODULES = ("/usr/bin/app", "/usr/lib/libc.so")


def blocks_of(count: int, kinds: Sequence[Kind] = (Kind.RETURN,), in_libc: int = 0) -> Blocks:
    """Blocks of 16 bytes; the last ``in_libc`` lie in libc, kinds take turns."""
    index = np.arange(count)
    module = (index >= count - in_libc).astype(np.int32)
    offset = (16 * index).astype(np.uint64)
    hashes = np.array([zlib.adler32(path.encode()) for path in MODULES], np.uint64)
    return Blocks(
        bbid=(hashes[module] << np.uint64(32)) + offset,
        kind=np.array([kinds[i % len(kinds)] for i in range(count)], np.uint8),
        module=module,
        modules=MODULES,
        offset=offset,
        start=np.uint64(0x400000) + offset,
        length=np.full(count, 8, np.uint32),
        count=np.full(count, 2, np.uint32),
        process=np.zeros(count, np.uint16),
    )


def transfers_of(blocks: Blocks, path: Sequence[int], first: Sequence[int] = (0,)) -> Transfers:
    """The transfers of a path in which each step is one; ``first`` are indexes of transfers."""
    steps = np.asarray(path, np.uint32)
    restart = np.zeros(len(steps) - 1, np.bool_)
    restart[list(first)] = True
    return Transfers(blocks, steps[:-1], steps[1:], np.arange(1, len(steps), dtype=np.uint64), restart)


def part(transfers: Transfers, begin: int, end: int) -> Transfers:
    return Transfers(
        transfers.blocks,
        transfers.source[begin:end],
        transfers.target[begin:end],
        transfers.position[begin:end],
        transfers.first[begin:end],
    )


def nominal_path(seed: int, length: int = 3000, usual: int = 20, rare: int = 6) -> list[int]:
    """Loops over the usual blocks, now and then one of the rare ones."""
    draw = np.random.default_rng(seed)
    path: list[int] = []
    while len(path) < length:
        begin = int(draw.integers(0, 4)) * 5
        path += range(begin, begin + 5)
        if draw.random() < 0.02:
            path.append(usual + int(draw.integers(0, rare)))
    return path[:length]


def attack_path(seed: int, length: int = 3000) -> list[int]:
    """A nominal path with a few steps through blocks of libc that no nominal one takes."""
    path = nominal_path(seed, length)
    path[length // 2 : length // 2 + 6] = [30, 36, 37, 38, 39, 31]
    return path


def write_sample(
    root: Path, name: str, label: str, path: Sequence[int], blocks: Blocks | None = None
) -> Path:
    """A sample folder with info.txt and a parsed trace in which every step is a transfer."""
    blocks = blocks or blocks_of(40, (Kind.RETURN, Kind.INDIRECT_CALL), in_libc=10)
    folder = root / hashlib.sha256(name.encode()).hexdigest()
    folder.mkdir(parents=True)
    (folder / "info.txt").write_text(f"{name}\n{label}\n")
    steps = np.asarray(path, np.uint32)
    gap = np.zeros(len(steps), np.uint8)
    gap[:1] = 1
    header = {"schema": 1, "name": name, "label": label}
    write_parquet(
        folder / "trace_parsed.parquet",
        [Chunk(steps, gap, np.zeros(len(steps), np.uint16))],
        lambda: Ending(blocks, header, GapDetails.empty()),
    )
    return folder


def write_tree(root: Path, benign: int = 24, malicious: int = 4) -> Path:
    """A folder of samples: ordinary runs, and runs with an attack."""
    for i in range(benign):
        write_sample(root, f"good-{i}.doc", "benign", nominal_path(i))
    for i in range(malicious):
        write_sample(root, f"bad-{i}.doc", "malicious", attack_path(100 + i))
    return root
