"""``barnum report``: one page that shows what was anomalous, and where."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from barnum.cli.common import CutCommand, Named, Real, check_judging, cut_option, progress, set_up_logging
from barnum.verdicts.methods import METHODS
from barnum.verdicts.scores import SCORES

if TYPE_CHECKING:
    from barnum.evaluations import Cut
    from barnum.report.document import Report

_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_MOST_WINDOWS = 100


@click.command("report", cls=CutCommand)
@click.option("-o", "--output", type=_FILE, required=True, help="The page to write (HTML, one file).")
@click.option("--json", "json_file", type=_FILE, help="Write the same content as JSON too.")
@click.option(
    "--jsonl",
    "lines_file",
    type=_FILE,
    help="Write a line of JSON for each anomaly, with the fields of CAPE's and DRAKVUF's signatures.",
)
@click.option("-f", "--force", is_flag=True, help="Replace files that are there already.")
@click.option(
    "-l",
    "--load",
    "load_from",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Judge by a classifier that was saved.",
)
@click.option(
    "--method",
    type=Named(METHODS),
    help="How to judge: see barnum classifier.",
)
@click.option(
    "--false-alarm-rate",
    type=Real(0, 1, min_open=True, max_open=True),
    help="Share of nominal runs that conformal may call anomalous: see barnum classifier.",
)
@click.option(
    "--score",
    type=Named(SCORES),
    help="What conformal goes by: see barnum classifier.",
)
@cut_option
@click.option(
    "--max-lost",
    type=Real(0, 1),
    default=0.05,
    show_default=True,
    help="Refuse a verdict where more than this share of a trace was lost: see barnum classifier.",
)
@click.option(
    "--traces",
    type=_FOLDER,
    help="Root of the sample folders, to name the blocks of a transfer and its instruction.",
)
@click.option(
    "--bin-dir",
    type=_FOLDER,
    help="Folder of images, for functions and instructions.  [default: extract in --traces, or beside it]",
)
@click.option(
    "--windows",
    type=click.IntRange(1, _MOST_WINDOWS),
    default=5,
    show_default=True,
    help="Most telling windows to show of each run.",
)
@click.option(
    "-w",
    "--workers",
    type=click.IntRange(min=1),
    help="Processes that read evaluations.  [default: as many as there are processors, at most 8]",
)
@click.option(
    "--logging",
    "logging_level",
    type=click.IntRange(0, 50),
    default=20,
    show_default=True,
    help="Lowest level that is logged: 10 debug, 20 info, 30 warning, 40 error.",
)
@click.argument("eval_dir", type=click.Path(file_okay=False, path_type=Path))
def command(
    output: Path,
    json_file: Path | None,
    lines_file: Path | None,
    force: bool,
    load_from: Path | None,
    method: str | None,
    false_alarm_rate: float | None,
    score: str | None,
    cut: Cut | None,
    max_lost: float,
    traces: Path | None,
    bin_dir: Path | None,
    windows: int,
    workers: int | None,
    logging_level: int,
    eval_dir: Path,
) -> None:
    """Write one page about the evaluation files in EVAL_DIR.

    It shows verdicts and how good they are, and of each run its surprisal along the trace, the most telling
    windows (chosen by what the verdict goes by), and their transfers: from where, what was expected, what
    happened, whether that was ever seen. The page needs no network. With --traces (and images) blocks are
    named by module, function and offset.
    """
    set_up_logging(logging_level)
    if load_from and method:
        raise click.UsageError("--load says which classifier to use: leave out --method")
    check_judging(method, load_from is not None, false_alarm_rate, score)
    from barnum.files import check_places, write_result

    # long reading is not to be lost to a folder that is missing
    places = {"--output": output, "--json": json_file, "--jsonl": lines_file}
    check_places(places, force, evaluations=eval_dir)
    from barnum.report import build as pictures

    request = pictures.Request(
        folder=eval_dir,
        windows=windows,
        method=method,
        rate=false_alarm_rate,
        score=score,
        load=load_from,
        cut=cut or False,
        max_lost=max_lost,
        traces=traces,
        bin_dir=bin_dir or _default_bin_dir(traces),
        workers=workers or min(8, len(os.sched_getaffinity(0))),
    )
    report = pictures.build(request, progress)
    write_result(output, pictures.as_page(report))
    if json_file:
        write_result(json_file, pictures.as_json(report))
    if lines_file:
        write_result(lines_file, pictures.as_json_lines(report))
    click.echo(_summary(report, output))


def _default_bin_dir(traces: Path | None) -> Path | None:
    if traces is not None:
        for place in (traces, traces.resolve().parent):
            if (place / "extract").is_dir():
                return place / "extract"
    return None


def _summary(report: Report, output: Path) -> str:
    overview = report.overview
    verdicts = f"{overview.anomalous} anomalous" if report.classifier else "no verdicts"
    return f"report: {overview.runs} runs, {verdicts}: {output}"
