"""Methods of judging by name, and files of classifiers (JSON, never a pickle). A new method is a file beside
this one, and a line here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from barnum import __version__
from barnum.errors import EvaluationError
from barnum.files import read_bounded, write_whole
from barnum.registry import Registry

if TYPE_CHECKING:
    from barnum.verdicts.method import Classifier, Method

METHODS: Registry[type[Method]] = Registry(
    "method",
    {
        "conformal": "barnum.verdicts.conformal:Conformal",
        "logistic": "barnum.verdicts.logistic:Logistic",
        "svm": "barnum.verdicts.svm:Svm",
    },
)
SCHEMA = 2
_LARGEST = 64 << 20


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """The file of a classifier. ``model`` is the identity of the model whose evaluations it was learnt
    from; empty where these did not say."""

    schema: int
    version: str
    method: str
    model: str
    state: dict[str, Any]
    cut: bool = False  # whether it was learnt from runs that were cut


def by_name(name: str, rate: float | None = None, score: str | None = None) -> Method:
    """The method of that name by these settings, of which it takes those that it has a use for (see
    Method.with_settings()).

    Raises:
        EvaluationError: there is no such method, or no such score.
    """
    return _kind(name).with_settings(rate, score)


def save(file: Path, classifier: Classifier, model: str, cut: bool = False) -> None:
    """Write a classifier; the other arguments are those of Saved."""
    saved = Saved(
        schema=SCHEMA,
        version=__version__,
        method=classifier.name,
        model=model,
        state=classifier.state(),
        cut=cut,
    )
    write_whole(file, msgspec.json.format(msgspec.json.encode(saved)) + b"\n")


def load(file: Path, cut: bool | None = None) -> tuple[Classifier, str | None]:
    """Read a classifier, and the identity of the model it belongs to (see Saved). The original's, a linear
    SVC that joblib saved, is read as well; it judges evaluations of any model: None.

    Args:
        file: at most 64 MiB, plain or gzip.
        cut: whether it is to judge runs that are cut; None where that is not known.

    Raises:
        EvaluationError: it is missing, no classifier, of another schema, or learnt for other runs.
    """
    data = read_bounded(file, _LARGEST, EvaluationError)
    from barnum.verdicts.sklearn_svc import is_pickle, read_linear_svc

    if is_pickle(data):
        from barnum.verdicts.svm import SvmClassifier

        return SvmClassifier(*read_linear_svc(file)), None
    try:
        head = msgspec.json.decode(data, type=dict[str, Any])
        if "schema" not in head:
            raise EvaluationError(f"{file}: is no classifier (it names no schema)")
        if head["schema"] != SCHEMA:
            raise EvaluationError(
                f"{file}: has schema {str(head['schema'])[:40]!r}, this version reads {SCHEMA}: learn "
                "the classifier anew"
            )
        saved = msgspec.convert(head, Saved)
        # what nominal runs show as a whole bounds what a part of them shows: some methods judge either
        if cut is not None and saved.cut != cut and not _kind(saved.method).judges_either:
            raise EvaluationError(
                f"{file}: was learnt from {'cut' if saved.cut else 'whole'} runs: "
                f"{'add' if saved.cut else 'leave out'} --cut"
            )
        return by_name(saved.method).restore(saved.state), saved.model
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{file}: is no classifier ({str(error)[:200]})") from None
    except RecursionError:
        raise EvaluationError(f"{file}: is no classifier (nested too deep)") from None


def _kind(name: str) -> type[Method]:
    if name not in METHODS:
        raise EvaluationError(f"no method is called {name[:60]!r}: use {', '.join(METHODS.names)}")
    return METHODS[name]
