"""Runs one program and sees that no process of it is left over; a process of its own for each run.

This file is run by path, without the package, so that it starts in a few milliseconds. It reads one line of
JSON from its standard input (see ``barnum.recording.run``), runs the command and writes one line of JSON to
its standard output. When its standard input is closed it kills the run. So a run ends with the process that
asked for it, however that process ends.

It adopts orphans of the run (PR_SET_CHILD_SUBREAPER), so that it also finds processes that left their
session. barnum.processes, which runs functions of this package, is no replacement: its processes end with
their parent, but the programs that they started would not, and would inherit their open files.
"""

from __future__ import annotations

import binascii
import contextlib
import ctypes
import fcntl
import json
import math
import os
import resource
import selectors
import signal
import sys
import time

# true for type checkers alone: the module takes a while to be imported
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_STDERR_KEPT = 64 << 10
# a program that floods its standard error must not keep the supervisor from its other work
_READS = 16
# seconds after which processes that cannot be killed (stuck in the kernel) are left to the system
_GIVE_UP = 10.0
# seconds between looks at what a run takes
_INTERVAL = 0.1
# of so many looks one goes through all processes of the system
_WHOLE = 5
# descendants from which on that is as quick as any other way
_MANY = 64
# processes of the sandbox itself
_OWN_PROCESSES = 3
# descriptors from here on are in the way of none that is wanted
_FAR = 64
# control characters, but for those of plain text, as question marks
_HARMLESS = bytes(
    ord("?") if (byte < 32 and byte not in b"\t\n") or byte == 127 else byte for byte in range(256)
)


def main() -> None:
    """Serve one request."""
    request = json.loads(sys.stdin.buffer.readline())
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    sys.stdout.write(json.dumps(_supervise(request, libc)) + "\n")
    sys.stdout.flush()


def _supervise(request: dict[str, Any], libc: Any) -> dict[str, Any]:
    wake, woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    errors, child_errors = os.pipe2(os.O_CLOEXEC)
    told, telling = os.pipe2(os.O_CLOEXEC)
    for end in (errors, told):
        os.set_blocking(end, False)
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _become(request, child_errors, telling, libc)
    os.close(child_errors)
    os.close(telling)
    run = _Run(child, errors, forward=request["show_output"] and request["apart"])
    limits = _Limits(request["memory"], request["processes"])
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(wake, selectors.EVENT_READ)
    selector.register(errors, selectors.EVENT_READ)
    deadline = began + request["timeout"] if request["timeout"] else math.inf
    grace_end = math.inf
    killed = timeout = outlived = False
    over = ""
    while not (killed or timeout or outlived or over):
        run.reap()
        if run.status is not None:
            if run.empty:
                break
            # the program has ended; processes that it left running get a little time
            grace_end = min(grace_end, time.monotonic() + request["grace"])
        left = min(deadline, grace_end) - time.monotonic()
        if left <= 0:
            timeout = run.status is None
            outlived = not timeout
            break
        over = limits.exceeded()
        wait = min(left, limits.left())
        for key, _ in selector.select(None if wait == math.inf else wait):
            if key.fd == 0:
                # nothing more is ever sent: the input was closed
                killed = True
            elif key.fd == wake:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake, 4096)
            elif not run.read_errors():
                selector.unregister(errors)
    left_over = run.kill_all()
    run.read_errors()
    return {
        "status": run.status,
        "timeout": timeout,
        "killed": killed,
        "over": over,
        "left_over": left_over if outlived else _told(told),
        "seconds": time.monotonic() - began,
        "stderr": binascii.b2a_base64(run.errors[-_STDERR_KEPT:], newline=False).decode(),
    }


def _told(told: int) -> int:
    """What the last command of a sandbox told of processes that it had to leave; 0 where it told nothing."""
    with contextlib.suppress(OSError, ValueError):
        return max(int(os.read(told, 16)), 0)
    return 0


def _become(request: dict[str, Any], errors: int, telling: int, libc: Any) -> None:
    """Turn this child into the program; never returns."""
    try:
        os.setsid()
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # python and this supervisor change these; a program expects the system's defaults
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if request["show_output"] and request["apart"]:
            # not the terminal itself, from which it could read and on which it could draw
            os.dup2(errors, 1)
            os.dup2(errors, 2)
        elif request["show_output"]:
            os.dup2(2, 1)
        else:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(errors, 2)
        os.chdir(request["directory"])
        if request["apart"]:
            _hand_on([binascii.a2b_base64(data) for data in request["inputs"]], telling)
        os.execve(request["command"][0], request["command"], request["environment"])  # noqa: S606
    except BaseException as error:
        os.write(2, f"{error}\n".encode(errors="replace"))
    finally:
        os._exit(127)


def _hand_on(contents: list[bytes], telling: int) -> None:
    """Open a pipe for each content, to be read from descriptor 3 on; behind them comes ``telling``."""
    pipes = []
    for content in contents:
        reading, writing = os.pipe()
        os.write(writing, content)
        os.close(writing)
        # out of the way of the numbers that are wanted
        pipes.append(fcntl.fcntl(reading, fcntl.F_DUPFD_CLOEXEC, _FAR))
        os.close(reading)
    pipes.append(fcntl.fcntl(telling, fcntl.F_DUPFD_CLOEXEC, _FAR))
    for number, reading in enumerate(pipes, 3):
        os.dup2(reading, number)


class _Limits:
    """Bounds of what all processes of a run take together; 0: none. Looked at every now and then, as no
    limit of the system's is for more than one process."""

    def __init__(self, memory: int, processes: int) -> None:
        self._memory = memory
        self._processes = processes
        self._due = time.monotonic() if memory or processes else math.inf
        self._looks = 0

    def left(self) -> float:
        """Seconds until it is time to look; infinite where there are no bounds."""
        return max(self._due - time.monotonic(), 0)

    def exceeded(self) -> str:
        """``memory`` or ``processes`` where it is time to look and a bound is exceeded, else nothing."""
        began = time.monotonic()
        if began < self._due:
            return ""
        # lists of children are quick, but may lack some while others end, and name those that have ended
        few = _children() if self._looks % _WHOLE else None
        self._looks += 1
        over = self._over(_descendants()) if few is None or self._over(few) else ""
        # where looking takes long, as there are many processes, it is done less often
        ended = time.monotonic()
        self._due = ended + min(max(_INTERVAL, 10 * (ended - began)), 5 * _INTERVAL)
        return over

    def _over(self, processes: set[int]) -> str:
        if self._processes and sum(map(_threads, processes)) > self._processes + _OWN_PROCESSES:
            return "processes"
        # what forked processes share counts for each of them: looked at closely only where it may be too much
        if self._memory and all(
            sum(map(size, processes)) > self._memory for size in (_resident, _proportional)
        ):
            return "memory"
        return ""


def _threads(pid: int) -> int:
    return _field(f"/proc/{pid}/status", b"Threads:") or 1


def _resident(pid: int) -> int:
    file = f"/proc/{pid}/status"
    return (_field(file, b"RssAnon:") + _field(file, b"RssShmem:") + _field(file, b"VmSwap:")) << 10


def _proportional(pid: int) -> int:
    file = f"/proc/{pid}/smaps_rollup"
    return (_field(file, b"Pss_Anon:") + _field(file, b"Pss_Shmem:") + _field(file, b"SwapPss:")) << 10


def _field(file: str, name: bytes) -> int:
    """A number in a file of /proc; 0 where it is not there, or the process is gone."""
    try:
        with open(file, "rb") as lines:  # noqa: PTH123
            for line in lines:
                if line.startswith(name):
                    return int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return 0


class _Run:
    """The processes of a run: the program and whatever it started. ``forward``: show what they write."""

    def __init__(self, child: int, errors: int, forward: bool) -> None:
        self.child = child
        self.status: int | None = None
        self.empty = False
        self.errors = b""
        self._errors = errors
        self._forward = forward

    def reap(self) -> None:
        """Collect the exit statuses of all processes that have ended."""
        while not self.empty:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.empty = True
                return
            if pid == 0:
                return
            if pid == self.child:
                self.status = os.waitstatus_to_exitcode(status)

    def read_errors(self) -> bool:
        """Read standard error, and keep its last 64 KiB; False at its end."""
        for _ in range(_READS):
            try:
                data = os.read(self._errors, 1 << 16)
            except BlockingIOError:
                return True
            if not data:
                return False
            if self._forward:
                _show(data)
            self.errors = (self.errors + data)[-_STDERR_KEPT:]
        return True

    def kill_all(self) -> int:
        """Kill every process of the run and wait for them; returns how many there were."""
        killed = 0
        deadline = time.monotonic() + _GIVE_UP
        while not self.empty and time.monotonic() < deadline:
            # all are stopped first, as one that runs could fork while the others are searched for
            stopped = _descendants()
            while time.monotonic() < deadline:
                for pid in stopped:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGSTOP)
                now_there = _descendants()
                if now_there <= stopped:
                    break
                stopped |= now_there
            killed = max(killed, len(stopped))
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self.reap()
            if not self.empty:
                time.sleep(0.002)
        return killed


def _show(data: bytes) -> None:
    """Write to our standard error, without what a terminal would take for commands."""
    with contextlib.suppress(OSError):
        os.write(2, data.translate(_HARMLESS))


def _children() -> set[int] | None:
    """Ids of the descendants of this process, from the lists that the kernel keeps of children; None where it
    keeps none, or there are many."""
    found: set[int] = set()
    waiting = [os.getpid()]
    while waiting:
        process = waiting.pop()
        try:
            for thread in os.listdir(f"/proc/{process}/task"):  # noqa: PTH208
                with open(f"/proc/{process}/task/{thread}/children", "rb") as file:  # noqa: PTH123
                    mine = [int(child) for child in file.read().split() if int(child) not in found]
                found.update(mine)
                waiting += mine
        except (OSError, ValueError):
            if process == os.getpid():
                return None
        if len(found) > _MANY:
            return None
    return found


def _descendants() -> set[int]:
    """Ids of all descendants of this process that have not ended."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                state, parent = file.read().rpartition(b")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if state not in (b"Z", b"X"):
            children.setdefault(int(parent), []).append(int(name))
    descendants: set[int] = set()
    waiting = [os.getpid()]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in descendants:
                descendants.add(child)
                waiting.append(child)
    return descendants


if __name__ == "__main__":
    main()
    # taking the interpreter apart would take as long as starting it
    os._exit(0)
