"""Fits a detector to the nominal runs of folders of samples."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from barnum.detector.fitted import Fitted, fit
from barnum.digests import Digest
from barnum.digests.make import digests_of
from barnum.errors import BarnumError, SetsError
from barnum.samples import Sample
from barnum.texts import shortened
from barnum.verdicts.judgement import MAX_LOST, incomplete_because

_log = logging.getLogger(__name__)
# programs or processors that a warning names
_MOST_NAMED = 5


class FitSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a detector is fitted.

    Attributes:
        rate: share of nominal runs that may be called anomalous; None: see FittedAbout.
        max_lost: runs of which more than this share was lost are left out, and later not judged as a whole.
        bin_dir: folder of the images, for samples that are not preprocessed.
        timeout: seconds for decoding one sample; None: no limit.
        jobs: samples that are worked on at a time.
    """

    rate: float | None = None
    max_lost: float = MAX_LOST
    bin_dir: Path | None = None
    timeout: float | None = None
    jobs: int = 1


def fit_samples(
    samples: Sequence[Sample],
    settings: FitSettings,
    *,
    held_out: Sequence[Sample] = (),
    beside: Fitted | None = None,
    advance: Callable[[], object] = lambda: None,
) -> tuple[Fitted, int]:
    """Learn a detector from the benign ones of samples.

    What cannot be used is left out, with a warning that says why.

    Args:
        samples: those whose label is not benign are left out.
        settings: how.
        held_out: further samples, of which the benign ones are not learnt, but scored to compare others with.
        beside: what was learnt before; it is in the result.
        advance: called after each benign sample.

    Returns:
        The detector, and how many benign samples were left out.

    Raises:
        SetsError: there is no benign sample, or none of them can be used.
        ModelError: a run was learnt already, or they do not belong together.
    """
    benign, others = ([each for each in some if each.benign] for some in (samples, held_out))
    if not benign:
        raise SetsError(
            "there is no sample to learn from: record harmless runs with `barnum trace --benign`, or correct "
            "line 2 of info.txt of those that are"
        )
    with TemporaryDirectory(prefix="barnum-") as scratch:
        usable = _Usable(settings, Path(scratch), advance)
        fitted = fit(
            usable.of(benign),
            rate=settings.rate,
            max_lost=settings.max_lost,
            beside=beside,
            held_out=usable.of(others),
        )
    warn_of_mixtures(fitted)
    return fitted, usable.left_out


def warn_of_mixtures(fitted: Fitted) -> None:
    """Log a warning where runs of several programs, or as several processors, were learnt as one."""
    programs: Counter[str] = Counter()
    processors: Counter[str] = Counter()
    for known in fitted.about.notes.programs:
        programs[known.program.command[0] if known.program.command else ""] += known.runs
        processors[known.program.cpu] += known.runs
    for counted, what, why in (
        (programs, "several programs", "what one does is normal for the other, too: fit a detector for each"),
        (processors, "several models of processor", "libraries choose other code by it: record all as one"),
    ):
        if len(counted) > 1:
            named = [f"{name or 'unknown'} ({runs:,})" for name, runs in sorted(counted.items())]
            more = "" if len(named) <= _MOST_NAMED else f" and {len(named) - _MOST_NAMED:,} more"
            some = ", ".join(shortened(each, 200) for each in named[:_MOST_NAMED])
            _log.warning("the runs are of %s, %s%s: %s", what, some, more, why)


class _Usable:
    """Digests of those samples that can be used; counts the others."""

    def __init__(self, settings: FitSettings, scratch: Path, advance: Callable[[], object]) -> None:
        self._settings, self._scratch, self._advance = settings, scratch, advance
        self.left_out = 0

    def of(self, samples: Sequence[Sample]) -> Iterator[tuple[Digest, int]]:
        """Digests and identities.

        Raises:
            SetsError: there are samples, and none of them can be used.
        """
        settings, used = self._settings, 0
        made = digests_of(
            samples, self._scratch, bin_dir=settings.bin_dir, timeout=settings.timeout, jobs=settings.jobs
        )
        for sample, outcome in made:
            self._advance()
            if isinstance(outcome, BarnumError):
                why = str(outcome)
            else:
                lost = incomplete_because(outcome[0].about.source, settings.max_lost)
                if lost is None:
                    used += 1
                    yield outcome
                    continue
                why = f"{sample.folder}: {lost}"
            self.left_out += 1
            _log.warning("left out: %s", why)
        if samples and not used:
            raise SetsError("no benign sample can be learnt from: the warnings above say why")
