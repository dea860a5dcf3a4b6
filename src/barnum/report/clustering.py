"""What is grouped and how, and the groups that were found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from barnum.report.cluster_names import Names
from barnum.verdicts.clusters import (
    EPS,
    MAX_CLASSES,
    MIN_SAMPLES,
    Algorithm,
    Anomalies,
    By,
    Groups,
    Points,
    Shared,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRequest:
    """How to group the runs of a folder of evaluations.

    Attributes:
        by: what makes runs alike (see :mod:`barnum.verdicts.clusters`).
        max_classes: by ``predicted``, predictions count modulo this.
        min_samples: runs, itself included, that a run needs around it to found a cluster.
        eps: distance within which runs are neighbours, of ``dbscan`` alone; None: that of ``by`` in EPS.
        everything: whether all runs are grouped, or those labelled malicious only.
        traces: the folder of samples, which names modules and tells where transfers come from.
        bin_dir: the folder of images, which with ``traces`` names functions.
    """

    folder: Path
    algorithm: Algorithm = "dbscan"
    by: By = "place"
    max_classes: int = MAX_CLASSES
    min_samples: int = MIN_SAMPLES
    eps: float | None = None
    everything: bool = False
    traces: Path | None = None
    bin_dir: Path | None = None

    @property
    def radius(self) -> float:
        """The distance within which runs are neighbours."""
        return EPS[self.by] if self.eps is None else self.eps


@dataclass(frozen=True, slots=True, kw_only=True)
class Clustering:
    """The groups of a folder's runs.

    Attributes:
        runs: all runs of the folder but for ``unknown``.
        grouped: those that were grouped, n of them; ``points`` and ``groups`` have a row for each.
        left_out: those that have nothing by which they could be grouped.
        unknown: those whose label is unknown, where not all are grouped.
        shared: of each cluster the transfers that make it one.
        names: names of blocks.
    """

    request: ClusterRequest
    runs: list[Anomalies]
    grouped: list[Anomalies]
    left_out: list[Anomalies]
    unknown: list[Anomalies]
    points: Points
    groups: Groups
    shared: list[list[Shared]]
    names: Names

    @property
    def how(self) -> str:
        """How the runs were grouped, in words."""
        request = self.request
        if request.by == "predicted":
            what, distance = f"classes predicted wrongly (mod {request.max_classes})", "Euclidean"
        else:
            new = not self.grouped or self.grouped[0].new
            what, distance = f"pages of {'new transfers' if new else 'wrong predictions'}", "Hellinger"
        near = f"{request.min_samples} runs or more"
        if request.algorithm == "dbscan":
            near = f"{request.min_samples} runs within {request.radius:g}"
        return f"{request.algorithm} by {request.by}: {what}, {distance} distance, {near}"

    def members(self, cluster: int) -> list[Anomalies]:
        """The runs of a cluster; of -1 those that are in none (noise)."""
        return [
            run
            for run, label in zip(self.grouped, self.groups.label.tolist(), strict=True)
            if label == cluster
        ]
