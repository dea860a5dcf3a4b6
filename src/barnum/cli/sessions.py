"""What the commands that learn share: settings from options, what a session tells, requests to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from barnum.cli.common import progress
from barnum.progress import Listener

if TYPE_CHECKING:
    from barnum.learning.settings import Settings

_Settings = TypeVar("_Settings", bound="Settings")


class TerminalListener(Listener):
    """Prints results on stdout, all else on stderr."""

    def say(self, line: str) -> None:
        click.echo(line)

    def note(self, line: str) -> None:
        click.echo(line, err=True)

    def progress(self, name: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        return _bar(name, total)


@contextmanager
def _bar(name: str, total: int) -> Iterator[Callable[[int], None]]:
    with progress(name, total) as bar:
        yield bar.advance


def settings_of(
    kind: type[_Settings], context: click.Context, options: dict[str, Any]
) -> tuple[_Settings, frozenset[str]]:
    """Settings from the options of a command, and names of those that stand on the command line."""
    named = {name: options[name] for name in kind.__struct_fields__ if name in options}
    given = frozenset(
        name
        for name in options
        if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
    )
    return kind(**named), given


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether an interrupt or a request to end came; training then ends between two steps. A second one is
    heeded at once."""
    asked = False

    def remember(*_: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
