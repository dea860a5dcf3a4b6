"""What the functions of the library share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from barnum.progress import CallbackListener, Listener
from barnum.samples import Sample, folder_named

File = str | os.PathLike[str]
Progress = Callable[[str, int, int], None]


def listener_of(progress: Progress | None) -> Listener:
    """What tells a function of the caller's how far work has come."""
    return Listener() if progress is None else CallbackListener(progress)


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


def name_of(place: File | Sample) -> str:
    """The folder of a sample, or the name of a file, as a string; TREE/DOCUMENT stands for the sample in TREE
    whose document has that name.

    Raises:
        SampleError: several have it.
    """
    if isinstance(place, Sample):
        return str(place.folder)
    found = folder_named(Path(place))
    return os.fspath(place) if found == Path(place) else str(found)
