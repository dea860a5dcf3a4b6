"""Attacks that try to pass: documents that do what harmful ones do, and hide how strange that is.

Each manner of hiding has a strength, which costs the attack time and length. PostScript and pickles are
programs, so that anything harmless can be done between any two steps of an attack.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pickles
from bench_document import Document
from ghostscript_text import heading, page_of_postscript
from judging import End, end_of, signs
from pickle_assembler import Code, call, finished, named, value
from recordings import Run
from ways import News, Product, Way, by_modules

from barnum.digests.notes import added_notes, notes_of

# the plain attacks
POSTSCRIPT = {
    "runs a command": "(%pipe%true) (r) file dup 20 string readstring pop pop closefile",
    "reads a file": "(/etc/passwd) (r) file dup 99 string readline pop pop closefile",
    "writes a file": "(evades.out) (w) file dup (x) writestring closefile",
    "lists a folder": "(/etc/*) {pop} 99 string filenameforall",
    "asks for a file": "(/etc/shadow) status {pop pop pop pop} if",
}
PICKLES: dict[str, tuple[bytes, ...]] = {
    "runs a command": (named("os", "system"), value("true"), b"\x85", b"R"),
    "runs code": (named("builtins", "eval"), value("1 + 1"), b"\x85", b"R"),
    "reads a file": (named("io", "open"), value("/etc/passwd"), b"\x85", b"R"),
    "writes a file": (named("io", "open"), value("evades.out"), value("w"), b"\x86", b"R"),
}
# times that something harmless is done between two steps
PAUSES, MOST_OF_PICKLES = (10, 100, 1_000, 10_000, 100_000), 10_000
PAGES = (1, 10, 50)
# the product's, and answers to what spreads itself
WAYS: tuple[Way, ...] = (
    Product(),
    Product(signs=False),
    News("novelty within 5,000", by_modules, 5_000),
    News("within 100,000", by_modules, 100_000),
    News("of the whole run", by_modules, None),
)


@dataclass(frozen=True)
class Evasion:
    """A document that tries to pass: what it does, in what manner, and how strongly."""

    act: str
    manner: str
    strength: int
    document: Document


def _document(program: str, act: str, manner: str, strength: int, content: bytes) -> Evasion:
    ending = "ps" if program == "ghostscript" else "pkl"
    name = f"{act} {manner} {strength}".replace(" ", "-")
    return Evasion(act, manner, strength, Document(f"{name}.{ending}", manner, content, harmful=True))


def of_program(name: str) -> list[Evasion]:
    """The attacks on a program."""
    if name == "ghostscript":
        return list(of_ghostscript())

    def harmless(count: int) -> list[bytes]:
        return [each.content for each in pickles.harmless(kinds=("records",), count=count)]

    return list(of_pickles(harmless))


def of_ghostscript() -> Iterator[Evasion]:
    """Attacks in PostScript."""

    def whole(chance: random.Random, steps: list[str], before: int = 1, after: int = 1) -> bytes:
        pages = [page_of_postscript(chance) for _ in range(before)]
        rest = [page_of_postscript(chance) for _ in range(after)]
        return "\n".join([heading(chance), *pages, *steps, *rest, "%%EOF\n"]).encode("latin-1")

    for act, code in POSTSCRIPT.items():
        plain = re.findall(r"\{.*\}|\S+", code)
        yield _document("ghostscript", act, "plain", 0, whole(random.Random(act), plain))
        for count in PAGES:
            chance = random.Random(f"{act} {count}")
            yield _document("ghostscript", act, "pages around", count, whole(chance, plain, count, count))
            chance = random.Random(f"{act} {count}")
            between = [
                part for step in plain for part in (step, *(page_of_postscript(chance) for _ in range(count)))
            ]
            yield _document("ghostscript", act, "pages between", count, whole(chance, between))
        for count in PAUSES:
            chance = random.Random(f"{act} {count}")
            pause = f"{count} {{1 2 add pop}} repeat"
            spread = [part for step in plain for part in (step, pause)]
            yield _document("ghostscript", act, "sums between", count, whole(chance, spread))


def of_pickles(harmless: Callable[[int], list[bytes]]) -> Iterator[Evasion]:
    """Attacks in pickles; ``harmless``: so many harmless pickles."""
    number = Code(value(7) + b"0")
    looked = Code(call(named("collections", "OrderedDict")) + b"0")
    for act, steps in PICKLES.items():
        yield _document("pickles", act, "plain", 0, finished(*steps))
        for count in PAGES:
            parts = harmless(count)
            content = b"".join([*parts, finished(*steps), *parts])
            yield _document("pickles", act, "pickles around", count, content)
        for count in (each for each in PAUSES if each <= MOST_OF_PICKLES):
            for manner, pause in (("numbers between", number), ("objects between", looked)):
                spread = [part for step in steps for part in (step, pause * count)]
                yield _document("pickles", act, manner, count, finished(*spread))


def table(evasions: list[Evasion], runs: list[Run], known: list[Run]) -> Iterator[str]:
    """Lines of a table: what each manner scores and costs, and which ways of judging find it.

    Args:
        evasions: what was recorded.
        runs: their runs, by name.
        known: harmless runs that are learnt.
    """
    learnt = [way.learn(known) for way in WAYS]
    notes = added_notes([notes_of(run.digest, run.identity) for run in known])
    by_name = {run.name: run for run in runs}
    plain: dict[str, int] = {}
    yield "| attack | manner | transfers | " + " | ".join(way.name for way in WAYS) + " |"
    yield "|---|---|---|" + "---|" * len(WAYS)
    for each in evasions:
        run = by_name.get(each.document.name)
        if run is None:
            continue
        length = run.digest.about.transfers
        plain.setdefault(each.act, length)
        cells = []
        end = end_of(run, "effect", notes) or End()
        for way in learnt:
            scores = [way.score(run, until, signs(notes, known, run, until)) for until in (End(), end)]
            marks = [f"{'**' if score > way.threshold else ''}{score:.1f}" for score in scores]
            cells.append(", ".join(mark + "**" * mark.startswith("**") for mark in marks))
        times = length / plain[each.act]
        yield f"| {each.act} | {each.manner} {each.strength or ''} | {times:.2g}× | {' | '.join(cells)} |"
