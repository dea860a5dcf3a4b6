"""``barnum export``: a recorded run in a format of other tools."""

from __future__ import annotations

from pathlib import Path

import click

from barnum.cli.common import SAMPLE, Named, logging_option, set_up_logging, usage_errors
from barnum.exporting import EXPORTERS


@click.command("export")
@click.option(
    "--format",
    "name",
    type=Named(EXPORTERS),
    required=True,
    help="drcov: the blocks that were executed, for Lighthouse, bncov, Lightkeeper and drcov2lcov.",
)
@click.option(
    "--bin-dir",
    type=click.Path(path_type=Path),
    default="extract",
    show_default=True,
    help="Folder of images. Only maps of Volatility, which tell no sizes of modules, need it.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="What is written.",
)
@click.option("-f", "--force", is_flag=True, help="Overwrite a file that is there.")
@logging_option
@click.argument("sample", type=SAMPLE)
def command(name: str, bin_dir: Path, output: Path, force: bool, logging_level: int, sample: Path) -> None:
    """Write the recorded run in folder SAMPLE in a format of other tools.

    \b
      barnum export --format drcov -o run.drcov traces/SAMPLE

    SAMPLE may also be TREE/DOCUMENT, for the sample in the folder TREE whose document has that name. What the
    format has no place for is left out; a warning says how much.
    """
    set_up_logging(logging_level)
    from barnum.exporting import export_sample
    from barnum.files import check_place
    from barnum.samples import Sample

    check_place(output, force)
    with usage_errors():
        said = export_sample(Sample.open(sample), output, name, bin_dir)
    click.echo(f"{output}: {said}")
