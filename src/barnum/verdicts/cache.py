"""Keeps what was summed up of evaluation files in the user's cache folder, by their content."""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import msgspec

from barnum import __version__
from barnum.verdicts.evaluation import split_name
from barnum.verdicts.features import Run, read_run

# changes when Run does
_SCHEMA = 1
_LARGEST = 1 << 24
_MOST_FILES = 20_000


def folder() -> Path:
    """The folder of the cache; it may not exist."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if base.startswith("/") else Path(os.path.expanduser("~")) / ".cache"  # noqa: PTH111
    return root / "barnum" / "runs"


class RunCache:
    """Reads runs, from the cache where they are in it. A cache that cannot be written or read is done
    without: everything in it can be made anew."""

    def __init__(self, place: Path | None = None) -> None:
        self._place = folder() if place is None else place

    def read_run(self, file: Path, *, cut: bool = False) -> Run:
        """See features.read_run()."""
        label, sample = split_name(file)
        try:
            with file.open("rb") as raw:
                digest = hashlib.file_digest(raw, "sha256").hexdigest()
        except OSError:
            return read_run(file, cut=cut)  # which says what is wrong
        entry = self._place / f"{digest}-{'cut' if cut else 'whole'}-{__version__}-{_SCHEMA}.json"
        found = _read(entry)
        if found is None:
            found = read_run(file, cut=cut)
            _write(entry, found)
        # a copy under another name is the same content
        renamed = {"label": label, "sample": sample}
        if not found.model:
            renamed["name"] = sample
        return msgspec.structs.replace(found, **renamed)

    def tidy(self) -> None:
        """Remove the oldest entries where there are very many."""
        with suppress(OSError):
            entries = [(entry.stat().st_mtime, entry.path) for entry in os.scandir(self._place)]
            for _, path in sorted(entries)[: max(0, len(entries) - _MOST_FILES)]:
                Path(path).unlink(missing_ok=True)


def _read(entry: Path) -> Run | None:
    try:
        if entry.is_symlink() or entry.stat().st_size > _LARGEST:
            return None
        return msgspec.json.decode(entry.read_bytes(), type=Run)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _write(entry: Path, run: Run) -> None:
    with suppress(OSError):
        entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, beside = tempfile.mkstemp(dir=entry.parent, prefix=".")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(run))
            Path(beside).replace(entry)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise
