"""``barnum pack``: puts a model and a classifier into one folder."""

from __future__ import annotations

from pathlib import Path

import click

from barnum.cli.common import Real, set_up_logging

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("pack")
@click.option("--use-model", "document", type=_FILE, required=True, help="The model's JSON document.")
@click.option("--use-weights", "weights", type=_FILE, required=True, help="Its weights.")
@click.option(
    "-l", "--load", "classifier", type=_FILE, required=True, help="A classifier saved by barnum classifier."
)
@click.option(
    "--max-lost",
    type=Real(0, 1),
    default=0.05,
    show_default=True,
    help="Refuse a verdict where more than this share of a trace was lost.",
)
@click.argument("model", type=click.Path(path_type=Path))
def command(document: Path, weights: Path, classifier: Path, max_lost: float, model: Path) -> int:
    """Write the folder MODEL, which holds all that barnum score needs: network, weights, vocabulary, filters,
    calibration, classifier."""
    set_up_logging(20)
    from barnum.detector import pack

    manifest = pack(model, document, weights, classifier, max_lost)
    click.echo(f"{model}: {manifest.method}, model {manifest.model[:16]}")
    return 0
