"""What several commands share: logging, progress bars, options."""

from __future__ import annotations

import copy
import logging
import math
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from barnum.errors import OptionsError
from barnum.registry import Registry
from barnum.texts import printable

_FORMAT = "%(asctime)s %(processName)s %(levelname)s %(message)s"


class _Seconds(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        # a comparison with nan is false: it would be no limit at all
        if not 0 < seconds < math.inf:
            self.fail(f"{value!r} is no time: give seconds, more than 0", param, ctx)
        return seconds


class Real(click.FloatRange):
    """Type of an option that takes a finite number within a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number", param, ctx)
        return number


class _Kind(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from barnum.samples import checked_kind

        try:
            return checked_kind(str(value))
        except OptionsError as error:
            self.fail(str(error), param, ctx)


def kind_option(function: Any) -> Any:
    """Add ``--kind``: the name of a kind of documents, or None."""
    return click.option(
        "--kind",
        type=_Kind(),
        metavar="NAME",
        help="Of which kind the documents are, such as pdf: where enough harmless runs of it were learnt, "
        "runs are compared with those of their kind alone.  [default: not told]",
    )(function)


class _Size(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = _SIZE.fullmatch(str(value).strip())
        size = int(text[1]) * _UNITS[text[2].upper()] if text else 0
        if not 0 < size <= _LARGEST_SIZE:
            self.fail(
                f"{value!r} is no size: give bytes, or a number with K, M, G or T, such as 4G", param, ctx
            )
        return size


# 4G, 4GB and 4GiB are one size: units are powers of 1024
_SIZE = re.compile(r"([0-9]{1,19}) ?([KMGT]?)(?:i?B)?", re.ASCII | re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_LARGEST_SIZE = (1 << 63) - 1


class Named(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Type of an option that takes a name of a registry: of what is in it when the option is read, but for
    those ``without``."""

    name = "name"

    def __init__(self, registry: Registry[Any], without: Sequence[str] = ()) -> None:
        self._registry = registry
        self._without = without

    @property
    def _names(self) -> list[str]:
        return [name for name in self._registry.names if name not in self._without]

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"[{'|'.join(self._names)}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self._names:
            self.fail(f"{value!r} is not one of {', '.join(map(repr, self._names))}.", param, ctx)
        return str(value)


_CUTS = ("spawn", "effect")


class CutCommand(click.Command):
    """Lets ``--cut`` stand alone for ``--cut spawn``, whatever follows it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        whole = []
        for at, word in enumerate(args):
            alone = word == "--cut" and (at + 1 == len(args) or args[at + 1] not in _CUTS)
            whole.append("--cut=spawn" if alone else word)
        return super().parse_args(ctx, whole)


def cut_option(function: Any) -> Any:
    """Add ``--cut`` to a CutCommand: ``spawn``, ``effect`` or None."""
    return click.option(
        "--cut",
        type=click.Choice(_CUTS),
        help="Judge only what came before another process was started (spawn; --cut alone means that), or "
        "before the first effect that no nominal run had.",
    )(function)


_PROGRAM = "barnum.program"


class ProgramCommand(CutCommand):
    """Keeps what follows ``--`` apart: it belongs to the program that is run."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[_PROGRAM] = tuple(args[at + 1 :])
            args = args[:at]
        return super().parse_args(ctx, args)


def program_of(ctx: click.Context) -> tuple[str, ...]:
    """What followed ``--``: a program and its arguments; empty where nothing did."""
    program: tuple[str, ...] = ctx.meta.get(_PROGRAM, ())
    return program


class _SampleFolder(click.Path):
    def __init__(self) -> None:
        super().__init__(exists=True, file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from barnum.samples.named import folder_named

        place = Path(os.fsdecode(value))
        found = folder_named(place)
        return super().convert(value if found == place else found, param, ctx)


SAMPLE = _SampleFolder()
"""Type of an argument that takes the folder of a sample, or of several; also TREE/DOCUMENT, for the only
sample in the folder TREE whose document has that name."""

SECONDS = _Seconds()
"""Type of an option that takes a time in seconds: a finite number above 0."""

SIZE = _Size()
"""Type of an option that takes a number of bytes, 1 or more: 100000, 512M, 4GiB."""


def set_up_logging(level: int) -> None:
    """Send records of level and above to stderr, one whole line a write.

    A line is handed to the kernel in a single write, so lines of several processes do not mix.
    """
    root = logging.getLogger("barnum")
    root.setLevel(level)
    root.propagate = False
    root.handlers.clear()
    handler = _LineHandler()
    handler.setFormatter(logging.Formatter(_FORMAT, "%H:%M:%S"))
    root.addHandler(handler)


class _LineHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            # names of files and words of others are not to draw on the terminal, nor to look like lines of
            # ours; only a traceback has several
            plain = copy.copy(record)
            plain.msg, plain.args = printable(record.getMessage()), None
            sys.stderr.write("".join(f"{printable(line)}\n" for line in self.format(plain).split("\n")))
            sys.stderr.flush()
        except (OSError, ValueError):
            self.handleError(record)


def logging_option(function: Any) -> Any:
    """Add ``-l/--logging``, the level of the original's manual (10 debug, 20 info, 30 warning, 40 error)."""
    return click.option(
        "-l",
        "--logging",
        "logging_level",
        type=click.IntRange(0, 50),
        default=20,
        show_default=True,
        help="Lowest level that is logged: 10 debug, 20 info, 30 warning, 40 error.",
    )(function)


class Progress:
    """A progress bar of one task; see :func:`progress`."""

    def __init__(self, advance: Any, describe: Any) -> None:
        self._advance = advance
        self._describe = describe

    def advance(self, amount: float = 1) -> None:
        """Move the bar on by amount."""
        self._advance(amount)

    def describe(self, text: str) -> None:
        """Change the text before the bar."""
        self._describe(text)


@contextmanager
def progress(description: str, total: float | None) -> Iterator[Progress]:
    """Show a progress bar on stderr; where stderr is no terminal, a line at each tenth of the way."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_progress(description, total)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=console) as bar:
        task = bar.add_task(description, total=total)
        yield Progress(
            lambda amount: bar.advance(task, amount), lambda text: bar.update(task, description=text)
        )


def _plain_progress(description: str, total: float | None) -> Progress:
    done = 0.0
    shown = 0

    def advance(amount: float) -> None:
        nonlocal done, shown
        done += amount
        if total and int(10 * done / total) > shown:
            shown = int(10 * done / total)
            click.echo(f"{description} {done:,.0f}/{total:,.0f}", err=True)

    def describe(text: str) -> None:
        nonlocal description
        description = text

    return Progress(advance, describe)


def check_judging(method: str | None, loaded: bool, rate: float | None, score: str | None) -> None:
    """Refuse settings that the method has no use for, or that were set when a classifier was learnt.

    Raises:
        click.UsageError: there is one.
    """
    from barnum.verdicts.methods import METHODS

    for option, setting, value in (("--false-alarm-rate", "rate", rate), ("--score", "score", score)):
        if value is not None and (loaded or (method and setting not in METHODS[method].settings)):
            takers = " and ".join(name for name in METHODS.names if setting in METHODS[name].settings)
            raise click.UsageError(f"{option} is {takers}'s, and set when it is learnt")


@contextmanager
def ended_like_an_interrupt() -> Iterator[None]:
    """Let a request to end (SIGTERM) leave as little behind as an interrupt does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def usage_errors() -> Iterator[None]:
    """Settings that do not go together are errors of usage."""
    try:
        yield
    except OptionsError as error:
        raise click.UsageError(str(error)) from None
