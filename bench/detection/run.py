"""Detection: how many harmful documents are found, how early, at what cost in false alarms, by what scores.

.venv/bin/python bench/detection/run.py [--family NAME]… [--folder bench-out/detection] [--ways] [--record]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import deviations
import evasion
import judging
import streams
import tables
from recordings import Run, recorded
from subjects import FAMILIES, Subject, subjects
from ways import WAYS

# nominal runs that are learnt, of large and of small programs
COUNTS = (10, 25, 50, 100, 200, judging.ALL)
FEW = 5


def main() -> None:
    options = _options()
    folder: Path = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    families = tuple(options.family) if options.family else FAMILIES
    runs: dict[str, list[Run]] = {}
    known: dict[str, Subject] = {}
    for subject in subjects(folder, families):
        start = time.monotonic()
        runs[subject.name] = recorded(subject, folder / subject.name, options.jobs)
        known[subject.name] = subject
        harmful = sum(run.harmful for run in runs[subject.name])
        print(
            f"{subject.name}: {len(runs[subject.name]) - harmful} harmless and {harmful} harmful runs, "
            f"{time.monotonic() - start:.0f} s",
            flush=True,
        )
    if options.record:
        return
    small = [name for name, subject in known.items() if subject.family == "hijacks"]
    if small:
        _hijacks({name: runs[name] for name in small}, known)
    for name, subject in known.items():
        if subject.family != "hijacks":
            _program(subject, runs[name], folder, options)


def _program(subject: Subject, runs: list[Run], folder: Path, options: argparse.Namespace) -> None:
    """One program: the product by numbers of nominal runs, then other ways of judging."""
    use = "scores may be chosen by it" if subject.chooses else "it had no part in what was chosen"
    print(f"\n## {subject.name} ({use})\n\n{tables.HEAD}")
    product = WAYS[0]
    tallies = {}
    for count in COUNTS:
        tallies = judging.tally(product, runs, count, subject.name)
        for until, found in tallies.items():
            print(tables.row(count, until, found), flush=True)
    for until, found in tallies.items():
        print(f"\nMissed, {tables.WORDS[until]}: {tables.missed(found, judging.DRAWS) or 'none'}")
    _many(subject, runs)
    _evasions(subject, runs, folder, options.jobs)
    _deviations([(subject, runs)], judging.ALL)
    if not options.ways:
        return
    print(f"\nOther ways of judging, {subject.name}:\n")
    for way in WAYS[1:]:
        print(f"{way.name}\n\n{tables.HEAD}")
        for count in (50, judging.ALL):
            for until, found in judging.tally(way, runs, count, subject.name).items():
                print(tables.row(count, until, found), flush=True)
        print()


def _many(subject: Subject, runs: list[Run]) -> None:
    """Many runs of a program together."""
    print(
        f"\nFalse discovery rate, {streams.TOGETHER:,} runs drawn, half of the harmless ones learnt:\n\n"
        "| asked | share harmful | nominal runs | harmless among those called anomalous | found |\n"
        "|---|---|---|---|---|"
    )
    for each in streams.discoveries(runs, subject.name):
        wrong = f"{100 * each.wrong:.1f} % (standard error {100 * each.error:.1f})"
        found = f"{100 * each.found:.1f} %" if each.harmful else "–"
        print(f"| {100 * each.asked:g} % | {100 * each.harmful:g} % | {each.nominal} | {wrong} | {found} |")
    raised, many, length = streams.false_alarms(runs, subject.name)
    print(f"\nStreams of {length} runs like those learnt: {raised} of {many} raise the alarm", flush=True)
    print("\nKinds that were never learnt, the alarm after:")
    for name, (alarm, most) in streams.changes(runs, subject.name, subject.group).items():
        print(f"- {name}: {f'{alarm} runs' if alarm is not None else f'not within {most} runs'}", flush=True)


def _evasions(subject: Subject, runs: list[Run], folder: Path, jobs: int) -> None:
    """Attacks that try to pass, judged by detectors of all harmless runs."""
    made = evasion.of_program(subject.name)
    hiding = replace(
        subject,
        name=f"{subject.name}-evasion",
        documents=lambda: [each.document for each in made],
        sources=(*subject.sources, "evasion.py"),
    )
    hidden = recorded(hiding, folder / hiding.name, jobs)
    harmless = [run for run in runs if not run.harmful]
    print("\nAttacks that try to pass; scores of the whole run, and before its first effect; bold: found\n")
    for line in evasion.table(made, hidden, harmless):
        print(line, flush=True)


def _deviations(programs: list[tuple[Subject, list[Run]]], count: int) -> None:
    """Whether what is listed first of a harmful run is in what was attacked, by the first draw."""
    found = total = 0
    elsewhere = []
    for subject, runs in programs:
        nominal, _ = judging.draws(runs, count, subject.name)[0]
        detector = streams.fitted(nominal)
        for run in (each for each in runs if each.harmful):
            first = deviations.first_deviation(detector, run, deviations.here)
            inside = deviations.within([first], subject.attacked)
            found, total = found + inside, total + 1
            if not inside:
                elsewhere.append(f"{subject.name} {run.name}: {first or 'nothing'}")
    print(f"\nListed first is the attacked function or its caller: {found} of {total}; others:")
    for line in elsewhere:
        print(f"- {line}")


def _hijacks(runs: dict[str, list[Run]], known: dict[str, Subject]) -> None:
    """Small programs that are taken over, each learnt from few runs."""
    print(f"\n## hijacks: {len(runs)} programs, {FEW} nominal runs each\n")
    product = WAYS[0]
    tallies = {name: judging.tally(product, each, FEW, name) for name, each in runs.items()}
    for half in (True, False):
        names = [name for name in runs if known[name].chooses == half]
        print(f"{'choosing' if half else 'confirming'}: {len(names)} programs")
        for until in ("whole", "hijack"):
            some = [tallies[name].get(until) or tallies[name]["whole"] for name in names]
            cut = sum(until in tallies[name] for name in names)
            print(f"- {tables.WORDS[until]} ({cut} cut): {tables.shares(some)}")
            lacking = [name for name, each in zip(names, some, strict=True) if np.mean(each.told) < 1]
            if lacking:
                print(f"  missed in some draw: {', '.join(lacking)}")
        alarms = [judging.false_evidence(runs[name], FEW, name) for name in names]
        print(
            f"- evidence: {sum(a for a, _ in alarms)} of {sum(b for _, b in alarms):,} held-out harmless "
            "runs flagged"
        )

    _deviations([(known[name], each) for name, each in runs.items()], FEW)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--family", action="append", choices=FAMILIES, help="these programs alone")
    parser.add_argument("--folder", type=Path, default=Path("bench-out/detection"))
    parser.add_argument("--ways", action="store_true", help="try other ways of judging, too")
    parser.add_argument("--record", action="store_true", help="record what is not yet, and stop")
    parser.add_argument("-j", "--jobs", type=int, default=(os.cpu_count() or 1) + 1, help="runs at once")
    return parser.parse_args()


if __name__ == "__main__":
    main()
