"""The learning curve: how many sequences each further trace has that no earlier one has."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from barnum._sequences import Known
from barnum.sequences.histories import Histories


class Brought(msgspec.Struct, frozen=True):
    """What one trace brought: its distinct sequences, and those of them that no earlier trace has."""

    new: int
    distinct: int

    @property
    def share(self) -> float:
        """new / distinct; 0 where there are none."""
        return self.new / self.distinct if self.distinct else 0.0


class KnownSequences:
    """The sequences of ``length`` blocks before transfers, over all traces so far; only full ones count.

    They are kept as hashes of 61 bits, in 17 to 34 bytes each. A new sequence is taken for a known one with a
    chance of one in 2·10¹⁸ for each that is known: with a hundred million known, one in twenty billion.
    """

    def __init__(self, length: int) -> None:
        self._known = Known(length)

    def meet(self, path: Histories) -> Brought:
        """Take in one trace, and tell what it brought.

        Raises:
            ParsedTraceError: the path is broken.
        """
        for _ in path.count([self._known]):
            pass
        return Brought(self._known.fresh, self._known.distinct)


def together_of(curve: Sequence[Brought]) -> int:
    """How many traces in a row are looked at together, so that a single odd one does not decide: a third of
    all that have sequences, but 3 to 10."""
    return min(10, max(3, sum(brought.distinct > 0 for brought in curve) // 3))


def flat_from(curve: Sequence[Brought], share: float) -> int | None:
    """Index of the first trace from which on the curve is flat; None where it is not flat yet.

    It is flat from a trace on if at least together_of() traces are left from there on, itself included, and
    of any so many of these in a row, less than ``share`` of what they hold is new (sums of new and of
    distinct sequences). Traces without sequences tell nothing and are passed over.
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
    """Share of new sequences of several traces, each counted on its own; 0 where there are none."""
    return Brought(sum(one.new for one in traces), sum(one.distinct for one in traces)).share
