"""Surprisal adjusted for how long and how varied a run is.

How surprising a harmless run is depends on how much it does. So the mean surprisal of a run is compared
with what nominal runs of its length and variety have: the standardised residual of a linear regression
(least squares) on logarithms of length n and number d of distinct targets. As a score of conformal
prediction this is known as normalised, or locally weighted (J. Lei et al., Distribution-Free Predictive
Inference for Regression, JASA 113, 2018). Candidates::

    terms   none; length: ln n, ln² n; linear: ln n, ln d; quadratic: ln n, ln d, ln² n, ln² d, ln n · ln d
    errors  constant: normal, of one size; varying: normal, of a size whose mean is regressed on the terms;
            lognormal: those of ln(surprisal + 0.001), of one size

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
Errors = Literal["constant", "varying", "lognormal"]

FOLDS = 10
# with fewer runs than this for each coefficient a regression says little
_RUNS_A_TERM = 10
# nats; a surprisal of 0 has no logarithm, and runs that are all alike have no error
_LEAST = 1e-3
# no varying error is taken for smaller than that of the fifth of the runs that fit best
_FLOOR = 20
# logarithms that hardly vary are not stretched further than this
_NARROW = 0.05
# mean surprisal beyond this is no measurement
_MOST = 1e6
_TERMS: tuple[Terms, ...] = ("none", "length", "linear", "quadratic")
_ERRORS: tuple[Errors, ...] = ("constant", "varying", "lognormal")
_COEFFICIENTS = {"none": 1, "length": 3, "linear": 3, "quadratic": 6}
# runs from which on a form may be chosen
ENOUGH = _RUNS_A_TERM * 3

_Number = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]
_Least = Annotated[float, msgspec.Meta(ge=_LEAST, le=1e9)]
_Width = Annotated[float, msgspec.Meta(ge=_NARROW, le=1e3)]
_Pair = tuple[_Number, _Number]


class Adjustment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What nominal runs have. ``location`` and ``deviation`` are coefficients, the constant first, of ln n
    and ln d less ``middle`` and divided by ``width``; ``floor`` is the least size of an error, and ``lowest``
    and ``highest`` bound ln n and ln d. ``runs`` is how many it was learnt from."""

    terms: Terms
    errors: Errors
    location: tuple[_Number, ...]
    deviation: tuple[_Number, ...]
    floor: _Least
    middle: _Pair
    width: tuple[_Width, _Width]
    lowest: _Pair
    highest: _Pair
    runs: Annotated[int, msgspec.Meta(ge=1)]

    def __post_init__(self) -> None:
        if {len(self.location), len(self.deviation)} != {_COEFFICIENTS[self.terms]}:
            raise ValueError("the adjustment's numbers do not fit its terms")

    def adjusted(self, surprisal: F64, transfers: F64, distinct: F64) -> F64:
        """f64[runs]: how many usual errors a run is above what nominal runs like it have.

        Args:
            surprisal: f64[runs], mean nats a transfer.
            transfers, distinct: f64[runs], at least 1.
        """
        scaled, location, size = self._parts(surprisal, transfers, distinct)
        return (scaled - location) / size

    def log_likelihood(self, surprisal: F64, transfers: F64, distinct: F64) -> F64:
        """f64[runs]: logarithm of the density of a run's surprisal, but for a constant."""
        scaled, location, size = self._parts(surprisal, transfers, distinct)
        density = -0.5 * ((scaled - location) / size) ** 2 - np.log(size)
        return density - scaled if self.errors == "lognormal" else density

    def _parts(self, surprisal: F64, transfers: F64, distinct: F64) -> tuple[F64, F64, F64]:
        """f64[runs] each: surprisal or its logarithm, what nominal runs have of it, size of an error."""
        clipped = np.clip(_logs(transfers, distinct), self.lowest, self.highest)
        terms = _terms(self.terms, (clipped - self.middle) / self.width)
        size = np.maximum(terms @ np.array(self.deviation), self.floor)
        return _scaled(surprisal, self.errors), terms @ np.array(self.location), size

    def describe(self) -> str:
        """What is adjusted for, for a person."""
        if self.terms == "none":
            if self.runs < ENOUGH:
                return f"not adjusted, for which {ENOUGH} nominal runs are needed and here are {self.runs}"
            return "not adjusted, as neither length nor variety of nominal runs tells how surprising they are"
        by = "length" if self.terms == "length" else "length and number of distinct targets"
        return f"adjusted for {by} of the run"


def learn(surprisal: F64, transfers: F64, distinct: F64) -> Adjustment:
    """Learn from nominal runs that had no part in the model: f64[runs] each, one at least.

    Raises:
        ValueError: there is no run.
    """
    if not len(surprisal):
        raise ValueError("no run to learn from")
    return _fitted(*_chosen(surprisal, transfers, distinct), surprisal, transfers, distinct)


def left_out(surprisal: F64, transfers: F64, distinct: F64) -> F64:
    """f64[runs]: how each run is adjusted by others: its residual is that of a regression without its fold.
    Form and size of errors are those of learn(). Arguments as there."""
    whole = learn(surprisal, transfers, distinct)
    if whole.terms == "none":
        # a constant is no regression: left out or not, the order of runs is that of their surprisal
        return whole.adjusted(surprisal, transfers, distinct)
    residuals = np.empty(len(surprisal))
    for rest, part in _folds(len(surprisal)):
        columns = surprisal[part], transfers[part], distinct[part]
        others = _fitted(whole.terms, whole.errors, surprisal[rest], transfers[rest], distinct[rest])
        scaled, location, _ = others._parts(*columns)
        residuals[part] = (scaled - location) / whole._parts(*columns)[2]
    return residuals


def _chosen(surprisal: F64, transfers: F64, distinct: F64) -> tuple[Terms, Errors]:
    """The pair under which runs are most likely that were left out."""
    count = len(surprisal)
    likeliest: tuple[float, Terms, Errors] = (-np.inf, "none", "constant")
    if count < ENOUGH:
        return likeliest[1:]
    for terms in _TERMS:
        if count < _RUNS_A_TERM * _COEFFICIENTS[terms]:
            continue
        for errors in _ERRORS:
            total = 0.0
            for rest, part in _folds(count):
                others = _fitted(terms, errors, surprisal[rest], transfers[rest], distinct[rest])
                total += float(others.log_likelihood(surprisal[part], transfers[part], distinct[part]).sum())
            if total > likeliest[0]:
                likeliest = (total, terms, errors)
    return likeliest[1:]


def _folds(count: int) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """bool[runs] both: the runs outside of each fold, and those in it."""
    fold = np.random.default_rng(0).permutation(count) % FOLDS
    for number in range(FOLDS):
        yield fold != number, fold == number


def _fitted(terms: Terms, errors: Errors, surprisal: F64, transfers: F64, distinct: F64) -> Adjustment:
    logs = _logs(transfers, distinct)
    middle, width = logs.mean(axis=0), np.maximum(logs.std(axis=0), _NARROW)
    regressors = _terms(terms, (logs - middle) / width)
    scaled = _scaled(surprisal, errors)
    location = np.linalg.lstsq(regressors, scaled, rcond=None)[0]
    residual = scaled - regressors @ location
    deviation = np.zeros(regressors.shape[1])
    floor = float(residual.std())
    if errors == "varying":
        # the mean absolute value of a normal error is sqrt(2 / pi) of its size
        size = np.abs(residual) * np.sqrt(np.pi / 2)
        deviation = np.linalg.lstsq(regressors, size, rcond=None)[0]
        floor = float(np.percentile(size, _FLOOR))
    return Adjustment(
        terms=terms,
        errors=errors,
        location=tuple(location.tolist()),
        deviation=tuple(deviation.tolist()),
        floor=max(floor, _LEAST),
        middle=_pair(middle),
        width=_pair(width),
        lowest=_pair(logs.min(axis=0)),
        highest=_pair(logs.max(axis=0)),
        runs=len(surprisal),
    )


def _pair(values: F64) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def _logs(transfers: F64, distinct: F64) -> F64:
    """f64[runs, 2]: ln n and ln d."""
    return np.log(np.maximum(np.column_stack([transfers, distinct]).astype(np.float64), 1.0))


def _terms(terms: Terms, logs: F64) -> F64:
    """f64[runs, coefficients]: the terms of a regression, 1 first; ``logs`` f64[runs, 2] are standardised."""
    n, d = logs[:, 0], logs[:, 1]
    columns: list[F64] = [np.ones(len(logs))]
    if terms == "length":
        columns += [n, n * n]
    elif terms == "linear":
        columns += [n, d]
    elif terms == "quadratic":
        columns += [n, d, n * n, d * d, n * d]
    return np.column_stack(columns)


def _scaled(surprisal: F64, errors: Errors) -> F64:
    """f64[runs]: what errors are normal of, surprisal or its logarithm."""
    bounded = np.minimum(surprisal.astype(np.float64), _MOST)
    return np.log(bounded + _LEAST) if errors == "lognormal" else bounded
