"""How work tells of itself: lines, and how far it has come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager


class Listener:
    """Is told what work has to say. This one keeps silent."""

    def say(self, line: str) -> None:
        """A result, in a line for a person."""

    def note(self, line: str) -> None:
        """Something that is no result, in a line for a person."""

    def progress(self, name: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Open a progress bar, which is closed when the context ends; gives the function that moves it on by
        a number."""
        return _silent()


class CallbackListener(Listener):
    """Tells a function of each step: ``name`` of the task, how much is ``done``, and the ``total``."""

    def __init__(self, callback: Callable[[str, int, int], None]) -> None:
        self._callback = callback

    @contextmanager
    def progress(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        """See Listener."""
        done = 0

        def advance(amount: int) -> None:
            nonlocal done
            done += amount
            self._callback(name, done, total)

        yield advance


@contextmanager
def _silent() -> Iterator[Callable[[int], None]]:
    yield lambda _: None
