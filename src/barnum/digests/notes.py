"""What runs tell beside what they executed, added up: programs, images, modules, evidence, effects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import msgspec

from barnum.digests.digest import Digest, Program
from barnum.digests.effects import EffectKind
from barnum.errors import ModelError
from barnum.evidence import Finding, Findings
from barnum.evidence.findings import LONGEST_KEY

# programs, images and keys of which a detector keeps count; more are refused
MOST_PROGRAMS, MOST_IMAGES = 256, 1 << 16
MOST_KEYS = 1 << 16

_Runs = Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]


class KnownProgram(msgspec.Struct, frozen=True):
    """A program, without its images, and how many ``runs`` are of it."""

    program: Program
    runs: _Runs


class KnownImage(msgspec.Struct, frozen=True, array_like=True):
    """A mapped file: its ``path``, what its SHA-256 begins with, and in how many ``runs`` it was."""

    path: str
    sha256: str
    runs: _Runs


class KnownKey(msgspec.Struct, frozen=True, array_like=True):
    """A key of evidence or of effects: in how many ``runs`` it was, and where it was in a single one, what
    tells that one apart (``run``; None where it was in several). ``strong``: evidence that is enough
    alone."""

    key: Annotated[str, msgspec.Meta(max_length=LONGEST_KEY)]
    runs: _Runs
    run: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] | None = None
    strong: bool = False


class Notes(msgspec.Struct, frozen=True, kw_only=True):
    """What runs tell beside what they executed.

    ``programs`` and ``images`` are what was recorded; ``modules`` maps hashes to paths of modules (None: what
    lies in none), ascending. ``evidence`` and ``effects`` are the keys of what nominal runs show; of
    ``watched`` runs effects were noted.
    """

    programs: Annotated[tuple[KnownProgram, ...], msgspec.Meta(max_length=MOST_PROGRAMS)] = ()
    images: Annotated[tuple[KnownImage, ...], msgspec.Meta(max_length=MOST_IMAGES)] = ()
    modules: Annotated[
        tuple[tuple[Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)], str | None], ...],
        msgspec.Meta(max_length=1 << 20),
    ] = ()
    evidence: Annotated[tuple[KnownKey, ...], msgspec.Meta(max_length=MOST_KEYS)] = ()
    effects: Annotated[tuple[KnownKey, ...], msgspec.Meta(max_length=MOST_KEYS)] = ()
    watched: Annotated[int, msgspec.Meta(ge=0, le=1 << 53)] = 0

    def check(self, runs: int) -> None:
        """Raises ValueError where something was in more than the ``runs`` that there are."""
        counted: tuple[KnownProgram | KnownImage | KnownKey, ...] = (
            *self.programs,
            *self.images,
            *self.evidence,
            *self.effects,
        )
        if max(self.watched, max((each.runs for each in counted), default=0)) > runs:
            raise ValueError("it counts more runs than it has learnt")

    def new_evidence(self, findings: Findings | None) -> tuple[Finding, ...]:
        """Those findings that no nominal run shows."""
        known = {each.key for each in self.evidence}
        return tuple(each for each in findings.findings if each.key not in known) if findings else ()

    def new_effects(self, effects: tuple[EffectKind, ...] | None) -> tuple[EffectKind, ...]:
        """Those effects that no nominal run has; none where those of no nominal run are known."""
        known = {each.key for each in self.effects}
        return tuple(each for each in effects or () if each.key not in known) if self.watched else ()

    @property
    def alarming(self) -> int:
        """In how many runs, left out, strong evidence would be new."""
        return len({each.run for each in self.evidence if each.strong and each.run is not None})


def notes_of(digest: Digest, identity: int) -> Notes:
    """The notes of a run, from its digest and identity."""
    about = digest.about
    keys: dict[str, bool] = {}
    for finding in about.evidence.findings if about.evidence else ():
        keys[finding.key] = keys.get(finding.key, False) or finding.strong
    notes = Notes(
        modules=about.modules,
        evidence=tuple(KnownKey(key, 1, identity, strong) for key, strong in sorted(keys.items())),
        effects=tuple(
            KnownKey(key, 1, identity) for key in sorted({each.key for each in about.effects or ()})
        ),
        watched=about.effects is not None,
    )
    program = about.program
    if program is None:
        return notes
    images = tuple(KnownImage(path, sha, 1) for path, sha in sorted(program.images.items()))
    bare = msgspec.structs.replace(program, images={})
    return msgspec.structs.replace(notes, programs=(KnownProgram(bare, 1),), images=images)


def added_notes(parts: Sequence[Notes]) -> Notes:
    """The notes of all parts; in whatever order they come, the same.

    Raises:
        ModelError: they are of too many programs, or mapped too many files.
    """
    programs: Counter[bytes] = Counter()
    images: Counter[tuple[str, str]] = Counter()
    modules: dict[int, set[str]] = {}
    for part in parts:
        for known in part.programs:
            programs[msgspec.json.encode(known.program)] += known.runs
        for image in part.images:
            images[image.path, image.sha256] += image.runs
        for upper, path in part.modules:
            modules.setdefault(upper, set()).update([path] if path is not None else [])
    evidence, effects = (
        _added_keys([key for part in parts for key in getattr(part, name)])
        for name in ("evidence", "effects")
    )
    if max(len(evidence), len(effects)) > MOST_KEYS:
        raise ModelError("these runs show more kinds of evidence or effects than a detector is for")
    if len(programs) > MOST_PROGRAMS or len(images) > MOST_IMAGES:
        raise ModelError(
            f"these are runs of {len(programs):,} command lines with {len(images):,} images, more than a "
            "detector is for: learn each program by itself"
        )
    return Notes(
        programs=tuple(
            KnownProgram(msgspec.json.decode(text, type=Program), runs)
            for text, runs in sorted(programs.items())
        ),
        images=tuple(KnownImage(path, sha, runs) for (path, sha), runs in sorted(images.items())),
        modules=tuple((upper, min(paths, default=None)) for upper, paths in sorted(modules.items())),
        evidence=evidence,
        effects=effects,
        watched=sum(part.watched for part in parts),
    )


def _added_keys(keys: Sequence[KnownKey]) -> tuple[KnownKey, ...]:
    added: dict[str, KnownKey] = {}
    for key in keys:
        other = added.get(key.key)
        if other is not None:
            key = KnownKey(key.key, key.runs + other.runs, None, key.strong or other.strong)
        added[key.key] = key
    return tuple(added[key] for key in sorted(added))
