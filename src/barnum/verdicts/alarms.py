"""Where evidence of a hijack, or an effect, becomes a verdict, whatever the score of the run is."""

from __future__ import annotations

import msgspec

from barnum.evaluations.header import Source
from barnum.evaluations.signs import Shown, Signs
from barnum.verdicts.conformal import RATE
from barnum.verdicts.method import Because, Verdict

_EVIDENCE: Because = "evidence"
_EFFECT: Because = "effect"


def alarm_rate(rate: float | None) -> float:
    """The rate that counts where a detector was asked to keep to ``rate``."""
    return RATE if rate is None else rate


def by_evidence(
    verdict: Verdict, signs: Signs | None, source: Source | None, rate: float | None
) -> tuple[Verdict, Shown | None]:
    """The verdict on a run after a look at its evidence, and what made it anomalous (None: nothing did).

    Evidence that no nominal run shows is enough, strong one always, other from a few nominal runs on (see
    Signs.alarm()), unless more of these would have shown such, left out, than ``rate`` of them (None: RATE).
    So is an effect that no nominal run has, of a run that its score does not call anomalous. Of a run that is
    refused because it is not whole only that counts which lies before the first loss.
    """
    if signs is None:
        return verdict, None
    rate = alarm_rate(rate)
    if verdict.refused is not None:
        if source is None or source.intact is None:
            return verdict, None
        signs = signs.within(source.intact)
    alarm, because = signs.alarm(rate), _EVIDENCE
    if alarm is None and not verdict.anomalous:
        alarm, because = signs.alarming_effect(rate), _EFFECT
    if alarm is None:
        return verdict, None
    return msgspec.structs.replace(
        verdict,
        anomalous=True,
        refused=None,
        incomplete=verdict.refused or verdict.incomplete,
        because=because,
    ), alarm
