"""Work in processes of its own: what each of them may do without harm to the one that asked."""

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import msgspec
import pytest

from barnum import processes
from barnum.errors import EvaluationError, ImageError
from barnum.processes import Failure, Job, Success, in_order, isolated

_SCRIPT = """
from pathlib import Path
from barnum.processes import in_order
from barnum.report.symbols import read_symbols

print("begun", flush=True)
print(read_symbols(Path("/nowhere/image"))[1])
print(*in_order([1, 2, 3], str, 2))
"""
# what processes import, of the standard library and of others
_MODULES = ("multiprocessing", "signal", "json", "numpy", "lief", "barnum", "sitecustomize")


class Point(msgspec.Struct):
    x: int
    names: list[str] = []


def behave(what: str) -> Point:
    """What a process does in these tests is told by its task."""
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "exit":
        os._exit(3)
    if what == "stall":
        time.sleep(600)
    if what == "memory":
        bytearray(4 << 30)
    if what == "input":
        raise ImageError("no such thing")
    if what == "internal":
        raise RuntimeError("oops")
    if what == "other":
        return {"x": "no number"}
    if what == "large":
        return Point(1, ["x" * 100] * 1000)
    return Point(len(what), [what])


def outcomes(*tasks, at_once=2, **options):
    job = Job(behave, Point, memory=2 << 30, largest=20_000)
    return dict(isolated(iter(tasks), job, at_once, **options))


def test_each_ends_in_its_own_way_and_the_others_finish():
    got = outcomes(
        *("crash", "fine", "exit", "memory", "input", "internal", "other", "large", "stall", "good"),
        seconds=lambda task: 0.1 if task == "stall" else None,
    )
    for name in ("fine", "good"):
        assert got[name].answer == Point(4, [name])
        assert got[name].peak_memory > 1 << 20
    assert got["crash"] == Failure(kind="crash", message="SIGSEGV")
    assert got["exit"] == Failure(kind="crash", message="exit code 3")
    assert got["memory"] == Failure(kind="memory")
    assert got["input"] == Failure(kind="input", message="no such thing", error="ImageError")
    assert got["internal"] == Failure(kind="internal", message="RuntimeError: oops")
    assert got["stall"] == Failure(kind="late")
    # a process may have been taken over: what it says is checked as any input
    for name in ("other", "large"):
        assert isinstance(got[name], Failure), name
        assert got[name].kind == "crash"


def test_set_up_comes_first_in_each_process(tmp_path):
    got = outcomes("a", "b", set_up=partial(os.mkdir, tmp_path / "once"), at_once=1)
    assert isinstance(got["a"], Success)
    # the second process found the folder that the first had made
    assert got["b"].kind == "crash"


def test_leaving_early_kills_what_runs():
    running = isolated(iter(["good", "stall"]), Job(behave, Point, 2 << 30, 1000), 2)
    next(running)
    before = time.monotonic()
    running.close()
    assert time.monotonic() - before < 20


def who(task: int) -> tuple[int, int]:
    # the first is the last to end
    time.sleep(0.2 if task == 0 else 0)
    return task, os.getpid()


def die(task: int) -> int:
    if task == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def refuse(task: int) -> int:
    if task == 1:
        raise EvaluationError("this one is broken")
    return task


def test_answers_come_in_the_order_of_the_tasks():
    answers = list(in_order(range(6), who, 3))
    assert [task for task, _ in answers] == list(range(6))
    assert os.getpid() not in {process for _, process in answers}
    assert list(in_order(range(3), who, 1)) == [(task, os.getpid()) for task in range(3)]
    assert list(in_order([], who, 3)) == []


def test_a_worker_that_is_killed_ends_the_work_with_a_line():
    with pytest.raises(EvaluationError, match="was killed"):
        list(in_order(range(4), die, 2))


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_come_through_in_turn(workers):
    answers = in_order(range(4), refuse, workers)
    assert next(answers) == 0
    with pytest.raises(EvaluationError, match="this one is broken"):
        next(answers)


def test_a_script_is_not_run_again_and_nothing_is_imported_from_the_current_folder(tmp_path):
    """A script without a guard, run where a sample from outside may have been unpacked."""
    script = tmp_path / "scripts" / "script.py"
    script.parent.mkdir()
    script.write_text(_SCRIPT)
    hostile = tmp_path / "samples"
    hostile.mkdir()
    for module in _MODULES:
        (hostile / f"{module}.py").write_text(
            f"open({str(tmp_path / 'imported')!r}, 'a').write({module!r})\n"
        )
    done = subprocess.run([sys.executable, script], cwd=hostile, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["begun", "could not be read: missing, empty, or too large", "1 2 3"]
    assert done.stderr == ""
    assert not (tmp_path / "imported").exists()


def test_the_environment_is_whole_while_another_thread_starts_processes(monkeypatch):
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    expected = dict(os.environ)
    stop = threading.Event()

    def start():
        while not stop.is_set():
            with processes._clean_start():
                pass

    other = threading.Thread(target=start)
    other.start()
    try:
        for _ in range(2000):
            assert processes.whole_environment() == expected
    finally:
        stop.set()
        other.join()
