"""The document of a report: what the page shows, and what ``--json`` writes.

Everything is plain numbers, words and lists; blocks are named once, in ``places``, and numbered elsewhere.
"""

from __future__ import annotations

import inspect
import math
import sys
from typing import Annotated, Any, Literal

import msgspec

from barnum.verdicts.exchangeability import Exchangeability
from barnum.verdicts.judgement import Trivial
from barnum.verdicts.statistics import Rate

SCHEMA = 2

Index = Annotated[int, msgspec.Meta(ge=0, description="index into places")]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Value = Literal["surprisal", "mistakes", "novelty"]
Reason = Literal["novelty", "surprisal", "mistakes"]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A basic block. ``block`` is its BBID in hex, None where the model knows classes alone (``block_class``
    then is the class); ``module`` the mapped path, None where no memory map tells; ``offset`` bytes from
    the module's base; ``function`` the symbol that the block lies in, ``function_offset`` bytes from its
    begin. ``branch``: of the block only the branch that ends it is known; all this is of its last byte."""

    block: str | None = None
    block_class: int | None = None
    branch: bool = False
    module: str | None = None
    offset: int | None = None
    function: str | None = None
    function_offset: int | None = None


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """One prediction, or one transfer where nothing predicts.

    ``prediction`` counts those of the run from 0, ``position`` is the step of the target in the path.
    ``source`` is the block that was left, ``kind`` and ``instruction`` (Intel syntax, at
    ``instruction_offset`` from its module's base) what ended it: known where the parsed trace and the code
    are there. ``confidence`` is the probability of what was expected, ``probability`` that of what happened
    (for targets never seen that of all of them together), ``surprisal`` its -ln in nats; what takes a
    prediction is None where nothing predicts. ``seen`` 2: the transfer was seen in training, 1: its target
    was, 0: neither. ``novelty`` in nats. ``times`` is how often in its window the same was expected and the
    same happened, of which this is the most telling. ``way``: this is no transfer, but a way into the kernel:
    soon after a new transfer from ``source``, which is told by itself, it was entered by a system call at
    ``actual``; ``times`` is how many such ways led there, ``source`` that of the first, and ``novelty`` that
    of all.
    """

    prediction: int
    position: int | None = None
    source: Index | None = None
    kind: str | None = None
    instruction: str | None = None
    instruction_offset: int | None = None
    expected: Index | None = None
    confidence: float | None = None
    actual: Index
    correct: bool | None = None
    probability: float | None = None
    surprisal: float | None = None
    seen: Annotated[int, msgspec.Meta(ge=0, le=2)] | None = None
    novelty: float | None = None
    times: int = 1
    way: bool = False


class Detail(msgspec.Struct, frozen=True, kw_only=True):
    """Values around a window, one a prediction from ``begin`` on, or one for each ``each`` predictions, their
    maximum."""

    begin: int
    each: int
    values: list[float]


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Neighbouring predictions begin to end (exclusive), with the sum of novelty and the mean of surprisal in
    them, and the share that was wrong (None where nothing predicts). ``transfers`` are the most telling of
    them in order, ``left_out`` the number of others that these do not stand for; where nothing predicts, of
    other new ones, and ways into the kernel that are new. ``chosen_by`` says by what it is among the most
    surprising."""

    begin: int
    end: int
    position: int | None
    position_end: int | None
    chosen_by: Reason
    novelty: float | None
    surprisal: float | None
    wrong: Share | None
    above_threshold: bool
    transfers: list[Transfer]
    left_out: int
    detail: Detail


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """The whole run in bins of ``each`` predictions, on average: mean and maximum of ``value`` in each, where
    ``value`` is surprisal in nats, or the confidence of wrong predictions (0 for right ones), or, where
    nothing predicts, novelty in nats. ``news`` are pairs of a prediction and its novelty in nats,
    ``news_left_out`` how many smaller ones are not among them."""

    value: Value
    each: float
    mean: list[float]
    highest: list[float]
    news: list[tuple[int, float]] = []
    news_left_out: int = 0


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """The first prediction, and step of the path, at which the sum within the window exceeded the
    threshold."""

    prediction: int
    position: int | None


class Sign(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence of a hijack, or an effect: its ``kind`` (of an effect: the call), what it is in words, the
    step of the path at which it is seen first (None: not known), and whether it is ``strong``: enough alone.
    ``module`` and ``offset`` are where evidence leads to."""

    kind: str
    text: str
    position: int | None
    strong: bool
    module: str | None
    offset: int | None


class SampleReport(msgspec.Struct, frozen=True, kw_only=True):
    """One run. ``verdict`` is None where nothing could judge it, and ``refused`` says why it is refused.
    ``incomplete`` says why only the beginning of the run was judged, which is anomalous, so that the whole
    is: its score is at least ``score``, its p-value at most ``p_value``. ``q`` is the least false discovery
    rate at which the run is anomalous, where the anomalous ones were chosen among all. Features as in
    ``classifier --json``; what the evaluation does not hold is None. ``judged`` of the ``transfers`` made the
    verdict and the features: fewer where those after the start of another process, or after the first loss,
    were left out. ``because`` says whether ``evidence``, an ``effect`` or the ``score`` made the run
    anomalous; ``evidence`` of a hijack and ``effects`` are those that no nominal run shows (None: not known).
    ``distinct_new`` is how many distinct transfers of the whole run no nominal run shows, where a digest
    tells them apart. ``learnt``: the detector has learnt this very run, so that nothing in it is new.
    ``kind`` is that of the document (None: not told), with whose nominal runs alone the run was compared,
    unless ``among_all`` says why it was compared with those of all kinds.
    ``notes`` say what is missing and why."""

    name: str
    label: str
    sample: str
    verdict: Literal["nominal", "anomalous", "refused"] | None
    refused: str | None
    incomplete: str | None = None
    score: float | None
    p_value: float | None
    q: float | None = None
    because: Literal["evidence", "effect", "score"] | None = None
    evidence: list[Sign] | None = None
    effects: list[Sign] | None = None
    transfers: int
    judged: int
    wrong: Share | None
    wrong_confidence: float | None
    surprisal: float | None
    surprisal_window: float | None
    new: float | None
    unknown: float | None
    novelty: float | None
    novelty_window: float | None
    distinct_new: int | None = None
    learnt: bool = False
    kind: str | None = None
    among_all: str | None = None
    first_alarm: Alarm | None
    curve: Curve
    windows: list[Window]
    notes: list[str]


class Classifier(msgspec.Struct, frozen=True, kw_only=True):
    """How was judged. ``threshold``: scores above it are anomalous, None where there is no single one.
    ``by``: the score that conformal goes by; None for other methods."""

    method: str
    description: str
    threshold: float | None
    by: str | None = None


class Roc(msgspec.Struct, frozen=True, kw_only=True):
    """Share of benign runs called anomalous against share of malicious ones, as the threshold falls; ``auc``
    is the area under it, with its 0.95 interval from ``low`` to ``high``."""

    auc: Share
    low: Share
    high: Share
    benign: list[Share]
    malicious: list[Share]


class CalibrationReport(msgspec.Struct, frozen=True, kw_only=True):
    """``p_values`` of benign runs, ascending: were they exchangeable with those that calibrate, these would
    be spread evenly. ``scores`` is how many runs came with the model to calibrate by."""

    scores: int
    p_values: list[float]


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """All runs together; error rates, with their 0.95 intervals, where there are verdicts on runs of that
    label. ``trivial`` is how detectors do that look at how the program ended alone. Runs whose label is
    ``unknown`` count in ``runs``, ``anomalous`` and ``refused``, and in no rate. ``exchangeability`` is what
    a bet says against runs that are not malicious being like those learnt, in the order of their times or
    names (None: it was not made)."""

    runs: int
    benign: int
    malicious: int
    anomalous: int
    refused: int
    false_positives: Rate | None
    false_negatives: Rate | None
    trivial: list[Trivial]
    roc: Roc | None
    calibration: CalibrationReport | None
    unknown: int = 0
    exchangeability: Exchangeability | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole report. ``evaluations`` is the folder that it is of, or, where runs were judged without any,
    the file of the detector. ``notes`` say what was aggregated, left out or is missing. ``calls``: the runs
    are calls that a sandbox reported; a place then is a call, whose name is its ``module``. ``predicts``:
    whether the runs were predicted; where not, transfers count in place of predictions. ``cut``: runs were
    judged up to where another process was started (``spawn``), or to the first effect that no nominal run
    has. ``failed`` are documents that could not be judged, each with the reason."""

    schema: int = SCHEMA
    version: str
    evaluations: str
    model: str
    window: int
    classifier: Classifier | None
    overview: Overview
    notes: list[str]
    places: list[Place]
    samples: list[SampleReport]
    calls: bool = False
    predicts: bool = True
    cut: Literal["spawn", "effect"] | None = None
    failed: list[str] = []


def finite(number: float | None) -> float | None:
    """The number; None where it is infinite or not a number, which JSON cannot say."""
    return None if number is None or not math.isfinite(number) else float(number)


def json_schema() -> dict[str, Any]:
    """The published JSON schema of a report (docs/report.schema.json)."""
    schema = msgspec.json.schema(Report)
    for part in schema["$defs"].values():
        # docstrings: their lines are indented up to Python 3.12, and not from 3.13 on
        if "description" in part:
            part["description"] = inspect.cleandoc(part["description"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Report of barnum",
        **schema,
    }


def schema_text() -> bytes:
    """Content of docs/report.schema.json."""
    return msgspec.json.format(msgspec.json.encode(json_schema()), indent=1) + b"\n"


if __name__ == "__main__":
    sys.stdout.buffer.write(schema_text())
