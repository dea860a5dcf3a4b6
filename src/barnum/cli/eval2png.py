"""``barnum eval2png``: an evaluation as a picture, a pixel a prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from barnum.cli.common import logging_option, set_up_logging


@click.command("eval2png")
@click.option("-f", "--force", is_flag=True, help="Overwrite a file that is there.")
@click.option(
    "-w",
    "--width",
    type=click.IntRange(1, (1 << 16) - 1),
    default=4096,
    show_default=True,
    help="Pixels in a row.",
)
@click.option(
    "-c",
    "--color",
    type=click.Choice(["md5", "adler32", "surprisal"]),
    help="By the target that was taken: md5 tells any two apart, adler32 shows how far apart they are; "
    "or by surprisal, from white over yellow and red to nearly black at 16 nats (Parquet only).  "
    "[default: white where the prediction was right, black where it was wrong]",
)
@logging_option
@click.argument("eval_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("output", metavar="OUT.png", type=click.Path(dir_okay=False, path_type=Path))
def command(force: bool, width: int, color: Any, logging_level: int, eval_file: Path, output: Path) -> None:
    """Draw an evaluation file as a PNG, a pixel a prediction, in the order of the trace.

    Pixels run from left to right, then from top to bottom; what is left of the last row is white.
    """
    set_up_logging(logging_level)
    from barnum.evaluations.folder import open_evaluation
    from barnum.files import check_place, write_result
    from barnum.pictures.pixels import draw

    check_place(output, force)
    if output.exists() and output.samefile(eval_file):
        raise click.UsageError(f"{output}: is the evaluation itself: name another file")
    evaluation = open_evaluation(eval_file)
    try:
        picture, count = draw(evaluation, width, color)
    finally:
        evaluation.close()
    write_result(output, picture)
    click.echo(f"{output}: {count:,} predictions, {width:,} × {-(-count // width):,} pixels")
