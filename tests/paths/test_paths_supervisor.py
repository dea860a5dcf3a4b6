"""Samples in processes of their own: crashes, stalls and greed harm nobody else."""

import os
import signal
import time
from pathlib import Path

import pytest

from barnum.errors import BarnumError, SampleError, TraceError
from barnum.paths.preprocess import Request, Result
from barnum.paths.supervisor import run_each


def behave(request: Request) -> Result:
    """What a process does in these tests is told by the folder's name."""
    what = Path(request.folder).name
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "abort":
        os.abort()
    if what == "exit":
        os._exit(3)
    if what == "stall":
        time.sleep(600)
    if what == "memory":
        bytearray(8 << 30)
    if what == "input":
        raise SampleError("no such thing")
    if what == "bug":
        raise RuntimeError("oops")
    return Result(steps=len(what))


def request(what: str, timeout: float | None = None) -> Request:
    return Request(folder=f"/nowhere/{what}", bin_dir="", output=f"/nowhere/{what}/out", timeout=timeout)


def outcomes(requests, jobs=2, **options):
    found = run_each(iter(requests), jobs, work=behave, **options)
    return {Path(request.folder).name: outcome for request, outcome in found}


def test_each_ends_in_its_own_way_and_the_others_finish():
    got = outcomes(
        [
            *map(request, ["crash", "fine", "abort", "exit", "memory", "input", "bug"]),
            request("stall", timeout=0.1),
            request("good"),
        ],
        grace=0.1,
    )
    for name in ("fine", "good"):
        assert got[name].steps == 4
        assert got[name].peak_memory > 1 << 20
    for name, kind, message in [
        ("crash", TraceError, "SIGSEGV"),
        ("abort", TraceError, "SIGABRT"),
        ("exit", TraceError, "exit code 3"),
        ("stall", TraceError, "not done within its 0.1 seconds"),
        ("memory", TraceError, "memory"),
        ("input", SampleError, "no such thing"),
        ("bug", BarnumError, "internal error: RuntimeError: oops"),
    ]:
        assert type(got[name]) is kind, name
        assert message in str(got[name])


def test_leaving_early_kills_what_runs():
    running = run_each(iter([request("good"), request("stall")]), 2, work=behave)
    next(running)
    before = time.monotonic()
    running.close()
    assert time.monotonic() - before < 20


@pytest.mark.parametrize("jobs", [1, 3])
def test_all_are_made_whatever_the_number_of_jobs(jobs):
    names = [f"n{index}" for index in range(5)]
    assert set(outcomes(map(request, names), jobs)) == set(names)
