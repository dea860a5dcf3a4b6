"""Chooses the samples that are learnt, and those that are held out to be judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from barnum.errors import SetsError
from barnum.samples.folder import Sample
from barnum.samples.info import BENIGN, MALICIOUS, UNKNOWN
from barnum.samples.sets import Sets
from barnum.texts import printable


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many samples are wanted.

    Attributes:
        train: benign samples to learn.
        benign: benign samples to hold out.
        malicious: malicious samples to judge.
        options: the command-line options for ``benign`` and ``malicious``, for messages.
    """

    train: int
    benign: int
    malicious: int
    options: tuple[str, str] = ("--test-size-benign", "--test-size-malicious")


def choose(
    root: Path,
    samples: Sequence[Sample],
    sizes: Sizes,
    seed: int,
    learnt: frozenset[str] = frozenset(),
    seen: frozenset[str] = frozenset(),
) -> Sets:
    """Draw samples at random; those of unknown label are left out.

    Args:
        root: folder of the samples, for messages.
        samples: the samples to draw from.
        sizes: how many are wanted.
        seed: of the random numbers; equal seeds draw equal samples.
        learnt: folder names of samples that the model has learnt already, which are left out.
        seen: folder names of samples that may be learnt, but not held out.

    Raises:
        SetsError: there are too few.
    """
    benign = [s.folder for s in samples if s.benign and s.folder.name not in learnt]
    malicious = [s.folder for s in samples if s.malicious and s.folder.name not in learnt]
    beside = " besides those that the model has learnt" if learnt else ""
    if len(benign) < sizes.train + sizes.benign:
        raise SetsError(
            f"{root}: has {len(benign)} usable benign samples{beside}, but {sizes.train} to learn and "
            f"{sizes.benign} to hold out were asked for: lower --train-size or {sizes.options[0]}"
        )
    if len(malicious) < sizes.malicious:
        raise SetsError(
            f"{root}: has {len(malicious)} usable malicious samples, but {sizes.malicious} were "
            f"asked for: lower {sizes.options[1]}"
        )
    draw = np.random.default_rng(seed)
    order = [benign[i] for i in draw.permutation(len(benign)).tolist()]
    malicious_order = [malicious[i] for i in draw.permutation(len(malicious)).tolist()]
    fresh = [folder for folder in order if folder.name not in seen]
    # samples to learn come first in the order; held-out ones that must be fresh are taken from its end
    end = slice(len(fresh) - sizes.benign, None)
    held_out = fresh[end] if seen else order[sizes.train : sizes.train + sizes.benign]
    if len(held_out) < sizes.benign:
        raise SetsError(
            f"{root}: has {len(fresh)} usable benign samples that no model given has learnt, but "
            f"{sizes.benign} to hold out were asked for: lower {sizes.options[0]}"
        )
    not_learnt = set(held_out)
    train = [folder for folder in order if folder not in not_learnt][: sizes.train]
    return Sets(tuple(train), tuple(held_out), tuple(malicious_order[: sizes.malicious]))


@dataclass(frozen=True, slots=True)
class Chosen:
    """Opened samples: benign ones to learn (``train``), benign (``b_test``) and malicious (``m_test``) ones
    that are held out, and those whose label is unknown (``u_test``)."""

    train: list[Sample]
    b_test: list[Sample]
    m_test: list[Sample]
    u_test: list[Sample] = field(default_factory=list)

    @property
    def judged(self) -> list[Sample]:
        """All that are held out."""
        return self.b_test + self.m_test + self.u_test


def check(
    where: Path,
    chosen: Chosen,
    *,
    learns: bool,
    learnt: frozenset[str] = frozenset(),
    seen: frozenset[str] = frozenset(),
) -> None:
    """Check that a choice of samples can be used.

    No sample may be learnt twice, or be learnt (or ``seen``) and held out. Labels must be those of the sets,
    and names distinct.

    Args:
        where: where the samples were named, for messages.
        chosen: the samples.
        learns: whether ``chosen.train`` is to be learnt.
        learnt: folder names of the samples that the model at the start has learnt.
        seen: folder names of further samples that must not be held out.

    Raises:
        SetsError: the choice cannot be used.
    """
    places = ((BENIGN, chosen.train + chosen.b_test), (MALICIOUS, chosen.m_test), (UNKNOWN, chosen.u_test))
    for label, samples in places:
        for sample in samples:
            if sample.label != label:
                raise SetsError(
                    f"{where}: {sample.folder.name} is among the {label} but labelled {sample.label}"
                )
    known = {sample.folder.name for sample in chosen.train} if learns else set()
    again = sorted(known & learnt)
    if again:
        raise SetsError(f"{where}: {again[0]} was learnt by the model already: take it out")
    known |= learnt | seen
    twice = sorted(known & {sample.folder.name for sample in chosen.judged})
    if twice:
        raise SetsError(f"{where}: {twice[0]} is both learnt and held out: take it out of one of them")
    if learns and not chosen.train:
        raise SetsError(f"{where}: names no usable sample to learn")
    names = [sample.folder.name for sample in chosen.train + chosen.judged]
    same = [name for name, count in Counter(names).items() if count > 1]
    if same:
        raise SetsError(
            f"{where}: two samples are called {printable(same[0])}, and models and evaluations go by "
            "that name: rename one"
        )
