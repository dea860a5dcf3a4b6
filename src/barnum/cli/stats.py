"""``barnum stats``: how many targets sequences of blocks lead to."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from barnum.cli.common import SAMPLE, set_up_logging
from barnum.cli.sequence_options import learn_of, sequence_options
from barnum.errors import SampleError, TraceError

if TYPE_CHECKING:
    from barnum.paths.blocks import U64

_log = logging.getLogger("barnum.stats")


@click.command("stats")
@sequence_options
@click.argument("trace_dir", type=SAMPLE)
@click.argument("output", metavar="OUTPUT.csv", type=click.Path(dir_okay=False, path_type=Path))
def command(
    parse_ret: bool,
    parse_icall: bool,
    parse_ijmp: bool,
    indirect: Any,
    sequence_length: int,
    force: bool,
    logging_level: int,
    trace_dir: Path,
    output: Path,
) -> None:
    """Count how many distinct targets the sequences of blocks in a trace lead to.

    TRACE_DIR is one preprocessed sample, or TREE/DOCUMENT, for the sample in the folder TREE whose document
    has that name. OUTPUT.csv gets a row for each length from 1 to --sequence-length: how many distinct
    sequences of that length have 1, 2, … 100 (or more) distinct targets. Where the row of a length holds
    nearly all in its first column, that much context tells what comes next.
    """
    set_up_logging(logging_level)
    learn = learn_of(parse_ret, parse_icall, parse_ijmp)
    from barnum.files import check_place, write_result
    from barnum.paths import open_path
    from barnum.samples import Sample
    from barnum.sequences.following import count_targets
    from barnum.sequences.histories import Histories

    check_place(output, force)
    sample = Sample.open(trace_dir)
    if sample.parsed is None:
        raise SampleError(f"{trace_dir}: is not preprocessed: run `barnum preprocess` on it first")
    try:
        counts = count_targets(Histories(open_path(sample.parsed), learn, indirect), sequence_length)
    except MemoryError:
        raise TraceError(f"{trace_dir}: takes more memory than there is: lower --sequence-length") from None
    if not counts.any():
        _log.warning("%s: holds no transfer of these kinds", trace_dir)
    write_result(output, _as_csv(counts))


def _as_csv(counts: U64) -> bytes:
    lines = [",".join(["seq_len", *map(str, range(1, counts.shape[1] + 1))])]
    for length, row in enumerate(counts.tolist(), 1):
        lines.append(",".join(map(str, [length, *row])))
    return ("\n".join(lines) + "\n").encode()
