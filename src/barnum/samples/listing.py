"""What is in a folder of samples, told without reading any trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import msgspec

from barnum.errors import InputError, SampleError
from barnum.samples.folder import PART, Sample, folders_of
from barnum.samples.info import read_info
from barnum.samples.owner import Owner, owner_text

State = Literal["recorded", "parsed", "digest", "report of calls", "under way", "cut off", "broken"]

# characters of a name, of a program and of a further label that are kept, and number of these
_LONGEST = 4096
_MOST_LABELS = 64
# files are small, so that what takes time is to wait for them
_THREADS = 8


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One sample of a tree.

    ``folder`` is the name of its folder; ``name`` that of the document, ``label`` and ``extra_labels`` from
    info.txt; ``program``, when it was ``recorded`` and raw ``bytes`` of its streams from meta.json;
    ``streams`` their number; ``steps`` of the parsed trace in Parquet. What is not known is None, as is the
    name where info.txt is a link. ``state``:

    - ``recorded``: a trace is there, and no path yet,
    - ``parsed``: the path is there,
    - ``digest``: the digest of a run is there, and nothing else of it,
    - ``report of calls``: no trace is there, but such a report,
    - ``under way``: it is being recorded, as far as can be seen from here, and
    - ``cut off``: the recording ended early; ``reason`` says whose it was,
    - ``broken``: ``reason`` says what is wrong or lacks.
    """

    folder: str
    name: str | None = None
    label: str | None = None
    extra_labels: tuple[str, ...] = ()
    program: str | None = None
    recorded: str | None = None
    streams: int | None = None
    bytes: int | None = None
    steps: int | None = None
    state: State
    reason: str | None = None


def list_samples(
    root: Path, reports: Sequence[str] = (), steps_of: Callable[[Path], int] | None = None
) -> list[Listed]:
    """All samples right below a folder, by the names of their documents; those without a name come last.

    Args:
        root: the folder.
        reports: names that reports of calls may have, as for :meth:`Sample.open`.
        steps_of: tells the number of steps of a parsed trace in Parquet (barnum.paths.steps.steps_in()).

    Raises:
        SampleError: root is no folder, or cannot be read.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        listed = list(pool.map(lambda folder: _listed(folder, reports, steps_of), folders_of(root)))
    return sorted(listed, key=lambda each: (each.name is None, each.name or "", each.folder))


def _listed(folder: Path, reports: Sequence[str], steps_of: Callable[[Path], int] | None) -> Listed:
    if folder.name.endswith(PART):
        return _unfinished(folder)
    found = Listed(folder=folder.name, state="broken")
    try:
        info = folder / "info.txt"
        sample = Sample(folder, read_info(info), reports)
        # what a link leads to is not to be read through us
        if not info.is_symlink():
            labels = tuple(label[:_LONGEST] for label in sample.info.extra_labels[:_MOST_LABELS])
            name = sample.name[:_LONGEST]
            found = msgspec.structs.replace(found, name=name, label=sample.label, extra_labels=labels)
        found = msgspec.structs.replace(found, label=sample.label, **_recording(sample))
        parsed = sample.parsed
        if parsed is not None:
            if steps_of is not None and parsed.suffix == ".parquet":
                found = msgspec.structs.replace(found, steps=steps_of(parsed))
            return msgspec.structs.replace(found, state="parsed")
        if sample.streams:
            return msgspec.structs.replace(found, state="recorded")
        if sample.digest is not None:
            return msgspec.structs.replace(found, state="digest")
        if sample.report is not None:
            return msgspec.structs.replace(found, state="report of calls")
        return msgspec.structs.replace(found, reason="has neither a trace nor a report of calls")
    except (InputError, OSError) as error:
        return msgspec.structs.replace(found, reason=str(error)[:_LONGEST])


def _recording(sample: Sample) -> dict[str, object]:
    """What is known of how it was recorded."""
    if (sample.folder / "meta.json").is_symlink():
        raise SampleError(f"{sample.folder / 'meta.json'}: is a link, which is not followed here")
    meta = sample.meta
    if meta is None:
        return {"streams": len(sample.streams) or None}
    return {
        "streams": len(meta.streams),
        "bytes": sum(stream.bytes for stream in meta.streams),
        "program": meta.command[0][:_LONGEST] if meta.command else None,
        "recorded": meta.recorded[:_LONGEST] or None,
    }


def _unfinished(folder: Path) -> Listed:
    owner = Owner.parse(owner_text(folder / "owner"))
    state: State = "under way"
    reason = "nothing says who records it"
    if owner is None or owner.state() == "dead":
        state = "cut off"
    if owner is not None:
        where = " (out of sight)" if owner.state() == "elsewhere" else ""
        reason = f"process {owner.pid} on {owner.host}{where}"
    return Listed(folder=folder.name, state=state, reason=reason)
