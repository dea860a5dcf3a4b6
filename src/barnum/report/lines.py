"""Anomalies of a report one by one, for other tools.

The fields are those of a signature's result in the sandboxes CAPE and DRAKVUF: ``name``, ``description``,
``severity`` (1 low, 2 medium, 3 high), ``weight``, ``confidence`` (0–100), ``categories``, ``references``,
``data`` (a list of objects), ``new_data``, ``alert``, ``families``. The others are ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from barnum.evaluations.signs import HINTS
from barnum.report.document import Place, Report, SampleReport, Transfer, Window

NAME, NAME_OF_CALLS = "barnum_anomalous_control_flow", "barnum_anomalous_calls"


def lines(report: Report) -> Iterator[dict[str, Any]]:
    """A document for each window of an anomalous run that is anomalous by itself, and for the first window
    of those that have none, one that was judged if any was; a run without windows has one about the whole."""
    for sample in report.samples:
        if sample.verdict != "anomalous":
            continue
        judged = [window for window in sample.windows if window.begin < sample.judged]
        windows = [window for window in judged if window.above_threshold] or (judged or sample.windows)[:1]
        if not windows:
            yield _line(report, sample, None)
        for window in windows:
            yield _line(report, sample, window)


def _line(report: Report, sample: SampleReport, window: Window | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": NAME_OF_CALLS if report.calls else NAME,
        "description": _description(report, sample, window),
        "severity": 3 if sample.because in ("evidence", "effect") else _severity(report, window),
        "weight": 1,
        "confidence": _confidence(sample),
        "categories": ["anomaly"],
        "references": [],
        "data": [_transfer(report, transfer) for transfer in window.transfers] if window else [],
        "new_data": [],
        "alert": False,
        "families": [],
        "sample": sample.sample,
        "document": sample.name,
        "label": sample.label,
        "score": sample.score,
        "p_value": sample.p_value,
        "because": sample.because,
        "evidence": msgspec.to_builtins(sample.evidence),
        "effects": msgspec.to_builtins(sample.effects),
        "incomplete": sample.incomplete,
        "first_alarm": msgspec.to_builtins(sample.first_alarm),
    }
    if window is not None:
        found |= {
            "begin": window.begin,
            "end": window.end,
            "position": window.position,
            "position_end": window.position_end,
            "novelty": window.novelty,
            "surprisal": window.surprisal,
            "wrong": window.wrong,
        }
    return found


def _description(report: Report, sample: SampleReport, window: Window | None) -> str:
    kind, each = ("Calls", "calls") if report.calls else ("Control flow", "transfers")
    # strong one comes first
    alarm = next((sign for sign in sample.evidence or () if sign.kind in HINTS), None)
    if sample.because == "evidence" and alarm is not None:
        return f"Evidence of a hijack: {alarm.text}"
    if sample.because == "effect" and sample.effects:
        return f"An effect that no nominal run has: {sample.effects[0].text}"
    if window is None:
        return f"{kind} that nominal runs do not show"
    where = f"{each} {window.begin:,} to {window.end - 1:,}"
    if window.position is not None:
        where += f" (steps {window.position:,} to {window.position_end:,})"
    if window.chosen_by == "novelty":
        what = f"{window.novelty:.2f} nats of novelty"
        threshold = report.classifier.threshold if report.classifier else None
        if threshold is not None and window.above_threshold:
            what += f", anomalous above {threshold:.2f}"
    elif window.chosen_by == "surprisal":
        what = f"{window.surprisal:.2f} nats of surprisal a {each[:-1]}"
    else:
        what = f"{100 * (window.wrong or 0):.0f} % of predictions wrong"
    return f"{kind} that nominal runs do not show: {what} in {where}"


def _severity(report: Report, window: Window | None) -> int:
    """1: the run is anomalous by its score, but no listed window is by itself; 2: the window is; 3: its
    novelty is more than twice the threshold."""
    threshold = report.classifier.threshold if report.classifier else None
    if window is None or not window.above_threshold or window.novelty is None or threshold is None:
        return 1
    return 3 if window.novelty > 2 * threshold else 2


def _confidence(sample: SampleReport) -> int:
    """How rarely a nominal run is as strange, in per cent; 50 where the method has no p-values."""
    return 50 if sample.p_value is None else max(0, min(100, int(100 * (1 - sample.p_value))))


def _transfer(report: Report, transfer: Transfer) -> dict[str, Any]:
    def told(index: int | None) -> dict[str, Any] | None:
        if index is None:
            return None
        place = report.places[index]
        return {"name": place_text(place), **msgspec.to_builtins(place)}

    found: dict[str, Any] = msgspec.to_builtins(transfer)
    return found | {
        "source": told(transfer.source),
        "expected": told(transfer.expected),
        "actual": told(transfer.actual),
    }


def place_text(place: Place) -> str:
    """A place in words: ``module!function+0x12``, ``module+0x1234``, its number, or its class."""
    if place.block_class is not None:
        return f"class {place.block_class}"
    if place.module is None:
        return str(place.block)
    module = place.module.replace("\\", "/").rsplit("/", 1)[-1] or place.module
    if place.function is not None:
        return f"{module}!{place.function}+0x{place.function_offset or 0:x}"
    # a call has no offset
    return module if place.offset is None else f"{module}+0x{place.offset:x}"
