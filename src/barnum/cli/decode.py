"""``barnum decode``: print what a recorded run executed."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from barnum.cli.common import SAMPLE, SIZE, logging_option, set_up_logging
from barnum.errors import ImageError, TraceError

if TYPE_CHECKING:
    from barnum.paths.decode import Decoding

_LINES_AT_ONCE = 1 << 17


def cpu_option(function: Any) -> Any:
    """Add ``--cpu FAMILY/MODEL[/STEPPING]``: the processor that recorded, for its errata."""
    return click.option(
        "--cpu",
        metavar="FAMILY/MODEL[/STEPPING]",
        callback=_parse_cpu,
        help="Processor that recorded, for its errata.",
    )(function)


def _parse_cpu(
    _context: click.Context, _option: click.Parameter, value: str | None
) -> tuple[int, int, int] | None:
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,4})/(\d{1,3})(?:/(\d{1,2}))?", value, re.ASCII)
    if not found or int(found[2]) > 255:
        raise click.BadParameter("give a processor as FAMILY/MODEL or FAMILY/MODEL/STEPPING, such as 6/94")
    return int(found[1]), int(found[2]), int(found[3] or 0)


@click.command("decode")
@click.option("--blocks", is_flag=True, help="A line a block: start, end (hexadecimal), instructions.")
@click.option("--instructions", is_flag=True, help="A line an instruction: its address.")
@click.option(
    "--effects", is_flag=True, help="A line a system call that changed the world: step, process, call."
)
@click.option("--summary", is_flag=True, help="What was decoded, lost, unmapped.  [default]")
@click.option("--evidence", is_flag=True, help="Transfers that hint at a hijack, a line each.")
@click.option(
    "--bin-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of images.  [default: extract in the sample, beside it, or beside the folder it is in]",
)
@click.option(
    "--stream", type=click.IntRange(min=0), help="This stream (thread) only.  [default: all, in turn]"
)
@cpu_option
@click.option(
    "--max-size",
    type=SIZE,
    default="64G",
    show_default=True,
    metavar="SIZE",
    help="Bytes that a stream may have, decompressed.",
)
@logging_option
@click.argument("sample", type=SAMPLE)
def command(
    blocks: bool,
    instructions: bool,
    effects: bool,
    summary: bool,
    evidence: bool,
    bin_dir: Path | None,
    stream: int | None,
    cpu: tuple[int, int, int] | None,
    max_size: int,
    logging_level: int,
    sample: Path,
) -> None:
    """Print what the recorded run in folder SAMPLE executed.

    SAMPLE may also be TREE/DOCUMENT, for the sample in the folder TREE whose document has that name.
    A gap in the trace prints nothing; --summary counts the gaps by cause.
    """
    if blocks + instructions + effects + evidence + summary > 1:
        raise click.UsageError(
            "--blocks, --instructions, --effects, --evidence and --summary exclude each other: give one"
        )
    set_up_logging(logging_level)
    from barnum.cli.decode_effects import effect_lines
    from barnum.cli.decode_summary import summarize
    from barnum.paths.decode import Decoding
    from barnum.paths.limits import MAX_MEMORY, TOO_MUCH_MEMORY
    from barnum.processes import limit_memory
    from barnum.samples import Sample

    limit_memory(MAX_MEMORY)
    images = bin_dir or _default_bin_dir(sample)
    try:
        opened = Sample.open(sample)
        decoding = Decoding(
            opened,
            images,
            cpu=cpu,
            streams=None if stream is None else [stream],
            max_size=max_size,
        )
        if blocks:
            _print(_blocks(decoding))
        elif instructions:
            _print(_instructions(decoding))
        elif effects:
            for line in effect_lines(opened, decoding, stream):
                click.echo(line)
        elif evidence:
            _print_evidence(decoding, images)
        else:
            click.echo(summarize(decoding))
    except MemoryError:
        raise TraceError(f"{sample}: {TOO_MUCH_MEMORY}") from None


def _default_bin_dir(sample: Path) -> Path:
    folder = sample.resolve()
    for place in (folder, folder.parent, folder.parent.parent):
        if (place / "extract").is_dir():
            return place / "extract"
    raise ImageError(f"{sample}: no folder of images (extract) is near it: name one with --bin-dir")


def _print(parts: Iterator[Any]) -> None:
    out = sys.stdout.buffer
    for lines in parts:
        out.write(lines)
    out.flush()


def _print_evidence(decoding: Decoding, images: Path) -> None:
    from barnum.evidence import EvidenceFinder, find_evidence

    finder = EvidenceFinder(decoding.sample, images)
    find_evidence(decoding, finder)
    findings = finder.done(decoding.gaps, truncated=decoding.truncated is not None)
    if not findings.findings:
        click.echo("no evidence")
    for line in findings.lines():
        click.echo(line)


def _blocks(decoding: Decoding) -> Iterator[bytes]:
    from barnum.paths.printing import BlockLines, block_lines

    def make(known: int) -> list[bytes]:
        new = {name: column[known:] for name, column in decoding.table.arrays().items()}
        return block_lines(new["start"], new["end"], new["count"])

    lines = BlockLines(make)
    for chunk in decoding.chunks():
        yield lines.join(chunk.block)


def _instructions(decoding: Decoding) -> Iterator[Any]:
    import numpy as np

    from barnum import _decoder
    from barnum.paths.printing import hex_lines

    table = decoding.table
    count = np.zeros(0, np.int64)
    for chunk in decoding.chunks():
        if len(count) < len(table):
            count = table.arrays()["count"].astype(np.int64)
        # a block may be long, so parts are cut by the lines that they print
        printed = np.cumsum(count[chunk.block])
        cuts = np.searchsorted(printed, np.arange(_LINES_AT_ONCE, printed[-1], _LINES_AT_ONCE))
        for part in np.split(chunk.block, np.unique(cuts)):
            yield hex_lines(_decoder.instructions(table, part))
