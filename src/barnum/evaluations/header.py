"""What an evaluation file says of its sample, and how the file is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import msgspec

from barnum.errors import EvaluationError
from barnum.evaluations.signs import Signs

SCHEMA = 1
LABELS = ("benign", "malicious", "unknown")
# also the suffixes of the files
FORMATS = ("parquet", "gz")

_NAME = re.compile(rf"({'|'.join(LABELS)})-(.+)\.(?:parquet|gz)", re.DOTALL)


class LeftOut(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A training run, judged by a model that was learnt without it: mean ``surprisal`` in nats a transfer,
    number of ``transfers`` and of ``distinct`` targets."""

    surprisal: Annotated[float, msgspec.Meta(ge=0, le=1e6)]
    transfers: Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]
    distinct: Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What nominal runs score that had no part in what judges them: training runs, each left out in turn.

    ``scores`` are the largest sums of the column ``score`` within ``window`` transfers, in nats, a run each
    (see sequences/novelty.py). ``runs`` are there where the model was learnt in folds.
    """

    score: str
    window: Annotated[int, msgspec.Meta(ge=1, le=1 << 32)]
    scores: tuple[Annotated[float, msgspec.Meta(ge=0, le=1e12)], ...]
    runs: Annotated[tuple[LeftOut, ...], msgspec.Meta(max_length=1 << 20)] = ()


class Source(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of the run, and how much of it could be read.

    ``steps`` of the path; ``cut`` is how many of them the first thread took before the first other process
    was started (None: none was, or it is not known). ``lost`` is the share that recording or decoding lost,
    ``truncated`` says that a time limit ended decoding, or that a report breaks off, ``unmapped`` how often
    code had no image. ``intact`` is there where something is missing: with so many steps the whole path would
    begin as well (None: that is not known, or nothing is missing). ``status``, ``signal`` and ``timeout``
    tell how the program ended and ``children`` how many other processes it started; None where the sample
    does not say.
    """

    steps: int
    cut: int | None = None
    lost: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    truncated: bool = False
    intact: Annotated[int, msgspec.Meta(ge=0)] | None = None
    unmapped: int | None = None
    status: int | None = None
    signal: int | None = None
    timeout: bool | None = None
    children: int | None = None


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of its sample. ``transfers`` is the number of rows; ``model`` the identity of the
    model that scored them; ``options`` say which transfers are predicted, and in which tokens.
    ``calibration`` is None where the model does not know what its training saw, and then the file has no
    columns ``seen`` and ``novelty``; ``source`` is None in files of earlier versions. ``calls`` are names of
    targets by token in hex, where targets are calls. ``signs`` are evidence and effects; None where those of
    this run, or of the runs that the model has learnt, are not known."""

    schema: int
    version: str
    name: str
    label: str
    sample: str
    model: str
    options: dict[str, Any]
    calibration: Calibration | None
    transfers: int
    source: Source | None = None
    calls: dict[str, str] | None = None
    signs: Signs | None = None


def file_name(label: str, sample: str, format: str = "parquet") -> str:
    """Name of a sample's evaluation file."""
    return f"{label}-{sample}.{format}"


def split_name(file: Path) -> tuple[str, str]:
    """Label and sample of an evaluation file's name.

    Raises:
        EvaluationError: it is no such name.
    """
    match = _NAME.fullmatch(file.name)
    if match is None:
        names = " or ".join(f"LABEL-SAMPLE.{format}" for format in FORMATS)
        raise EvaluationError(f"{file}: is not named {names}, with LABEL one of {', '.join(LABELS)}")
    return match[1], match[2]
