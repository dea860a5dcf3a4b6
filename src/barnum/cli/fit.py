"""``barnum fit``: learns a detector from the digests of harmless runs."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from barnum.cli.common import (
    SAMPLE,
    SECONDS,
    Real,
    ended_like_an_interrupt,
    logging_option,
    progress,
    set_up_logging,
)

if TYPE_CHECKING:
    from barnum.digests.enough import Enough

_log = logging.getLogger(__name__)
_IMAGES = Path("extract")  # as barnum trace has it
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("fit")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="File of the detector.",
)
@click.option(
    "-i",
    "--input-sets",
    type=_FILE,
    help="Learn only the samples that this sets file names under [b_train]; compare with those under "
    "[b_test] as well.",
)
@click.option(
    "--calibrate",
    "held_out",
    multiple=True,
    type=SAMPLE,
    metavar="TREE",
    help="Further harmless runs, which are not learnt: new runs are compared with their scores as well.",
)
@click.option("--add-to", type=_FILE, help="A detector to which these runs are added.")
@click.option(
    "--false-alarm-rate",
    "rate",
    type=Real(0, 1, min_open=True, max_open=True),
    help="Share of harmless runs that may be called anomalous.  [default: 0.01, or the least that the number "
    "of runs allows]",
)
@click.option(
    "--max-lost",
    type=Real(0, 1),
    default=0.05,
    show_default=True,
    help="Leave out runs of which more than this share was lost.",
)
@click.option(
    "--bin-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Images of the recorded programs, for samples that are not preprocessed.  [default: extract]",
)
@click.option("-t", "--timeout", type=SECONDS, metavar="SECONDS", help="Time limit of decoding a sample.")
@click.option("-j", "--jobs", type=click.IntRange(min=1), help="Samples at once.  [default: number of cores]")
@click.option("-f", "--force", is_flag=True, help="Replace a detector that is there.")
@logging_option
@click.argument("trees", nargs=-1, required=True, type=SAMPLE, metavar="TREE...")
def command(
    output: Path,
    input_sets: Path | None,
    held_out: tuple[Path, ...],
    add_to: Path | None,
    rate: float | None,
    max_lost: float,
    bin_dir: Path | None,
    timeout: float | None,
    jobs: int | None,
    force: bool,
    logging_level: int,
    trees: tuple[Path, ...],
) -> None:
    """Learn from the benign samples of folders what is normal, and write a detector.

    TREE is a folder of samples, or one sample; those whose label is not benign are left out. What is learnt
    comes from digests, which barnum preprocess writes beside its parsed traces; a sample that has none is
    decoded for it, and keeps it. The detector judges (barnum check, barnum score) and can be merged with
    others of its kind (barnum merge).
    """
    set_up_logging(logging_level)
    from barnum.detector import load_fitted, save_fitted
    from barnum.detector.learn import FitSettings, fit_samples
    from barnum.files import check_place, output_error
    from barnum.samples import open_samples, read_sets, samples_in

    check_place(output, force)
    beside = None if add_to is None else load_fitted(add_to)
    if beside is not None and rate is None:
        rate = beside.about.rate
    others = samples_in(held_out)
    if input_sets is None:
        samples = samples_in(trees)
    elif len(trees) > 1:
        raise click.UsageError("--input-sets goes with one TREE, in which its samples lie")
    else:
        sets = read_sets(input_sets, trees[0])
        samples = open_samples(list(sets.b_train))
        others += open_samples(list(sets.b_test))
    if beside is not None and beside.about.held_out and not others:
        _log.warning(
            "the runs that %s was calibrated by are not in the new one: name them again with --calibrate",
            add_to,
        )
    settings = FitSettings(
        rate=rate,
        max_lost=max_lost,
        bin_dir=bin_dir or (_IMAGES if _IMAGES.is_dir() else None),
        timeout=timeout,
        jobs=jobs or len(os.sched_getaffinity(0)),
    )
    count = sum(sample.benign for sample in (*samples, *others))
    with ended_like_an_interrupt(), progress("fit", count) as bar:
        fitted, left_out = fit_samples(samples, settings, held_out=others, beside=beside, advance=bar.advance)
    # a rate that takes more runs is told now, not when the first run is judged
    _ = fitted.classifier
    try:
        save_fitted(output, fitted)
    except OSError as error:
        raise output_error(error, output) from None
    runs = len(fitted.counts)
    click.echo(
        f"{output}: {runs:,} nominal run{'s' if runs != 1 else ''}"
        f"{f' and {held:,} held out' if (held := len(fitted.about.held_out)) else ''}"
        f"{f' ({left_out:,} left out)' if left_out else ''}, "
        f"{len(fitted.counts.edge_site):,} distinct transfers, {output.stat().st_size:,} bytes"
    )
    click.echo(fitted.describe())
    if fitted.enough is not None:
        click.echo(_enough(fitted.enough))


def _enough(enough: Enough) -> str:
    """How new the last runs were, and how much more would help, for a person."""
    from barnum.verdicts.conformal import RATE

    told = (
        f"{100 * enough.alone:.0f} % of these runs show transfers that no other shows. A run brought "
        f"{_number(enough.half)} new ones when half of them were learnt, {_number(enough.last)} when all "
        f"others were; with twice as many it would bring about {_number(enough.twice)}"
    )
    needed = math.ceil(1 / RATE) - 1
    if enough.runs < needed:
        return f"{told}. A false alarm rate of {100 * RATE:g} % takes {needed - enough.runs} more"
    return told


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
