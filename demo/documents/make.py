"""All documents of the demo, by kind: what each is made with, and its label."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from . import pdf, postscript, texts, troff

ABUSE = Path(__file__).parent.parent / "abuse"
# the tools write a date into what they make: one date, so that the same documents come out again
_ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "SOURCE_DATE_EPOCH": "1000000000"}


class DocumentError(Exception):
    """A tool that makes documents is missing or failed."""


@dataclass(frozen=True)
class Document:
    """A document to make: its file name, its kind, whether it is harmless, and how its bytes are made."""

    name: str
    kind: str
    benign: bool
    make: Callable[[], bytes]


def all_documents() -> list[Document]:
    """Every document of the demo, harmless ones first, in a fixed order."""
    found = []

    def add(kind: str, ending: str, count: int, make: Callable[[int], bytes], first: int = 0) -> None:
        for n in range(first, first + count):
            found.append(Document(f"{kind}-{n}.{ending}", kind, True, lambda n=n: make(n)))  # type: ignore[misc]

    for kind in troff.MAKERS:
        add(kind, "ps", 4, lambda n, kind=kind: _groff(kind, n))  # type: ignore[misc]
    for path in sorted(postscript.HARMLESS.glob("*.ps")):
        add(path.stem, "ps", 3, lambda n, name=path.stem: postscript.variant(name, n), first=1)  # type: ignore[misc]
    add("images", "ps", 3, lambda n: postscript.images(n, _jpeg(n)))
    add("decoded", "ps", 7, postscript.decoded)
    add("marked", "ps", 3, postscript.marked)
    add("listing", "ps", 4, _listing)
    add("from-pdf", "ps", 3, _from_pdf)
    add("rewritten", "ps", 3, _rewritten)
    for kind, make in pdf.MAKERS.items():
        add(f"pdf-{kind}", "pdf", 3, make, first=1)
    add("pdf-images", "pdf", 3, lambda n: pdf.images(n, _jpeg(n)), first=1)
    add("pdf-distilled", "pdf", 4, _distilled)
    add("pdf-marked", "pdf", 3, lambda n: _distil(postscript.marked(n + 3)))
    add("pdf-locked", "pdf", 3, _locked)
    add("pdf-packed", "pdf", 3, _packed)
    add("pdf-cairo", "pdf", 3, _cairo)
    add(
        "pdf-charts",
        "pdf",
        3,
        lambda n: _convert(postscript.variant("charts", n + 4), "ps", _gs("pdfwrite", "-dEPSCrop")),
    )
    for path in sorted(ABUSE.glob("*.ps")):
        found.append(Document(path.name, "abuse", False, lambda path=path: _abuse(path)))  # type: ignore[misc]
    return found


def make_all(folder: Path, advance: Callable[[], None] = lambda: None) -> list[Document]:
    """Write all documents into folder/benign and folder/malicious; those that are there already are kept.

    All are made anew when anything of the code and texts that make them has changed. Raises DocumentError.
    """
    documents = all_documents()
    here = Path(__file__).parent.parent
    digest = hashlib.sha256()
    # of what makes them, which is in folders of here
    for path in sorted([*here.glob("*/**/*.py"), *here.glob("*/**/*.ps")]):
        digest.update(path.read_bytes())
    stamp = folder / "made-from"
    known = stamp.is_file() and stamp.read_text() == digest.hexdigest()
    stamp.unlink(missing_ok=True)
    wanted = {path_of(folder, document) for document in documents}
    for path in [*folder.glob("benign/*"), *folder.glob("malicious/*")]:
        if not known or path not in wanted:
            path.unlink()

    def make(document: Document) -> None:
        path = path_of(folder, document)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(path.name + ".part")
            part.write_bytes(document.make())
            part.replace(path)
        advance()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(make, documents))
    stamp.write_text(digest.hexdigest())
    return documents


def path_of(folder: Path, document: Document) -> Path:
    """Where a document lies."""
    return folder / ("benign" if document.benign else "malicious") / document.name


def act_of(path: Path) -> tuple[str, str]:
    """What an abusive program says that it does: ("creates", file name) or ("shows", text on the page)."""
    found = re.search(r"^% act: (creates|shows) (.+)$", path.read_text("ascii"), re.M)
    if not found:
        raise DocumentError(f"{path.name} does not say its act")
    return found[1], found[2]


# --- tools -------------------------------------------------------------------------------------


def _run(command: list[str], data: bytes = b"", allowed: tuple[int, ...] = (0,)) -> bytes:
    try:
        done = subprocess.run(
            command, input=data, capture_output=True, env=_ENVIRONMENT, timeout=60, check=False
        )
    except FileNotFoundError as error:
        raise DocumentError(
            f"{command[0]} is missing: run make setup, or make demo, which installs it"
        ) from error
    if done.returncode not in allowed:
        said = (
            done.stderr.decode("utf-8", "replace").strip() or done.stdout.decode("utf-8", "replace").strip()
        )
        raise DocumentError(f"{' '.join(command)} failed: {said[:500]}")
    return done.stdout


def _convert(data: bytes, ending: str, command: list[str], made: str = "out") -> bytes:
    """Run a tool that wants files: IN and OUT in the command stand for them."""
    with TemporaryDirectory() as folder:
        source, target = Path(folder, f"in.{ending}"), Path(folder, made)
        source.write_bytes(data)
        names = {"IN": str(source), "OUT": str(target)}
        # 3: qpdf had warnings
        _run([re.sub("IN|OUT", lambda part: names[part[0]], word) for word in command], allowed=(0, 3))
        return target.read_bytes()


def _groff(kind: str, n: int, device: str = "ps") -> bytes:
    options, source = troff.MAKERS[kind](n)
    return _run(["groff", f"-T{device}", *options], source.encode("ascii"))


def _gs(device: str, *options: str) -> list[str]:
    command = [
        "gs",
        "-q",
        "-dSAFER",
        "-dBATCH",
        "-dNOPAUSE",
        f"-sDEVICE={device}",
        *options,
        "-sOutputFile=OUT",
    ]
    # fonts go into a PDF, also those that every reader is said to have
    embed = ["-c", "<< /NeverEmbed [] >> setdistillerparams", "-f"] if device == "pdfwrite" else []
    return [*command, *embed, "IN"]


def _distil(data: bytes, *options: str) -> bytes:
    return _convert(data, "ps", _gs("pdfwrite", *options))


def _jpeg(n: int) -> bytes:
    return _convert(
        postscript.variant("patterns", n), "ps", _gs("jpeg", "-g64x64", "-r8", f"-dJPEGQ={60 + 10 * n}")
    )


def _listing(n: int) -> bytes:
    """A program listing by enscript: plain, highlighted, in two columns, with line numbers."""
    module = ("bisect", "heapq", "textwrap", "shlex")[n % 4]
    options = ([], ["-Epython", "--color"], ["-2r"], ["-C", "-G"])[n % 4]
    return _convert(
        texts.source(module, 10 * n, 24).encode(), "py", ["enscript", "-q", *options, "-pOUT", "IN"]
    )


def _from_pdf(n: int) -> bytes:
    """PostScript out of a PDF, as a print system makes it."""
    tool = (["pdftops", "-level2"], ["pdftocairo", "-ps"], ["pdftops", "-level3"])[n % 3]
    return _convert(
        (pdf.damaged(2), _distilled(n + 4), _distilled(n + 4))[n % 3], "pdf", [*tool, "IN", "OUT"]
    )


def _rewritten(n: int) -> bytes:
    """PostScript that Ghostscript wrote itself."""
    source = _groff(("equations", "essay", "drawing")[n % 3], n + 4)
    return _convert(source, "ps", _gs("eps2write" if n % 3 == 2 else "ps2write"))


def _distilled(n: int) -> bytes:
    source = _groff(("report", "drawing", "table", "equations")[n % 4], n + 4)
    return _distil(source, f"-dCompatibilityLevel={('1.3', '1.4', '1.5', '1.7')[n % 4]}")


def _locked(n: int) -> bytes:
    """Encrypted PDF that opens without a password."""
    source = _distil(_groff("letter", n + 4))
    how = (["40", "--print=y", "--"], ["128", "--use-aes=y", "--"], ["256", "--"])[n % 3]
    weak = ["--allow-weak-crypto"] if n % 3 != 2 else []
    command = ["qpdf", *weak, "--encrypt", "", "owner", *how, "IN", "OUT"]
    return _convert(source, "pdf", command)


def _packed(n: int) -> bytes:
    """PDF rearranged by qpdf: object streams, linearised, uncompressed."""
    how = (["--object-streams=generate"], ["--linearize"], ["--qdf", "--object-streams=disable"])[n % 3]
    return _convert(
        _distil(_groff("manual", n + 4)), "pdf", ["qpdf", *how, "--deterministic-id", "IN", "OUT"]
    )


def _cairo(n: int) -> bytes:
    """PDF drawn anew by cairo."""
    return _convert(
        (pdf.forms(5), _distilled(5), pdf.damaged(6))[n % 3], "pdf", ["pdftocairo", "-pdf", "IN", "OUT"]
    )


def _abuse(path: Path) -> bytes:
    """An abusive program, alone or, if it says so, set into a page of an ordinary document."""
    program = path.read_bytes()
    found = re.search(rb"^% inserted into: (\w+) (\d+), page (\d+)$", program, re.M)
    if not found:
        return program
    carrier = _groff(found[1].decode(), int(found[2]))
    page = re.search(rb"^%%Page: " + found[3] + rb" .*?%%EndPageSetup\n(.*?)^%%", carrier, re.M | re.S)
    # half way down the page, between two pieces of text: after one that ends a line, where any does
    places = []
    for end in (rb"\n", rb"\b") if page else ():
        places = places or [piece.end() for piece in re.finditer(rb"(?<!\\)\)[^()]*?\bQ" + end, page[1])]
    if not page or not places:
        raise DocumentError(f"{path.name}: its carrier has no page {int(found[3])} with text")
    place = page.start(1) + places[len(places) // 2]
    code = b"".join(line for line in program.splitlines(keepends=True) if not line.startswith(b"%"))
    return carrier[:place] + (b"" if carrier[place - 1] == ord("\n") else b"\n") + code + carrier[place:]
