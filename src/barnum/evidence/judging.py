"""From what was noted in the pass over a path to findings: which of it is harmless, which is strong."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import msgspec
import numpy as np

from barnum.evidence.code import Code
from barnum.evidence.findings import LONGEST_KEY, MOST_FINDINGS, Finding, FindingKind, Findings
from barnum.evidence.functions import U32
from barnum.evidence.images import Image, Images
from barnum.evidence.places import Places, in_file, key_of, place_of, token_of
from barnum.paths import KINDS, RESTARTS, Blocks, Gap, GapDetails, Kind
from barnum.samples import Sample
from barnum.samples.mapping import UNMAPPED

# addresses from here on are the kernel's
_KERNEL = 1 << 47
_ENDBR = (b"\xf3\x0f\x1e\xfa", b"\xf3\x0f\x1e\xfb")
# jmp through a table of addresses: what an entry of a PLT is
_STUBS = (b"\xff\x25", b"\xf2\xff\x25", b"\xff\xa3", b"\x68")
# what a signal's handler returns to: the calls of the kernel that end it, in 64 and 32 bit
_WAYS_OUT = (
    b"\x48\xc7\xc0\x0f\0\0\0\x0f\x05",
    b"\xb8\x0f\0\0\0\x0f\x05",
    b"\x58\xb8\x77\0\0\0\xcd\x80",
    b"\xb8\xad\0\0\0\xcd\x80",
)
# signals by which the kernel ends a program for what it did itself
_FATAL = (4, 5, 6, 7, 8, 11, 31)
_NOTICED_WITHIN = 4096  # steps
_MOST_FUNCTIONS = 64  # that are noted; see native/evidence/watch.hpp
_INCOMPLETE = "very deep stacks: some returns were not looked at"


class Note(IntEnum):
    """Kinds of notes, as native/evidence/watch.hpp has them."""

    UNKNOWN_LEFT = 0
    UNKNOWN_ENDED = 1
    UNKNOWN_RAN = 2
    ELSEWHERE = 3
    BEGUN = 4
    SWITCHED = 5
    UNWOUND = 6
    ENTRY = 7
    JUMPED = 8
    JUMP_BACK = 9
    OUTSIDE = 10


class Noted(NamedTuple):
    """A note: its kind, blocks, first step, how often, and functions u32[f] that waited for a return."""

    kind: int
    source: int
    target: int
    step: int
    times: int
    functions: U32


class Judge:
    """Makes findings of the notes of one path."""

    def __init__(
        self,
        watch: Any,
        blocks: Blocks,
        images: Images,
        places: Places,
        gaps: GapDetails | None,
        truncated: bool,
        sample: Sample | None,
    ) -> None:
        self._watch = watch
        self._blocks = blocks
        self._images = images
        self._places = places
        self._sample = sample
        self._code = Code(blocks, images, places)
        # steps after which data was lost: a stream that ends with one goes on unseen
        self._losses: set[int] | None = None
        self._damaged = np.zeros(0, np.uint64)
        if gaps is not None:
            self._losses = set(gaps.step[np.isin(gaps.cause, RESTARTS)].tolist())
            self._damaged = np.sort(gaps.step[gaps.cause == Gap.LOST])
        self._cut_at = max((row[3] for row in watch.endings()), default=-1) if truncated else -1

    def findings(self) -> Findings:
        """All of them, by step."""
        found = []
        for row in self._watch.notes():
            note = Noted(*row)
            finding = self._judge(note)
            if finding is not None:
                found.append(finding)
        found += self._instructions()
        found += self._untaken()
        found += self._changed_code()
        found += self._death()
        found = sorted(map(self._doubted, found), key=lambda finding: finding.step)
        further = self._watch.further + max(0, len(found) - MOST_FINDINGS)
        left_out = (_INCOMPLETE,) if self._watch.exhausted else ()
        # however many others come before them, strong ones are kept
        kept = sorted(found, key=lambda finding: not finding.strong)[:MOST_FINDINGS]
        return Findings(
            findings=tuple(sorted(kept, key=lambda finding: finding.step)),
            further=further,
            returns=self._watch.returns,
            without_image=tuple(sorted(self._images.missing)),
            left_out=left_out,
        )

    def _doubted(self, finding: Finding) -> Finding:
        """The same, not strong right before packets that do not fit: damage is noticed some blocks late."""
        after = np.searchsorted(self._damaged, finding.step)
        near = after < len(self._damaged) and int(self._damaged[after]) - finding.step <= _NOTICED_WITHIN
        return msgspec.structs.replace(finding, strong=False) if finding.strong and near else finding

    def _judge(self, note: Noted) -> Finding | None:
        if note.kind <= Note.UNKNOWN_RAN:
            return self._unknown(note)
        if note.kind in (Note.ELSEWHERE, Note.UNWOUND):
            return self._return(note)
        if note.kind in (Note.BEGUN, Note.SWITCHED):
            return self._finding("return", note, note.step)
        if note.kind in (Note.ENTRY, Note.JUMPED):
            return self._entry(note)
        if note.kind == Note.JUMP_BACK:
            return self._finding("entry", note, note.step)
        return self._finding(
            "code", note, note.step, key=f"code {self._page(note.target)} {self._from(note)}"
        )

    def _unknown(self, note: Noted) -> Finding:
        # code that is not known but runs, as that of a compiler, is gone to from many sites
        origin = self._module(note) if note.kind == Note.UNKNOWN_RAN else self._from(note)
        key = f"unknown {self._page(note.target)} {origin}"
        return self._finding("unknown", note, note.step, self._is_wild(note), key)

    def _is_wild(self, note: Noted) -> bool:
        """Whether no code can be there: the program was stopped right there, and nothing executable is
        mapped."""
        if note.kind == Note.UNKNOWN_RAN:
            return False
        # a stream that ends with a loss, or was cut off, goes on unseen
        cut = self._losses is None or note.step + 1 in self._losses or note.step == self._cut_at
        if note.kind == Note.UNKNOWN_ENDED and cut:
            return False
        blocks = self._blocks
        address, process = int(blocks.start[note.target]), int(blocks.process[note.target])
        if address >= _KERNEL:
            return False
        if blocks.kind[note.source] not in (Kind.RETURN, Kind.INDIRECT_CALL, Kind.INDIRECT_JUMP):
            return False
        region = self._images.region(process, address)
        if region is None:
            # without a map the name alone says it
            return self._images.mapping(process) is not None or self._page(note.target) == UNMAPPED
        known = not in_file(region.path) or self._images.image(region.path) is not None
        return not region.executable and known

    def _return(self, note: Noted) -> Finding | None:
        target = note.target
        image = self._image(target)
        if image is None:
            return self._finding("return", note, note.step)
        offset = int(self._blocks.offset[target])
        behind = image.behind_call(offset)
        if note.kind == Note.UNWOUND and behind:
            return None
        pad = self._code.lands(target, note.functions)
        # an exception; where tables are in a form that is not known, it may be one
        if pad or (pad is None and note.kind == Note.UNWOUND):
            return None
        strong = (
            note.kind == Note.ELSEWHERE
            and pad is False
            and not behind
            and not self._begins(target, image)
            and self._code.function(target) is not None
            and not image.starts_with(offset, *_WAYS_OUT)
            and not self._code.changed(target)
        )
        return self._finding("return", note, note.step, strong)

    def _entry(self, note: Noted) -> Finding | None:
        target = note.target
        image = self._image(target)
        if image is None or self._begins(target, image):
            return None
        if image.starts_with(int(self._blocks.offset[target]), *_STUBS):
            return None
        if note.kind == Note.JUMPED and image.behind_call(int(self._blocks.offset[target])):
            return None
        jump = self._blocks.kind[note.source] == Kind.INDIRECT_JUMP
        # an exception goes on in a function that waits, if it is known which do
        if self._code.lands(target, note.functions):
            told = jump and note.kind == Note.ENTRY and 0 < len(note.functions) < _MOST_FUNCTIONS
            if not told or self._code.lands(target, note.functions, own=False) is not False:
                return None
        if jump and self._code.related(note.source, target):
            return None
        return self._finding("jump" if note.kind == Note.JUMPED else "entry", note, note.step)

    def _instructions(self) -> list[Finding]:
        blocks, froms, steps = self._watch.reached()
        found = []
        for at in self._code.inside_instructions(blocks).tolist():
            note = Noted(-1, int(froms[at]), int(blocks[at]), int(steps[at]), 1, np.zeros(0, np.uint32))
            found.append(self._finding("instruction", note, note.step, True))
        return found

    def _untaken(self) -> list[Finding]:
        """Functions that were reached by their addresses, which the program takes nowhere."""
        found = []
        blocks, froms, steps = self._watch.reached()
        for at in np.flatnonzero(self._code.untaken(blocks)).tolist():
            note = Noted(-1, int(froms[at]), int(blocks[at]), int(steps[at]), 1, np.zeros(0, np.uint32))
            found.append(self._finding("address", note, note.step, True))
        return found

    def _changed_code(self) -> list[Finding]:
        found = []
        blocks, froms, steps = self._watch.reached()
        for changed in self._code.changed_in_files():
            # the first that an indirect transfer led to; of others it is not known when they ran
            at = np.flatnonzero(np.isin(blocks, changed))
            first = at[np.argmin(steps[at])] if len(at) else -1
            block = int(blocks[first]) if len(at) else changed[0]
            source, step = (int(froms[first]), int(steps[first])) if len(at) else (block, 0)
            note = Noted(-1, source, block, step, 1, np.zeros(0, np.uint32))
            key = f"code changed {place_of(self._blocks, block).module}"
            found.append(self._finding("code", note, step, key=key))
        return found

    def _death(self) -> list[Finding]:
        how = self._cause_of_death()
        if how is None:
            return []
        ending = self._last_words()
        if ending is None:
            return []
        _, source, target, step, _ = ending
        note = Noted(-1, source, target, step, 1, np.zeros(0, np.uint32))
        return [self._finding("death", note, step, key=f"death {how}")]

    def _cause_of_death(self) -> str | None:
        meta = self._sample.meta if self._sample is not None else None
        if meta is None:
            wild = any(
                Noted(*row).kind == Note.UNKNOWN_ENDED and self._is_wild(Noted(*row))
                for row in self._watch.notes()
            )
            return "at an unknown place" if wild else None
        signal = meta.exit.signal
        if meta.exit.timeout or signal not in _FATAL:
            return None
        return f"signal {signal}"

    def _last_words(self) -> tuple[int, int, int, int, bool] | None:
        """The last transfer of the thread that died: of several that which ended in the middle of a block."""
        endings: list[tuple[int, int, int, int, bool]] = [row for row in self._watch.endings() if row[4]]

        def rank(row: tuple[int, int, int, int, bool]) -> tuple[bool, bool, int]:
            kind = self._blocks.kind[row[2]]
            return kind != Kind.UNKNOWN, kind != Kind.NONE, row[0]

        return min(endings, key=rank, default=None)

    def _begins(self, target: int, image: Image) -> bool:
        offset = self._blocks.offset[target : target + 1]
        functions = image.functions
        if functions is not None and bool(functions.at_start(offset)[0]):
            return True
        return image.starts_with(int(offset[0]), *_ENDBR)

    def _image(self, block: int) -> Image | None:
        module = int(self._blocks.module[block])
        path = self._blocks.modules[module] if module >= 0 else ""
        return self._images.image(path) if path and in_file(path) else None

    def _page(self, block: int) -> str:
        return place_of(self._blocks, block).module

    def _from(self, note: Noted) -> str:
        return key_of(place_of(self._blocks, note.source, behind=True))

    def _module(self, note: Noted) -> str:
        return place_of(self._blocks, note.source).module

    def _finding(
        self, kind: FindingKind, note: Noted, step: int, strong: bool = False, key: str | None = None
    ) -> Finding:
        blocks = self._blocks
        return Finding(
            kind=kind,
            strong=strong,
            by=KINDS[blocks.kind[note.source]],
            site=token_of(blocks, note.source, behind=True),
            target=token_of(blocks, note.target),
            site_place=place_of(blocks, note.source, behind=True),
            target_place=place_of(blocks, note.target),
            step=step,
            count=note.times,
            key=(f"{kind} {self._from(note)}" if key is None else key)[:LONGEST_KEY],
        )
