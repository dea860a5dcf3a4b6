"""``barnum pack``: puts a model and a classifier into one folder."""

from __future__ import annotations

from pathlib import Path

import click

from barnum.cli.common import Real, set_up_logging

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("pack")
@click.option("--use-model", "document", type=_FILE, help="The model's JSON document …")
@click.option("--use-weights", "weights", type=_FILE, help="… and its weights.")
@click.option("--prob", type=_FILE, help="Or the file of a rote learner, saved by barnum prob.")
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
@click.option("--by-thread", is_flag=True, help="The model's calls were learnt with `syscall --by-thread`.")
@click.option("--children", is_flag=True, help="The model's calls were learnt with `syscall --children`.")
@click.option(
    "--no-overlap", is_flag=True, help="The model's calls were learnt with `syscall --no-overlap` …"
)
@click.option(
    "--sequence-len", type=click.IntRange(1, 1024), help="… and this --sequence-len.  [default: 32]"
)
@click.argument("model", type=click.Path(path_type=Path))
def command(
    document: Path | None,
    weights: Path | None,
    prob: Path | None,
    classifier: Path,
    max_lost: float,
    by_thread: bool,
    children: bool,
    no_overlap: bool,
    sequence_len: int | None,
    model: Path,
) -> int:
    """Write the folder MODEL, which holds all that barnum score needs: model, weights, vocabulary, filters,
    calibration, classifier."""
    set_up_logging(20)
    both = document is not None and weights is not None
    if (document is None) != (weights is None) or both == (prob is not None):
        raise click.UsageError("give --use-model and --use-weights, or --prob")
    if sequence_len is not None and not no_overlap:
        raise click.UsageError("--sequence-len goes with --no-overlap")
    from barnum.detector.folder import Reading, pack

    calls = None
    if by_thread or children or no_overlap:
        calls = Reading(
            by_thread=by_thread, children=children, apart=(sequence_len or 32) if no_overlap else None
        )
    file = prob or document
    assert file is not None
    manifest = pack(model, file, weights, classifier, max_lost, calls)
    click.echo(f"{model}: {manifest.method}, model {manifest.model[:16]}")
    return 0
