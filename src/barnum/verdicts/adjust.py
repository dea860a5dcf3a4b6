"""Surprisal adjusted for how long and how varied a run is.

How surprising a harmless run is depends on how much it does: short runs and runs with many different targets
surprise more. So the mean surprisal of a run is compared with what nominal runs of its length and variety
have. Candidates are linear regressions by least squares on logarithms of length n and number d of distinct
targets, with

    terms   none; length: ln n, ln² n; linear: ln n, ln d; quadratic: ln n, ln d, ln² n, ln² d, ln n · ln d
    scale   same: normal errors of one size; spread: normal errors whose mean absolute size is itself
            regressed on the terms; ratio: log-normal errors (regression of ln(surprisal + 0.001))

The pair is taken under which nominal runs that were left out are most likely (10 folds; M. Stone,
Cross-Validatory Choice and Assessment of Statistical Predictions, 1974). Nothing else than nominal runs
takes part. Outside of the lengths and varieties that were learnt, the nearest learnt ones count.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Terms = Literal["none", "length", "linear", "quadratic"]
Scale = Literal["same", "spread", "ratio"]

FOLDS = 10
# with fewer runs than this for each coefficient a regression says little
_RUNS_A_TERM = 10
# nats; a surprisal of 0 has no logarithm
_LEAST = 1e-3
# errors are at least as large as those of the least surprising fifth of the runs
_FLOOR = 20
_LARGEST = 1e9
_TERMS: tuple[Terms, ...] = ("none", "length", "linear", "quadratic")
_SCALES: tuple[Scale, ...] = ("same", "spread", "ratio")
_COEFFICIENTS = {"none": 1, "length": 3, "linear": 3, "quadratic": 6}

_Pair = tuple[float, float]
_Positive = Annotated[float, msgspec.Meta(gt=0)]


class Adjustment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What nominal runs have. ``centre`` and ``spread`` are coefficients, constant first; ``floor`` the least
    size of an error; ``lowest`` and ``highest`` bound ln n and ln d."""

    terms: Terms
    scale: Scale
    centre: tuple[float, ...]
    spread: tuple[float, ...]
    floor: _Positive
    lowest: _Pair
    highest: _Pair

    def __post_init__(self) -> None:
        sizes = {len(self.centre), len(self.spread)}
        numbers = (*self.centre, *self.spread, self.floor, *self.lowest, *self.highest)
        # a forged one would overflow
        sound = bool((np.abs(numbers) < _LARGEST).all())
        if sizes != {_COEFFICIENTS[self.terms]} or not sound:
            raise ValueError("the adjustment's numbers do not fit its terms")

    def adjusted(self, surprisal: F64, transfers: F64, distinct: F64) -> F64:
        """f64[runs]: how many errors of the usual size a run is above what nominal runs like it have.

        Args:
            surprisal: f64[runs], mean nats a transfer.
            transfers, distinct: f64[runs], at least 1.
        """
        its, centre, size = self._parts(surprisal, transfers, distinct)
        return (its - centre) / size

    def log_likelihood(self, surprisal: F64, transfers: F64, distinct: F64) -> F64:
        """f64[runs]: logarithm of the density of a run's surprisal, but for a constant."""
        its, centre, size = self._parts(surprisal, transfers, distinct)
        density = -0.5 * ((its - centre) / size) ** 2 - np.log(size)
        return density - its if self.scale == "ratio" else density

    def _parts(self, surprisal: F64, transfers: F64, distinct: F64) -> tuple[F64, F64, F64]:
        clipped = np.clip(_logs(transfers, distinct), self.lowest, self.highest)
        terms = _terms(self.terms, clipped)
        size = np.maximum(terms @ np.array(self.spread), self.floor)
        return _scaled(surprisal, self.scale), terms @ np.array(self.centre), size

    def describe(self) -> str:
        """What is adjusted for, for a person."""
        if self.terms == "none":
            return "not adjusted: neither length nor variety of nominal runs tells how surprising they are"
        by = "length" if self.terms == "length" else "length and number of distinct targets"
        return f"adjusted for {by} of the run"


def learn(surprisal: F64, transfers: F64, distinct: F64) -> Adjustment:
    """Learn from nominal runs that had no part in the model: f64[runs] each, one at least.

    Raises:
        ValueError: there is no run.
    """
    if not len(surprisal):
        raise ValueError("no run to learn from")
    terms, scale = _chosen(surprisal, transfers, distinct)
    return _fitted(terms, scale, surprisal, transfers, distinct)


def left_out(surprisal: F64, transfers: F64, distinct: F64) -> F64:
    """f64[runs]: each run adjusted by what the others of its kind have, without its own fold; the form is the
    one that all of them choose. Arguments as for learn()."""
    terms, scale = _chosen(surprisal, transfers, distinct)
    made = np.empty(len(surprisal))
    for rest, part in _folds(len(surprisal)):
        one = _fitted(terms, scale, surprisal[rest], transfers[rest], distinct[rest])
        made[part] = one.adjusted(surprisal[part], transfers[part], distinct[part])
    return made


def _chosen(surprisal: F64, transfers: F64, distinct: F64) -> tuple[Terms, Scale]:
    count = len(surprisal)
    likeliest: tuple[float, Terms, Scale] = (-np.inf, "none", "same")
    for terms in _TERMS:
        if terms != "none" and count < _RUNS_A_TERM * _COEFFICIENTS[terms]:
            continue
        for scale in _SCALES:
            total = 0.0
            for rest, part in _folds(count):
                one = _fitted(terms, scale, surprisal[rest], transfers[rest], distinct[rest])
                total += float(one.log_likelihood(surprisal[part], transfers[part], distinct[part]).sum())
            if total > likeliest[0]:
                likeliest = (total, terms, scale)
    return likeliest[1], likeliest[2]


def _folds(count: int) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    if count == 1:
        # nothing to leave out
        yield np.ones(1, np.bool_), np.ones(1, np.bool_)
        return
    fold = np.random.default_rng(0).permutation(count) % min(FOLDS, count)
    for number in range(min(FOLDS, count)):
        yield fold != number, fold == number


def _fitted(terms: Terms, scale: Scale, surprisal: F64, transfers: F64, distinct: F64) -> Adjustment:
    logs = _logs(transfers, distinct)
    of = _terms(terms, logs)
    its = _scaled(surprisal, scale)
    centre = np.linalg.lstsq(of, its, rcond=None)[0]
    error = its - of @ centre
    spread = np.zeros(of.shape[1])
    floor = float(error.std())
    if scale == "spread":
        # the mean absolute value of a normal error is sqrt(2 / pi) of its size
        size = np.abs(error) * np.sqrt(np.pi / 2)
        spread = np.linalg.lstsq(of, size, rcond=None)[0]
        floor = float(np.percentile(size, _FLOOR))
    return Adjustment(
        terms=terms,
        scale=scale,
        centre=tuple(centre.tolist()),
        spread=tuple(spread.tolist()),
        # runs that are all alike
        floor=max(floor, _LEAST),
        lowest=(float(logs[:, 0].min()), float(logs[:, 1].min())),
        highest=(float(logs[:, 0].max()), float(logs[:, 1].max())),
    )


def _logs(transfers: F64, distinct: F64) -> F64:
    return np.log(np.maximum(np.column_stack([transfers, distinct]).astype(np.float64), 1.0))


def _terms(terms: Terms, logs: F64) -> F64:
    n, d = logs[:, 0], logs[:, 1]
    columns: list[F64] = [np.ones(len(logs))]
    if terms == "length":
        columns += [n, n * n]
    elif terms == "linear":
        columns += [n, d]
    elif terms == "quadratic":
        columns += [n, d, n * n, d * d, n * d]
    return np.column_stack(columns)


def _scaled(surprisal: F64, scale: Scale) -> F64:
    return np.log(surprisal + _LEAST) if scale == "ratio" else surprisal.astype(np.float64)
