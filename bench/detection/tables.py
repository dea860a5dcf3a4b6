"""Tables of what was found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from judging import ALL, RATES, Tally, Until

WORDS: dict[Until, str] = {
    "whole": "whole",
    "spawn": "before a process is started",
    "effect": "before the first effect",
    "hijack": "up to the hijack",
}
HEAD = (
    "| learnt | judged | "
    + " | ".join(f"at {100 * rate:g} %" for rate in RATES)
    + " | AUC (95 %) | verdicts: found | of those cut | false alarms | promised |\n|---|---|"
    + "---|" * (len(RATES) + 5)
)


def row(count: int, until: Until, tally: Tally) -> str:
    """A row of a table."""
    found = " | ".join(f"{100 * np.mean(tally.found[rate]):.1f}" for rate in RATES)
    auc, low, high = (
        np.mean([getattr(each, name) for each in tally.aucs]) for name in ("auc", "low", "high")
    )
    learnt = "all" if count == ALL else f"{count}"
    wrong = f"{sum(tally.wrong):.0f} of {tally.held_out:,}"
    return (
        f"| {learnt} | {WORDS[until]} ({tally.cut} of {tally.harmful} cut) | {found} | {auc:.3f} "
        f"({low:.3f}–{high:.3f}) | {100 * np.mean(tally.told):.1f} % | {100 * np.mean(tally.told_cut):.1f} % "
        f"| {wrong} | {100 * tally.promised:.2g} % |"
    )


def missed(tally: Tally, draws: int, most: int = 40) -> str:
    """Which harmful runs the verdicts miss, those that are missed most often first."""
    found = sorted(((count, name) for name, count in tally.missed.items() if count), reverse=True)
    told = [name if count == draws else f"{name} ({count} of {draws})" for count, name in found]
    return ", ".join(told[:most]) + (f" and {len(told) - most} more" if len(told) > most else "")


def shares(tallies: Sequence[Tally]) -> str:
    """Of several programs together: verdicts on harmful runs, and on harmless ones that were held out."""
    found = sum(float(np.mean(each.told)) * each.harmful for each in tallies)
    harmful = sum(each.harmful for each in tallies)
    wrong, held_out = sum(sum(each.wrong) for each in tallies), sum(each.held_out for each in tallies)
    return f"{found:.1f} of {harmful} found; {wrong:.0f} of {held_out:,} false alarms"
