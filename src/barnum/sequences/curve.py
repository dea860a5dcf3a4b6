"""The learning curve: how many sequences of each further trace are in no earlier one."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from barnum._sequences import Known
from barnum.sequences.histories import Histories


class Brought(msgspec.Struct, frozen=True):
    """What one trace brought: how many ``distinct`` sequences, and how many ``new`` ones among them."""

    new: int
    distinct: int

    @property
    def share(self) -> float:
        """new / distinct; 0 if there are none."""
        return self.new / self.distinct if self.distinct else 0.0


class KnownSequences:
    """The sequences of ``length`` blocks before transfers, of all traces so far; shorter ones do not count.

    They are kept as hashes of 61 bits, in 17 to 34 bytes each. For each known sequence, the chance that a new
    one is taken for it is one in 2·10¹⁸: with a hundred million known ones, one in twenty billion.
    """

    def __init__(self, length: int) -> None:
        self._known = Known(length)

    def meet(self, path: Histories) -> Brought:
        """Add one trace; returns what it brought.

        Raises:
            ParsedTraceError: the path is broken.
        """
        for _ in path.count([self._known]):
            pass
        return Brought(self._known.fresh, self._known.distinct)


def together_of(curve: Sequence[Brought]) -> int:
    """How many traces in a row are taken together, so that a single odd one does not decide: a third of those
    with sequences, but at least 3 and at most 10."""
    return min(10, max(3, sum(brought.distinct > 0 for brought in curve) // 3))


def flat_from(curve: Sequence[Brought], share: float) -> int | None:
    """Index of the first trace from which on the curve is flat; None if it is not flat yet.

    Let n be together_of(). The curve is flat from a trace on if there are n or more traces from there on, and
    of any n of these in a row, less than ``share`` of the sequences are new (sum of new / sum of distinct
    ones). Traces without sequences are left out.
    """
    together = together_of(curve)
    telling = [index for index, brought in enumerate(curve) if brought.distinct]
    flat = None
    for end in range(len(telling), together - 1, -1):
        if share_of([curve[index] for index in telling[end - together : end]]) >= share:
            break
        flat = telling[end - together]
    return flat


def share_of(traces: Sequence[Brought]) -> float:
    """Sum of the new sequences of several traces / sum of their distinct ones; 0 if there are none."""
    return Brought(sum(trace.new for trace in traces), sum(trace.distinct for trace in traces)).share
