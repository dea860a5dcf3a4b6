"""``barnum merge``: makes one detector of several."""

from __future__ import annotations

from pathlib import Path

import click

from barnum.cli.common import logging_option, set_up_logging


@click.command("merge")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="File of the detector that is made.",
)
@click.option("-f", "--force", is_flag=True, help="Replace a detector that is there.")
@logging_option
@click.argument(
    "detectors",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="DETECTOR...",
)
def command(output: Path, force: bool, logging_level: int, detectors: tuple[Path, ...]) -> None:
    """Write the detector of all runs that several were fitted to (barnum fit).

    They must judge by the same rate. What is written is the same, to the byte, as a detector that is fitted
    to all these runs at once.
    """
    set_up_logging(logging_level)
    from barnum.detector import load_fitted, merged, save_fitted
    from barnum.detector.learn import warn_of_mixtures
    from barnum.files import check_place, output_error

    check_place(output, force)
    fitted = merged([load_fitted(file) for file in detectors])
    warn_of_mixtures(fitted)
    try:
        save_fitted(output, fitted)
    except OSError as error:
        raise output_error(error, output) from None
    click.echo(
        f"{output}: {len(fitted.counts):,} nominal runs, "
        f"{len(fitted.counts.edge_site):,} distinct transfers, {output.stat().st_size:,} bytes"
    )
