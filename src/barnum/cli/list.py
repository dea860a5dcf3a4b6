"""``barnum list``: the samples of a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from barnum.texts import all_storable, printable_json, shortened

if TYPE_CHECKING:
    from barnum.samples import Listed

# characters that a name, a program and a reason take in a line
_NAME, _PROGRAM, _REASON = 64, 24, 200
_HASH = 12


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects, with all that is known.")
@click.argument("tree", type=click.Path(exists=True, file_okay=False, path_type=Path))
def command(as_json: bool, tree: Path) -> None:
    """List the samples in the folder TREE.

    A line each, by the name of the document: that name, the first 12 digits of the folder's name (the hash of
    the document), label, program, number of streams, bytes of their packets, steps of the parsed trace, and
    state: recorded, parsed, digest, report of calls, under way, cut off, or broken and why. No trace is read.
    """
    from barnum.calls.readers import report_names
    from barnum.paths.steps import steps_in
    from barnum.samples import list_samples

    samples = list_samples(tree, report_names(), steps_in)
    if as_json:
        for line in _json(samples):
            click.echo(line)
        return
    for line in _table(samples):
        click.echo(line)


def _json(samples: list[Listed]) -> Iterator[str]:
    """A list, a line an object, so that it need not be made as a whole."""
    import msgspec

    yield "["
    for number, sample in enumerate(samples, 1):
        fields = {name: all_storable(value) for name, value in msgspec.to_builtins(sample).items()}
        yield printable_json(msgspec.json.encode(fields)) + ("," if number < len(samples) else "")
    yield "]"


def _table(samples: list[Listed]) -> Iterator[str]:
    rows = [_row(sample) for sample in samples]
    heads = ("document", "hash", "label", "program", "streams", "bytes", "steps", "state")
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        cells = [
            cell.rjust(width) if head in ("streams", "bytes", "steps") else cell.ljust(width)
            for head, cell, width in zip(heads, row, widths, strict=True)
        ]
        yield "  ".join(cells).rstrip()
    states = Counter(sample.state for sample in samples)
    parts = [f"{count:,} {state}" for state, count in sorted(states.items(), key=lambda pair: -pair[1])]
    yield ""
    yield f"{'1 sample' if len(samples) == 1 else f'{len(samples):,} samples'}" + (
        f": {', '.join(parts)}" if parts else ""
    )


def _row(sample: Listed) -> tuple[str, ...]:
    why = f": {shortened(sample.reason, _REASON)}" if sample.reason else ""
    return (
        _shown(sample.name, _NAME),
        _shown(sample.folder, _HASH, cut=True),
        _shown(sample.label, _NAME),
        _shown(sample.program, _PROGRAM),
        *(
            "–" if number is None else f"{number:,}"
            for number in (sample.streams, sample.bytes, sample.steps)
        ),
        f"{sample.state}{why}",
    )


def _shown(text: str | None, most: int, cut: bool = False) -> str:
    if text is None:
        return "–"
    return shortened(text[:most] if cut else text, most)
