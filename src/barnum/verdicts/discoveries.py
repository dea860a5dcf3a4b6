"""Which of many runs are anomalous, when of those that are called so few may be nominal.

A false-alarm rate is kept for each nominal run by itself: of a thousand nominal runs a rate of 1 % calls ten
anomalous, which may be all that is found. The false discovery rate is the share of nominal runs among those
that are called anomalous, on average (0 where none is). The procedure of Benjamini and Hochberg keeps to it
(Controlling the false discovery rate, 1995), for p-values that depend on each other positively as well
(Y. Benjamini, D. Yekutieli, 2001), as those of runs do that are compared with the same calibration scores
(S. Bates, E. Candès, L. Lei, Y. Romano, M. Sesia, Testing for outliers with conformal p-values, 2023).

A run is anomalous by its score, by evidence or by an effect, so its p-value has to count all: see p_of().
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from barnum.evaluations.signs import Signs
from barnum.verdicts.alarms import alarm_rate
from barnum.verdicts.conformal import ConformalClassifier
from barnum.verdicts.method import Verdict

# what two numbers that are equal may differ by once they were rounded
_ROUNDING = 1e-9


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A run that may be called anomalous: its p-value ``p``, of its score and of what it shows beside; the
    ``least`` that any run could have, with ``nominal`` runs to compare with; and ``because`` of what it
    would be anomalous, as a verdict says it. A run that is refused has a ``p`` of 1: it is not called
    anomalous by this, but it could have been, had it begun strangely enough."""

    p: float
    least: float
    nominal: int
    because: str | None = None


def candidate_of(
    verdict: Verdict,
    classifier: ConformalClassifier,
    signs: Signs | None,
    rate: float | None,
    because: str | None = None,
    scale: float = 1.0,
) -> Candidate:
    """A run as one of many, by the verdict on it alone (see alarms.py for ``signs`` and ``rate``). ``scale``:
    what p-values are multiplied by that hold for runs of all kinds, to hold for runs of its kind."""
    nominal = len(classifier.scores)
    alone = signs is not None and classifier.score == "novelty" and nominal == signs.runs
    shown = verdict.because is not None

    def p_by(p: float, evident: bool) -> float:
        return min(1.0, scale * p_of(p, signs, evident, alarm_rate(rate), together=alone))

    least = min(p_by(1 / (1 + nominal), False), 1.0)
    if signs is not None and signs.may_decide(alarm_rate(rate)):
        least = min(least, p_by(1.0, True))
    novel = 1.0 if verdict.p_value is None else verdict.p_value
    p = 1.0 if verdict.refused is not None else p_by(novel, shown)
    return Candidate(p=p, least=least, nominal=nominal, because=verdict.because or because)


def p_of(p: float, signs: Signs | None, shown: bool, rate: float, together: bool) -> float:
    """The p-value of a run by its score, its evidence and its effects.

    Where the score is compared with the very runs of which it is known how many show such evidence or effects
    (``together``), all are ranked at once: those that do first, and otherwise by score. Which of the nominal
    runs do is not asked: all of them count as stranger. Where more do than may be called anomalous, these
    signs decide nothing and the score alone counts. Where the two are compared with different runs they are
    two tests, and the smaller p-value is doubled (Bonferroni).

    Args:
        p: by the score.
        signs: what the run shows beside, and how many nominal runs show such; None: not known.
        shown: whether that makes the run anomalous.
        rate: share of nominal runs that may be called anomalous.
        together: see above.
    """
    if signs is None:
        return p
    strange = signs.strange(rate)
    evident = (1 + strange) / (1 + signs.runs)
    if not together:
        return min(1.0, 2 * min(p, evident if shown else 1.0))
    if shown:
        return evident
    return min(1.0, p + strange / (1 + signs.runs))


def adjusted(p_values: Sequence[float]) -> list[float]:
    """The adjusted p-values: the least false discovery rate at which each run is called anomalous."""
    if not p_values:
        return []
    from scipy.stats import false_discovery_control

    return [float(q) for q in false_discovery_control(np.asarray(p_values, np.float64), method="bh")]


def chosen(q: float, rate: float) -> bool:
    """Whether a run with that adjusted p-value is called anomalous."""
    return q <= rate + _ROUNDING


def decided(verdict: Verdict, q: float | None, rate: float) -> Verdict:
    """The verdict on a run by its adjusted p-value. One that was refused stays so (``q`` None), and one that
    was anomalous by how it begins, and is so no more, is refused."""
    if verdict.refused is not None or q is None:
        return verdict
    anomalous = chosen(q, rate)
    if anomalous or verdict.incomplete is None:
        return msgspec.structs.replace(
            verdict, anomalous=anomalous, because=verdict.because if anomalous else None
        )
    return msgspec.structs.replace(
        verdict, anomalous=False, refused=verdict.incomplete, incomplete=None, because=None
    )


def shortage(candidates: Sequence[Candidate], rate: float) -> str | None:
    """A sentence on what too few nominal runs allow; None where a single anomalous run can be found."""
    runs = len(candidates)
    if not runs:
        return None
    first = min(candidates, key=lambda each: each.least)
    together = math.ceil(first.least * runs / rate - _ROUNDING)
    if together <= 1:
        return None
    # the least falls as 1 / (1 + n)
    needed = math.ceil(first.least * (1 + first.nominal) * runs / rate - 1 - _ROUNDING)
    start = (
        f"a false discovery rate of {rate:g} among {runs:,} runs: with {first.nominal:,} nominal runs to "
        f"compare with, none has a p-value below {first.least:.2g}"
    )
    if together > runs:
        return f"{start}, so that nothing can be called anomalous: fit about {needed:,} nominal runs"
    return (
        f"{start}, so that at least {together:,} are called anomalous or none: to find a single one takes "
        f"about {needed:,} nominal runs"
    )
