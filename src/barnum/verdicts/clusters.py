"""Runs that went astray in the same way, and the transfers that make such a group one.

Each run is a distribution p, and near distributions are grouped, by one of two views:

``predicted``, the original's: of the classes that were predicted (mod ``max_classes``) where the prediction
was wrong. Distance is Euclidean, ``|p - q|``.

``place``: of where the run was anomalous. An *anomalous transfer* is one that training never saw (``seen``
below 2); an evaluation that does not tell has its wrong predictions instead. A place is a page of 4 KiB of a
module, the upper 52 bits of a BBID; each distinct target counts once for its page, so that a loop weighs no
more than a straight line. Distance is Hellinger's, sqrt(1 - sum sqrt(p q)), 0 for equal distributions and 1
for those that share no page: unlike the Euclidean it does not call two runs near because each is spread over
many pages, nor is it ruled by the few heaviest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from barnum.errors import EvaluationError
from barnum.evaluations.files import Evaluation
from barnum.evaluations.folder import open_evaluation
from barnum.evaluations.header import Calibration

Bool = NDArray[np.bool_]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
By = Literal["predicted", "place"]
Algorithm = Literal["dbscan", "hdbscan"]

# u64[m] ascending steps of a trace → BBIDs of the step before each and of the step itself, u64[m] both
Sites = Callable[[U64], tuple[U64, U64]]

# distances within which runs are neighbours: the original's, and one that was measured (docs/experiments.md)
EPS: dict[By, float] = {"predicted": 0.03, "place": 0.4}
MAX_CLASSES = 256
MIN_SAMPLES = 4

# bounds of what is kept: distinct anomalous transfers of a run, and runs (all distances may be in memory)
MAX_TRANSFERS = 1 << 20
MAX_RUNS = 1 << 14

_PAGE = np.uint64(12)
_MODULE = np.uint64(32)


@dataclass(frozen=True, slots=True)
class Anomalies:
    """What grouping looks at of one run.

    ``transfers`` predictions, ``wrong`` of them wrong; ``class_counts`` i64[max_classes] how often each class
    was predicted wrongly. Its k distinct anomalous transfers, in ascending order: ``source`` u64[k] BBID of
    the block before (0 where ``sited`` is false), ``target`` u64[k] BBID or class, ``first`` i64[k] the
    prediction that met it first, ``novelty`` f32[k] the largest in nats, 0 where it is not known. ``new``
    tells whether they are those that training never saw, or else the wrong predictions.
    """

    file: str
    name: str
    label: str
    sample: str
    model: str
    calibration: Calibration | None
    transfers: int
    wrong: int
    class_counts: I64
    source: U64
    target: U64
    first: I64
    novelty: F32
    new: bool
    sited: bool

    @property
    def malicious(self) -> bool:
        """Whether the label says so."""
        return self.label == "malicious"

    @property
    def labelled(self) -> bool:
        """Whether the label is known."""
        return self.label != "unknown"

    @property
    def classes(self) -> bool:
        """Whether targets are classes, which lie in no module, and not blocks."""
        return bool((self.target >> _MODULE == 0).any())

    def has_vector(self, by: By) -> bool:
        """Whether there is anything to make a distribution of."""
        return self.wrong > 0 if by == "predicted" else len(self.target) > 0


def read_anomalies(file: Path, *, max_classes: int = MAX_CLASSES, sites: Sites | None = None) -> Anomalies:
    """Read an evaluation file once, in parts.

    ``sites`` looks up blocks in the run's trace; it is asked of steps in ascending order. Where the
    evaluation names classes only, its blocks stand for them. An evaluation without positions has no sites.

    Raises:
        EvaluationError: the file is broken, holds no prediction or values that are not finite, was scored
            from another trace than ``sites`` reads, or has more than MAX_TRANSFERS distinct anomalous
            transfers.
    """
    evaluation = open_evaluation(file)
    try:
        return _read(evaluation, max_classes, sites if "position" in evaluation.columns else None)
    finally:
        evaluation.close()


def _read(evaluation: Evaluation, max_classes: int, sites: Sites | None) -> Anomalies:
    file, header = evaluation.file, evaluation.header
    new = "seen" in evaluation.columns
    names = ["correct", "predicted", "confidence", "actual"]
    names += ["seen", "novelty"] if new else []
    names += ["position"] if sites else []
    counts = np.zeros(max_classes, np.int64)
    transfers = _Transfers.none()
    rows = wrong = last = 0
    for part in evaluation.parts(*names):
        _check(file, part)
        mistaken = np.flatnonzero(~part["correct"].astype(np.bool_))
        classes = (part["predicted"][mistaken] % np.uint64(max_classes)).astype(np.int64)
        counts += np.bincount(classes, minlength=max_classes)
        at = np.flatnonzero(part["seen"] < 2) if new else mistaken
        source, target = np.zeros(len(at), np.uint64), part["actual"][at]
        if sites and len(at):
            position = part["position"][at]
            if int(position[0]) < last or bool((position[1:] < position[:-1]).any()):
                raise EvaluationError(f"{file}: its positions do not ascend: evaluate anew")
            last = int(position[-1])
            source, target = _located(file, sites, position, target)
        novelty = part["novelty"][at] if new else np.zeros(len(at), np.float32)
        transfers = transfers.joined(source, target, at + rows, novelty)
        if len(transfers.target) > MAX_TRANSFERS:
            raise EvaluationError(
                f"{file}: has more than {MAX_TRANSFERS:,} distinct anomalous transfers: its model knows next "
                "to nothing of this program"
            )
        rows += len(part["correct"])
        wrong += len(mistaken)
    if not rows:
        raise EvaluationError(f"{file}: holds no prediction, so there is nothing to group: remove it")
    return Anomalies(
        file=file.name,
        name=header.name if header else evaluation.sample,
        label=evaluation.label,
        sample=evaluation.sample,
        model=header.model if header else "",
        calibration=header.calibration if header else None,
        transfers=rows,
        wrong=wrong,
        class_counts=counts,
        source=transfers.source,
        target=transfers.target,
        first=transfers.first,
        novelty=transfers.novelty,
        new=new,
        sited=sites is not None,
    )


def _check(file: Path, part: dict[str, NDArray[Any]]) -> None:
    for name in ("confidence", "novelty"):
        values = part.get(name)
        if values is not None and not bool((np.isfinite(values) & (values >= 0)).all()):
            raise EvaluationError(
                f"{file}: {name} holds values that are negative or not finite: evaluate anew"
            )


def _located(file: Path, sites: Sites, position: U64, actual: U64) -> tuple[U64, U64]:
    source, target = sites(position)
    if bool(((actual >> _MODULE != 0) & (actual != target)).any()):
        raise EvaluationError(
            f"{file}: its transfers are not those of its trace: the trace was made anew since: evaluate "
            "anew, or leave --traces out"
        )
    return source, target


@dataclass(frozen=True, slots=True)
class _Transfers:
    """Distinct pairs of source and target, ascending, with the first prediction and largest novelty of
    each."""

    source: U64
    target: U64
    first: I64
    novelty: F32

    @classmethod
    def none(cls) -> _Transfers:
        nothing = np.zeros(0, np.uint64)
        return cls(nothing, nothing, np.zeros(0, np.int64), np.zeros(0, np.float32))

    def joined(self, source: U64, target: U64, first: I64, novelty: F32) -> _Transfers:
        if not len(target):
            return self
        source, target = np.concatenate([self.source, source]), np.concatenate([self.target, target])
        first, novelty = np.concatenate([self.first, first]), np.concatenate([self.novelty, novelty])
        order = np.lexsort((first, target, source))
        source, target = source[order], target[order]
        other = (source[1:] != source[:-1]) | (target[1:] != target[:-1])
        starts = np.flatnonzero(np.concatenate([[True], other]))
        largest = np.maximum.reduceat(novelty[order], starts)
        return _Transfers(source[starts], target[starts], first[order][starts], largest)


@dataclass(frozen=True, slots=True)
class Points:
    """``shares``: a sparse matrix f64[n, d], a distribution a row. ``keys`` u64[d] says what the columns are:
    classes, or pages (BBID >> 12)."""

    shares: Any
    keys: U64
    by: By

    def __len__(self) -> int:
        return int(self.shares.shape[0])

    def embedded(self) -> Any:
        """Sparse f64[n, d], where the Euclidean distance of two rows is the distance of their runs."""
        return self.shares if self.by == "predicted" else self.shares.sqrt() * np.sqrt(0.5)


def points_of(runs: Sequence[Anomalies], by: By) -> Points:
    """The distributions of runs that have one (``has_vector``).

    Raises:
        EvaluationError: by place, and an evaluation names no places; or there are too many runs.
    """
    from scipy.sparse import csr_array

    if len(runs) > MAX_RUNS:
        raise EvaluationError(
            f"{len(runs):,} runs are too many to compare each with each (at most {MAX_RUNS:,}): "
            "put them into several folders"
        )
    keys, counts = [], []
    for run in runs:
        if by == "predicted":
            key = np.flatnonzero(run.class_counts).astype(np.uint64)
            count = run.class_counts[key.astype(np.int64)]
        else:
            if run.classes:
                raise EvaluationError(
                    f"{run.file}: names classes, not blocks, so no places: use --by predicted, or give the "
                    "traces (--traces)"
                )
            key, count = np.unique(np.unique(run.target) >> _PAGE, return_counts=True)
        keys.append(key)
        counts.append(count / count.sum())
    columns, column = np.unique(np.concatenate([np.zeros(0, np.uint64), *keys]), return_inverse=True)
    begins = np.concatenate([[0], np.cumsum([len(key) for key in keys], dtype=np.int64)])
    values = np.concatenate([np.zeros(0), *counts])
    return Points(csr_array((values, column, begins), shape=(len(runs), len(columns))), columns, by)


@dataclass(frozen=True, slots=True)
class Groups:
    """``label`` i64[n]: the cluster of each run, -1 for noise. ``core`` bool[n]: of DBSCAN, the runs that
    have at least min_samples runs (themselves included) within eps; of HDBSCAN, all that are in a cluster."""

    label: I64
    core: Bool

    @property
    def clusters(self) -> int:
        """How many there are."""
        return int(self.label.max(initial=-1)) + 1

    @property
    def noise(self) -> int:
        """How many runs are in none."""
        return int((self.label < 0).sum())


def group(points: Points, algorithm: Algorithm, min_samples: int, eps: float) -> Groups:
    """Cluster runs: DBSCAN (Ester et al. 1996) with eps > 0, or HDBSCAN (Campello et al. 2013), whose
    clusters have at least min_samples ≥ 2 runs. Of fewer than min_samples runs all are noise.
    """
    count = len(points)
    if count < min_samples:
        return Groups(np.full(count, -1), np.zeros(count, np.bool_))
    embedded = points.embedded()
    if algorithm == "dbscan":
        from sklearn.cluster import DBSCAN

        clustering = DBSCAN(eps=eps, min_samples=min_samples).fit(embedded)
        core = np.zeros(count, np.bool_)
        core[clustering.core_sample_indices_] = True
        return Groups(clustering.labels_.astype(np.int64), core)
    from sklearn.cluster import HDBSCAN
    from sklearn.metrics.pairwise import euclidean_distances

    distances = euclidean_distances(embedded)
    # equal runs: what rounding leaves of their distance would part them
    distances[distances < 1e-7] = 0
    clustering = HDBSCAN(
        min_cluster_size=min_samples, min_samples=min_samples, metric="precomputed", copy=True
    )
    label = clustering.fit_predict(distances).astype(np.int64)
    # its numbers come from a tree: number by the first run, near to what DBSCAN does
    _, first = np.unique(label[label >= 0], return_index=True)
    number = np.append(first.argsort().argsort(), -1)
    return Groups(number[label], label >= 0)


def means(points: Points, groups: Groups) -> F64:
    """f64[clusters, d]: the mean of each cluster's core runs."""
    rows = [
        np.asarray(points.shares[np.flatnonzero((groups.label == c) & groups.core)].mean(axis=0)).ravel()
        for c in range(groups.clusters)
    ]
    return np.array(rows).reshape(groups.clusters, len(points.keys))


@dataclass(frozen=True, slots=True)
class Shared:
    """A transfer, the number of runs in and out of a cluster that have it, and its mean novelty in nats over
    the former. ``source`` is 0 where it is not known."""

    source: int
    target: int
    inside: int
    outside: int
    novelty: float


def shared(runs: Sequence[Anomalies], label: I64) -> list[list[Shared]]:
    """For each cluster the anomalous transfers that at least half of its runs have, and a larger share of
    them than of all other runs. Largest difference of the two shares first; equals in the order in which its
    runs meet them, so that what leads to an anomaly stands before what comes of it.

    ``label`` i64[n] is the cluster of each run, -1 for one that is in none. Sources count where all runs know
    them.
    """
    from scipy.sparse import csr_array

    clusters = int(label.max(initial=-1)) + 1
    if not clusters:
        return []
    sited = all(run.sited for run in runs)
    own = [_transfers_of(run, sited) for run in runs]
    pairs, which = np.unique(
        np.concatenate([np.stack([each.source, each.target], axis=1) for each in own]),
        axis=0,
        return_inverse=True,
    )
    begins = np.concatenate([[0], np.cumsum([len(each.target) for each in own])])

    def by_run(values: list[F64]) -> Any:
        return csr_array((np.concatenate(values), which.ravel(), begins), shape=(len(runs), len(pairs)))

    has = by_run([np.ones(len(each.target)) for each in own])
    nats = by_run([each.novelty.astype(np.float64) for each in own])
    # runs differ in length: what counts is before how many other anomalous transfers of the run it comes
    turn = by_run([each.first.argsort().argsort().astype(np.float64) for each in own])
    everywhere = has.sum(axis=0)
    result = []
    for cluster in range(clusters):
        members = np.flatnonzero(label == cluster)
        inside = has[members].sum(axis=0)
        outside = everywhere - inside
        lead = inside / len(members) - outside / max(len(runs) - len(members), 1)
        kept = np.flatnonzero((2 * inside >= len(members)) & (lead > 0))
        met = turn[members].sum(axis=0)[kept] / inside[kept]
        novelty = nats[members].sum(axis=0)[kept] / inside[kept]
        order = np.lexsort((met, -lead[kept]))
        result.append(
            [
                Shared(int(pairs[i, 0]), int(pairs[i, 1]), int(inside[i]), int(outside[i]), float(mean))
                for i, mean in zip(kept[order], novelty[order], strict=True)
            ]
        )
    return result


def _transfers_of(run: Anomalies, sited: bool) -> _Transfers:
    if sited:
        return _Transfers(run.source, run.target, run.first, run.novelty)
    return _Transfers.none().joined(np.zeros_like(run.target), run.target, run.first, run.novelty)
