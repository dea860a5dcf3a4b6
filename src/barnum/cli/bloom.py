"""``barnum bloom``: what each further trace brings that is new."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from barnum.cli.common import Real, set_up_logging
from barnum.cli.sequence_options import learn_of, sequence_options
from barnum.errors import SetsError, TraceError

if TYPE_CHECKING:
    from barnum.samples import Sample
    from barnum.sequences.curve import Brought

_log = logging.getLogger("barnum.bloom")
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("bloom")
@sequence_options
@click.option(
    "--flat",
    type=Real(0, 1, min_open=True),
    default=0.05,
    show_default=True,
    metavar="SHARE",
    help="The curve is flat where less than this share is new.",
)
@click.option("--plot", "plot_file", type=_FILE, metavar="PNG", help="Draw the learning curve.")
@click.option("--json", "json_file", type=_FILE, metavar="FILE", help="Write all numbers.")
@click.argument("sets_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("root", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
def command(
    parse_ret: bool,
    parse_icall: bool,
    parse_ijmp: bool,
    indirect: Any,
    sequence_length: int,
    force: bool,
    logging_level: int,
    flat: float,
    plot_file: Path | None,
    json_file: Path | None,
    sets_file: Path,
    root: Path | None,
) -> None:
    """Count what each further trace brings that is new: the learning curve.

    SETS_FILE is what `barnum lstm -o` wrote; ROOT is where relative folders in it count from, and leaves out
    folders elsewhere. Of each trace of b_train, then of b_test, prints `new,distinct,new/distinct`: its
    distinct sequences of blocks before the chosen transfers, those of them that no earlier trace has, and
    their share. Where the shares stay low, more traces add little.
    """
    set_up_logging(logging_level)
    learn = learn_of(parse_ret, parse_icall, parse_ijmp)
    from barnum.files import check_places, write_result
    from barnum.paths import open_path
    from barnum.sequences.curve import KnownSequences, flat_from
    from barnum.sequences.histories import Histories

    check_places({"--plot": plot_file, "--json": json_file}, force)
    chosen = _chosen(sets_file, root)
    known = KnownSequences(sequence_length)
    curve: list[Brought] = []
    for _, sample in chosen:
        assert sample.parsed is not None
        try:
            brought = known.meet(Histories(open_path(sample.parsed), learn, indirect))
        except MemoryError:
            raise TraceError(f"{sample.folder}: takes more memory than there is: leave traces out") from None
        if not brought.distinct:
            _log.warning("%s: holds no whole sequence before a transfer of these kinds", sample.folder)
        click.echo(f"{brought.new},{brought.distinct},{brought.share}")
        curve.append(brought)
    flat_at = flat_from(curve, flat)
    # not among the numbers, which other programs may read
    click.echo(_said(curve, chosen, flat_at, flat), err=True)
    if plot_file:
        from barnum.pictures.curve_plot import plot_curve

        trained = sum(name == "b_train" for name, _ in chosen)
        write_result(plot_file, plot_curve(curve, trained, flat_at, flat, sequence_length))
    if json_file:
        options = {"learn": learn, "indirect": indirect, "sequence_length": sequence_length}
        write_result(json_file, _as_json(options, chosen, curve, flat_at, flat))


def _chosen(sets_file: Path, root: Path | None) -> list[tuple[str, Sample]]:
    """Section and sample of each trace, in the order of the curve."""
    from barnum.samples import open_samples, read_sets

    try:
        sets = read_sets(sets_file, root or Path("/"))
    except SetsError as error:
        hint = "" if root else ": give ROOT if its folders are relative"
        raise SetsError(f"{error}{hint}") from None
    chosen = []
    for name, folders in (("b_train", sets.b_train), ("b_test", sets.b_test)):
        for sample in open_samples(list(folders)):
            if sample.parsed is None:
                _log.warning("skipped: %s: is not preprocessed", sample.folder)
            else:
                chosen.append((name, sample))
    if not chosen:
        raise SetsError(f"{sets_file}: names no preprocessed sample in b_train or b_test")
    return chosen


def _said(curve: list[Brought], chosen: list[tuple[str, Sample]], flat: int | None, share: float) -> str:
    from barnum.sequences.curve import share_of, together_of

    together = together_of(curve)
    rule = f"of any {together} traces in a row"
    if flat is not None:
        sample = chosen[flat][1]
        return (
            f"flat from trace {flat + 1} of {len(curve)} on ({sample.folder.name}): {rule} from there on, "
            f"less than {share:.2%} of the sequences are new"
        )
    telling = [brought for brought in curve if brought.distinct]
    if len(telling) < together:
        return f"too few traces to tell where the curve flattens: it is judged by {together} in a row"
    return (
        f"not flat yet: of the last {together} traces {share_of(telling[-together:]):.2%} of the sequences "
        f"are new; it is flat where that is less than {share:.2%} {rule} from there on"
    )


def _as_json(
    options: dict[str, Any],
    chosen: list[tuple[str, Sample]],
    curve: list[Brought],
    flat: int | None,
    share: float,
) -> bytes:
    import msgspec

    from barnum import __version__
    from barnum.sequences.curve import together_of

    traces = [
        {
            "set": name,
            "sample": sample.folder.name,
            "name": sample.name,
            "new": brought.new,
            "distinct": brought.distinct,
            "share": brought.share,
        }
        for (name, sample), brought in zip(chosen, curve, strict=True)
    ]
    document = {
        "schema": 1,
        "version": __version__,
        **options,
        "traces": traces,
        "flat": {"share": share, "together": together_of(curve), "from": None if flat is None else flat + 1},
    }
    return msgspec.json.format(msgspec.json.encode(document)) + b"\n"
