"""Makes digests: beside a parsed trace, in the pass that writes it, or alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from barnum.digests.file import write_digest
from barnum.digests.maker import DigestMaker
from barnum.errors import SampleError, TraceError
from barnum.files import output_error
from barnum.paths import Blocks, Chunk
from barnum.paths.outcome import WholePath
from barnum.paths.preprocess import Ended, Followed, Request, Result, beside, deadline, preprocess
from barnum.samples import Sample

_log = logging.getLogger("barnum.preprocess")
# steps that are held until they are looked at
_HELD = 1 << 22


class _Digesting:
    """Makes the digest of a path that goes by, and writes it; see paths.preprocess.Watch."""

    def __init__(self, request: Request, file: Path) -> None:
        self._file = file
        sample = Sample.open(Path(request.folder))
        self._maker = DigestMaker(sample, Path(request.bin_dir) if request.bin_dir else None)

    def follow(self, source: Followed, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        held: list[Chunk] = []
        # beside what comes next, on another core if there is one
        with ThreadPoolExecutor(1) as worker:
            taken: Future[None] | None = None

            def take() -> Future[None]:
                if taken is not None:
                    taken.result()
                return worker.submit(self._take, source.blocks, source.spawn, held)

            for chunk in chunks:
                held.append(chunk)
                # to look at a table that has grown takes a while
                if sum(len(each.block) for each in held) >= _HELD:
                    taken = take()
                    held = []
                yield chunk
            take().result()

    def _take(self, blocks: Blocks, spawn: int | None, chunks: list[Chunk]) -> None:
        if len(blocks) > self._maker.known:
            self._maker.extend(blocks)
        for chunk in chunks:
            self._maker.add(chunk, spawn)

    def done(self, sample: Sample, path: WholePath) -> None:
        write_digest(self._file, self._maker.done(path))


class _OrNone(_Digesting):
    """The same where a parsed trace is wanted, with or without a digest."""

    def done(self, sample: Sample, path: WholePath) -> None:
        try:
            super().done(sample, path)
        except TraceError as error:
            _log.warning("%s: no digest of it is made", error)


def with_digest(request: Request) -> Result:
    """Make a parsed trace, and the digest beside it (see paths.preprocess.beside()).

    Raises:
        InputError: of the class that fits; the output file, if there is one, is then unusable.
    """
    return preprocess(request, _OrNone(request, beside(Path(request.output))))


def only_digest(request: Request) -> Result:
    """Make the digest of a sample, which is ``output``, and nothing else: from its parsed trace, where there
    is one, else from its raw trace.

    Raises:
        InputError: of the class that fits.
    """
    sample = Sample.open(Path(request.folder))
    watch = _Digesting(request, Path(request.output))
    try:
        parsed = sample.parsed
        if parsed is not None:
            return _of_parsed(sample, parsed, watch)
        return _of_raw(sample, request, watch)
    except OSError as error:
        raise output_error(error, Path(request.output).parent) from error


def _of_parsed(sample: Sample, parsed: Path, watch: _Digesting) -> Result:
    from barnum.paths.reader import open_path

    path = open_path(parsed)
    steps = sum(len(chunk.block) for chunk in watch.follow(path, path.chunks()))
    watch.done(sample, path)
    return Result(steps=steps)


def _of_raw(sample: Sample, request: Request, watch: _Digesting) -> Result:
    from barnum.paths.decode import Decoding

    if not request.bin_dir:
        raise SampleError(
            f"{sample.folder}: has neither a digest nor a parsed trace: give --bin-dir, or run "
            "barnum preprocess first"
        )
    decoding = Decoding(sample, Path(request.bin_dir), cpu=request.cpu, max_size=request.max_size)
    steps = sum(
        len(chunk.block) for chunk in watch.follow(decoding, decoding.chunks(deadline(request.timeout)))
    )
    if not steps:
        why = "no time was left" if decoding.truncated else "its packets lead to no known code"
        raise TraceError(f"{sample.folder}: the path is empty: {why}")
    watch.done(sample, Ended.of(decoding))
    return Result(
        steps=steps,
        gaps=decoding.gap_count,
        bytes_lost=decoding.statistics["bytes_lost"],
        unmapped=len(decoding.unmapped),
        truncated=decoding.truncated,
    )
