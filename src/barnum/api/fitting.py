"""Learns detectors from digests, and checks documents by them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from barnum.api.common import File, Progress, cores, listener_of, name_of
from barnum.detector import (
    Checked,
    CheckSettings,
    FitSettings,
    Fitted,
    JudgedRun,
    check_discoveries,
    discoveries,
    exchangeability_of,
    merged,
    save_fitted,
)
from barnum.errors import EngineError
from barnum.samples import Sample, checked_kind

if TYPE_CHECKING:
    from barnum.report.checked import CheckedReport


def fit(
    samples: File | Iterable[File | Sample],
    output: File | None = None,
    *,
    calibrate: Iterable[File | Sample] = (),
    add_to: Fitted | File | None = None,
    false_alarm_rate: float | None = None,
    bin_dir: File | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Fitted:
    """Learn a detector from the benign ones of samples; see `barnum fit`.

    Args:
        samples: samples, or folders of samples.
        output: file to which the detector is written; one that is there is replaced.
        calibrate: further samples whose benign ones are not learnt, but scored to compare others with.
        add_to: a detector to which the runs are added.
        false_alarm_rate: share of nominal runs that may be called anomalous. None: 1 %, or the least that the
            number of runs allows.
        bin_dir: folder of the images, for samples that are not preprocessed.
        jobs: samples that are worked on at a time; None: as many as there are cores.

    Raises:
        SetsError: there is no benign sample that can be learnt from.
        ModelError: a run was learnt already.
        EvaluationError: the rate takes more runs.
    """
    from barnum.detector.learn import fit_samples

    if isinstance(samples, str | os.PathLike):
        samples = [samples]
    settings = FitSettings(
        rate=false_alarm_rate,
        bin_dir=None if bin_dir is None else Path(bin_dir),
        jobs=jobs or cores(),
    )
    learnt, others = _opened(samples), _opened(calibrate)
    beside = open_fitted(add_to) if isinstance(add_to, str | os.PathLike) else add_to
    total = sum(sample.benign for sample in (*learnt, *others))
    with listener_of(progress).progress("fit", total) as advance:
        fitted, _ = fit_samples(learnt, settings, held_out=others, beside=beside, advance=lambda: advance(1))
    # a rate that takes more runs is told now
    _ = fitted.classifier
    if output is not None:
        save_fitted(Path(output), fitted)
    return fitted


def merge(detectors: Iterable[Fitted | File], output: File | None = None) -> Fitted:
    """One detector of all runs that several were fitted to; see `barnum merge`.

    Raises:
        ModelError: they judge differently, or have learnt the same run.
    """
    fitted = merged([each if isinstance(each, Fitted) else open_fitted(each) for each in detectors])
    if output is not None:
        save_fitted(Path(output), fitted)
    return fitted


def check(
    detector: Fitted | File,
    documents: File | Iterable[File],
    *,
    output: File | None = None,
    command: Sequence[str] = (),
    timeout: float | Literal["learnt"] | None = "learnt",
    sandbox: bool = True,
    kind: str | None = None,
    fdr: float | None = None,
    jobs: int = 1,
    report: File | None = None,
    progress: Progress | None = None,
) -> list[Checked]:
    """Let a detector's program open documents, and judge what it did; see `barnum check`.

    Args:
        detector: the detector, or its file.
        documents: files, or folders of files.
        output: folder in which the recordings are kept; None: they are removed.
        command: another program and its arguments, ``{}`` being the document.
        timeout: seconds after which a run is ended; None: no limit; ``learnt``: as long as the runs were
            allowed that the detector has learnt, 600 where that is not known.
        sandbox: whether it runs in a sandbox, with the limits of these runs; without, it runs with your
            rights, on your files.
        kind: of the documents, such as ``pdf``, with whose runs alone they are compared; None: not told.
        fdr: a false discovery rate: the anomalous ones are chosen among all documents, so that at most this
            share of them is nominal, on average. None: each is judged by itself.
        jobs: documents that are recorded at a time.
        report: file of a page about what was judged; one that is there is replaced.

    Returns:
        What became of each document, in the order in which they were done.

    Raises:
        EngineError: no program can be recorded here, or there can be no sandbox.
        ModelError: the detector does not know its program.
        OptionsError: the false discovery rate is none, or the detector has no p-values; ``kind`` is no name.
        OutputError: the page cannot be written.
    """
    from barnum.detector.check import check as check_documents
    from barnum.detector.limits import TIMEOUT, limits_for, sandbox_with
    from barnum.recording import Sandbox, list_inputs, sandbox_state

    opened = detector if isinstance(detector, Fitted) else open_fitted(detector)
    if fdr is not None:
        check_discoveries(opened, fdr)
    limits = limits_for(opened)
    state: Sandbox | str | None = sandbox_state() if sandbox else None
    if isinstance(state, str):
        raise EngineError(f"no sandbox: {state}")
    named = [documents] if isinstance(documents, str | os.PathLike) else documents
    files = list_inputs([Path(file) for file in named])
    settings = CheckSettings(
        output=None if output is None else Path(output),
        command=tuple(command),
        timeout=limits.timeout if timeout == "learnt" else timeout,
        decoding=max(TIMEOUT, limits.timeout or TIMEOUT) if timeout == "learnt" else timeout,
        max_bytes=limits.max_size,
        sandbox=None if state is None else sandbox_with(state, limits, None, None),
        jobs=jobs,
        kind=None if kind is None else checked_kind(kind),
    )
    page = None if report is None else _page(detector, opened, len(files), Path(report))
    found: list[Checked] = []
    with listener_of(progress).progress("check", len(files)) as advance:

        def add(checked: Checked) -> None:
            found.append(checked)
            if page is not None and checked.error is not None:
                page.failed(checked.path.name, checked.error)
            advance(1)

        check_documents(opened, files, settings, add, None if page is None else page.add)
    chosen = found if fdr is None else _chosen(found, fdr)
    if report is not None and page is not None:
        page.told_of_all(exchangeability_of(opened, _in_order(chosen, files)))
        _write(page, Path(report), chosen, fdr)
    return chosen


def _page(detector: Fitted | File, opened: Fitted, count: int, file: Path) -> CheckedReport:
    from barnum.files import check_place
    from barnum.report.checked import CheckedReport

    check_place(file, force=True)
    name = repr(detector) if isinstance(detector, Fitted) else os.fspath(detector)
    return CheckedReport(name, opened.describe(), opened.threshold, count)


def _write(page: CheckedReport, file: Path, chosen: Sequence[Checked], fdr: float | None) -> None:
    from barnum.files import write_result
    from barnum.report.build import as_page

    if fdr is not None:
        page.choose([each.judged.q for each in chosen if each.judged and not each.copy_of], fdr)
    write_result(file, as_page(page.done()))


def _chosen(found: Sequence[Checked], rate: float) -> list[Checked]:
    """The same documents with verdicts that are chosen for all of them."""
    decided = iter(discoveries([each.judged for each in found if each.judged is not None], rate))
    return [each if each.judged is None else replace(each, judged=next(decided)) for each in found]


def _in_order(found: Sequence[Checked], files: Sequence[Path]) -> list[JudgedRun]:
    """The runs that were recorded, in the order of their documents."""
    place = {file: number for number, file in enumerate(files)}
    own = [each for each in found if each.copy_of is None]
    return [each.judged for each in sorted(own, key=lambda each: place[each.path]) if each.judged is not None]


def open_fitted(file: File) -> Fitted:
    """Read a detector that `barnum fit` or fit() has written.

    Raises:
        ModelError: it is missing, broken, or of another version.
    """
    from barnum.detector import load_fitted

    return load_fitted(Path(file))


def _opened(places: Iterable[File | Sample]) -> list[Sample]:
    from barnum.samples import samples_in

    return samples_in([Path(name_of(place)) for place in places])
