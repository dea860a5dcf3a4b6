"""What commands share that judge many runs: ``--fdr``, and whether runs are still like those learnt."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from barnum.cli.common import Real
from barnum.errors import InputError
from barnum.texts import printable

if TYPE_CHECKING:
    from barnum.detector import Detector, Fitted, JudgedRun
    from barnum.verdicts.exchangeability import Exchangeability


def fdr_option(function: Any) -> Any:
    """Add ``--fdr``: a rate, or None."""
    return click.option(
        "--fdr",
        type=Real(0, 1, min_open=True, max_open=True),
        metavar="RATE",
        help="Choose the anomalous ones of all runs together, so that at most this share of those is nominal "
        "on average (false discovery rate); nothing is printed before the last run is judged.  [default: "
        "each run by itself, by the detector's false-alarm rate]",
    )(function)


class Together:
    """Collects runs as they are judged. One whose verdict has to wait for the others is None until then."""

    def __init__(self, detector: Detector | Fitted, fdr: float | None) -> None:
        """``fdr``: the false discovery rate; None: runs are judged by themselves.

        Raises:
            OptionsError: the detector has no p-values to choose by.
        """
        from barnum.detector import check_discoveries

        if fdr is not None:
            check_discoveries(detector, fdr)
        self._detector, self.fdr = detector, fdr
        self._recordings: list[tuple[Path, JudgedRun]] = []
        self._others: list[JudgedRun] = []

    def add(self, judged: JudgedRun, recording: Path | None = None) -> None:
        """Take in a run that is another one than those before, and where its ``recording`` is, if that was
        made earlier."""
        if recording is None:
            self._others.append(judged)
        else:
            self._recordings.append((recording, judged))

    def decide(self, judged: list[JudgedRun]) -> list[JudgedRun]:
        """The same runs with verdicts that are chosen for all of them. Says on standard error what too few
        nominal runs do not allow."""
        from barnum.detector import discoveries, shortage_of

        if self.fdr is None:
            return judged
        short = shortage_of(judged, self.fdr)
        if short is not None:
            click.echo(printable(short), err=True)
        return discoveries(judged, self.fdr)

    def exchangeability(self) -> Exchangeability | None:
        """What speaks against the runs being like those learnt, in the order in which they were recorded, or
        else taken in; None where it is not known."""
        from barnum.detector import exchangeability_of

        runs = [judged for _, judged in _by_time(self._recordings)]
        return exchangeability_of(self._detector, [*runs, *self._others])


def _by_time(recordings: list[tuple[Path, JudgedRun]]) -> list[tuple[Path, JudgedRun]]:
    """In the order of recording; as they are where that of one is not known."""
    times = [_recorded(place) for place, _ in recordings]
    if not all(times):
        return recordings
    return [each for _, each in sorted(zip(times, recordings, strict=True), key=lambda pair: pair[0])]


def _recorded(place: Path) -> str:
    """When a run was recorded; empty where that is not known."""
    from barnum.samples import Sample

    with suppress(InputError, OSError):
        meta = Sample.open(place).meta
        return "" if meta is None else meta.recorded
    return ""


def as_document(found: Exchangeability) -> dict[str, Any]:
    """The last object that is printed in JSON."""
    return {"exchangeability": msgspec.to_builtins(found)}
