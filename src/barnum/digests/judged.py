"""A run that was judged by its digest, with all that the verdict was made of."""

from __future__ import annotations

from dataclasses import dataclass

from barnum.digests.digest import Digest
from barnum.digests.knowledge import New
from barnum.evaluations.signs import Signs
from barnum.samples import Sample
from barnum.verdicts.features import Run
from barnum.verdicts.method import Verdict


@dataclass(frozen=True, slots=True)
class JudgedDigest:
    """What a verdict was made of.

    Attributes:
        name: of the document; None where a link tells it.
        sample: the run's folder.
        digest: what was known of the run.
        learnt: whether the detector has learnt this very run, so that nothing in it is new.
        run: what was judged: the run, or its beginning.
        new: what is new in the whole run.
        verdict: the verdict.
        signs: evidence in what was judged, and all effects, that no nominal run shows.
        threshold: scores above it are anomalous, in nats; infinite where none is.
        kind: of the document; None: not told.
        among_all: why the run was compared with nominal runs of all kinds; None where with its own, or where
            no kind is known.
    """

    name: str | None
    sample: Sample
    digest: Digest
    learnt: bool
    run: Run
    new: New
    verdict: Verdict
    signs: Signs
    threshold: float
    kind: str | None
    among_all: str | None
