"""The interface of classifiers, and reading and writing of what they have learnt (JSON, never a pickle)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from barnum import __version__
from barnum.errors import EvaluationError, InputError
from barnum.files import write_whole
from barnum.verdicts.features import Run

SCHEMA = 1
_LARGEST = 64 << 20


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Judgement of one run. ``score`` grows with strangeness; ``p_value`` where the method has one."""

    anomalous: bool
    score: float
    p_value: float | None = None


class Classifier(Protocol):
    """A method that has learnt from runs."""

    name: str

    def describe(self) -> str:
        """One line for a person: what is judged, by which rule, and what it promises."""
        ...

    def judge(self, run: Run) -> Verdict:
        """Judge a run that the classifier was not learnt from."""
        ...

    def state(self) -> dict[str, Any]:
        """All that it has learnt, as JSON values."""
        ...


class Method(Protocol):
    """A way to make classifiers."""

    name: str

    def fit(self, runs: Sequence[Run]) -> Classifier:
        """Learn from runs; raises EvaluationError where they do not suffice."""
        ...

    def held_out(self, runs: Sequence[Run]) -> list[Verdict]:
        """Judge each run by a classifier that was learnt without it."""
        ...

    def restore(self, state: dict[str, Any]) -> Classifier:
        """The reverse of Classifier.state(); raises msgspec.ValidationError."""
        ...


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """The file of a classifier. ``model`` is the identity of the model whose evaluations it was learnt
    from."""

    schema: int
    version: str
    method: str
    model: str
    state: dict[str, Any]


def by_name(name: str) -> Method:
    """The method of that name.

    Raises:
        EvaluationError: there is none.
    """
    if name == "conformal":
        from barnum.verdicts.conformal import Conformal

        return Conformal()
    if name == "svm":
        from barnum.verdicts.svm import Svm

        return Svm()
    raise EvaluationError(f"no method is called {name!r}: use conformal or svm")


def save(file: Path, classifier: Classifier, model: str) -> None:
    """Write a classifier."""
    saved = Saved(
        schema=SCHEMA, version=__version__, method=classifier.name, model=model, state=classifier.state()
    )
    write_whole(file, msgspec.json.format(msgspec.json.encode(saved)) + b"\n")


def load(file: Path) -> tuple[Classifier, str]:
    """Read a classifier, and the identity of the model it belongs to.

    Raises:
        EvaluationError: it is missing, none, or of another schema.
    """
    try:
        if file.stat().st_size > _LARGEST:
            raise EvaluationError(f"{file}: too large for a classifier")
        saved = msgspec.json.decode(file.read_bytes(), type=Saved)
        if saved.schema != SCHEMA:
            raise EvaluationError(
                f"{file}: has schema {saved.schema}, this version reads {SCHEMA}: learn the classifier anew"
            )
        return by_name(saved.method).restore(saved.state), saved.model
    except OSError as error:
        raise EvaluationError(f"{file}: cannot be read ({error.strerror or error})") from None
    except msgspec.MsgspecError as error:
        raise EvaluationError(f"{file}: is no classifier ({error})") from None
    except InputError:
        raise
