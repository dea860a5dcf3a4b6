"""Documents of the benchmark for Ghostscript, harmless and harmful ones, and what each does natively.

Harmless ones are the demo's and such as are damaged or careless, as many are in ordinary life: Ghostscript
warns of them, or gives up. Harmful ones are the demo's and further tricks that work where Ghostscript is run
without its safer mode, as the demo runs it; what they do is of no consequence.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import ghostscript_demo
import ghostscript_postscript
import ghostscript_tricks
import ghostscript_warnings
from bench_document import Document

SECONDS = 60
# what Ghostscript and the programs that it starts read whatever the document is
_OWN = re.compile(
    r"/(usr/)?lib(32|64|x32)?/|/etc/(ld\.so\.|fonts|gss|locale|localtime|papersize|paperspecs|nsswitch)|/proc/|/sys/|/dev/"
    r"|/usr/(local/)?share/(ghostscript|fonts|fontconfig|color|locale|poppler|X11)\b|/var/(lib/ghostscript|cache/fontconfig)\b"
    r"|/usr/(local/)?lib/"
)
_WARNED = re.compile(rb"\*\*\*\*|%%\[ ?\w+:|\b(Warning|Error)\b|Substituting|Can't find|Unrecoverable")
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\((.*?)(?:\) += (-?\d+)| <unfinished)")


class GhostscriptError(Exception):
    """Ghostscript cannot be run or a document's effects not seen."""


def command() -> list[str]:
    """The command of the demo; ``{}`` stands for the document."""
    return [*ghostscript_demo.ghostscript(), str(ghostscript_demo.WARM_UP), "{}"]


def harmless() -> list[Document]:
    """The demo's harmless documents, and damaged or careless ones (see ``warning_kinds``); always the same.

    Raises:
        documents.make.DocumentError: a tool that the demo's documents are made with is missing.
    """
    return [*ghostscript_demo.of_demo(harmful=False), *warning_documents()]


def warning_documents() -> list[Document]:
    """The harmless documents that Ghostscript is expected to warn of, or to give up on."""
    return [*ghostscript_warnings.documents(), *ghostscript_postscript.documents()]


def warning_kinds() -> list[str]:
    """Kinds of the harmless documents that Ghostscript warns of."""
    return sorted({document.kind for document in warning_documents()})


def harmful() -> list[Document]:
    """The demo's abusive documents, and those of further tricks; always the same.

    Raises:
        documents.make.DocumentError: a tool that the demo's documents are made with is missing.
    """
    return [*ghostscript_demo.of_demo(harmful=True), *ghostscript_tricks.documents()]


def checked(document: Document, folder: Path) -> bool:
    """Whether a document does natively what it is for: a harmful one its deed, a harmless one nothing.

    Args:
        folder: an empty one, where Ghostscript runs.

    Raises:
        GhostscriptError: Ghostscript or strace cannot be run, or does not end.
    """
    found = effects(document, folder)
    if not document.harmful:
        return not found
    act = _acts().get(document.name, "")
    if act.startswith("creates "):
        return (folder / act.removeprefix("creates ")).is_file()
    return any(effect.startswith(act) for effect in found)


def effects(document: Document, folder: Path, *, safer: bool = False) -> set[str]:
    """What a document makes Ghostscript do to the rest of the system.

    Such are ``runs /bin/sh``, ``reads /etc/passwd``, ``writes``, ``lists``, ``removes`` or ``renames`` and a
    path (of the folder, or absolute), ``connects``. Whatever Ghostscript needs itself is left out.

    Args:
        folder: an empty one, where Ghostscript runs.
        safer: in Ghostscript's safer mode.

    Raises:
        GhostscriptError: Ghostscript or strace cannot be run, or does not end.
    """
    folder = folder.resolve()
    seen = folder / "calls.strace"
    wanted = "trace=execve,execveat,open,openat,creat,unlink,unlinkat,rename,renameat,renameat2,connect"
    watch = ["strace", "-f", "-qq", "-s", "200", "-e", wanted, "-e", "signal=none", "-o", str(seen)]
    words = ["-dSAFER" if safer and word == "-dNOSAFER" else word for word in command()]
    file = _run([*watch, *words], document, folder)[0]
    own = {f"reads {file.name}", f"reads {ghostscript_demo.WARM_UP}"}
    found: set[str] = set()
    started = False
    for line in seen.read_text(errors="replace").splitlines():
        effect = _effect(line, folder)
        if effect is None or effect in own:
            continue
        if effect.startswith("runs ") and not started:
            started = True
            continue
        found.add(effect)
    if not started:
        raise GhostscriptError(f"{document.name}: strace shows no Ghostscript; is gs installed?")
    return found


def warned(document: Document, folder: Path) -> bool:
    """Whether Ghostscript prints a warning or an error for a document.

    It is asked without ``-q``, with which it finds the same and keeps silent about most of it, and without
    the demo's warm-up, of which it warns itself.

    Args:
        folder: an empty one, where Ghostscript runs.

    Raises:
        GhostscriptError: Ghostscript cannot be run, or does not end.
    """
    loud = [word for word in command() if word not in ("-q", str(ghostscript_demo.WARM_UP))]
    return _WARNED.search(_run(loud, document, folder)[1]) is not None


def _run(words: list[str], document: Document, folder: Path) -> tuple[Path, bytes]:
    """Open a document in a folder; gives its file and what was printed."""
    folder = folder.resolve()
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    file = folder / document.name
    file.write_bytes(document.content)
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "TMPDIR": str(folder / "tmp"),
        "LC_ALL": "C",
    }
    try:
        done = subprocess.run(
            [word if word != "{}" else str(file) for word in words],
            check=False,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
        )
    except FileNotFoundError as error:
        raise GhostscriptError(f"{words[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise GhostscriptError(f"{document.name}: Ghostscript ran for more than {SECONDS} s") from error
    return file, done.stdout


_VERBS = {
    "unlink": "removes",
    "unlinkat": "removes",
    "connect": "connects",
    "execve": "runs",
    "execveat": "runs",
}


def _effect(line: str, folder: Path) -> str | None:
    """The effect of a call that strace tells, None: it failed, or any run has it."""
    call = _CALL.match(line)
    if not call or (call[3] or "0").startswith("-"):
        return None
    paths = re.findall(r'"((?:[^"\\]|\\.)*)"', call[2])
    if call[1] == "connect" or not paths:
        return f"connects {call[2]}" if call[1] == "connect" else None
    path = os.path.normpath(paths[0]).removeprefix(f"{folder}/")
    if path.startswith("tmp/gs_"):
        return None
    if call[1] in _VERBS:
        return f"{_VERBS[call[1]]} {path}"
    if call[1].startswith("rename"):
        return f"renames {path}"
    if path == "/dev/null" or path.startswith("/dev/tty"):
        return None
    if call[1] == "creat" or re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", call[2]):
        return f"writes {path}"
    if _OWN.match(path):
        return None
    return f"{'lists' if 'O_DIRECTORY' in call[2] else 'reads'} {path}"


def _acts() -> dict[str, str]:
    """The effect of each harmful document whose effect is known by name."""
    return {**ghostscript_demo.acts(), **ghostscript_tricks.acts()}
