"""Times what is short: the help, importing the library, judging one small report by a packed detector."""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

BARNUM = Path(sys.executable).with_name("barnum")
CALLS = [f"Nt{verb}{what}" for verb in ("Open", "Read", "Write", "Close") for what in ("File", "Key")]
# reports to learn, and held out
LEARN, HELD_OUT = 16, 8
# calls in a report
LENGTH = 300


def bench_startup(folder: Path, rounds: int = 10) -> dict[str, float]:
    """Seconds by the clock (least and median) and of processors (least) that short commands take."""
    shutil.rmtree(folder, ignore_errors=True)
    score = [str(BARNUM), "score", *_detector_and_report(folder)]
    python = [sys.executable, "-c"]
    figures: dict[str, float] = {}
    print("\nstart-up: seconds by the clock, least and median, and of processors, least")
    bare = _measured([*python, "pass"], rounds)
    for name, what, command, less in (
        ("help", "barnum --help", [str(BARNUM), "--help"], None),
        ("import", "import barnum, beyond Python itself", [*python, "import barnum"], bare),
        ("score", f"barnum score, a report of {LENGTH} calls", score, None),
    ):
        times = _measured(command, rounds)
        if less is not None:
            times = [max(0.0, time - other) for time, other in zip(times, less, strict=True)]
        clock, median, processors = times
        print(f"{what:40} {clock:6.3f} {median:6.3f} {processors:6.3f}", flush=True)
        figures |= {
            f"startup_{name}_s": clock,
            f"startup_{name}_median_s": median,
            f"startup_{name}_cpu_s": processors,
        }
    shutil.rmtree(folder)
    return figures


def _measured(command: list[str], rounds: int) -> list[float]:
    # where it is forbidden, each run would compile what it imports
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    clock, processors = [], []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        clock.append(time.perf_counter() - began)
        processors.append(used.ru_utime + used.ru_stime)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"bench: {command[0]} ended with exit code {process.returncode}")
    # the first fills caches
    return [min(clock[1:]), statistics.median(clock[1:]), min(processors[1:])]


def _detector_and_report(folder: Path) -> tuple[str, str]:
    """A detector of calls that has learnt by rote, and a report to judge."""
    reports = [_report(folder / "reports", number) for number in range(LEARN + HELD_OUT + 1)]
    files = ("--save-model", folder / "m.json", "--save-weights", folder / "w")
    sizes = ("--train-size", LEARN, "--test-size-benign", HELD_OUT, "--test-size-malicious", 0)
    detector, evaluations = folder / "detector", folder / "eval"
    for words in (
        ("syscall", *sizes, *files, "--eval-dir", evaluations, folder / "reports"),
        ("classifier", "--false-alarm-rate", 0.2, "-s", folder / "class.json", evaluations),
        ("pack", "--use-model", files[1], "--use-weights", files[3], "-l", folder / "class.json", detector),
    ):
        command = [str(BARNUM), *map(str, words)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"bench: barnum {words[0]} failed: {done.stderr}")
    return str(detector), str(reports[-1])


def _report(root: Path, number: int) -> Path:
    """A sample folder with a report of Cuckoo 2: a program that goes through its calls in turns, now and then
    from another one on."""
    draw = random.Random(number)
    folder = root / f"{number:064x}"
    folder.mkdir(parents=True)
    (folder / "info.txt").write_text(f"{number}.doc\nbenign\n")
    at, calls = 0, []
    for _ in range(LENGTH):
        calls.append({"api": CALLS[at % len(CALLS)], "category": "file", "status": 1})
        at = at + 1 if draw.random() < 0.95 else draw.randrange(len(CALLS))
    process = {
        "pid": 12,
        "process_name": "reader.exe",
        "command_line": f"reader.exe {number}.doc",
        "calls": calls,
    }
    document = {"target": {"file": {"name": f"{number}.doc"}}, "behavior": {"processes": [process]}}
    (folder / "report.json").write_text(json.dumps(document))
    return folder
