"""What strace says of a program that runs without the recorder: its effects, in the recorder's words."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from barnum.texts import escaped

_LINE = re.compile(r"(\d+) +(\w+)\((.*)")
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)")
_END = re.compile(r"\) += (\?|-?\d+|0x[0-9a-f]+)(?: |<|$)(?:(E[A-Z0-9]+))?")
# which arguments are texts, in their order: p a path and q a second one (d before: the folder it
# starts from), f what a descriptor stands for, n a name, t another text, v words, k an address
_SHAPE = {
    call: shape
    for shape, calls in {
        "": "fork vfork clone clone3 kill tgkill setuid setgid setresuid setresgid setgroups mprotect listen",
        "p": "open creat mkdir rmdir unlink chmod chown lchown truncate mknod utime utimes chroot",
        "f": "fchmod fchown ftruncate",
        "dp": "openat unlinkat mkdirat mknodat fchmodat fchownat utimensat",
        "pq": "rename link",
        "dpdq": "renameat renameat2 linkat",
        "pv": "execve",
        ".k": "connect bind accept accept4",
        "....k": "sendto",
        "tp": "symlink",
        "tdp": "symlinkat",
        "n": "memfd_create",
        "pt": "setxattr lsetxattr removexattr lremovexattr",
        "ft": "fsetxattr fremovexattr",
        "....f": "mmap",
    }.items()
    for call in calls.split()
}
# names of calls in 32-bit programs
_SHAPE |= {
    name: _SHAPE[call]
    for call, name in {
        "mmap": "mmap2",
        "ftruncate": "ftruncate64",
        "truncate": "truncate64",
        **{f"{call}": f"{call}32" for call in ("chown", "fchown", "lchown", "setuid", "setgid", "setgroups")},
    }.items()
}
_FORKS = ("fork", "vfork", "clone", "clone3")


class Seen(NamedTuple):
    """An effect, as either of the two tells of it. ``process`` counts processes by their first effects; what
    differs from run to run (ids, addresses) is left out of ``result``."""

    process: int
    call: str
    texts: tuple[tuple[str, str], ...]
    arguments: tuple[str, ...] | None
    result: str


def can_strace() -> bool:
    """Whether strace is installed, and may look at what it starts."""
    words = ["strace", "-o", "/dev/null", "true"]
    return (
        bool(shutil.which("strace"))
        and subprocess.run(words, capture_output=True, check=False).returncode == 0
    )


def strace(command: Sequence[str], folder: Path, log: Path) -> list[Seen]:
    """Run a command in a folder under strace; returns its effects in the order in which they began."""
    words = ["strace", "-f", "-y", "-xx", "-s", "65536", "-o", str(log), "-e", f"trace={','.join(_SHAPE)}"]
    subprocess.run(
        [*words, "--", *command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    seen: list[Seen] = []
    processes: dict[int, int] = {}
    for pid, call, arguments, result in _calls(log.read_text()):
        if _is_effect(call, arguments, pid):
            number = processes.setdefault(pid, len(processes))
            seen.append(Seen(number, call, _texts(call, arguments), _words(call, arguments), result))
    return seen[1:]  # the first is strace's own: it starts the program


def _calls(text: str) -> Iterator[tuple[int, str, list[str], str]]:
    """Process, name, arguments, result; in the order in which they began."""
    rows: list[list[str]] = []
    open_rows: dict[str, list[str]] = {}
    for line in text.splitlines():
        if resumed := _RESUMED.fullmatch(line):
            open_rows.pop(resumed[1])[2] += resumed[3]
        elif found := _LINE.fullmatch(line):
            row = [found[1], found[2], found[3]]
            if row[2].endswith("<unfinished ...>"):
                row[2] = row[2].removesuffix("<unfinished ...>").rstrip()
                open_rows[row[0]] = row
            rows.append(row)
    for pid, call, rest in rows:
        ends = list(_END.finditer(rest))
        body = rest[: ends[-1].start()] if ends else rest
        yield int(pid), call, _split(body), _result(call, ends[-1] if ends else None)


def _result(call: str, end: re.Match[str] | None) -> str:
    if end is not None and end[2]:
        return end[2]
    if end is None or end[1] == "?":
        return "none"
    return normal_result(call, int(end[1], 0))


def normal_result(call: str, result: int) -> str:
    """A result without what differs from run to run."""
    return "some" if call in (*_FORKS, "mmap", "mmap2") and result else str(result)


def _split(text: str) -> list[str]:
    """Arguments, at the commas outside of brackets and quotation marks."""
    parts, depth, quoted, begin = [], 0, False, 0
    for at, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif not quoted and character in "[{(<":
            depth += 1
        elif not quoted and character in "]})>":
            depth -= 1
        elif character == "," and not quoted and not depth:
            parts.append(text[begin:at].strip())
            begin = at + 1
    return [*parts, text[begin:].strip()]


def _is_effect(call: str, arguments: list[str], pid: int) -> bool:
    """The rules of docs/formats.md, on strace's words."""
    if call in ("open", "openat"):
        flags = arguments[-1 if "O_CREAT" not in arguments[-2] else -2]
        return "O_RDONLY" not in flags or "O_CREAT" in flags or "O_TRUNC" in flags
    if call in ("clone", "clone3"):
        return not any("CLONE_THREAD" in argument for argument in arguments)
    if call == "sendto":
        return arguments[4] != "NULL"
    if call == "kill":
        return arguments[1] != "0" and int(arguments[0]) != pid
    if call == "tgkill":
        return int(arguments[0]) != pid
    if call in ("mmap", "mmap2"):
        shared = "MAP_ANONYMOUS" in arguments[3] or "MAP_SHARED" in arguments[3]
        return "PROT_EXEC" in arguments[2] and (shared or "PROT_WRITE" in arguments[2])
    return call != "mprotect" or "PROT_EXEC" in arguments[2]


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _quoted(argument: str) -> bytes:
    found = re.match(r'"((?:\\x[0-9a-f]{2})*)"', argument)
    return _bytes(found[1]) if found else b""


def _behind(argument: str) -> bytes | None:
    """What -y says a descriptor stands for."""
    found = re.search(r"<((?:\\x[0-9a-f]{2})+)>(\(deleted\))?", argument)
    return _bytes(found[1]) + (b" (deleted)" if found[2] else b"") if found else None


def _texts(call: str, arguments: list[str]) -> tuple[tuple[str, str], ...]:
    texts: dict[str, str] = {}
    folder = ""
    for letter, argument in zip(_SHAPE[call], arguments, strict=False):
        if letter == "d":
            folder = argument
        elif letter in "pq":
            name = {"p": "path", "q": "target"}[letter]
            path = _quoted(argument)
            # an address instead of a text: strace could not read it
            if path or argument.startswith("0x") or (argument.startswith('"') and not folder):
                texts[name] = escaped(path)
            elif folder and (whole := _behind(folder)):
                texts[name] = escaped(whole)
            start = _behind(folder) if folder else None
            # strace gives the folder where a call names one
            if path and path[:1] != b"/" and start is not None:
                texts["folder" if letter == "p" else "target_folder"] = escaped(start)
            folder = ""
        elif letter == "f" and (whole := _behind(argument)):
            texts["path"] = escaped(whole)
        elif letter == "n":
            texts["path"] = escaped(_quoted(argument))
        elif letter == "t":
            texts["target"] = escaped(_quoted(argument))
        elif letter == "k" and (address := _address(argument)):
            texts["address"] = address
    return tuple(sorted(texts.items()))


def _address(text: str) -> str | None:
    if not text.startswith("{"):
        return None
    if found := re.search(r'sun_path=(@?)"((?:\\x[0-9a-f]{2})*)"', text):
        path = escaped(_bytes(found[2]))
        return f"unix:{found[1]}" + re.sub("^@", r"\\x40", path)
    port = re.search(r"port=htons\((\d+)\)", text)
    if port and (host := re.search(r'inet_addr\("([^"]+)"\)', text)):
        return f"{_bytes(host[1]).decode()}:{port[1]}"
    if port and (host := re.search(r'inet_pton\(AF_INET6, "([^"]+)"', text)):
        return f"[{_bytes(host[1]).decode()}]:{port[1]}"
    return text


def _words(call: str, arguments: list[str]) -> tuple[str, ...] | None:
    if call != "execve":
        return None
    return tuple(escaped(_quoted(word)) for word in _split(arguments[1].strip("[]")))
