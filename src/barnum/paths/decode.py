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
from barnum.paths.blocks import Blocks, Chunk, GapDetails
from barnum.paths.code import Code, CodeReader, load_code
from barnum.paths.kinds import GAPS, Gap, Kind
from barnum.paths.modules import Modules
from barnum.paths.packed import MAX_SIZE, RawTrace
from barnum.paths.rowwriter import MoreTexts, RowTexts
from barnum.samples import Process, Sample, Stream

_log = logging.getLogger(__name__)

Cpu = tuple[int, int, int]
_STEPS = 1 << 18  # steps of a chunk: small enough that a time limit is noticed at once
MAX_GAPS = 1 << 20  # gaps of a sample that are kept in detail
MAX_PAGES = 1 << 20  # pages without an image that are kept


class Decoding:
    """Decodes a sample: iterate over :meth:`chunks`. All other results are of what was decoded so far.

    Attributes:
        table: the decoder's table of distinct blocks.
        steps: number of steps.
        truncated: ``timeout`` where decoding was ended early, else None.
        spawn: the first step after the system call by which the run started its first other process; None
            if the recorder noted none, or the path ends before.
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

        Args:
            bin_dir: folder of the images.
            cpu: family, model and stepping of the processor that traced, for its errata; None: none.
            streams: numbers of the streams to decode; None: all.
            max_size: bytes that each stream may have once decompressed.

        Raises:
            TraceError: the sample has no raw trace.
            SampleError: meta.json or a file of code bytes is wrong, or there is no such stream.
            MappingError: a memory map is missing or wrong.
            ImageError: no module of a process has an image, or an image is named out of ``bin_dir``.
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
        self._modules = Modules(processes)
        self._statistics: Counter[str] = Counter()
        # by process and address of the page
        self._unmapped: Counter[tuple[int, int]] = Counter()
        self._done: list[dict[str, Any]] = []
        # of each stream the block of its last step
        self._last: list[int] = []
        self._known: Blocks | None = None
        self._gaps: list[GapDetails] = []
        self._details = 0
        self._causes = np.zeros(len(GAPS), np.int64)
        self.steps = 0
        self.spawn: int | None = None

    def chunks(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Chunk]:
        """The path in stretches. ``stop()`` is called after each; where it is true, the path ends early.

        Raises:
            TraceError: a stream cannot be read, is empty, is no Intel PT, or is too large.
            ImageError: an image cannot be mapped.
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
        """Number of gaps so far, by the name of their cause; every stream has one at its start."""
        return {name: int(count) for name, count in zip(GAPS, self._causes, strict=True) if count}

    @property
    def gap_count(self) -> int:
        """Number of gaps so far, without those at starts of streams."""
        return int(self._causes.sum() - self._causes[Gap.START])

    @property
    def unmapped(self) -> dict[int, int]:
        """How often code was missing, by address of its page of 4 KiB; the first 4,096 pages of a stream."""
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
        known = self._known
        if known is None:
            known = self._blocks_from(0)
        elif len(known) < len(self.table):
            known = known.extended(self._blocks_from(len(known)))
        self._known = known
        return known

    @property
    def gaps(self) -> GapDetails:
        """Overflows, losses and missing code so far: the first 65,536 of a stream, 1,048,576 in all."""
        return GapDetails.join(self._gaps)

    def losses(self) -> list[Loss]:
        """What was lost, a row for each module, the one with most bytes lost first.

        A loss belongs to the module in which decoding was, and missing code to the module at its address.
        Only what ``gaps`` and ``unmapped`` hold is counted, and these are bounded.
        """
        by_module: dict[str, Loss] = {}

        def add(process: int, address: int, **counts: int) -> None:
            path = self._modules.path_at(process, address)
            loss = by_module.get(path, Loss(path))
            by_module[path] = loss._replace(
                **{name: getattr(loss, name) + count for name, count in counts.items()}
            )

        gaps = self.gaps
        for stream, address, lost in zip(
            gaps.stream.tolist(), gaps.address.tolist(), gaps.bytes_lost.tolist(), strict=True
        ):
            add(self._streams[stream].process, address, bytes_lost=lost, gaps=1)
        for (process, page), count in self._unmapped.items():
            add(process, page, unmapped=count, pages=1)
        return sorted(by_module.values(), key=lambda loss: (-loss.bytes_lost, -loss.unmapped, loss.module))

    def header(self) -> dict[str, Any]:
        """The JSON document of a parsed trace."""
        return {
            "schema": 1,
            "version": __version__,
            "source": "pt",
            "name": self.sample.name,
            "label": self.sample.label,
            "extra_labels": list(self.sample.info.extra_labels),
            "streams": self.streams,
            "statistics": self.statistics,
            "gaps": self.causes,
            "modules_without_image": self.missing,
            "truncated": self.truncated,
            "spawn": self.spawn,
        }

    @property
    def streams(self) -> list[dict[str, Any]]:
        """The streams so far, for the header. ``ends_at`` of one whose last transfer led to where no code is
        known: the name of the place and its address in hex."""
        blocks = self.blocks
        streams = []
        for stream, last in zip(self._done, self._last, strict=True):
            end = {}
            if last >= 0 and blocks.kind[last] == Kind.UNKNOWN:
                place = blocks.modules[blocks.module[last]]
                end = {"ends_at": {"place": place, "address": f"0x{int(blocks.start[last]):x}"}}
            streams.append({**stream, **end})
        return streams

    def row_texts(self) -> MoreTexts:
        """Texts of the blocks' last instructions, for the original's rows."""
        from barnum.paths.texts import Texts

        readers = {index: (CodeReader(code), Texts(code.mode)) for index, code in self._code.items()}

        def more(known: int) -> RowTexts:
            arrays = self.table.arrays()
            new = self.blocks.part(known, len(arrays["start"]))
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
        module, offset, bbid = self._modules.find(arrays["space"], arrays["start"], arrays["kind"])
        return Blocks(
            bbid=bbid,
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
        row: dict[str, Any] = {"file": stream.path.name, "process": stream.process, "thread": stream.thread}
        self._done.append(row)
        self._last.append(-1)
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
                    # once the time is over, one more step shows whether the path was whole by then
                    block, gap, turns = decoder.read(1 if self._late else _STEPS)
                    if not len(block):
                        break
                    if self._late:
                        self.truncated = "timeout"
                        break
                    self.steps += len(block)
                    self._last[-1] = int(block[-1])
                    self._causes += np.bincount(gap[gap != 0], minlength=len(GAPS))
                    # known before the chunk in which it lies
                    if prefix and (steps := prefix.follow(self.steps - first)) is not None:
                        self.spawn = first + steps
                    yield Chunk(block, gap, np.full(len(block), number, np.uint16), turns)
                    self._late = stop()
                self._late = self._late or stop()
        finally:
            row["steps"] = self.steps - first
            self._sum_up(decoder, number, first)
        # a path that was ended early may end before the spawn
        if prefix and (steps := prefix.follow(self.steps - first)) is not None:
            self.spawn = first + steps
        if raw.broken:
            row["broken"] = raw.broken
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
                # after the last step of a stream no step carries the gap
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
        # processes with the same code share an address space
        code = self._code[process]
        if id(code) not in self._spaces:
            self._spaces[id(code)] = _address_space(code)
        return self._spaces[id(code)]


class _Prefix:
    """Counts the steps in the first bytes of a stream, which end at a boundary between packets.

    It has a decoder of its own, as a decoder gives all steps of its bytes only where these end.
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
        """Decode on until there are more than ``steps`` steps; the number of steps, None if it is not known.

        The number is known once all bytes are decoded. Bounded by the steps of the path, this takes no longer
        than the path itself, however hostile the packets are.
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
    """What could not be decoded in one module. ``module`` is its path, empty for what lies in no module.

    ``bytes_lost`` bytes of the streams were passed over in ``gaps`` gaps. Code was missing ``unmapped``
    times, on ``pages`` pages.
    """

    module: str
    bytes_lost: int = 0
    gaps: int = 0
    unmapped: int = 0
    pages: int = 0


def _load_codes(sample: Sample, processes: list[Process], bin_dir: FilePath) -> dict[int, Code]:
    """The code of each process, by its index. Processes with the same map and code bytes share one."""
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
    """Where the run first started another process: index in ``streams`` → bytes of that stream before it."""
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
            space.add_file(str(piece.file), piece.offset, piece.size, piece.address, piece.executable)
        for record in code.records:
            space.add_bytes(record.data, record.address, record.epoch)
    except (OSError, ValueError) as error:
        raise ImageError(f"an image cannot be mapped: {error}") from None
    return space
