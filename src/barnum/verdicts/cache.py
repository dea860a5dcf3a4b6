"""Keeps the features of evaluation files in the user's cache folder, by the content of the files."""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import msgspec

from barnum import __version__
from barnum.evaluations.header import split_name
from barnum.evaluations.signs import Cut
from barnum.files import open_regular
from barnum.verdicts.features import WINDOWS, Run, read_run

# changes when Run does
_SCHEMA = 4
_LARGEST = 1 << 24
# made once, before several threads read: see evaluations/parquet.py
_DECODER = msgspec.json.Decoder(Run)
_MOST_FILES = 20_000


def folder() -> Path | None:
    """The folder of the cache; it may not exist. None where the user has none."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if base.startswith("/") else Path(os.path.expanduser("~")) / ".cache"  # noqa: PTH111
    return root / "barnum" / "runs" if root.is_absolute() else None


class RunCache:
    """Reads runs, from the cache where they are in it. Where the cache cannot be read or written, files are
    summed up anew."""

    def __init__(self, place: Path | None = None) -> None:
        self._place = folder() if place is None else place

    def read_run(self, file: Path, *, cut: Cut | bool = False) -> Run:
        """See features.read_run()."""
        label, sample = split_name(file)
        if self._place is None:
            return read_run(file, cut=cut)
        try:
            with open_regular(file, follow=True) as descriptor, open(descriptor, "rb", closefd=False) as raw:
                before = _state(os.fstat(descriptor))
                digest = hashlib.file_digest(raw, "sha256").hexdigest()
        except OSError:
            return read_run(file, cut=cut)  # which says what is wrong
        part = "effect" if cut == "effect" else "cut" if cut else "whole"
        entry = self._place / f"{digest}-{part}-{__version__}-{_SCHEMA}.json"
        run = _read(entry)
        if run is None:
            run = read_run(file, cut=cut)
            with suppress(OSError):
                if _state(file.stat()) == before:
                    _write(entry, run)
            return run
        # a copy under another name is the same content
        renamed = {"label": label, "sample": sample}
        if run.surprisal is None:  # gz, which names nothing
            renamed["name"] = sample
        elif run.label != label:
            return read_run(file, cut=cut)  # which refuses it
        return msgspec.structs.replace(run, **renamed)

    def tidy(self) -> None:
        """Remove the oldest entries where there are very many."""
        if self._place is None:
            return
        with suppress(OSError):
            entries = [(entry.stat().st_mtime, entry.path) for entry in os.scandir(self._place)]
            for _, path in sorted(entries)[: max(0, len(entries) - _MOST_FILES)]:
                Path(path).unlink(missing_ok=True)


def _read(entry: Path) -> Run | None:
    try:
        with open_regular(entry) as descriptor, open(descriptor, "rb", closefd=False) as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            return None
        run = _DECODER.decode(data)
        if run.surprisal_windows is not None and len(run.surprisal_windows) != len(WINDOWS):
            return None
        return run
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _state(status: os.stat_result) -> tuple[int, int, int, int]:
    """What differs where a file was changed."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _write(entry: Path, run: Run) -> None:
    # names that are no UTF-8 and numbers beyond 64 bits have no place in JSON
    with suppress(OSError, UnicodeEncodeError, OverflowError):
        data = msgspec.json.encode(run)
        entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, beside = tempfile.mkstemp(dir=entry.parent, prefix=".")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            Path(beside).replace(entry)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise
