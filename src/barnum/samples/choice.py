"""Which samples are learnt, and which are held out to be judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from barnum.errors import SetsError
from barnum.samples.folder import Sample
from barnum.samples.sets import Sets
from barnum.texts import printable


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many samples are wanted: benign ones to learn (``train``) and to hold out, and malicious ones.
    ``options`` name the last two in messages."""

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
    """Samples of the folder ``root``, drawn at random by ``seed``. Those that were ``learnt`` already, by
    name, are left out; those that were ``seen`` are not held out.

    Raises:
        SetsError: there are too few.
    """
    benign = [s.folder for s in samples if s.benign and s.folder.name not in learnt]
    malicious = [s.folder for s in samples if not s.benign]
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
    bad = [malicious[i] for i in draw.permutation(len(malicious)).tolist()]
    fresh = [folder for folder in order if folder.name not in seen]
    # those to learn come first in the order; what is held out comes from behind where it must be fresh
    behind = slice(len(fresh) - sizes.benign, None)
    held_out = fresh[behind] if seen else order[sizes.train : sizes.train + sizes.benign]
    if len(held_out) < sizes.benign:
        raise SetsError(
            f"{root}: has {len(fresh)} usable benign samples that no model given has learnt, but "
            f"{sizes.benign} to hold out were asked for: lower {sizes.options[0]}"
        )
    out = set(held_out)
    train = [folder for folder in order if folder not in out][: sizes.train]
    return Sets(tuple(train), tuple(held_out), tuple(bad[: sizes.malicious]))


@dataclass(frozen=True, slots=True)
class Chosen:
    """Opened samples: benign ones to ``train`` on and held out (``b_test``), malicious ones (``m_test``)."""

    train: list[Sample]
    b_test: list[Sample]
    m_test: list[Sample]

    @property
    def judged(self) -> list[Sample]:
        """All that are held out."""
        return self.b_test + self.m_test


def check(
    where: Path,
    chosen: Chosen,
    *,
    learns: bool,
    learnt: frozenset[str] = frozenset(),
    seen: frozenset[str] = frozenset(),
) -> None:
    """Nothing is learnt twice, nothing is both learnt (or was ``seen``) and held out, labels are those of
    their places, and names are distinct. ``where`` the samples were named is said in messages; ``learnt`` are
    names of those that the model to begin with has learnt.

    Raises:
        SetsError: something is not so.
    """
    for sample in chosen.train + chosen.b_test:
        if not sample.benign:
            raise SetsError(f"{where}: {sample.folder.name} is among the benign but labelled malicious")
    for sample in chosen.m_test:
        if sample.benign:
            raise SetsError(f"{where}: {sample.folder.name} is among the malicious but labelled benign")
    known = {sample.folder.name for sample in chosen.train} if learns else set()
    again = sorted(known & learnt)
    if again:
        raise SetsError(f"{where}: {again[0]} was learnt by the model already: take it out")
    known |= learnt | seen
    twice = sorted(known & {sample.folder.name for sample in chosen.b_test})
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
