"""The programs of the benchmark: what each is run on, and which of them may be used to choose scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hijacks
from bench_document import Document
from hijack_forms import FORMS

# documents of each small program: enough to learn five and to hold as many out as bound a false alarm
HARMLESS_OF_HIJACKS = 30
# every other form of attack, so that both halves have all manners
_CHOOSING_FORMS = {form.name for form in FORMS[::2]}


@dataclass(frozen=True)
class Subject:
    """A program.

    Attributes:
        name: of its folder and in tables.
        family: what it is told together with.
        chooses: whether scores may be chosen by it; others confirm.
        command: the program and its arguments; ``{}`` is the document.
        documents: what it opens; made when it is recorded. Tools that help to make them write the date into
            them, so that they are not made again.
        sources: patterns of files, beside this one, that make them: of what a recording depends on.
        hijack: of a harmful document by name, where in the program's file its hijack leads to (an offset from
            the address that the program is linked to); None: to code of the document.
        group: of a kind of harmless documents, what it is left out together with.
        attacked: functions that harmful documents attack, and their callers.
        timeout: seconds for a recording.
        cpu: the processor that the emulator shows the program; empty: its own choice.
    """

    name: str
    family: str
    chooses: bool
    command: tuple[str, ...]
    documents: Callable[[], list[Document]]
    sources: tuple[str, ...]
    hijack: int | None = None
    group: Callable[[str], str] = str
    attacked: frozenset[str] = frozenset()
    timeout: int = 300
    cpu: str = ""


def subjects(folder: Path, families: tuple[str, ...] | None = None) -> Iterator[Subject]:
    """All programs, or those of some families; what is compiled is put into a folder."""
    if families is None or "hijacks" in families:
        yield from _hijacks(folder)
    if families is None or "ghostscript" in families:
        yield _ghostscript()
    if families is None or "pickles" in families:
        yield _pickles()


FAMILIES = ("hijacks", "ghostscript", "pickles")


def _hijacks(folder: Path) -> Iterator[Subject]:
    programs = folder / "programs"
    programs.mkdir(parents=True, exist_ok=True)
    for form in FORMS:
        for bits in form.bits:
            program = hijacks.compiled(form, bits, programs)
            made, target = hijacks.hijacking(form, program)

            def documents(
                form: hijacks.Form = form, program: hijacks.Program = program, made: bytes = made
            ) -> list[Document]:
                seeds = range(HARMLESS_OF_HIJACKS)
                harmless = {hijacks.harmless(form, program, seed): f"harmless-{seed}" for seed in seeds}
                return [
                    *(Document(name, form.name, content) for content, name in harmless.items()),
                    Document("hijack", form.name, made, harmful=True),
                ]

            yield Subject(
                name=program.file.name,
                family="hijacks",
                chooses=form.name in _CHOOSING_FORMS,
                command=(str(program.file), "{}"),
                documents=documents,
                sources=("bench_document.py", "hijack*.py", f"hijacks/{form.name}.*", "hijacks/*.h"),
                hijack=None if target is None else program.at(target) - program.linked,
                attacked=frozenset(form.attacked),
                timeout=60,
            )


def _ghostscript() -> Subject:
    import ghostscript

    def documents() -> list[Document]:
        return [*ghostscript.harmless(), *ghostscript.harmful()]

    warning = set(ghostscript.warning_kinds())

    def group(kind: str) -> str:
        if kind in warning:
            return "documents with warnings"
        return "PDF" if kind.startswith("demo-pdf") else "PostScript"

    return Subject(
        name="ghostscript",
        family="ghostscript",
        chooses=True,
        command=tuple(ghostscript.command()),
        documents=documents,
        sources=("bench_document.py", "ghostscript*.py", "../../demo/documents/**/*"),
        group=group,
    )


def _pickles() -> Subject:
    import pickles

    def documents() -> list[Document]:
        return [*pickles.harmless(python), *pickles.harmful(python)]

    def group(kind: str) -> str:
        if kind in pickles.BARE_KINDS:
            return "objects of the standard library"
        return "arrays" if kind in pickles.ARRAY_KINDS else "frames and models"

    python = pickles.interpreter()
    return Subject(
        name="pickles",
        family="pickles",
        chooses=False,
        command=tuple(pickles.command(python)),
        documents=documents,
        sources=("bench_document.py", "*pickle*.py"),
        group=group,
        cpu=pickles.CPU,
    )
