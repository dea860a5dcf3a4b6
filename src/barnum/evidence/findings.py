"""What was found in a path, and how it is said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

from barnum.texts import printable

MOST_FINDINGS = 1000  # distinct ones that are kept
LONGEST_KEY = 1 << 14  # characters

FindingKind = Literal["unknown", "return", "entry", "jump", "address", "instruction", "code", "death"]


class Place(msgspec.Struct, frozen=True):
    """A place in a module: its name, and the offset from its base; the address where it lies in no file."""

    module: str
    offset: int

    def __str__(self) -> str:
        if self.module.startswith("["):
            return f"0x{self.offset:x} in {self.module}"
        return f"{printable(self.module)}+0x{self.offset:x}"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One transfer that does not fit, and how often the run went it.

    Attributes:
        kind: ``unknown``: to where no code is known. ``return``: a return to where no call of this thread
            waits. ``entry``: an indirect call or jump into the middle of a function. ``jump``: back
            into the middle of a function that waits for a return. ``address``: to a
            function whose address stands nowhere in its image. ``instruction``: into the middle of an
            instruction. ``code``: to code that lies in no file, or was changed. ``death``:
            the last transfer before the program was killed by a signal of its own making.
        strong: whether it is enough alone, even where nothing was learnt from this program.
        by: kind of the branch (see paths.KINDS).
        site: u64, token of the branch: BBID of the byte behind it.
        target: u64, BBID of the target.
        site_place: where the byte behind the branch lies.
        target_place: where the target lies.
        step: first step of the path at which it is seen, that of the target.
        count: how often it was seen.
        key: a run is usual in this where a nominal run has a finding with the same key.
    """

    kind: FindingKind
    strong: bool
    by: str
    site: int
    target: int
    site_place: Place
    target_place: Place
    step: Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
    count: int
    key: Annotated[str, msgspec.Meta(max_length=LONGEST_KEY)]

    def __str__(self) -> str:
        times = f", {self.count:,} times" if self.count > 1 else ""
        return (
            f"step {self.step:,}: {self._words()} (from {self.site_place}{times})"
            f"{' [strong]' if self.strong else ''}"
        )

    def _words(self) -> str:
        went = {"return": "returned", "indirect call": "called", "call": "called"}.get(self.by, "went")
        target = self.target_place
        if self.kind == "unknown":
            if target.module == "[unmapped]":
                return f"{went} to 0x{target.offset:x}, where nothing is mapped"
            return f"{went} to {target}, where no code is known"
        if self.kind == "return":
            return f"returned to {target}, where no call waits"
        if self.kind == "entry":
            return f"{went} into the middle of a function, {target}"
        if self.kind == "jump":
            return f"{went} back into the middle of a function that waits, {target}"
        if self.kind == "address":
            return f"{went} to {target}, a function whose address the program takes nowhere"
        if self.kind == "instruction":
            return f"{went} into the middle of an instruction, {target}"
        if self.kind == "code":
            what = "that lies in no file" if target.module.startswith("[") else "that was changed"
            return f"{went} to code {what}, {target}"
        return f"died ({self.key.removeprefix('death ')}) right after it {went} to {target}"


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """All findings of a run.

    Attributes:
        findings: the first MOST_FINDINGS distinct ones, by step.
        further: how many more distinct ones there were at least.
        returns: numbers of returns: those that went to the call that waited; over calls that waited; those of
            which nothing is known; those that went elsewhere; those that went on with another stack.
        without_image: modules of which no functions are known, so that findings in them may be missing.
        left_out: sentences that say what could not be looked for.
    """

    findings: Annotated[tuple[Finding, ...], msgspec.Meta(max_length=MOST_FINDINGS)] = ()
    further: int = 0
    returns: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)
    without_image: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def strong(self) -> tuple[Finding, ...]:
        """Those that are enough alone."""
        return tuple(finding for finding in self.findings if finding.strong)

    @property
    def keys(self) -> frozenset[str]:
        """The keys of all findings."""
        return frozenset(finding.key for finding in self.findings)

    def lines(self) -> Iterator[str]:
        """The findings in words, a line each."""
        yield from map(str, self.findings)
        if self.further:
            yield f"{self.further:,} more"
        if self.without_image:
            names = ", ".join(printable(name) for name in self.without_image)
            yield f"no functions are known of {names}"
        yield from self.left_out
