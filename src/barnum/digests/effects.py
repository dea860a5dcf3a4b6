"""Effects as a digest keeps them: each kind of effect once, with its place.

Two effects are of one kind where call and object are the same: the program of an exec, the address of a
connection, the folder of a file (names of files change with every document), the signal that is sent. Folders
of the run itself, which differ from run to run, are one: ``{tmp}``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from barnum.paths import Chunk, EffectPlaces, GapDetails
from barnum.samples import Effect

MOST_KINDS = 1000  # kinds of effects that a digest keeps
# the system has no such call, and did nothing: the C library makes another one
_NOT_KNOWN = "ENOSYS"
_LONGEST = 300  # characters of an effect in words
_RUN_FOLDER = re.compile(r"^/(?:.*/)?[0-9a-f]{64}\.part/(?:work|tmp)(?=/|$)|^/tmp(?=/|$)")
# variants of one call
_SAME = {
    **dict.fromkeys(("openat", "openat2", "creat"), "open"),
    **dict.fromkeys(("fork", "vfork", "clone3"), "clone"),
    "execveat": "execve",
    "unlinkat": "unlink",
    **dict.fromkeys(("renameat", "renameat2"), "rename"),
    "mkdirat": "mkdir",
    "linkat": "link",
    "symlinkat": "symlink",
    **dict.fromkeys(("fchmod", "fchmodat", "fchmodat2"), "chmod"),
    **dict.fromkeys(("fchown", "lchown", "fchownat"), "chown"),
    "pkey_mprotect": "mprotect",
    **dict.fromkeys(("sendmsg", "sendmmsg"), "sendto"),
    **dict.fromkeys(("tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"), "kill"),
}

_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]


class EffectKind(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A kind of effect that a run had.

    Attributes:
        key: what kinds go by.
        text: the first effect of the kind in words, as far as it fits.
        count: how many there were.
        step: step of the path whose block made the first one; None where it is not known.
        transfers: how many transfers ended before it; None where it is not known.
    """

    key: Annotated[str, msgspec.Meta(max_length=1024)]
    text: Annotated[str, msgspec.Meta(max_length=2 * _LONGEST)]
    count: _Count
    step: _Count | None = None
    transfers: _Count | None = None


def key_of(effect: Effect) -> str:
    """What an effect has in common with others of its kind."""
    call = _SAME.get(effect.call, effect.call)
    if call == "execve":
        what = effect.path
    elif effect.address is not None:
        what = effect.address
    elif effect.path is not None:
        what = _folder(effect.path, effect.folder)
    else:
        what = str(effect.values.get("signal", ""))
    return f"{call} {what or ''}".strip()[:1024]


def _folder(path: str, folder: str | None) -> str:
    whole = path if path.startswith("/") or folder is None else f"{folder}/{path}"
    return _RUN_FOLDER.sub("{tmp}", whole).rpartition("/")[0] or "/"


class EffectKinds:
    """Collects the kinds of effects of a run, and finds the first of each in its path."""

    def __init__(self, effects: Sequence[Effect]) -> None:
        """Prepare for the effects of a sample, in their order."""
        self._counts: dict[str, int] = {}
        first: list[Effect] = []
        self.further = 0
        for effect in effects:
            if effect.error == _NOT_KNOWN:
                continue
            key = key_of(effect)
            if key in self._counts:
                self._counts[key] += 1
            elif len(first) < MOST_KINDS:
                self._counts[key] = 1
                first.append(effect)
            else:
                self.further += 1
        self._first = first
        self._places = EffectPlaces(first)
        self._transfers = np.full(len(first), -1, np.int64)

    def add(
        self, chunk: Chunk, kinds: NDArray[np.uint8], position: NDArray[np.uint64], transfers: int
    ) -> None:
        """The next steps of the path; ``kinds`` u8[k] of its blocks, ``position`` u64[m] of the transfers
        that end in the chunk, ``transfers`` the number of those before it."""
        if not self._first:
            return
        self._places.add(chunk, kinds)
        steps = self._places.steps()
        found = np.flatnonzero((steps >= 0) & (self._transfers < 0))
        self._transfers[found] = transfers + np.searchsorted(
            position, steps[found].astype(np.uint64), "right"
        )

    def done(self, gaps: GapDetails) -> tuple[EffectKind, ...]:
        """All kinds, in the order of their first effects."""
        self._places.forget_after(gaps)
        kinds = []
        steps = self._places.steps().tolist()
        for effect, step, transfers in zip(self._first, steps, self._transfers.tolist(), strict=True):
            key = key_of(effect)
            known = step >= 0
            kinds.append(
                EffectKind(
                    key=key,
                    text=str(effect)[:_LONGEST],
                    count=self._counts[key],
                    step=step if known else None,
                    transfers=transfers if known else None,
                )
            )
        return tuple(kinds)
