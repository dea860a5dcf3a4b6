"""Groups the runs of a folder of evaluations that went astray in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from barnum.errors import EvaluationError
from barnum.report.cluster_names import Names
from barnum.report.cluster_places import functions_in
from barnum.report.clustering import Clustering, ClusterRequest
from barnum.verdicts import clusters
from barnum.verdicts.clusters import Anomalies
from barnum.verdicts.judgement import check_model

__all__ = ["ClusterRequest", "ClusterResult", "cluster"]


class ClusterResult(Clustering):
    """The groups that were found, in the forms in which they are given."""

    __slots__ = ()

    def text(self) -> str:
        """Printable lines for a person, without the end of the last."""
        from barnum.report.cluster_text import lines_of

        return "\n".join(lines_of(self))

    def csv(self) -> bytes:
        """A row a run, in the original's columns: cluster (-1: noise), filename."""
        from barnum.report.cluster_documents import as_csv

        return as_csv(self)

    def json(self) -> bytes:
        """All that was found: clusters, runs, and the transfers that make each cluster one."""
        from barnum.report.cluster_documents import as_json

        return as_json(self)

    def plot(self) -> bytes:
        """The mean of each cluster's core runs, as a radar (PNG)."""
        from barnum.report.cluster_documents import as_plot

        return as_plot(self)


def cluster(request: ClusterRequest, runs: Sequence[Anomalies], names: Mapping[int, str]) -> ClusterResult:
    """Group runs as asked.

    Args:
        runs: all of the folder, and ``names`` of modules and calls, as
            :func:`barnum.report.cluster_places.read_all` gives them. Unless all are grouped, those whose
            label is unknown are neither grouped nor among the others.

    Raises:
        EvaluationError: none is labelled malicious and only those are wanted, they do not belong together, or
            by place and an evaluation names no places.
    """
    check_model(request.folder, runs, lambda run: run.file)
    unknown = [] if request.everything else [run for run in runs if not run.labelled]
    runs = [run for run in runs if request.everything or run.labelled]
    wanted = [run for run in runs if request.everything or run.malicious]
    if not wanted:
        raise EvaluationError(
            f"{request.folder}: holds no run labelled malicious, and only those are grouped: give --all to "
            "take the others too"
        )
    grouped = [run for run in wanted if run.has_vector(request.by)]
    points = clusters.points_of(grouped, request.by)
    groups = clusters.group(points, request.algorithm, request.min_samples, request.radius)
    label_of = dict(zip((run.file for run in grouped), groups.label.tolist(), strict=True))
    shared = clusters.shared(runs, np.array([label_of.get(run.file, -1) for run in runs]))
    return ClusterResult(
        request=request,
        runs=runs,
        grouped=grouped,
        left_out=[run for run in wanted if not run.has_vector(request.by)],
        unknown=unknown,
        points=points,
        groups=groups,
        shared=shared,
        names=Names(names, functions_in(shared, names, runs, request.traces, request.bin_dir)),
    )
