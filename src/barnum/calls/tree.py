"""Which process started which, from the parents' numbers in a report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from barnum.calls.found import Found


class Tree:
    """Processes in the order in which they began, and the parent of each.

    Several processes may have one number, one after the other. The last of them before a process is its
    parent. If there is none before, it is the next one after the process, as a report may list processes in
    any order; parents may form a circle then. With ``strict`` the order is known, and such a process has no
    parent.

    Attributes:
        processes: all processes in that order; other methods name them by their place in it.
    """

    def __init__(self, processes: Iterable[Found], strict: bool = False) -> None:
        self.processes: Sequence[Found] = sorted(processes, key=lambda found: found.born)
        self._parents: list[int | None] = [None] * len(self.processes)
        before: dict[int, int] = {}
        orphans: list[int] = []
        for place, found in enumerate(self.processes):
            parent = found.parent
            # process 0 starts no others; failed starts have this number too
            if parent is not None and parent > 0:
                self._parents[place] = before.get(parent)
                if parent not in before:
                    orphans.append(place)
            if found.pid >= 0:
                before[found.pid] = place
        if strict:
            return
        after: dict[int, int] = {}
        end = len(self.processes)
        for place in reversed(orphans):
            for later in range(end - 1, place, -1):
                after[self.processes[later].pid] = later
            end = place + 1
            self._parents[place] = after.get(self.processes[place].parent or -1)

    def descendants(self, roots: Iterable[int]) -> set[int]:
        """Places of the roots and of all their descendants."""
        children: dict[int, list[int]] = {}
        for place, parent in enumerate(self._parents):
            if parent is not None:
                children.setdefault(parent, []).append(place)
        waiting = list(roots)
        reached = set(waiting)
        while waiting:
            for child in children.get(waiting.pop(), ()):
                if child not in reached:
                    reached.add(child)
                    waiting.append(child)
        return reached

    def with_calls(self) -> set[int]:
        """Places of the processes that made calls, or have a descendant that did."""
        reached: set[int] = set()
        for place, found in enumerate(self.processes):
            above: int | None = place if found.count else None
            while above is not None and above not in reached:
                reached.add(above)
                above = self._parents[above]
        return reached

    def topmost(self, place: int, among: set[int]) -> int:
        """The farthest ancestor of the process at ``place`` that is in ``among``; ``place`` if none is."""
        met: set[int] = set()
        above: int | None = place
        while above is not None and above not in met:
            met.add(above)
            if above in among:
                place = above
            above = self._parents[above]
        return place
