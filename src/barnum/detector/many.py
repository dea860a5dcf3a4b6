"""Many runs that one detector has judged: which are anomalous together, and whether its promise holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from barnum.detector.fitted import Fitted
from barnum.detector.folder import Detector
from barnum.detector.judged import JudgedRun
from barnum.errors import OptionsError
from barnum.verdicts.conformal import ConformalClassifier
from barnum.verdicts.discoveries import adjusted, chosen, shortage
from barnum.verdicts.exchangeability import Exchangeability, exchangeability


def check_discoveries(detector: Detector | Fitted, rate: float) -> None:
    """Check that discoveries() has something to go by.

    Raises:
        OptionsError: the rate is none, or the detector has no p-values.
    """
    if not 0 < rate < 1:
        raise OptionsError("--fdr: a false discovery rate is more than 0 and less than 1")
    if _classifier(detector) is not None:
        return
    if isinstance(detector, Fitted):
        raise OptionsError(
            "--fdr: the detector has learnt a single run, with which no p-value is below 0.5: fit more"
        )
    raise OptionsError(
        f"--fdr: the detector judges by {detector.classifier.name}, which has no p-values: pack one with a "
        "classifier by conformal"
    )


def discoveries(judged: Iterable[JudgedRun], rate: float) -> list[JudgedRun]:
    """The same runs with verdicts that are chosen for all of them together: of those that are called
    anomalous, at most the share ``rate`` is nominal, on average (see verdicts/discoveries.py).

    A run that is refused stays so; one that was anomalous by how it begins, and is so no more, is refused.
    ``threshold`` is infinite then, as no score alone decides.

    Args:
        judged: runs that one detector has judged, each once.
        rate: the false discovery rate.

    Raises:
        OptionsError: the rate is none, or a run has no p-value.
    """
    runs = list(judged)
    if not 0 < rate < 1:
        raise OptionsError("a false discovery rate is more than 0 and less than 1")
    p_values = []
    for run in runs:
        if run.candidate is None:
            raise OptionsError(
                f"{run.name or 'a run'} has no p-value: judge it by conformal, or fit more runs"
            )
        p_values.append(run.candidate.p)
    return [_decided(run, q, rate) for run, q in zip(runs, adjusted(p_values), strict=True)]


def _decided(run: JudgedRun, q: float, rate: float) -> JudgedRun:
    replace = msgspec.structs.replace
    if run.refused is not None or run.candidate is None:
        return replace(run, threshold=math.inf)
    if chosen(q, rate):
        return replace(run, verdict="anomalous", q=q, threshold=math.inf, because=run.candidate.because)
    if run.incomplete is not None:
        return replace(
            run,
            verdict="refused",
            refused=run.incomplete,
            incomplete=None,
            q=q,
            threshold=math.inf,
            because=None,
        )
    return replace(run, verdict="nominal", q=q, threshold=math.inf, because=None)


def shortage_of(judged: Iterable[JudgedRun], rate: float) -> str | None:
    """A sentence on what the number of nominal runs does not allow; None where each anomalous run can be
    found by itself."""
    return shortage([run.candidate for run in judged if run.candidate is not None], rate)


def exchangeability_of(detector: Detector | Fitted, judged: Sequence[JudgedRun]) -> Exchangeability | None:
    """What a bet says against runs being like those learnt, which the promise of the false-alarm rate takes
    (see verdicts/exchangeability.py).

    Args:
        detector: what has judged the runs.
        judged: the runs, in the order in which they came. Those that the detector knows itself, that
            are not whole or that were cut take no part.

    Returns:
        None where no run takes part, or the scores do not allow it.
    """
    stream = [run for run in judged if run.fresh]
    classifier = _classifier(detector) if stream else None
    if classifier is None or not classifier.exact:
        return None
    scores, kind_of = [run.score for run in stream], [run.kind for run in stream]
    if isinstance(detector, Fitted) and any(map(detector.groups.apart, kind_of)):
        return exchangeability(detector.groups.rest, scores, detector.groups.scores_apart, kind_of)
    # runs that are compared with all kinds are to be like all
    return exchangeability(classifier.scores, scores)


def _classifier(detector: Detector | Fitted) -> ConformalClassifier | None:
    found = detector.classifier
    return found if isinstance(found, ConformalClassifier) else None
