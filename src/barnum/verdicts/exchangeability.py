"""Are the runs of a stream still like those learnt? A bet against that, whose gain is the evidence.

Conformal verdicts keep to their rate where runs are exchangeable with those that calibrate: where every order
of all of them is as likely as any other. Each score of the stream is ranked among the calibration scores and
the scores before it in the stream:

    p = (number of scores above it + u * number equal to it) / number of scores

all counted with itself, and with u drawn from [0, 1). If all runs are exchangeable these p are independent
and uniform (V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World, 2005). So are
those of runs that are exchangeable within their kinds alone, each ranked among those of its kind. A bet on p
with the factor 1 + k (p - 1/2), k being -1, 0 or 1, then gains nothing on average. The Simple Jumper spreads
its capital over the three, and before each bet moves the share JUMP of each to all alike, so that it follows
when runs change (V. Vovk, I. Petej, I. Nouretdinov, E. Ahlberg, L. Carlsson, A. Gammerman, Retrain or not
retrain: conformal test martingales for change-point detection, COPA 2021). Its capital, 1 at first, is a
martingale: by Ville's inequality it ever reaches M in at most one of M exchangeable streams, however long
these are.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

# capital at which it is told that runs are not exchangeable: in at most 5 % of streams where they are
ALARM = 20.0
JUMP = 0.01
_BETS = (-1.0, 0.0, 1.0)
# capital that is told; more says no more
_MOST = 1e300


class Exchangeability(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the bet: how many ``runs`` of the stream took part, and the highest capital so far, the
    ``evidence``: exchangeable runs reach it with a probability of at most 1 in that. ``alarm`` says after how
    many runs it reached ALARM (None: it did not), and ``stranger`` whether the bet that won was on scores
    above those learnt, or (False) below; None without an alarm. ``text`` is what an alarm means, in a
    sentence without its full stop."""

    runs: int
    evidence: float
    alarm: int | None = None
    stranger: bool | None = None
    text: str | None = None


def _text(evidence: float, alarm: int, stranger: bool) -> str:
    odds = f"after {alarm:,} runs; evidence 1:{_shown(evidence)} against"
    if stranger:
        return (
            "the promise of the false-alarm rate does not hold: runs are no longer like those learnt, they "
            f"are stranger ({odds})"
        )
    return (
        "the promise of the false-alarm rate is not to be relied on: runs are no longer like those learnt, "
        f"they are less strange ({odds})"
    )


class Wager:
    """The bet, run by run."""

    def __init__(
        self, calibration: Iterable[float], kinds: Mapping[str, Iterable[float]] | None = None
    ) -> None:
        """``calibration``: scores of nominal runs, in any order; there may be none. ``kinds``: those of
        further ones, by their kind, with which runs of that kind alone are compared.

        Ties are broken by a generator whose seed is made of these, so that equal streams give equal results.
        """
        self._rest = sorted(map(float, calibration))
        self._kinds = {kind: sorted(map(float, scores)) for kind, scores in sorted((kinds or {}).items())}
        known = [score for some in (self._rest, *self._kinds.values()) for score in some]
        seed = hashlib.sha256(np.array(known, np.float64).tobytes()).digest()
        self._draw = np.random.default_rng(int.from_bytes(seed[:16], "little"))
        self._shares = [1 / len(_BETS)] * len(_BETS)
        # of the capital, whose shares they are: it may outgrow floating point
        self._log = self._highest = 0.0
        self._runs = 0
        self._alarm: int | None = None
        self._stranger: bool | None = None

    def add(self, score: float, kind: str | None = None) -> float:
        """Bet on the next run, by its score, and by its kind; the capital then."""
        p = self._rank(score, self._rest if kind is None else self._kinds.get(kind, self._rest))
        moved = [(1 - JUMP) * share + JUMP / len(_BETS) for share in self._shares]
        held = [share * (1 + bet * (p - 0.5)) for share, bet in zip(moved, _BETS, strict=True)]
        total = sum(held)
        self._shares = [share / total for share in held]
        self._log += math.log(total)
        self._runs += 1
        self._highest = max(self._highest, self._log)
        if self._alarm is None and self._log >= math.log(ALARM):
            self._alarm = self._runs
            self._stranger = self._shares[0] > self._shares[-1]
        return _capital(self._log)

    def _rank(self, score: float, known: list[float]) -> float:
        above = len(known) - bisect_right(known, score)
        equal = len(known) - above - bisect_left(known, score) + 1
        p = (above + float(self._draw.random()) * equal) / (len(known) + 1)
        insort(known, score)
        return p

    @property
    def result(self) -> Exchangeability:
        """What became of it so far."""
        evidence, alarm, stranger = _capital(self._highest), self._alarm, self._stranger
        text = None if alarm is None or stranger is None else _text(evidence, alarm, stranger)
        return Exchangeability(runs=self._runs, evidence=evidence, alarm=alarm, stranger=stranger, text=text)


def exchangeability(
    calibration: Iterable[float],
    stream: Sequence[float],
    kinds: Mapping[str, Iterable[float]] | None = None,
    kind_of: Sequence[str | None] | None = None,
) -> Exchangeability | None:
    """The bet on a whole stream of scores, in the order in which the runs came; None where there is none.
    ``kind_of`` are the kinds of its runs (None: not told); see Wager for ``calibration`` and ``kinds``."""
    if not stream:
        return None
    wager = Wager(calibration, kinds)
    for score, kind in zip(stream, kind_of or [None] * len(stream), strict=True):
        wager.add(score, kind)
    return wager.result


def _capital(log: float) -> float:
    return math.exp(min(log, math.log(_MOST)))


def _shown(capital: float) -> str:
    return f"{capital:,.0f}" if capital < 1e6 else f"{capital:.0e}"
