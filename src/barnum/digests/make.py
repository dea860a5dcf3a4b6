"""Digests of samples: read, or made where there is none."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from barnum.digests.digest import Digest
from barnum.digests.file import read_digest
from barnum.digests.preprocess import only_digest
from barnum.errors import BarnumError, DigestError, InputError
from barnum.files import write_whole
from barnum.paths.preprocess import Request
from barnum.paths.supervisor import run_each
from barnum.samples import Sample
from barnum.samples.folder import DIGEST

_log = logging.getLogger(__name__)

Outcome = tuple[Digest, int] | BarnumError


def digests_of(
    samples: Sequence[Sample],
    scratch: Path,
    *,
    bin_dir: Path | None = None,
    timeout: float | None = None,
    jobs: int = 1,
) -> Iterator[tuple[Sample, Outcome]]:
    """The digest of each sample and its identity, or why there is none; those that are there come first.

    One that lacks a digest gets one, which stays in its folder where that can be written: from its parsed
    trace, or, where it is not preprocessed, by decoding it, which takes ``bin_dir``, the folder of images.

    Args:
        scratch: a folder for files meanwhile.
        timeout: seconds for decoding one sample; None: no limit.
        jobs: samples that are worked on at a time.
    """
    lacking: list[Sample] = []
    for sample in samples:
        if sample.digest is not None:
            try:
                yield sample, read_digest(sample.digest)
                continue
            except DigestError as error:
                # of a sample that has nothing else
                if not (sample.parsed or (sample.folder / "trace_0.gz").is_file()):
                    yield sample, error
                    continue
                _log.warning("%s: it is made anew", error)
        lacking.append(sample)
    if lacking:
        yield from _made(lacking, scratch, bin_dir, timeout, jobs)


def _made(
    samples: Sequence[Sample], scratch: Path, bin_dir: Path | None, timeout: float | None, jobs: int
) -> Iterator[tuple[Sample, Outcome]]:
    by_folder = {str(sample.folder): sample for sample in samples}
    requests = (
        Request(
            folder=folder,
            bin_dir="" if bin_dir is None else str(bin_dir),
            output=str(scratch / f"{number}.digest"),
            timeout=timeout,
        )
        for number, folder in enumerate(by_folder)
    )
    for request, outcome in run_each(requests, jobs, work=only_digest):
        sample, file = by_folder[request.folder], Path(request.output)
        if isinstance(outcome, BarnumError):
            yield sample, outcome
            continue
        try:
            read = read_digest(file)
            if not read[0].about.source.truncated:
                _keep(file, sample.folder / DIGEST)
            yield sample, read
        except InputError as error:
            yield sample, error
        finally:
            file.unlink(missing_ok=True)


def _keep(made: Path, place: Path) -> None:
    with suppress(OSError, InputError):
        # nothing is written through a link, or into a pipe, which might wait for ever
        if not os.path.lexists(place) or (place.is_file() and not place.is_symlink()):
            write_whole(place, made.read_bytes())
