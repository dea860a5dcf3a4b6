"""``barnum preprocess``: raw traces to paths of basic blocks."""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from barnum.cli.common import (
    SAMPLE,
    SECONDS,
    SIZE,
    ended_like_an_interrupt,
    logging_option,
    progress,
    set_up_logging,
)
from barnum.cli.decode import cpu_option
from barnum.errors import (
    SampleError,
    SomeFailedError,
)

if TYPE_CHECKING:
    from barnum.paths.batch import Batch

_log = logging.getLogger("barnum.preprocess")


@click.command("preprocess")
@click.option(
    "-f",
    "--force",
    is_flag=True,
    help="Make results again that are there, and take over what other machines left unfinished.",
)
@click.option(
    "-t",
    "--timeout",
    type=SECONDS,
    metavar="SECONDS",
    help="Time limit for each sample; what is decoded by then is kept and marked.",
)
@click.option("-p", "--no-partial", is_flag=True, help="Keep nothing of a sample that hits the time limit.")
@click.option("-j", "--jobs", type=click.IntRange(min=1), help="Samples at once.  [default: number of cores]")
@click.option(
    "--format",
    "form",
    type=click.Choice(["parquet", "gz"]),
    default="parquet",
    show_default=True,
    help="parquet, or the rows of the original.",
)
@cpu_option
@click.option(
    "--max-size",
    type=SIZE,
    default="64G",
    show_default=True,
    metavar="SIZE",
    help="Bytes that a stream may have, decompressed.",
)
@logging_option
@click.argument("trace_directory", type=SAMPLE)
@click.argument("bin_directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
def command(
    force: bool,
    timeout: float | None,
    no_partial: bool,
    jobs: int | None,
    form: Any,
    cpu: tuple[int, int, int] | None,
    max_size: int,
    logging_level: int,
    trace_directory: Path,
    bin_directory: Path,
) -> None:
    """Turn recorded runs into paths of basic blocks.

    TRACE_DIRECTORY is one sample or a folder of samples, or TREE/DOCUMENT, for the sample in the folder TREE
    whose document has that name; BIN_DIRECTORY holds the images of their modules.
    Each sample gets a trace_parsed.parquet (or .gz), and beside it a trace_digest: some tens of kilobytes,
    from which barnum fit learns a detector. Several machines may work on one tree: a sample whose result is
    there, or is being made by another, is skipped (refused where it is the only one). What a process of this
    machine left unfinished is made again.
    """
    set_up_logging(logging_level)
    from barnum.digests.preprocess import with_digest
    from barnum.paths.batch import Batch
    from barnum.paths.preprocess import Request, parsed_name
    from barnum.samples import find_samples, is_sample

    single = is_sample(trace_directory)
    broken: list[SampleError] = []
    if single:
        folders = [trace_directory]
    else:
        folders = [sample.folder for sample in find_samples(trace_directory, broken)]
    if not folders and not broken:
        raise SampleError(f"{trace_directory}: holds no samples: name a sample or a folder of samples")
    requests = [
        Request(
            folder=str(folder),
            bin_dir=str(bin_directory),
            output=str(folder / parsed_name(form)),
            format=form,
            timeout=timeout,
            cpu=cpu,
            max_size=max_size,
        )
        for folder in folders
    ]
    batch = Batch(force=force, keep_partial=not no_partial, single=single, work=with_digest)
    for error in broken:
        batch.fail(error)
    with ended_like_an_interrupt(), progress("preprocess", len(requests) + len(broken)) as bar:
        for _ in broken:
            bar.advance()
        batch.run(
            requests,
            jobs or len(os.sched_getaffinity(0)),
            bar.advance,
            partial(set_up_logging, logging_level),
        )
    if batch.failed and single:
        raise batch.failed[0]
    click.echo(_summary(batch, len(requests) + len(broken)))
    if batch.failed:
        raise SomeFailedError(f"{len(batch.failed)} of {len(requests) + len(broken)} samples failed")


def _summary(batch: Batch, total: int) -> str:
    results = batch.results
    partial_ones = sum(result.truncated is not None for result in results)
    samples = "1 sample" if total == 1 else f"{total:,} samples"
    return (
        f"{samples}: {len(results)} finished ({partial_ones} partial), "
        f"{batch.skipped} skipped, {len(batch.failed)} failed; "
        f"{sum(result.steps for result in results):,} blocks, "
        f"{sum(result.gaps for result in results):,} gaps, "
        f"{sum(result.bytes_lost for result in results):,} bytes lost, "
        f"{sum(result.unmapped for result in results):,} pages unmapped; "
        f"{max((result.peak_memory for result in results), default=0) >> 20:,} MiB of memory at most"
    )
