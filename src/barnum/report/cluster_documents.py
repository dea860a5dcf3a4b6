"""A clustering as files: CSV, JSON, a picture."""

from __future__ import annotations

import csv
import io
from typing import Any

import msgspec
import numpy as np

from barnum import __version__
from barnum.report.clustering import Clustering
from barnum.texts import storable
from barnum.verdicts.clusters import Anomalies, Shared, means

# places of a plot that a person can take in
_DRAWN = 24


def as_csv(result: Clustering) -> bytes:
    """A row a grouped run, in the original's columns; names of files as the system has them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["cluster", "filename"])
    labels = result.groups.label.tolist()
    writer.writerows((label, run.file) for label, run in zip(labels, result.grouped, strict=True))
    return text.getvalue().encode("utf-8", "surrogateescape")


def as_json(result: Clustering) -> bytes:
    """All that was found (docs/formats.md)."""
    request, groups = result.request, result.groups
    mean_of = means(result.points, groups)
    clusters = [
        {
            "cluster": cluster,
            "runs": len(result.members(cluster)),
            "core": int((groups.core & (groups.label == cluster)).sum()),
            "mean": _mean(result, mean_of[cluster].tolist()),
            "transfers": _transfers(result, cluster),
        }
        for cluster in range(groups.clusters)
    ]
    rows = zip(result.grouped, groups.label.tolist(), groups.core.tolist(), strict=True)
    document = {
        "schema": 1,
        "version": __version__,
        "how": result.how,
        "model": result.runs[0].model,
        "algorithm": request.algorithm,
        "by": request.by,
        "min_samples": request.min_samples,
        "eps": request.radius if request.algorithm == "dbscan" else None,
        "max_classes": request.max_classes if request.by == "predicted" else None,
        "points": len(result.grouped),
        "noise": groups.noise,
        "clusters": clusters,
        "runs": [{**_run(run), "cluster": label, "core": core} for run, label, core in rows],
        "left_out": [_run(run) for run in result.left_out],
        "unknown": [_run(run) for run in result.unknown],
    }
    return msgspec.json.format(msgspec.json.encode(document)) + b"\n"


def as_plot(result: Clustering) -> bytes:
    """A radar of the clusters' means (PNG)."""
    from barnum.pictures.radar import draw_radar

    values = means(result.points, result.groups)
    keys = result.points.keys
    if result.request.by == "predicted":
        # every class has its direction, also those that nobody predicted
        whole = np.zeros((len(values), result.request.max_classes))
        whole[:, keys.astype(np.int64)] = values
        axes = [str(number) for number in range(whole.shape[1])]
        values = whole
    else:
        heaviest = sorted((-values.max(axis=0, initial=0)).argsort(kind="stable")[:_DRAWN].tolist())
        values = values[:, heaviest]
        axes = [result.names.page(int(key)) for key in keys[heaviest]]
    shapes = [
        (f"cluster {cluster} ({len(result.members(cluster))} runs)", values[cluster])
        for cluster in range(result.groups.clusters)
    ]
    return draw_radar(result.how, axes, shapes)


def _mean(result: Clustering, shares: list[float]) -> list[dict[str, Any]]:
    """The mean of a cluster, the largest share first."""
    pairs = zip(shares, result.points.keys.tolist(), strict=True)
    ranked = sorted((-share, key) for share, key in pairs if share)
    return [{**result.names.key_fields(key, result.request.by), "share": -share} for share, key in ranked]


def _transfers(result: Clustering, cluster: int) -> list[dict[str, Any]]:
    members = len(result.members(cluster))
    others = len(result.runs) - members
    return [_transfer(result, transfer, members, others) for transfer in result.shared[cluster]]


def _transfer(result: Clustering, transfer: Shared, members: int, others: int) -> dict[str, Any]:
    return {
        "source": result.names.block_fields(transfer.source) if transfer.source else None,
        "target": result.names.block_fields(transfer.target),
        "inside": transfer.inside / members,
        "outside": transfer.outside / others if others else 0.0,
        "inside_runs": transfer.inside,
        "outside_runs": transfer.outside,
        "novelty": transfer.novelty,
    }


def _run(run: Anomalies) -> dict[str, Any]:
    return {
        "file": storable(run.file),
        "name": storable(run.name),
        "label": run.label,
        "transfers": run.transfers,
        "wrong": run.wrong,
        "anomalous": len(run.target),
    }
