"""Groups of runs, in the forms in which they are given."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from barnum.samples import printable

if TYPE_CHECKING:
    from barnum.report.symbols import Symbols
    from barnum.verdicts.clusters import Anomalies, Groups, Points, Shared

# transfers of a cluster, and places of a plot, that a person can take in
_SHOWN = 5
_DRAWN = 24
MODULE_BITS = 32
_PAGE_BITS = 12
_OFFSETS = (1 << MODULE_BITS) - 1


def how_of(
    algorithm: str, by: str, min_samples: int, eps: float, max_classes: int, taken: list[Anomalies]
) -> str:
    if by == "predicted":
        what, distance = f"classes predicted wrongly (mod {max_classes})", "Euclidean"
    else:
        new = not taken or taken[0].new
        what = f"pages of {'new transfers' if new else 'wrong predictions'}"
        distance = "Hellinger"
    near = f"{min_samples} runs within {eps:g}" if algorithm == "dbscan" else f"{min_samples} runs or more"
    return f"{algorithm} by {by}: {what}, {distance} distance, {near}"


class ClusterResult:
    """All that was found, in the forms in which it is given."""

    def __init__(
        self,
        *,
        how: str,
        settings: dict[str, Any],
        runs: list[Anomalies],
        taken: list[Anomalies],
        left_out: list[Anomalies],
        points: Points,
        groups: Groups,
        shared: list[list[Shared]],
        names: dict[int, str],
        functions: dict[int, Symbols],
    ) -> None:
        self._how = how
        self._settings = settings
        self._runs = runs
        self._taken = taken
        self._left_out = left_out
        self._points = points
        self._groups = groups
        self._shared = shared
        self._names = names
        # hashes of modules are shorter than tokens of calls; pages of these hold one each
        self._calls = {token >> _PAGE_BITS: name for token, name in names.items() if token >> MODULE_BITS}
        self._functions = functions

    def csv(self) -> bytes:
        """The original's columns."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["cluster", "filename"])
        writer.writerows(
            (label, run.file) for label, run in zip(self._groups.label.tolist(), self._taken, strict=True)
        )
        return text.getvalue().encode("utf-8", "surrogateescape")

    def plot(self) -> bytes:
        """A radar of the clusters' means."""
        from barnum.pictures.radar import draw_radar
        from barnum.verdicts.clusters import means

        values = means(self._points, self._groups)
        keys = self._points.keys
        if self._points.by == "predicted":
            # every class has its direction, also those that nobody predicted
            import numpy as np

            whole = np.zeros((len(values), int(self._settings["max_classes"])))
            whole[:, keys.astype(np.int64)] = values
            axes = [str(i) for i in range(whole.shape[1])]
            values = whole
        else:
            heaviest = sorted((-values.max(axis=0, initial=0)).argsort(kind="stable")[:_DRAWN].tolist())
            values = values[:, heaviest]
            axes = [self._page(int(key)) for key in keys[heaviest]]
        shapes = [(f"cluster {c} ({self._size(c)} runs)", values[c]) for c in range(self._groups.clusters)]
        return draw_radar(self._how, axes, shapes)

    def json(self) -> bytes:
        """Everything."""
        import msgspec

        from barnum import __version__
        from barnum.verdicts.clusters import means

        values = means(self._points, self._groups)
        clusters = [
            {
                "cluster": c,
                "runs": self._size(c),
                "core": int((self._groups.core & (self._groups.label == c)).sum()),
                "mean": self._mean(values[c].tolist()),
                "transfers": [self._transfer(each, c) for each in self._shared[c]],
            }
            for c in range(self._groups.clusters)
        ]
        grouped = zip(self._taken, self._groups.label.tolist(), self._groups.core.tolist(), strict=True)
        document = {
            "schema": 1,
            "version": __version__,
            "how": self._how,
            "model": self._runs[0].model,
            **self._settings,
            "points": len(self._taken),
            "noise": self._groups.noise,
            "clusters": clusters,
            "runs": [{**_identity(run), "cluster": label, "core": core} for run, label, core in grouped],
            "left_out": [_identity(run) for run in self._left_out],
        }
        return msgspec.json.format(msgspec.json.encode(document)) + b"\n"

    def _mean(self, shares: list[float]) -> list[dict[str, Any]]:
        pairs = zip(shares, self._points.keys.tolist(), strict=True)
        found = sorted((-share, key) for share, key in pairs if share)
        return [{**self._key(key), "share": -share} for share, key in found]

    def print(self, min_samples: int, traces: Path | None) -> None:
        """For a person."""
        groups, taken = self._groups, self._taken
        click.echo(f"cluster: {self._how}\n")
        points = "1 point" if len(taken) == 1 else f"{len(taken):,} points"
        clusters = "1 cluster" if groups.clusters == 1 else f"{groups.clusters:,} clusters"
        click.echo(f"{points}, {clusters}, {groups.noise:,} noise")
        if len(taken) < min_samples:
            click.echo(f"fewer points than --min-samples {min_samples}, so all are noise")
        if self._left_out:
            count = "1 run" if len(self._left_out) == 1 else f"{len(self._left_out):,} runs"
            why = "wrong prediction" if self._points.by == "predicted" else "anomalous transfer"
            click.echo(f"left out, {count} without any {why}: {_listed(self._left_out)}")
        if traces and groups.clusters and any(run.sited for run in self._runs):
            without = [run for run in self._runs if not run.sited]
            if without:
                click.echo(
                    f"transfers are told by targets alone, for these have no trace: {_listed(without)}"
                )
        for c in range(groups.clusters):
            members = [run for run, label in zip(taken, groups.label.tolist(), strict=True) if label == c]
            click.echo(f"\ncluster {c}, {len(members)} runs: {_listed(members)}")
            others = len(self._runs) - len(members)
            for each in self._shared[c][:_SHOWN]:
                where = f"{self._block(each.source)} → " if each.source else "→ "
                click.echo(
                    f"  {each.inside}/{len(members)} runs, {each.outside}/{others} others  "
                    f"{where}{self._block(each.target)}"
                )
            rest = len(self._shared[c]) - _SHOWN
            if rest > 0:
                click.echo(f"  and {rest:,} more transfers that most of them share (--json has all)")
            if not self._shared[c]:
                click.echo("  no anomalous transfer is shared by most of them more than by others")
        noise = [run for run, label in zip(taken, groups.label.tolist(), strict=True) if label < 0]
        if noise and groups.clusters:
            click.echo(f"\nnoise, {len(noise)} runs: {_listed(noise)}")
        sys.stdout.flush()

    def _size(self, cluster: int) -> int:
        return int((self._groups.label == cluster).sum())

    def _transfer(self, each: Shared, cluster: int) -> dict[str, Any]:
        members = self._size(cluster)
        others = len(self._runs) - members
        return {
            "source": self._place(each.source) if each.source else None,
            "target": self._place(each.target),
            "inside": each.inside / members,
            "outside": each.outside / others if others else 0.0,
            "inside_runs": each.inside,
            "outside_runs": each.outside,
            "novelty": each.novelty,
        }

    def _place(self, bbid: int) -> dict[str, Any]:
        module, offset = bbid >> MODULE_BITS, bbid & _OFFSETS
        if not module:
            return {"class": bbid}
        if bbid in self._names:  # a call
            return {"bbid": bbid, "module": self._names[bbid], "module_hash": module, "offset": None}
        place = {
            "bbid": bbid,
            "module": self._names.get(module),
            "module_hash": module,
            "offset": offset,
        }
        function = self._function(module, offset)
        return place | ({"function": function[0], "function_offset": function[1]} if function else {})

    def _function(self, module: int, offset: int) -> tuple[str, int] | None:
        symbols = self._functions.get(module)
        return symbols.find(offset) if symbols else None

    def _key(self, key: int) -> dict[str, Any]:
        if self._points.by == "predicted":
            return {"class": key}
        bbid = key << _PAGE_BITS
        module = bbid >> MODULE_BITS
        if key in self._calls:
            return {"module": self._calls[key], "module_hash": module, "offset": None}
        return {"module": self._names.get(module), "module_hash": module, "offset": bbid & _OFFSETS}

    def _block(self, bbid: int) -> str:
        module, offset = bbid >> MODULE_BITS, bbid & _OFFSETS
        if not module:
            return f"class {bbid}"
        if bbid in self._names:
            return printable(self._names[bbid])
        function = self._function(module, offset)
        within = f" ({printable(function[0])}+0x{function[1]:x})" if function else ""
        return f"{self._module(module)}+0x{offset:x}{within}"

    def _page(self, key: int) -> str:
        if key in self._calls:
            return printable(self._calls[key])
        bbid = key << _PAGE_BITS
        return f"{self._module(bbid >> MODULE_BITS)}+0x{bbid & _OFFSETS:x}"

    def _module(self, module: int) -> str:
        name = self._names.get(module)
        # the last part says which; a path of Windows has no slashes
        return printable(name.replace("\\", "/").rsplit("/", 1)[-1]) if name else f"module {module:08x}"


def _identity(run: Anomalies) -> dict[str, Any]:
    return {
        # a file's name may be no text
        "file": run.file.encode(errors="replace").decode(),
        "name": run.name.encode(errors="replace").decode(),
        "label": run.label,
        "transfers": run.transfers,
        "wrong": run.wrong,
        "anomalous": len(run.target),
    }


def _listed(runs: list[Anomalies]) -> str:
    return ", ".join(printable(run.name) for run in runs)
