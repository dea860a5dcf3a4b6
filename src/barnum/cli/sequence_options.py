"""Options that ``stats`` and ``bloom`` share: which transfers count, and how long their sequences are."""

from __future__ import annotations

from typing import Any

import click

from barnum.cli.common import logging_option

_OPTIONS = (
    click.option("-r", "--parse-ret", is_flag=True, help="Count sequences before returns."),
    click.option("-c", "--parse-icall", is_flag=True, help="Count sequences before indirect calls."),
    click.option("-j", "--parse-ijmp", is_flag=True, help="Count sequences before indirect jumps."),
    click.option(
        "--indirect",
        type=click.Choice(["all", "ptr"]),
        default="all",
        show_default=True,
        help="Which calls and jumps are indirect. ptr: the original's, whose text holds the word ptr, none "
        "through a register; traces in gz hold texts.",
    ),
    # as long as the learner's windows may be
    click.option(
        "-s",
        "--sequence-length",
        type=click.IntRange(1, 1024),
        default=32,
        show_default=True,
        help="Blocks in a sequence, the last one the source of the transfer.",
    ),
    click.option("-f", "--force", is_flag=True, help="Overwrite files that are there."),
    logging_option,
)


def sequence_options(function: Any) -> Any:
    """Add the options."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def learn_of(parse_ret: bool, parse_icall: bool, parse_ijmp: bool) -> Any:
    """Which kinds of transfers count, a paths.Learn. Raises click.UsageError where none does."""
    if not (parse_ret or parse_icall or parse_ijmp):
        raise click.UsageError("say which transfers count: give at least one of -r, -c and -j")
    from barnum.paths import Learn

    return Learn(ret=parse_ret, icall=parse_icall, ijmp=parse_ijmp)
