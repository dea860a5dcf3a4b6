"""``barnum trace``: record runs of a program on documents."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from barnum.cli.common import (
    SECONDS,
    SIZE,
    Named,
    ProgramCommand,
    kind_option,
    logging_option,
    program_of,
    progress,
    set_up_logging,
    usage_errors,
)
from barnum.cli.sandbox_options import SandboxChoice, sandbox_options
from barnum.sources import SOURCES, new_recorder, recording_sources
from barnum.texts import printable

if TYPE_CHECKING:
    from barnum.recording import Failure, Outcome

_log = logging.getLogger(__name__)
_OWN = "barnum.trace.own"


class _Command(ProgramCommand):
    """Behind ``--engine`` stand the options that each engine has of its own."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        if _OWN not in ctx.meta:
            ctx.meta[_OWN] = _own_options()
        params = super().get_params(ctx)
        at = next(number for number, param in enumerate(params) if param.name == "engine") + 1
        return [*params[:at], *ctx.meta[_OWN], *params[at:]]

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "-- PROGRAM [ARGUMENT]... {}"]


def _own_options() -> list[click.Parameter]:
    own: dict[str, click.Parameter] = {}
    for source in recording_sources().values():
        for option in source.options:
            flag = f"--{option.name.replace('_', '-')}"
            own.setdefault(
                option.name, click.Option([flag, option.name], metavar=option.metavar, help=option.help)
            )
    return list(own.values())


@click.command(cls=_Command, short_help="Record runs of a program on documents as Intel PT.")
@click.option("--benign", is_flag=True, help="Label the runs as nominal, to be learnt from.")
@click.option(
    "--malicious",
    is_flag=True,
    help="Label the runs as attacks. Without either their label is unknown: they can be judged, but nothing "
    "is learnt from them, and no error rate counts them.",
)
@kind_option
@click.option("-e", "--extra-label", "extra_labels", multiple=True, help="A further line for info.txt.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default="traces",
    show_default=True,
    help="Folder of samples.",
)
@click.option(
    "--bin-dir",
    type=click.Path(path_type=Path),
    default="extract",
    show_default=True,
    help="Folder of the images of programs and libraries.",
)
@click.option(
    "--engine",
    type=Named(SOURCES),
    default="emulator",
    show_default=True,
    help="What records: QEMU user mode with barnum's plugin.",
)
@click.option(
    "--start",
    type=click.Choice(["open", "exec"]),
    default="open",
    show_default=True,
    help="Record from when the program opens its input, or from its first instruction.",
)
@click.option(
    "-j", "--jobs", type=click.IntRange(1, 1024), default=1, show_default=True, help="Runs at a time."
)
@click.option(
    "-t",
    "--timeout",
    type=SECONDS,
    metavar="SECONDS",
    help="End a run after this time; what was recorded is kept.",
)
@click.option(
    "--max-size",
    type=SIZE,
    default="4G",
    show_default=True,
    metavar="SIZE",
    help="Stop recording a thread after this many bytes of packets, such as 512M.",
)
@click.option("-f", "--force", is_flag=True, help="Record anew what is recorded already.")
@click.option("--show-output", is_flag=True, help="Let the program's output through, to standard error.")
@click.option(
    "--cd",
    "directory",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Run the program in this folder.  [default: an empty one of its own for each run]",
)
@sandbox_options(default=False)
@click.option("--keep-log", is_flag=True, hidden=True, help="Keep the recorder's own log of blocks (slow).")
@logging_option
@click.argument("inputs", nargs=-1, metavar="INPUT...", type=click.Path(path_type=Path))
@click.pass_context
def command(
    ctx: click.Context,
    /,
    benign: bool,
    malicious: bool,
    kind: str | None,
    extra_labels: tuple[str, ...],
    output: Path,
    bin_dir: Path,
    engine: str,
    start: str,
    jobs: int,
    timeout: float | None,
    max_size: int,
    force: bool,
    show_output: bool,
    directory: Path | None,
    sandbox: SandboxChoice,
    keep_log: bool,
    logging_level: int,
    inputs: tuple[Path, ...],
    **own: str | None,
) -> None:
    """Run PROGRAM once for each INPUT and record each run as Intel PT.

    \b
      barnum trace --benign documents/*.pdf -- pdftotext {} out.txt

    {} in an argument stands for the path of the input; an INPUT that is a folder stands for the files in it.
    The program runs without a shell, with an empty standard input, and its standard output is thrown away;
    the end of its standard error is kept in meta.json. Each run becomes a folder in the output, named by the
    SHA-256 of the input's content; an input that is recorded already is skipped. Its label is line 2 of
    info.txt there, and may be corrected later.

    The program runs with your rights, on your files, unless it is in a --sandbox.
    """
    program = program_of(ctx)
    if benign and malicious:
        raise click.UsageError("--benign and --malicious exclude each other: give one, or none if not known")
    _check_words(program, inputs, extra_labels)
    set_up_logging(logging_level)

    from barnum.recording import Settings, list_inputs, record_all

    files = list_inputs(list(inputs))
    settings = Settings(
        command=program,
        label="malicious" if malicious else "benign" if benign else "unknown",
        extra_labels=extra_labels,
        kind=kind,
        output=output.absolute(),
        bin_dir=bin_dir.absolute(),
        start=start,
        timeout=timeout,
        max_bytes=max_size,
        force=force,
        show_output=show_output,
        directory=directory.absolute() if directory else None,
        log=keep_log,
        sandbox=sandbox.required(),
    )
    with usage_errors():
        recorder = new_recorder(engine, settings, own)
    # a polite kill is like Ctrl-C: the runs must not go on without us
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    summary = _Summary(len(files))
    try:
        with progress("recording", len(files)) as bar:

            def report(result: Outcome | Failure) -> None:
                summary.add(result)
                bar.advance()

            record_all(recorder, files, jobs, report)
    finally:
        click.echo(summary.text(output))
    summary.raise_failure()


def _check_words(program: tuple[str, ...], inputs: tuple[Path, ...], extra_labels: tuple[str, ...]) -> None:
    """Raises click.UsageError where the command line lacks a part."""
    from barnum.recording import PLACEHOLDER

    if not inputs:
        raise click.UsageError("name at least one INPUT before the --")
    if not program:
        raise click.UsageError("name the program after a --, such as: -- pdftotext {}")
    if not any(PLACEHOLDER in word for word in program):
        raise click.UsageError("no argument of the program holds {}, which stands for the input")
    if not all(extra.isprintable() and extra.strip() for extra in extra_labels):
        raise click.UsageError("an extra label must be one line of text")


class _Summary:
    """Counts what became of the inputs, and logs each."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._recorded = 0
        self._skipped = 0
        self._raw = 0
        self._packed = 0
        self._failures: list[Failure] = []

    def add(self, result: Outcome | Failure) -> None:
        from barnum.recording import Failure

        name = printable(result.path.name)
        if isinstance(result, Failure):
            self._failures.append(result)
            if self._total > 1:
                _log.error("%s", result.error)
        elif result.state == "skipped":
            self._skipped += 1
            _log.info("skipped %s: %s", name, result.note)
        else:
            self._recorded += 1
            self._raw += result.raw_bytes
            self._packed += result.packed_bytes
            assert result.folder is not None
            _log.info(
                "recorded %s in %.1f s, %s of packets: %s…%s",
                name,
                result.total_seconds,
                _bytes(result.raw_bytes),
                result.folder.name[:16],
                f" ({result.note})" if result.note else "",
            )

    def text(self, output: Path) -> str:
        return (
            f"recorded {self._recorded}, skipped {self._skipped}, failed {len(self._failures)} "
            f"of {self._total}: "
            f"{_bytes(self._raw)} of packets, {_bytes(self._packed)} on disk, in {output}"
        )

    def raise_failure(self) -> None:
        from barnum.errors import SomeFailedError

        if not self._failures:
            return
        if self._total == 1:
            raise self._failures[0].error
        raise SomeFailedError(
            f"{len(self._failures)} of {self._total} inputs failed; the others are recorded"
        )


def _bytes(count: int) -> str:
    value = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
