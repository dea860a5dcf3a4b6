"""What the runs of a check are allowed: as much as those were that the detector has learnt."""

from __future__ import annotations

import os

import msgspec

from barnum.detector.fitted import Fitted
from barnum.digests.digest import Limits, most_generous
from barnum.recording import Sandbox

# where the learnt runs do not say, or had no limit
TIMEOUT, MAX_SIZE, MEMORY, PROCESSES, TEMPORARY = 600.0, 4 << 30, 4 << 30, 256, 1 << 30
# what no file of a detector can allow more of: seconds, processes
_LONGEST, _MOST_PROCESSES = 86_400.0, 1 << 15


def limits_for(fitted: Fitted) -> Limits:
    """The most generous limits of the runs that a detector has learnt, or these where they are not known.

    Whatever the detector's file says, a run gets no more than a day, 32,768 processes, and the memory that
    this machine has. Only the user can allow more, or no limit at all.
    """
    known = most_generous(each.limits for each in fitted.about.notes.programs)
    known = known or Limits(max_size=MAX_SIZE)
    room = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Limits(
        timeout=min(known.timeout or TIMEOUT, _LONGEST),
        max_size=known.max_size or MAX_SIZE,
        memory=min(known.memory or MEMORY, max(room, MEMORY)),
        processes=min(known.processes or PROCESSES, _MOST_PROCESSES),
        temporary=min(known.temporary or TEMPORARY, max(room, TEMPORARY)),
    )


def sandbox_with(sandbox: Sandbox, limits: Limits, memory: int | None, processes: int | None) -> Sandbox:
    """A sandbox with the limits that the user gave (None: did not give), else with those of the runs."""
    return msgspec.structs.replace(
        sandbox,
        memory=memory or limits.memory,
        processes=processes or limits.processes,
        temporary=limits.temporary,
    )
