"""``barnum cluster``: groups of runs that went astray the same way."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from barnum.cli.common import Real, logging_option, progress, set_up_logging
from barnum.files import check_places, write_result

if TYPE_CHECKING:
    from barnum.verdicts.clusters import Algorithm, By

_FILE = click.Path(dir_okay=False, path_type=Path)
_MOST_CLASSES = 1 << 16


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
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Group all runs, not those labelled malicious only; those of unknown label, too.",
)
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
    outputs = {"--csv": csv_file, "--plot": plot_file, "--json": json_file}
    check_places(outputs, force, evaluations=eval_dir)
    from barnum.evaluations.folder import find_evaluations
    from barnum.report.cluster_places import read_all
    from barnum.report.clusters import ClusterRequest, cluster
    from barnum.verdicts.clusters import MAX_CLASSES

    request = ClusterRequest(
        folder=eval_dir,
        algorithm=algorithm,
        by=by,
        max_classes=max_classes or MAX_CLASSES,
        min_samples=min_samples,
        eps=eps,
        everything=everything,
        traces=traces,
        bin_dir=bin_dir,
    )
    files = find_evaluations(eval_dir)
    workers = workers or len(os.sched_getaffinity(0))
    with progress("read evaluations", len(files)) as bar:
        set_up = partial(set_up_logging, logging_level)
        runs, names = read_all(files, workers, request.max_classes, traces, bar.advance, set_up)
    result = cluster(request, runs, names)
    for file, content in ((csv_file, result.csv), (plot_file, result.plot), (json_file, result.json)):
        if file is not None:
            write_result(file, content())
    click.echo(result.text())
