"""``barnum preprocess``: raw traces to paths of basic blocks."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from barnum.cli.common import SECONDS, ended_like_an_interrupt, logging_option, progress, set_up_logging
from barnum.cli.decode import cpu_option
from barnum.errors import (
    BarnumError,
    InputError,
    OutputError,
    OutputExistsError,
    SampleError,
    SomeFailedError,
    TraceError,
)

if TYPE_CHECKING:
    from barnum.paths.claims import Claim
    from barnum.paths.preprocess import Request, Result

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
    type=click.IntRange(min=1),
    default=64 << 30,
    show_default=True,
    metavar="BYTES",
    help="Largest stream, decompressed.",
)
@logging_option
@click.argument("trace_directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
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

    TRACE_DIRECTORY is one sample or a folder of samples; BIN_DIRECTORY holds the images of their modules.
    Each sample gets a trace_parsed.parquet (or .gz). Several machines may work on one tree: a sample whose
    result is there, or is being made by another, is skipped (refused where it is the only one). What a
    process of this machine left unfinished is made again.
    """
    set_up_logging(logging_level)
    from barnum.paths.preprocess import Request, parsed_name
    from barnum.samples import find_samples

    single = _is_sample(trace_directory)
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
    run = _Run(force, not no_partial, single, len(requests) + len(broken))
    for error in broken:
        run.fail(error)
    with ended_like_an_interrupt():
        run.all(requests, jobs or len(os.sched_getaffinity(0)), partial(set_up_logging, logging_level))
    if run.failed and single:
        raise run.failed[0]
    click.echo(run.summary())
    if run.failed:
        raise SomeFailedError(f"{len(run.failed)} of {run.total} samples failed")


class _Run:
    """All samples of a run: claims their results, and keeps count of what became of them."""

    def __init__(self, force: bool, keep_partial: bool, single: bool, total: int) -> None:
        self._force = force
        self._keep_partial = keep_partial
        self._single = single
        self.total = total
        self._claims: dict[str, Claim] = {}
        self.failed: list[BarnumError] = []
        self._skipped = 0
        self._results: list[Result] = []

    def all(self, requests: list[Request], jobs: int, set_up: Any) -> None:
        from barnum.paths.supervisor import run_each

        with progress("preprocess", self.total) as bar:
            try:
                for request, outcome in run_each(
                    self._claimed(requests, bar), jobs, keep_partial=self._keep_partial, set_up=set_up
                ):
                    self._end(self._claims.pop(request.output), outcome)
                    bar.advance()
            finally:
                # an interrupt: those that are done stay, the others leave nothing
                for claim in self._claims.values():
                    claim.drop()

    def _claimed(self, requests: list[Request], bar: Any) -> Iterator[Request]:
        import msgspec

        from barnum.paths.claims import Claim

        for request in requests:
            try:
                claim = Claim(Path(request.output), self._force)
            except OutputExistsError as error:
                self._skip(error)
                bar.advance()
                continue
            except OutputError as error:
                self.fail(error)
                bar.advance()
                continue
            self._claims[str(claim.data)] = claim
            yield msgspec.structs.replace(request, output=str(claim.data))

    def _end(self, claim: Claim, outcome: Result | BarnumError) -> None:
        try:
            if not isinstance(outcome, BarnumError):
                if outcome.truncated and not self._keep_partial:
                    raise TraceError(
                        f"{claim.result.parent}: was not done in time: its partial trace is deleted"
                    )
                claim.finish()
                self._results.append(outcome)
                if outcome.truncated:
                    _log.warning("%s: is partial: it was not done in time", claim.result)
                return
        except OutputExistsError as error:
            # another finished it first, or took it over
            claim.drop()
            self._skip(error)
            return
        except InputError as error:
            outcome = error
        claim.drop()
        self.fail(outcome)

    def _skip(self, error: OutputExistsError) -> None:
        if self._single:
            raise error
        _log.info("skipped: %s", error)
        self._skipped += 1

    def fail(self, error: BarnumError) -> None:
        """Count a sample as failed, and say why where there are others."""
        self.failed.append(error)
        if not self._single:
            _log.error("%s", error)

    def summary(self) -> str:
        results = self._results
        partial_ones = sum(result.truncated is not None for result in results)
        samples = "1 sample" if self.total == 1 else f"{self.total:,} samples"
        return (
            f"{samples}: {len(results)} finished ({partial_ones} partial), "
            f"{self._skipped} skipped, {len(self.failed)} failed; "
            f"{sum(result.steps for result in results):,} blocks, "
            f"{sum(result.gaps for result in results):,} gaps, "
            f"{sum(result.bytes_lost for result in results):,} bytes lost, "
            f"{sum(result.unmapped for result in results):,} pages unmapped; "
            f"{max((result.peak_memory for result in results), default=0) >> 20:,} MiB of memory at most"
        )


def _is_sample(folder: Path) -> bool:
    names = ("info.txt", "trace_0", "trace_0.gz", "trace_parsed.gz", "trace_parsed.parquet")
    return any((folder / name).is_file() for name in names)
