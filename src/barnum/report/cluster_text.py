"""A clustering as text for a person."""

from __future__ import annotations

from collections.abc import Iterator

from barnum.report.clustering import Clustering
from barnum.texts import printable
from barnum.verdicts.clusters import Anomalies

# transfers of a cluster that a person can take in
_SHOWN = 5


def lines_of(result: Clustering) -> Iterator[str]:
    """Printable lines: how many clusters there are, then each with the transfers that make it one."""
    yield f"cluster: {result.how}"
    yield ""
    yield from _summary(result)
    for cluster in range(result.groups.clusters):
        yield ""
        yield from _cluster(result, cluster)
    noise = result.members(-1)
    if noise and result.groups.clusters:
        yield ""
        yield f"noise, {len(noise)} runs: {_listed(noise)}"


def _summary(result: Clustering) -> Iterator[str]:
    request, groups, count = result.request, result.groups, len(result.grouped)
    yield f"{_counted(count, 'point')}, {_counted(groups.clusters, 'cluster')}, {groups.noise:,} noise"
    if count < request.min_samples:
        yield f"fewer points than --min-samples {request.min_samples}, so all are noise"
    if result.left_out:
        what = "wrong prediction" if request.by == "predicted" else "anomalous transfer"
        left_out = result.left_out
        yield f"left out, {_counted(len(left_out), 'run')} without any {what}: {_listed(left_out)}"
    if result.unknown:
        unknown = result.unknown
        yield f"of unknown label, {_counted(len(unknown), 'run')} (--all groups them): {_listed(unknown)}"
    if request.traces and groups.clusters and any(run.sited for run in result.runs):
        without = [run for run in result.runs if not run.sited]
        if without:
            yield f"transfers are told by targets alone, for these have no trace: {_listed(without)}"


def _cluster(result: Clustering, cluster: int) -> Iterator[str]:
    members, transfers = result.members(cluster), result.shared[cluster]
    others = len(result.runs) - len(members)
    yield f"cluster {cluster}, {len(members)} runs: {_listed(members)}"
    for transfer in transfers[:_SHOWN]:
        source = f"{result.names.block(transfer.source)} " if transfer.source else ""
        yield (
            f"  {transfer.inside}/{len(members)} runs, {transfer.outside}/{others} others  "
            f"{source}→ {result.names.block(transfer.target)}"
        )
    rest = len(transfers) - _SHOWN
    if rest > 0:
        yield f"  and {rest:,} more transfers that most of them share (--json has all)"
    if not transfers:
        yield "  no anomalous transfer is shared by most of them more than by others"


def _counted(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number:,} {what}s"


def _listed(runs: list[Anomalies]) -> str:
    return ", ".join(printable(run.name) for run in runs)
