"""Makes the parsed trace of one sample: from its raw trace, or from a parsed trace in the other format."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from barnum.errors import SampleError, TraceError
from barnum.files import output_error
from barnum.paths.blocks import Blocks, Chunk, GapDetails
from barnum.paths.outcome import WholePath
from barnum.paths.packed import MAX_SIZE
from barnum.samples import Sample

if TYPE_CHECKING:
    from barnum.paths.decode import Decoding

Format = Literal["parquet", "gz"]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Which parsed trace to make.

    Attributes:
        folder: the sample.
        bin_dir: folder of the images.
        output: the file to write.
        format: of the parsed trace.
        timeout: seconds after which decoding ends early; None: no limit.
        cpu: family, model and stepping of the processor that traced, for its errata; None: none.
        max_size: bytes that a stream may have once decompressed.
    """

    folder: str
    bin_dir: str
    output: str
    format: Format = "parquet"
    timeout: float | None = None
    cpu: tuple[int, int, int] | None = None
    max_size: int = MAX_SIZE


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a parsed trace holds, and what it took to make it.

    Attributes:
        steps: steps of the path.
        gaps: gaps in it, without the starts of streams.
        bytes_lost: bytes of the streams that could not be decoded.
        unmapped: pages of code that no image holds.
        peak_memory: of the process, in bytes.
        truncated: why the path ends early; None where it is whole.
    """

    steps: int
    gaps: int = 0
    bytes_lost: int = 0
    unmapped: int = 0
    peak_memory: int = 0
    truncated: str | None = None


class Followed(Protocol):
    """What a path comes from, chunk by chunk; its table of blocks may grow meanwhile."""

    @property
    def spawn(self) -> int | None: ...

    @property
    def blocks(self) -> Blocks: ...


class Watch(Protocol):
    """Sees a path while it is written."""

    def follow(self, source: Followed, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        """The same chunks, which are of ``source``."""
        ...

    def done(self, sample: Sample, path: WholePath) -> None:
        """The path is written."""
        ...


class _Unwatched:
    def follow(self, source: Followed, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        return chunks

    def done(self, sample: Sample, path: WholePath) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Ended:
    """A path of which the last step is known; see WholePath."""

    rows: int
    first_stream: int
    spawn: int | None
    header: dict[str, Any]
    gaps: GapDetails

    @classmethod
    def of(cls, decoding: Decoding) -> Ended:
        """What was decoded."""
        streams = decoding.streams
        first = streams[0]["steps"] if streams else decoding.steps
        return cls(decoding.steps, first, decoding.spawn, decoding.header(), decoding.gaps)


def preprocess(request: Request, watch: Watch | None = None) -> Result:
    """Make a parsed trace; ``watch`` sees the path go by.

    Raises:
        InputError: of the class that fits; the output file, if there is one, is then unusable.
    """
    sample = Sample.open(FilePath(request.folder))
    output = FilePath(request.output)
    try:
        make = _decode if sample.streams else _convert
        result = make(sample, request, output, watch or _Unwatched())
        _sync(output)
    except OSError as error:
        raise output_error(error, output.parent) from error
    if not result.steps:
        why = "no time was left" if result.truncated else "its packets lead to no known code"
        raise TraceError(f"{sample.folder}: the path is empty: {why}")
    return result


def beside(output: FilePath) -> FilePath:
    """Where what is made beside a parsed trace waits until that is finished."""
    return output.with_name(f"{output.name}.digest")


def parsed_name(form: Format) -> str:
    """File name of a parsed trace."""
    return f"trace_parsed.{form}"


def _decode(sample: Sample, request: Request, output: FilePath, watch: Watch) -> Result:
    from barnum.paths.decode import Decoding
    from barnum.paths.parquet import Ending, write_parquet
    from barnum.paths.rowwriter import write_rows

    decoding = Decoding(sample, FilePath(request.bin_dir), cpu=request.cpu, max_size=request.max_size)
    chunks = watch.follow(decoding, decoding.chunks(deadline(request.timeout)))
    if request.format == "gz":
        write_rows(output, chunks, decoding.row_texts(), imported=False)
    else:
        write_parquet(output, chunks, lambda: Ending(decoding.blocks, decoding.header(), decoding.gaps))
    watch.done(sample, Ended.of(decoding))
    return Result(
        steps=decoding.steps,
        gaps=decoding.gap_count,
        bytes_lost=decoding.statistics["bytes_lost"],
        unmapped=len(decoding.unmapped),
        truncated=decoding.truncated,
    )


def _convert(sample: Sample, request: Request, output: FilePath, watch: Watch) -> Result:
    from barnum.paths.parquet import Ending, write_parquet
    from barnum.paths.reader import open_path
    from barnum.paths.rowwriter import texts_of, write_rows

    same_format = sample.folder / parsed_name(request.format)
    other_format = sample.folder / parsed_name("gz" if request.format == "parquet" else "parquet")
    if not other_format.is_file():
        raise SampleError(f"{sample.folder}: has {same_format.name} but no raw trace to make it from again")
    reader = open_path(other_format)
    if request.format == "gz" and reader.blocks.text is None:
        raise SampleError(
            f"{sample.folder}: rows need the raw trace: {other_format.name} holds no instruction texts"
        )
    chunks, stopped = _until(reader.chunks(), deadline(request.timeout))
    chunks = watch.follow(reader, chunks)

    def header() -> dict[str, Any]:
        return {**reader.header, "name": sample.name, "label": sample.label, "truncated": stopped()}

    if request.format == "gz":
        write_rows(output, chunks, texts_of(reader.blocks), imported=True)
        steps = reader.rows
    else:
        steps = write_parquet(output, chunks, lambda: Ending(reader.blocks, header(), reader.gaps))
    watch.done(sample, Ended(steps, min(reader.first_stream, steps), reader.spawn, header(), reader.gaps))
    return Result(steps=steps, truncated=stopped())


def deadline(timeout: float | None) -> Callable[[], bool]:
    """A function that tells whether so many seconds from now are over; None: never."""
    if timeout is None:
        return lambda: False
    end = time.monotonic() + timeout
    return lambda: time.monotonic() >= end


def _until(
    chunks: Iterator[Chunk], stop: Callable[[], bool]
) -> tuple[Iterator[Chunk], Callable[[], str | None]]:
    """The chunks until ``stop()`` is true, and a function that says afterwards why some were left out."""
    truncated: str | None = None

    def chunks_in_time() -> Iterator[Chunk]:
        nonlocal truncated
        late = False
        for chunk in chunks:
            if late:
                # only now it is certain that something is left out
                truncated = "timeout"
                return
            yield chunk
            late = stop()

    return chunks_in_time(), lambda: truncated


def _sync(file: FilePath) -> None:
    # some file systems report a full disk only here
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
