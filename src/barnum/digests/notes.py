"""What runs tell beside what they executed, added up: programs, images, modules, evidence, effects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import msgspec

from barnum.digests.approached import approach_keys
from barnum.digests.digest import Digest, Limits, Program, most_generous
from barnum.errors import ModelError
from barnum.evidence.known import Known, KnownKey, Runs, added_known, known_of

# programs and images of which a detector keeps count; more are refused
MOST_PROGRAMS, MOST_IMAGES = 256, 1 << 16


class KnownProgram(msgspec.Struct, frozen=True, omit_defaults=True):
    """A program, without its images, how many ``runs`` are of it, and the most generous of their ``limits``
    (None: not known), which make no other program of it."""

    program: Program
    runs: Runs
    limits: Limits | None = None


class KnownImage(msgspec.Struct, frozen=True, array_like=True):
    """A mapped file: its ``path``, what its SHA-256 begins with, and in how many ``runs`` it was."""

    path: str
    sha256: str
    runs: Runs


class Notes(Known, frozen=True, kw_only=True):
    """What runs tell beside what they executed.

    ``programs`` and ``images`` are what was recorded; ``modules`` maps hashes to paths of modules (None: what
    lies in none), ascending. ``evidence`` and ``effects`` are the keys of what nominal runs show; of
    ``watched`` runs effects were noted; ``approaches`` are those of all runs.
    """

    programs: Annotated[tuple[KnownProgram, ...], msgspec.Meta(max_length=MOST_PROGRAMS)] = ()
    images: Annotated[tuple[KnownImage, ...], msgspec.Meta(max_length=MOST_IMAGES)] = ()
    modules: Annotated[
        tuple[tuple[Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)], str | None], ...],
        msgspec.Meta(max_length=1 << 20),
    ] = ()

    def check(self, runs: int) -> None:
        """Raises ValueError where something was in more than the ``runs`` that there are."""
        counted: tuple[KnownProgram | KnownImage | KnownKey, ...] = (
            *self.programs,
            *self.images,
            *self.evidence,
            *self.effects,
            *(self.approaches or ()),
        )
        if max(self.watched, max((each.runs for each in counted), default=0)) > runs:
            raise ValueError("it counts more runs than it has learnt")


def notes_of(digest: Digest, identity: int) -> Notes:
    """The notes of a run, from its digest and identity."""
    about = digest.about
    evidence, effects = known_of(about.evidence, about.effects, identity)
    notes = Notes(
        modules=about.modules,
        evidence=evidence,
        effects=effects,
        approaches=approach_keys(digest.approaches, identity),
        watched=about.effects is not None,
    )
    program = about.program
    if program is None:
        return notes
    images = tuple(KnownImage(path, sha, 1) for path, sha in sorted(program.images.items()))
    bare = msgspec.structs.replace(program, images={})
    return msgspec.structs.replace(notes, programs=(KnownProgram(bare, 1, about.limits),), images=images)


def added_notes(parts: Sequence[Notes]) -> Notes:
    """The notes of all parts; in whatever order they come, the same.

    Raises:
        ModelError: they are of too many programs, or mapped too many files.
    """
    programs: Counter[bytes] = Counter()
    limits: dict[bytes, Limits | None] = {}
    images: Counter[tuple[str, str]] = Counter()
    modules: dict[int, set[str]] = {}
    for part in parts:
        for each in part.programs:
            text = msgspec.json.encode(each.program)
            programs[text] += each.runs
            limits[text] = most_generous([limits.get(text), each.limits])
        for image in part.images:
            images[image.path, image.sha256] += image.runs
        for upper, path in part.modules:
            modules.setdefault(upper, set()).update([path] if path is not None else [])
    known = added_known(parts)
    if len(programs) > MOST_PROGRAMS or len(images) > MOST_IMAGES:
        raise ModelError(
            f"these are runs of {len(programs):,} command lines with {len(images):,} images, more than a "
            "detector is for: learn each program by itself"
        )
    return Notes(
        programs=tuple(
            KnownProgram(msgspec.json.decode(text, type=Program), runs, limits[text])
            for text, runs in sorted(programs.items())
        ),
        images=tuple(KnownImage(path, sha, runs) for (path, sha), runs in sorted(images.items())),
        modules=tuple((upper, min(paths, default=None)) for upper, paths in sorted(modules.items())),
        evidence=known.evidence,
        effects=known.effects,
        approaches=known.approaches,
        watched=known.watched,
    )
