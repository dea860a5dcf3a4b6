"""``barnum cluster``: groups of runs that went astray the same way."""

from __future__ import annotations

import csv
import io
import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from barnum.cli.common import Real, logging_option, progress, set_up_logging
from barnum.errors import EvaluationError, OutputExistsError
from barnum.files import write_whole
from barnum.samples import printable

if TYPE_CHECKING:
    from barnum.pictures.symbols import Symbols
    from barnum.verdicts.clusters import Algorithm, Anomalies, By, Groups, Points, Shared

_FILE = click.Path(dir_okay=False, path_type=Path)
# transfers of a cluster, and places of a plot, that a person can take in
_SHOWN = 5
_DRAWN = 24
_MOST_CLASSES = 1 << 16
_MODULE_BITS = 32
_PAGE_BITS = 12
_OFFSETS = (1 << _MODULE_BITS) - 1


@click.command("cluster")
@click.option("-c", "--csv", "csv_file", type=_FILE, help="Write a row a run: cluster (-1: noise), filename.")
@click.option(
    "-p", "--plot", "plot_file", type=_FILE, help="Draw the mean of each cluster's core runs (PNG)."
)
@click.option("--json", "json_file", type=_FILE, help="Write clusters, runs, and all transfers they share.")
@click.option("-f", "--force", is_flag=True, help="Replace files that are there.")
@click.option(
    "-w",
    "--workers",
    type=click.IntRange(min=1),
    help="Processes that read evaluations.  [default: number of cores]",
)
@click.option(
    "--algorithm",
    type=click.Choice(["dbscan", "hdbscan"]),
    default="dbscan",
    show_default=True,
    help="dbscan has one density for all clusters, hdbscan finds one for each.",
)
@click.option(
    "--by",
    type=click.Choice(["place", "predicted"]),
    help="What makes runs alike: the places (module, page) of transfers that training never saw, or, the "
    "original's, the classes that were predicted wrongly.  [default: place, with --max-classes predicted]",
)
@click.option(
    "--max-classes",
    type=click.IntRange(1, _MOST_CLASSES),
    help="By predicted: predictions count modulo this.  [default: 256]",
)
@click.option(
    "--min-samples",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Runs, itself included, that a run needs around it to found a cluster; of hdbscan also the least "
    "that a cluster has.",
)
@click.option(
    "--eps",
    type=Real(min=0, min_open=True),
    help="Distance within which runs are neighbours, dbscan only.  [default: by place 0.4 (Hellinger), by "
    "predicted 0.03 (Euclidean)]",
)
@click.option("--all", "everything", is_flag=True, help="Group all runs, not those labelled malicious only.")
@click.option(
    "--traces",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="ROOT",
    help="Folder of the samples: names modules, and says where transfers come from.",
)
@click.option(
    "--bin-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the images, with --traces: names functions.",
)
@logging_option
@click.argument("eval_dir", type=click.Path(file_okay=False, path_type=Path))
def command(
    csv_file: Path | None,
    plot_file: Path | None,
    json_file: Path | None,
    force: bool,
    workers: int | None,
    algorithm: Algorithm,
    by: By | None,
    max_classes: int | None,
    min_samples: int,
    eps: float | None,
    everything: bool,
    traces: Path | None,
    bin_dir: Path | None,
    logging_level: int,
    eval_dir: Path,
) -> None:
    """Group the runs labelled malicious in EVAL_DIR by how they went astray.

    Prints each cluster, and the transfers that make it one: those that its runs share and other runs (of
    other clusters, of none, benign) do not have. Runs without an anomaly are left out, by name.
    """
    set_up_logging(logging_level)
    by = by or ("predicted" if max_classes else "place")
    if max_classes and by != "predicted":
        raise click.UsageError("--max-classes belongs to --by predicted: leave one of them out")
    if eps and algorithm != "dbscan":
        raise click.UsageError("--eps belongs to --algorithm dbscan: leave one of them out")
    if min_samples < 2 and algorithm == "hdbscan":
        raise click.UsageError("--min-samples must be 2 or more with --algorithm hdbscan")
    if bin_dir and not traces:
        raise click.UsageError("--bin-dir needs --traces, which says what lies in which module")
    _check_outputs([csv_file, plot_file, json_file], force, eval_dir)
    from barnum.verdicts import clusters
    from barnum.verdicts.evaluation import find_evaluations
    from barnum.verdicts.judgement import check_model

    files = find_evaluations(eval_dir)
    max_classes = max_classes or clusters.MAX_CLASSES
    runs, names = _read_all(files, workers, max_classes, traces, logging_level)
    check_model(eval_dir, runs, lambda run: run.file)
    wanted = [run for run in runs if everything or run.malicious]
    if not wanted:
        raise EvaluationError(
            f"{eval_dir}: holds no run labelled malicious, and only those are grouped: give --all to take "
            "the others too"
        )
    taken = [run for run in wanted if run.has_vector(by)]
    left_out = [run for run in wanted if not run.has_vector(by)]
    points = clusters.points_of(taken, by)
    radius = eps or clusters.EPS[by]
    groups = clusters.group(points, algorithm, min_samples, radius)
    label_of = dict(zip((run.file for run in taken), groups.label.tolist(), strict=True))
    import numpy as np

    shared = clusters.shared(runs, np.array([label_of.get(run.file, -1) for run in runs]))
    told = _Told(
        how=_how(algorithm, by, min_samples, radius, max_classes, taken),
        settings={
            "algorithm": algorithm,
            "by": by,
            "min_samples": min_samples,
            "eps": radius if algorithm == "dbscan" else None,
            "max_classes": max_classes if by == "predicted" else None,
        },
        runs=runs,
        taken=taken,
        left_out=left_out,
        points=points,
        groups=groups,
        shared=shared,
        names=names,
        functions=_functions(shared, names, runs, traces, bin_dir),
    )
    if csv_file:
        write_whole(csv_file, told.csv())
    if plot_file:
        write_whole(plot_file, told.plot())
    if json_file:
        write_whole(json_file, told.json())
    told.print(min_samples, traces)


def _check_outputs(outputs: list[Path | None], force: bool, eval_dir: Path) -> None:
    files = [file for file in outputs if file]
    if len({file.absolute() for file in files}) < len(files):
        raise click.UsageError("two results cannot go to the same file")
    for file in files:
        if file.parent.resolve() == eval_dir.resolve():
            raise click.UsageError(f"{file}: {eval_dir} holds evaluations and nothing else: write elsewhere")
        if not file.parent.is_dir():
            raise click.UsageError(f"{file}: {file.parent} is no folder")
        if file.exists() and not force:
            raise OutputExistsError(f"{file}: is there already: give another name, or --force to replace it")


# --- reading ---------------------------------------------------------------------------------------------


def _read_all(
    files: list[Path], workers: int | None, max_classes: int, traces: Path | None, logging_level: int
) -> tuple[list[Anomalies], dict[int, str]]:
    """Every run of the folder, in order, and names of modules by hash."""
    from barnum.cli.cluster_traces import read_with_trace

    runs: list[Anomalies] = []
    names: dict[int, str] = {}
    count = min(workers or len(os.sched_getaffinity(0)), len(files))
    with progress("read evaluations", len(files)) as bar:

        def take(result: tuple[Anomalies, dict[int, str]]) -> None:
            runs.append(result[0])
            names.update(result[1])
            bar.advance()

        if count == 1:
            for file in files:
                take(read_with_trace(file, max_classes, traces))
            return runs, names
        pool = ProcessPoolExecutor(
            count, multiprocessing.get_context("forkserver"), _begin_worker, (logging_level,)
        )
        try:
            futures = [pool.submit(read_with_trace, file, max_classes, traces) for file in files]
            for future in futures:
                take(future.result())
        except BrokenProcessPool:
            raise EvaluationError(
                "a process that read evaluations was killed: is there enough memory? --workers 1 needs least"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)
    return runs, names


def _begin_worker(logging_level: int) -> None:
    # an interrupt is for the one that waits for the results
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    set_up_logging(logging_level)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _functions(
    shared: list[list[Shared]],
    names: dict[int, str],
    runs: list[Anomalies],
    traces: Path | None,
    bin_dir: Path | None,
) -> dict[int, Symbols]:
    if traces is None or bin_dir is None:
        return {}
    from barnum.cli.cluster_traces import functions_of

    blocks = (block for each in shared for one in each for block in (one.source, one.target))
    return functions_of(sorted({block >> _MODULE_BITS for block in blocks}), names, runs, traces, bin_dir)


# --- telling ---------------------------------------------------------------------------------------------


def _how(
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


class _Told:
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
        self._calls = {token >> _PAGE_BITS: name for token, name in names.items() if token >> _MODULE_BITS}
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
        module, offset = bbid >> _MODULE_BITS, bbid & _OFFSETS
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
        module = bbid >> _MODULE_BITS
        if key in self._calls:
            return {"module": self._calls[key], "module_hash": module, "offset": None}
        return {"module": self._names.get(module), "module_hash": module, "offset": bbid & _OFFSETS}

    def _block(self, bbid: int) -> str:
        module, offset = bbid >> _MODULE_BITS, bbid & _OFFSETS
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
        return f"{self._module(bbid >> _MODULE_BITS)}+0x{bbid & _OFFSETS:x}"

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
