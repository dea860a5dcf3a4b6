"""A benchmark of unpickling in stock CPython: harmless pickles of many packages, and harmful ones.

The harmful ones are one of each trick, and do something harmless in its stead. Whether each pickle does what
it should, and no harmless one anything else, is tried natively.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench_document import Document
from pickle_hidden import HOSTS, documents, pattern

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# the packages whose objects are pickled; they bring what they need themselves
PACKAGES = ("numpy==2.4.6", "pandas==3.1.1", "scikit-learn==1.9.1")
# numpy asks for a processor that has more than QEMU's usual one
CPU = "Nehalem"
BARE_KINDS = (
    *("dates", "numbers", "collected", "records", "recursive", "objects", "names", "messages"),
    *("several", "old", "optimized", "large", "failing"),
)
ARRAY_KINDS = ("arrays", "odd_arrays", "buffers", "tensors")
KINDS = (*BARE_KINDS, *ARRAY_KINDS, "frames", "series", "models")
COUNT = 16
SECONDS = 60


class PickleError(Exception):
    """There is no interpreter that has the packages, or pickles cannot be written."""


# --- interpreter


def interpreter(folder: Path = ROOT / "build" / "bench-detection" / "python") -> Path:
    """A stock CPython that has the packages, in an environment of its own, which is made once.

    Raises:
        PickleError: it cannot be made: the packages are fetched from the index that pip is set to.
    """
    ready = folder / "ready.txt"
    wanted = "\n".join(PACKAGES) + "\n"
    if not ready.is_file() or ready.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        base = getattr(sys, "_base_executable", sys.executable)
        _run("make an environment", base, "-m", "venv", str(folder))
        python = str(folder / "bin" / "python")
        _run("install packages (is there a network?)", python, "-m", "pip", "install", "-q", *PACKAGES)
        ready.write_text(wanted)
    return folder / "bin" / "python"


def _run(what: str, *command: str, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, **(environment or {})}
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise PickleError(f"cannot {what}: {last[:500]}")


def command(python: Path, modules: Sequence[str] = ()) -> list[str]:
    """What is recorded: an interpreter that loads the file that stands for ``{}``.

    Args:
        python: the interpreter.
        modules: are imported before the file is opened; records from then on are shorter by that.
    """
    # without the user's settings, and without writing what it compiles
    return [str(python), "-I", "-B", str(HERE / "load_pickle.py"), "{}", *modules]


# --- documents


def harmless(python: Path | None = None, kinds: Sequence[str] = KINDS, count: int = COUNT) -> list[Document]:
    """Harmless pickles; the same at each call.

    Args:
        python: an interpreter that has the packages that the kinds need, default: that of interpreter().
        kinds: of KINDS.
        count: of each kind.

    Raises:
        PickleError: they cannot be written.
    """
    settings = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        script = str(HERE / "make_pickles.py")
        made = (str(python or interpreter()), "-B", script, folder, str(count), *kinds)
        _run("write pickles", *made, environment=settings)
        files = [Path(folder, f"{kind}-{number:02}.pkl") for kind in kinds for number in range(count)]
        return [Document(file.name, file.name[:-7], file.read_bytes()) for file in files]


def harmful(python: Path | None = None, kinds: Sequence[str] = KINDS) -> list[Document]:
    """Harmful pickles, one of each trick; the same at each call under one version of Python.

    Args:
        python: as for harmless().
        kinds: of harmless pickles that some hide in.

    Raises:
        PickleError: the harmless pickles cannot be written.
    """
    hosts = harmless(python, [kind for kind in HOSTS if kind in kinds], 1)
    return documents({host.kind: host.content for host in hosts})


# --- what a run does

_CALLS = (
    *("execve", "execveat", "fork", "vfork", "clone", "clone3", "kill", "tgkill", "socket", "connect"),
    *("open", "openat", "creat", "unlink", "unlinkat", "rename", "renameat", "renameat2", "rmdir", "mkdir"),
    *("mkdirat", "chmod", "fchmod", "fchmodat", "link", "linkat", "symlink", "symlinkat", "truncate"),
    *("chdir", "bind", "mknod", "mknodat", "utimensat"),
)
# a library that is loaded makes semaphores, to see whether it can
_OWN = re.compile(r'^(openat\(AT_FDCWD, |link\(|unlink\()"/dev/shm/sem\.')
_READING = re.compile(r"^open(at)?\(.*O_RDONLY")
_SECRET = re.compile(r'"/etc/passwd"|"/proc/self/environ"')


def effects(content: bytes, python: Path, folder: Path) -> Iterator[str]:
    """System calls with effects of a native run on a pickle, in a folder of its own, as strace writes them.

    Files that are opened for reading are left out, if they hold no secrets.
    """
    place = Path(tempfile.mkdtemp(dir=folder))
    file, calls = place / "document.pkl", place.with_suffix(".strace")
    file.write_bytes(content)
    words = [word.replace("{}", str(file)) for word in command(python)]
    trace = f"trace={','.join(_CALLS)}"
    subprocess.run(
        ["strace", "-f", "-qq", "-s", "200", "-e", trace, "-o", str(calls), *words],
        check=False, cwd=place, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS,
    )  # fmt: skip
    # each line begins with the number of the process; the first call is the run itself
    for line in calls.read_text(errors="replace").splitlines()[1:]:
        call = line.partition(" ")[2].strip()
        if call.startswith(("---", "+++", "<...")) or _OWN.match(call):
            continue
        if not _READING.match(call) or _SECRET.search(call):
            yield call


def checked(document: Document, folder: Path, python: Path | None = None) -> bool:
    """Whether a pickle does natively what it should: a harmful one its effect, a harmless one nothing.

    Args:
        folder: for files of the run.
        python: the interpreter, default: that of interpreter().
    """
    seen = list(effects(document.content, python or interpreter(), folder))
    if not document.harmful:
        return not seen
    return any(re.search(pattern(document), call) for call in seen)
