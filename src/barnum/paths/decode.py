"""Decodes the streams of a sample, one after the other, into one path."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import numpy as np

from barnum import __version__, _decoder
from barnum.errors import ImageError, SampleError, TraceError
from barnum.paths.blocks import I32, U32, U64, Blocks, Chunk, GapDetails
from barnum.paths.code import Code, CodeReader, load_code
from barnum.paths.kinds import GAPS, Gap
from barnum.paths.packed import MAX_SIZE, RawTrace
from barnum.paths.rowwriter import MoreTexts, RowTexts
from barnum.samples import Process, Sample, Stream

_log = logging.getLogger(__name__)

Cpu = tuple[int, int, int]
_STEPS = 1 << 18  # steps of a chunk: small enough that a time limit is noticed at once
MAX_GAPS = 1 << 20  # gaps of a sample that are kept in detail
MAX_PAGES = 1 << 20  # pages without an image that are kept


class Decoding:
    """The decoding of a sample; iterate over :meth:`chunks`, the rest grows with it.

    ``truncated`` is what to write in the header where decoding was ended early. ``spawn`` is the step at
    which the run had started its first other process: the first one behind the system call; None where no
    recorder told of one, or the path ends before it.
    """

    def __init__(
        self,
        sample: Sample,
        bin_dir: FilePath,
        *,
        cpu: Cpu | None = None,
        streams: Sequence[int] | None = None,
        max_size: int = MAX_SIZE,
    ) -> None:
        """Find maps, images and streams; nothing is decoded yet.

        ``cpu`` is family, model and stepping of the processor that traced, for its errata; ``streams``
        chooses some by number; ``max_size`` is the number of bytes that each may have. Raises SampleError,
        MappingError, ImageError.
        """
        self.sample = sample
        self.table = _decoder.BlockTable()
        self.truncated: str | None = None
        self._cpu = cpu
        self._max_size = max_size
        self._streams = _chosen(sample, streams)
        self._spawn_at = _spawn_offsets(sample, self._streams)
        self._late = False
        processes = sample.processes(bin_dir, {stream.process for stream in self._streams})
        self._code = _load_codes(sample, processes, bin_dir)
        self._spaces: dict[int, Any] = {}
        self._modules = _Modules(processes)
        self._statistics: Counter[str] = Counter()
        # by process and address of the page
        self._unmapped: Counter[tuple[int, int]] = Counter()
        self._done: list[dict[str, Any]] = []
        self._gaps: list[GapDetails] = []
        self._details = 0
        self._causes = np.zeros(len(GAPS), np.int64)
        self.steps = 0
        self.spawn: int | None = None

    def chunks(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Chunk]:
        """The path in stretches; ends early where ``stop()``, which is asked after each, is true.

        Raises TraceError where a stream is empty, is no PT, or is too large.
        """
        for number, stream in enumerate(self._streams):
            if self._late:
                self.truncated = "timeout"
            if self.truncated:
                return
            yield from self._decode(number, stream, stop)

    @property
    def statistics(self) -> dict[str, int]:
        """Sums over the streams so far, by the decoder's names, with ``steps`` and ``unmapped_pages``."""
        return {**self._statistics, "steps": self.steps, "unmapped_pages": len(self._unmapped)}

    @property
    def causes(self) -> dict[str, int]:
        """How many gaps there were so far, by cause; every stream has one at its start."""
        return {name: int(count) for name, count in zip(GAPS, self._causes, strict=True) if count}

    @property
    def gap_count(self) -> int:
        """Gaps so far, but for those at starts of streams."""
        return int(self._causes.sum() - self._causes[Gap.START])

    @property
    def unmapped(self) -> dict[int, int]:
        """Addresses of pages that no image has, and how often each was met; the first 4,096 of a stream."""
        pages: Counter[int] = Counter()
        for (_process, page), count in self._unmapped.items():
            pages[page] += count
        return dict(pages)

    @property
    def missing(self) -> list[str]:
        """Paths of modules without an image."""
        return sorted({path for code in self._code.values() for path in code.missing})

    @property
    def blocks(self) -> Blocks:
        """The blocks met so far."""
        return self._blocks_from(0)

    @property
    def gaps(self) -> GapDetails:
        """The gaps met so far, the first 65,536 of each stream and 1,048,576 in all."""
        return GapDetails.join(self._gaps)

    def losses(self) -> list[Loss]:
        """What was lost, by the module that the walk was in when it was; the first 65,536 of each stream.

        Pages without an image belong to the module whose addresses hold them. Most bytes first.
        """
        found: dict[str, Loss] = {}

        def add(process: int, address: int, **counts: int) -> None:
            path = self._modules.path_at(process, address)
            loss = found.get(path, Loss(path))
            found[path] = loss._replace(
                **{name: getattr(loss, name) + count for name, count in counts.items()}
            )

        gaps = self.gaps
        for stream, address, lost in zip(
            gaps.stream.tolist(), gaps.address.tolist(), gaps.bytes_lost.tolist(), strict=True
        ):
            add(self._streams[stream].process, address, bytes_lost=lost, gaps=1)
        for (process, page), count in self._unmapped.items():
            add(process, page, unmapped=count, pages=1)
        return sorted(found.values(), key=lambda loss: (-loss.bytes_lost, -loss.unmapped, loss.module))

    def header(self) -> dict[str, Any]:
        """The document that a parsed trace begins with."""
        return {
            "schema": 1,
            "version": __version__,
            "source": "pt",
            "name": self.sample.name,
            "label": self.sample.label,
            "extra_labels": list(self.sample.info.extra_labels),
            "streams": self._done,
            "statistics": self.statistics,
            "gaps": self.causes,
            "modules_without_image": self.missing,
            "truncated": self.truncated,
            "spawn": self.spawn,
        }

    def row_texts(self) -> MoreTexts:
        """Texts of the blocks' last instructions, for the original's rows."""
        from barnum.paths.texts import Texts

        readers = {index: (CodeReader(code), Texts(code.mode)) for index, code in self._code.items()}

        def more(known: int) -> RowTexts:
            arrays = self.table.arrays()
            new = self._blocks_from(known)
            ends = arrays["end"][known:]
            sizes = (new.length - (ends - new.start)).tolist()
            rows = []
            for process, end, size in zip(new.process.tolist(), ends.tolist(), sizes, strict=True):
                reader, texts = readers[process]
                rows.append(texts.row(reader, end, size))
            return RowTexts(
                new.bbid, [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]
            )

        return more

    def _blocks_from(self, known: int) -> Blocks:
        arrays = {name: column[known:] for name, column in self.table.arrays().items()}
        module, offset, hashes = self._modules.find(arrays["space"], arrays["start"])
        return Blocks(
            bbid=(hashes << np.uint64(32)) + offset,
            kind=arrays["kind"],
            module=module,
            modules=self._modules.names,
            offset=offset,
            start=arrays["start"],
            length=arrays["length"],
            count=arrays["count"],
            process=arrays["space"].astype(np.uint16),
        )

    def _decode(self, number: int, stream: Stream, stop: Callable[[], bool]) -> Iterator[Chunk]:
        decoder = self._new_decoder(stream, self.table)
        raw = RawTrace(stream.path, self._max_size)
        spawn = self._spawn_at.get(number)
        prefix = None if spawn is None else _Prefix(self._new_decoder(stream), spawn)
        first = self.steps
        done: dict[str, Any] = {"file": stream.path.name, "process": stream.process, "thread": stream.thread}
        self._done.append(done)
        pieces = iter(raw)
        final = False
        try:
            while not final and not self.truncated:
                piece = next(pieces, b"")
                final = not piece
                if self._late and not final:
                    self.truncated = "timeout"
                    break
                decoder.feed(piece, final)
                if prefix:
                    prefix.feed(piece)
                while True:
                    # a path that was done when its time ran out is whole: look whether anything follows
                    block, gap = decoder.read(1 if self._late else _STEPS)
                    if not len(block):
                        break
                    if self._late:
                        self.truncated = "timeout"
                        break
                    self.steps += len(block)
                    self._causes += np.bincount(gap[gap != 0], minlength=len(GAPS))
                    if prefix:
                        prefix.follow(self.steps - first)
                    yield Chunk(block, gap, np.full(len(block), number, np.uint16))
                    self._late = stop()
                self._late = self._late or stop()
        finally:
            done["steps"] = self.steps - first
            self._sum_up(decoder, number, first)
        # a path that was ended early may end before it
        if prefix and (steps := prefix.follow(self.steps - first)) is not None:
            self.spawn = first + steps
        if raw.broken:
            done["broken"] = raw.broken
            _log.warning("%s: %s; what comes before is decoded", stream.path, raw.broken)
            self._keep(number, [(self.steps, Gap.LOST, raw.size, 0, 0)])
            self._causes[Gap.LOST] += 1

    def _sum_up(self, decoder: Any, number: int, first: int) -> None:
        self._statistics.update(decoder.statistics())
        process = self._streams[number].process
        for page, count in decoder.unmapped().items():
            if (process, page) in self._unmapped or len(self._unmapped) < MAX_PAGES:
                self._unmapped[process, page] += count
        details = decoder.gaps()
        self._keep(number, [(first + step, *rest) for step, *rest in details])
        for step, cause, *_rest in details:
            if first + step >= self.steps:
                # at the end of a stream no step tells of it
                self._causes[cause] += 1

    def _keep(self, number: int, details: list[tuple[int, ...]]) -> None:
        details = details[: MAX_GAPS - self._details]
        if details:
            step, cause, offset, address, lost = (
                np.array(column, np.uint64) for column in zip(*details, strict=True)
            )
            stream = np.full(len(step), number, np.uint16)
            self._gaps.append(GapDetails(step, cause.astype(np.uint8), stream, offset, address, lost))
            self._details += len(details)

    def _new_decoder(self, stream: Stream, table: Any = None) -> Any:
        table = _decoder.BlockTable() if table is None else table
        return _decoder.Decoder(self._space(stream.process), table, stream.process, self._cpu)

    def _space(self, process: int) -> Any:
        # processes that have the same code share it
        code = self._code[process]
        if id(code) not in self._spaces:
            self._spaces[id(code)] = _address_space(code)
        return self._spaces[id(code)]


class _Prefix:
    """Counts the steps of a stream's first bytes, which end where the recorder had completed its packets.

    The decoder is one of its own: only at the end of its bytes does one give all the steps that they hold.
    """

    def __init__(self, decoder: Any, size: int) -> None:
        self._decoder = decoder
        self._left = size
        self._count = 0
        self._fed = self._done = False

    def feed(self, piece: bytes) -> None:
        """The next bytes of the stream."""
        if not self._fed:
            self._fed = self._left <= len(piece)
            self._decoder.feed(piece[: self._left], self._fed)
            self._left -= len(piece)

    def follow(self, steps: int) -> int | None:
        """Go on for as long as there are no more steps than the path has; the count once it is whole.

        So this takes no longer than the path itself, however hostile the packets are.
        """
        while not self._done and self._count <= steps:
            count = len(self._decoder.read(_STEPS)[0])
            self._count += count
            if not count:
                if not self._fed:
                    break
                self._done = True
        return self._count if self._done and self._count <= steps else None


class Loss(NamedTuple):
    """What could not be decoded of one module, whose path is empty where the place is in none.

    ``bytes_lost`` of the stream in ``gaps`` gaps; missing code was met ``unmapped`` times in ``pages`` pages.
    """

    module: str
    bytes_lost: int = 0
    gaps: int = 0
    unmapped: int = 0
    pages: int = 0


def _load_codes(sample: Sample, processes: list[Process], bin_dir: FilePath) -> dict[int, Code]:
    """Code of each process by its index; that of processes alike is read once."""
    known: dict[tuple[int, FilePath | None, int], Code] = {}
    codes = {}
    for process in processes:
        key = (id(process.mapping), process.code, process.mode)
        if key not in known:
            known[key] = load_code(sample, process, bin_dir)
        codes[process.index] = known[key]
    return codes


def _chosen(sample: Sample, numbers: Sequence[int] | None) -> list[Stream]:
    streams = sample.streams
    if not streams:
        raise TraceError(f"{sample.folder}: has no raw trace (trace_0.gz)")
    if numbers is None:
        return streams
    for number in numbers:
        if not 0 <= number < len(streams):
            raise SampleError(f"{sample.folder}: has no stream {number}, only 0 to {len(streams) - 1}")
    return [streams[number] for number in numbers]


def _spawn_offsets(sample: Sample, streams: list[Stream]) -> dict[int, int]:
    """Where the run first started another process: number among the streams → bytes of it before that."""
    spawn = sample.meta.spawn if sample.meta else None
    if spawn is None:
        return {}
    described = sample.meta.streams if sample.meta else ()
    if spawn.stream >= len(described):
        raise SampleError(
            f"{sample.folder / 'meta.json'}: spawn is in stream {spawn.stream}, "
            f"but there are only 0 to {len(described) - 1}"
        )
    if spawn.offset > described[spawn.stream].bytes:
        return {}
    wanted = sample.streams[spawn.stream]
    return {number: spawn.offset for number, stream in enumerate(streams) if stream == wanted}


def _address_space(code: Code) -> Any:
    space = _decoder.AddressSpace(code.mode)
    try:
        for piece in code.pieces:
            space.add_file(str(piece.file), piece.offset, piece.size, piece.address)
        for record in code.records:
            space.add_bytes(record.data, record.address, record.epoch)
    except (OSError, ValueError) as error:
        raise ImageError(f"an image cannot be mapped: {error}") from None
    return space


class _Modules:
    """Finds the module of an address, for many addresses at once."""

    def __init__(self, processes: Sequence[Process]) -> None:
        names: dict[str, int] = {}
        self._tables: dict[int, tuple[U64, U64, I32, U64]] = {}
        tables: dict[int, tuple[U64, U64, I32, U64]] = {}
        for process in processes:
            mapping = process.mapping
            if id(mapping) not in tables:
                modules = mapping.modules
                index = [names.setdefault(module.path, len(names)) for module in modules]
                tables[id(mapping)] = (
                    np.array([module.base for module in modules], np.uint64),
                    np.array([module.end - 1 for module in modules], np.uint64),
                    np.array(index, np.int32),
                    np.array([module.hash for module in modules], np.uint64),
                )
            self._tables[process.index] = tables[id(mapping)]
        self._maps = {process.index: process.mapping for process in processes}
        self.names = tuple(names)

    def path_at(self, process: int, address: int) -> str:
        """Path of the module at an address, empty where there is none."""
        module = self._maps[process].find(address)
        return module.path if module else ""

    def find(self, space: U32, start: U64) -> tuple[I32, U64, U64]:
        """Module (-1: none), offset from its base, and hash of its path, for starts of blocks."""
        module: I32 = np.full(len(start), -1, np.int32)
        offset = start.copy()
        hashes: U64 = np.zeros(len(start), np.uint64)
        for process in np.unique(space).tolist():
            bases, lasts, index, path_hashes = self._tables[process]
            if not len(bases):
                continue
            here = np.flatnonzero(space == process)
            place = np.searchsorted(bases, start[here], side="right") - 1
            inside = (place >= 0) & (start[here] <= lasts[place])
            here, place = here[inside], place[inside]
            module[here] = index[place]
            offset[here] -= bases[place]
            hashes[here] = path_hashes[place]
        return module, offset, hashes
