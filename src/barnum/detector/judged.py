"""What is said of a run that was judged, and what judges runs."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import msgspec

from barnum.evaluations.signs import Cut, Shown
from barnum.verdicts.discoveries import Candidate

__all__ = [
    "CallPlace", "CodePlace", "Cut", "Judge", "JudgedRun", "ProcessName", "Shown", "Where",
]  # fmt: skip


class CodePlace(msgspec.Struct, frozen=True):
    """A place in code: the path of its module (None: it lies in none), and the offset in that. A place
    without known code, outside of all modules, has the name of its page and its address. An offset that
    readers of JSON cannot hold is None."""

    module: str | None
    offset: int | None


class CallPlace(msgspec.Struct, frozen=True):
    """A call, by its name; None where the report is not to be quoted."""

    call: str | None


class Where(msgspec.Struct, frozen=True):
    """Where a run is strangest: at which ``step`` of its path, ``by`` what, and which ``place`` that is."""

    by: str
    step: int
    place: CodePlace | CallPlace | None

    def text(self) -> str:
        """The place, for a person."""
        if isinstance(self.place, CodePlace):
            offset = "" if self.place.offset is None else f"+0x{self.place.offset:x}"
            return f"{self.place.module or 'code in no module'}{offset}"
        if isinstance(self.place, CallPlace) and self.place.call is not None:
            return self.place.call
        return f"step {self.step:,}"


class ProcessName(msgspec.Struct, frozen=True):
    """A process of a report; None where the report does not say."""

    name: str | None
    pid: int | None


class JudgedRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a detector says of a sample.

    ``name`` is that of the document; ``verdict`` nominal, anomalous or refused, and ``refused`` says why;
    ``incomplete`` says why only the beginning of the run was judged, which is anomalous, so that the whole
    is, whose score is at least this one and whose p-value at most; ``score`` grows with strangeness, and is
    anomalous above ``threshold``; ``p_value`` where the method has one; ``method`` and ``by`` say how was
    judged; ``transfers`` were looked at; ``cut`` says that only those count before another process was
    started; ``lost`` is the share that recording or decoding lost. Of a report of calls also the
    ``processes`` whose calls they are, and why these were chosen. Where evidence and effects are known:
    ``because`` says whether it was ``evidence``, an ``effect`` or the score (its name) that made the run
    anomalous; ``evidence`` and ``effects`` are those that no nominal run shows. Where runs were chosen among
    many (see many.py) ``q`` is the least false discovery rate at which this one is anomalous. ``kind`` is
    that of the document (None: not told), with whose nominal runs alone the run was compared, unless
    ``among_all`` says why it was compared with those of all kinds. ``candidate`` and ``fresh`` are what the
    choice among many and the bet on exchangeability take (see there): fresh is a run that was judged as a
    whole, and that has no part in what the detector knows.
    """

    name: str | None
    verdict: str
    score: float
    threshold: float
    p_value: float | None
    q: float | None = None
    method: str
    by: str | None
    transfers: int
    cut: bool
    lost: float | None
    refused: str | None = None
    incomplete: str | None = None
    because: str | None = None
    evidence: tuple[Shown, ...] = ()
    effects: tuple[Shown, ...] = ()
    where: Where | None = None
    processes: tuple[ProcessName, ...] = ()
    chosen_by: str | None = None
    kind: str | None = None
    among_all: str | None = None
    candidate: Candidate | None = None
    fresh: bool = False

    def document(self) -> dict[str, Any]:
        """The same as `barnum score` prints it in JSON: what there is nothing to say of is left out."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        del told["candidate"], told["fresh"]
        if self.q is None:
            del told["q"]
        for name in (
            "refused",
            "incomplete",
            "because",
            "evidence",
            "effects",
            "where",
            "processes",
            "chosen_by",
            "kind",
            "among_all",
        ):
            if not told[name]:
                del told[name]
        for name in ("evidence", "effects"):
            for shown in told.get(name, ()):
                if shown["module"] is None:
                    del shown["module"], shown["offset"]
        if self.where is not None:
            told["where"] = {"by": self.where.by, "step": self.where.step}
            told["where"] |= msgspec.to_builtins(self.where.place) or {}
        return told


class Judge(ABC):
    """Judges samples, one after the other. Keeps files in a temporary folder until it is closed; to be used
    in a ``with``."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="barnum-")
        self._scratch = Path(self._folder.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary folder."""
        self._folder.cleanup()

    @abstractmethod
    def judge(self, place: str | os.PathLike[str]) -> JudgedRun:
        """What the detector says of a sample: the folder of a recorded trace; or a report of calls, or a
        folder that holds one.

        Raises:
            InputError: the sample cannot be judged; the message says why.
        """
