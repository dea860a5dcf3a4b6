"""The options of a sandbox, for commands that run programs."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from barnum.cli.common import SIZE

if TYPE_CHECKING:
    from barnum.recording import Sandbox

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SandboxChoice:
    """What was chosen. ``wanted`` is None where neither --sandbox nor --no-sandbox was given; so are
    ``memory`` and ``processes`` where the user does not say."""

    wanted: bool | None
    memory: int | None
    processes: int | None
    readable: tuple[Path, ...]

    def required(self) -> Sandbox | None:
        """The sandbox, where --sandbox was given.

        Raises:
            EngineError: this machine can have none.
        """
        from barnum.errors import EngineError

        if not self.wanted:
            return None
        state = self._state()
        if isinstance(state, str):
            raise EngineError(f"--sandbox: {state}")
        return state

    def preferred(self, *, named: bool = True) -> Sandbox | None:
        """The sandbox, unless --no-sandbox was given; where this machine can have none, and --sandbox was not
        given either, one warning says so.

        Args:
            named: whether the user has named the program. What a file names is not run without a sandbox
                unless the user says so.

        Raises:
            EngineError: this machine can have none, and --sandbox was given, or the program is not named.
        """
        from barnum.errors import EngineError

        if self.wanted is not None:
            return self.required()
        state = self._state()
        if isinstance(state, str):
            if not named:
                raise EngineError(
                    "without a sandbox the program that the detector names would run with your rights, on "
                    f"your files: add --no-sandbox if you trust the detector; {state}"
                )
            _log.warning("without a sandbox: the program runs with your rights, on your files: %s", state)
            return None
        return state

    def _state(self) -> Sandbox | str:
        from barnum.recording import sandbox_state

        readable = [path.absolute() for path in self.readable]
        if any(path.resolve() == Path("/") for path in readable):
            raise click.UsageError("--readable / would show the program all files: name what it needs")
        given = {"memory": self.memory, "processes": self.processes}
        return sandbox_state(
            readable=readable, **{name: limit for name, limit in given.items() if limit is not None}
        )


def sandbox_options(
    *, default: bool, learnt: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a command the options of a sandbox, as its argument ``sandbox``, a :class:`SandboxChoice`.

    Args:
        default: what the help says of a command to which neither --sandbox nor --no-sandbox is given.
        learnt: whether the limits that are not given are those of the runs that a detector has learnt.
    """
    as_learnt = "  [default: as the learnt runs, else {}]" if learnt else ""
    otherwise = "sandbox, where one works" if default else "no-sandbox"
    options = (
        click.option(
            "--sandbox/--no-sandbox",
            default=None,
            help="Run the program in a sandbox of bubblewrap, for hostile documents: without network, on a "
            f"read-only system, with the input alone of your files.  [default: {otherwise}]",
        ),
        click.option(
            "--memory",
            type=SIZE,
            default=None if learnt else "4G",
            show_default=True,
            metavar="SIZE",
            help="In the sandbox, end a run whose processes take more than this together."
            + as_learnt.format("4G"),
        ),
        click.option(
            "--processes",
            type=click.IntRange(1, 1 << 20),
            default=None if learnt else 256,
            show_default=True,
            help="In the sandbox, processes and threads that a run may have at a time."
            + as_learnt.format(256),
        ),
        click.option(
            "--readable",
            multiple=True,
            type=click.Path(path_type=Path, exists=True),
            metavar="PATH",
            help="In the sandbox, a further file or folder that the program may read: its libraries, say.",
        ),
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def collected(
            *arguments: Any,
            sandbox: bool | None,
            memory: int | None,
            processes: int | None,
            readable: tuple[Path, ...],
            **others: Any,
        ) -> Any:
            choice = SandboxChoice(sandbox, memory, processes, readable)
            return command(*arguments, sandbox=choice, **others)

        decorated: Callable[..., Any] = collected
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate
