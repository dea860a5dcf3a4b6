"""What is asked of a report, and how it says how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from barnum.evaluations.signs import Cut
from barnum.verdicts.judgement import MAX_LOST


class _Bar:
    def advance(self) -> None:
        """Nobody looks."""


@contextmanager
def no_progress(_description: str, _total: int) -> Iterator[_Bar]:
    """Progress that is not shown."""
    yield _Bar()


# a description and a number of steps → a context whose ``advance`` is called at each of them
Progress = Callable[[str, int], AbstractContextManager[Any]]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to report: ``windows`` most telling ones a sample; how to judge, as judge() of verdicts takes
    it; ``traces`` the root of the sample folders and ``bin_dir`` that of the images, where blocks are to be
    named."""

    folder: Path
    windows: int = 5
    method: str | None = None
    rate: float | None = None
    score: str | None = None
    load: Path | None = None
    cut: Cut | bool = False
    max_lost: float = MAX_LOST
    traces: Path | None = None
    bin_dir: Path | None = None
    workers: int = 1
