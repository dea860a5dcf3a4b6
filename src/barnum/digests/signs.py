"""What nominal runs show beside their transfers, learnt from digests, and what is new in another run."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from barnum.digests.approached import Approach, approach_keys, known_approaches
from barnum.digests.digest import Digest
from barnum.digests.effects import EffectKind
from barnum.digests.file import read_digest
from barnum.errors import DigestError
from barnum.evaluations.signs import (
    APPROACH,
    LONGEST_NAME,
    LONGEST_TEXT,
    MOST_SCORES,
    MOST_SHOWN,
    Shown,
    Signs,
)
from barnum.evidence import Finding
from barnum.evidence.known import Known, added_known, known_of
from barnum.paths.blocks import OFFSET_LIMIT
from barnum.samples import Sample
from barnum.texts import printable

_log = logging.getLogger(__name__)
# new ways to system calls that are shown, and weigh: the heaviest
_MOST_APPROACHES = 10
# runs whose keys are added up at a time
_TOGETHER = 64


def known_from(samples: Iterable[Sample]) -> Known | None:
    """What runs show, by the digests beside them; None where one has none.

    Raises:
        ModelError: they show too many kinds.
    """
    total, parts = Known(approaches=()), list[Known]()
    for sample in samples:
        digest = _beside(sample)
        if digest is None or digest[0].about.evidence is None:
            return None
        about = digest[0].about
        evidence, effects = known_of(about.evidence, about.effects, digest[1])
        parts.append(
            Known(
                evidence=evidence,
                effects=effects,
                approaches=approach_keys(digest[0].approaches, digest[1]),
                watched=about.effects is not None,
            )
        )
        if len(parts) == _TOGETHER:
            total, parts = added_known([total, *parts]), []
    return added_known([total, *parts])


def signs_of(known: Known, runs: int, digest: Digest) -> Signs:
    """What a run shows that none of the ``runs`` does of which all is ``known``."""
    about = digest.about
    effects = None
    if about.effects is not None and known.watched:
        effects = tuple(_effect(each) for each in known.new_effects(about.effects)[:MOST_SHOWN])
    # they are in the order of their steps
    findings = sorted(known.new_evidence(about.evidence), key=lambda each: not each.strong)
    evidence = [_evidence(each) for each in findings]
    approaching = None
    if known.approaches is not None and digest.approaches is not None:
        bag = known_approaches(known.approaches, runs).of(digest.approaches)
        approaching = tuple(sorted(bag.scores.values(), reverse=True)[:MOST_SCORES])
        new = sorted(bag.new, key=lambda each: -each.weight)[:_MOST_APPROACHES]
        new.sort(key=lambda each: each.step)
        evidence = evidence[: MOST_SHOWN - len(new)] + [_approach(each, digest) for each in new]
    return Signs(
        runs=runs,
        alarming=known.alarming,
        unusual=known.unusual,
        acting=known.acting if known.watched == runs else None,
        approaching=approaching,
        evidence=tuple(evidence[:MOST_SHOWN]),
        effects=effects,
    )


def signs_beside(
    known: Known, runs: int, sample: Sample, steps: int, file: Path | None = None
) -> Signs | None:
    """The same by the digest in a ``file`` (None: that beside the sample); None where there is none, or where
    it is not of a path of so many steps."""
    digest = _beside(sample, file)
    if digest is None:
        return None
    about = digest[0].about
    if about.evidence is None or about.source.steps != steps:
        return None
    return signs_of(known, runs, digest[0])


def _beside(sample: Sample, file: Path | None = None) -> tuple[Digest, int] | None:
    file = file or sample.digest
    if file is None or not file.exists():
        return None
    try:
        return read_digest(file)
    except DigestError as error:
        _log.warning("%s: its evidence and effects are not known", error)
        return None


def _evidence(finding: Finding) -> Shown:
    place = finding.target_place
    offset = place.offset if 0 <= place.offset < OFFSET_LIMIT else None
    # a hostile map may name modules at any length
    text, module = str(finding)[:LONGEST_TEXT], place.module[:LONGEST_NAME]
    return Shown(finding.kind, text, finding.step, finding.strong, module, offset)


def _approach(approach: Approach, digest: Digest) -> Shown:
    (entry_path, entry), (path, offset) = (
        digest.module_of(token) for token in (approach.entry, approach.block)
    )
    called, block = _place(entry_path, entry), _place(path, offset)
    text = f"step {approach.step:,}: the system call before {called} is reached by a new way through {block}"
    module = None if path is None else path.rpartition("/")[2][:LONGEST_NAME]
    return Shown(
        APPROACH,
        text[:LONGEST_TEXT],
        approach.step,
        module=module,
        offset=None if module is None else offset,
        weight=approach.weight,
    )


def _place(path: str | None, offset: int) -> str:
    module = "code in no module" if path is None else printable(path.rpartition("/")[2])
    return f"{module}+0x{offset:x}"


def _effect(effect: EffectKind) -> Shown:
    return Shown(effect.key.split(" ")[0], effect.text, effect.step)
