"""Finds the modules of addresses, and what a page is where there is no module."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from barnum.paths.blocks import I32, U8, U32, U64
from barnum.paths.kinds import Kind
from barnum.samples import Process
from barnum.samples.mapping import ANONYMOUS, ANONYMOUS_CODE, UNMAPPED, MemoryMap, hash_of

I64 = NDArray[np.int64]
_UPPER = np.uint64(32)


class _Ranges(NamedTuple):
    """Ranges of addresses, ascending: ``base`` and ``last`` u64[r] (inclusive), ``name`` i32[r]."""

    base: U64
    last: U64
    name: I32

    def of(self, address: U64) -> I64:
        """i64[n]: the range of each address, -1 where there is none."""
        if not len(self.base):
            return np.full(len(address), -1)
        place = np.searchsorted(self.base, address, side="right") - 1
        inside = (place >= 0) & (address <= self.last[place])
        return np.where(inside, place, -1)


class Modules:
    """The modules of several processes."""

    def __init__(self, processes: Sequence[Process]) -> None:
        self._names: dict[str, int] = {}
        # processes may share a map
        self._maps = {process.index: process.mapping for process in processes}
        self._modules: dict[int, _Ranges] = {}
        self._pages: dict[int, _Ranges] = {}
        self._hash = np.zeros(1, np.uint64)
        for mapping in self._maps.values():
            if id(mapping) not in self._modules:
                self._modules[id(mapping)] = self._ranges(
                    [(module.base, module.end, module.path) for module in mapping.modules]
                )

    @property
    def names(self) -> tuple[str, ...]:
        """All names; those that find() adds come behind the others."""
        return tuple(self._names)

    def path_at(self, process: int, address: int) -> str:
        """Path of the module at an address, empty where there is none."""
        module = self._maps[process].find(address)
        return module.path if module else ""

    def find(self, process: U32, start: U64, kind: U8) -> tuple[I32, U64, U64]:
        """Where blocks lie that begin at ``start`` u64[k] in memory of ``process`` u32[k], of ``kind`` u8[k]:
        their module i32[k] as an index into ``names`` (-1: none), offset u64[k] from its base (or the
        address), and BBID u64[k].

        Places without known code (Kind.UNKNOWN) that lie in no mapped file are named by their page: as the
        map calls it (such as ``[heap]``), ``[anonymous]`` where it has no name there, ``[unmapped]`` where it
        has no page. Their address says nothing from run to run, so all of one name share a BBID.
        """
        module: I32 = np.full(len(start), -1, np.int32)
        offset = start.copy()
        for number in np.unique(process).tolist():
            here = np.flatnonzero(process == number)
            table = self._modules[id(self._maps[number])]
            place = table.of(start[here])
            here, place = here[place >= 0], place[place >= 0]
            module[here] = table.name[place]
            offset[here] -= table.base[place]
        unknown = kind == Kind.UNKNOWN
        if unknown.any():
            # [vdso] is the same everywhere, as a file is
            file = np.array(
                [not name.startswith((ANONYMOUS_CODE, "[")) or name == "[vdso]" for name in self._names]
                + [False]
            )
            unknown &= ~file[module]
            for number in np.unique(process[unknown]).tolist():
                here = np.flatnonzero(unknown & (process == number))
                module[here] = self._page_names(self._maps[number], start[here])
            offset[unknown] = start[unknown]
        bbid = (self._hashes()[module] << _UPPER) + np.where(unknown, np.uint64(0), offset)
        return module, offset, bbid

    def _hashes(self) -> U64:
        """u64[m + 1]: hash of each name; 0 at the end, for -1."""
        known = len(self._hash) - 1
        if known < len(self._names):
            new = [hash_of(name) for name in islice(self._names, known, None)]
            self._hash = np.array([*self._hash[:-1].tolist(), *new, 0], np.uint64)
        return self._hash

    def _page_names(self, mapping: MemoryMap, address: U64) -> I32:
        if id(mapping) not in self._pages:
            regions = [
                (each.start, each.end, ANONYMOUS if each.path.startswith(ANONYMOUS_CODE) else each.path)
                for each in mapping.regions
            ]
            self._pages[id(mapping)] = self._ranges(regions)
        pages = self._pages[id(mapping)]
        place = pages.of(address)
        # the last stands for -1
        names = np.append(pages.name, np.int32(self._names.setdefault(UNMAPPED, len(self._names))))
        return names[place]

    def _ranges(self, ranges: Sequence[tuple[int, int, str]]) -> _Ranges:
        """``ranges``: begin, end (exclusive) and name of each, ascending."""
        return _Ranges(
            np.array([begin for begin, _, _ in ranges], np.uint64),
            np.array([end - 1 for _, end, _ in ranges], np.uint64),
            np.array([self._names.setdefault(name, len(self._names)) for *_, name in ranges], np.int32),
        )
