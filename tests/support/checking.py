"""A reader of documents that is recorded, learnt and attacked, for tests of `barnum check`."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from barnum.recording import sandbox_state
from recording import BARNUM, compile_c, trace

# calls a function for each character of a document. What nominal ones hold: a to e
READER = r"""
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifndef SCALE
#define SCALE 3
#endif
typedef long act(long);
static long add(long n) { return n + SCALE; }
static long twice(long n) { return n * 2 % 9973; }
static long mix(long n)
{
    char text[40];
    snprintf(text, sizeof text, "%ld", n);
    return (long)strlen(text) + n;
}
static long keep(long n)
{
    void *room = malloc(n % 700 + 1);
    if (room)
        memset(room, 1, 1);
    free(room);
    return n;
}
static long hash(long n)
{
    for (int i = 0; i < 5; i++)
        n = (n * 31 + i) % 99991;
    return n;
}
static long rest(long n)
{
    struct timespec t = {600, 0};
    nanosleep(&t, 0);
    return n;
}
static long start(long n)
{
    pid_t child = vfork();
    if (child == 0) {
        execl("/bin/true", "true", (char *)0);
        _exit(1);
    }
    waitpid(child, 0, 0);
    return n;
}
static long drop(long n)
{
    int file = open("dropped", O_CREAT | O_WRONLY, 0600);
    if (file >= 0)
        close(file);
    return n;
}
static long wild(long n)
{
    act *volatile to = (act *)0x4141414000;
    return to(n);
}
static long turn(long n) { return n - 1; }
static long unreached(long n)
{
    act *volatile to = turn;
    for (int i = 0; i < 20; i++)
        n = to(n);
    return n;
}
static act *const table[128] = {
    ['a'] = add, ['b'] = twice, ['c'] = mix, ['d'] = keep, ['e'] = hash,
    ['S'] = rest, ['!'] = start, ['>'] = drop, ['*'] = wild, ['u'] = unreached,
};
int main(int count, char **words)
{
    FILE *file = count > 1 ? fopen(words[1], "r") : 0;
    long n = 1;
    if (!file)
        return 2;
    for (int c; (c = getc(file)) != EOF;)
        if (c < 128 && table[c])
            n = table[c](n);
    printf("%ld\n", n);
    return 0;
}
"""
NOMINAL = 18
_STATE = sandbox_state()
SANDBOX = not isinstance(_STATE, str)
NO_SANDBOX = f"no sandbox here: {_STATE}"
HOSTILE = {"start": "!", "drop": ">", "wild": "*", "unreached": "u"}


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def lines(self) -> dict[str, dict[str, Any]]:
        """JSON lines by the file name of their document."""
        told = [json.loads(line) for line in self.out.splitlines()]
        return {line["document"].rpartition("/")[2]: line for line in told}


def build(folder: Path, scale: int = 3) -> Path:
    """The program; another ``scale`` makes another version of it."""
    folder.mkdir(exist_ok=True)
    return compile_c(folder, READER, "-fno-inline", f"-DSCALE={scale}", name="reader")


def nominal_text(seed: int) -> str:
    """A harmless document."""
    rng = random.Random(seed)
    return "".join(rng.choice("aaabbbcccde") for _ in range(rng.randrange(150, 400)))


def hostile_text(character: str) -> str:
    """One in whose middle something else comes."""
    return f"{'abcde' * 30}{character}{'abcde' * 20}"


def run(folder: Path, *arguments: object, env: dict[str, str] | None = None) -> Ended:
    """A real `barnum`, in a folder."""
    ended = subprocess.run(
        [BARNUM, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=180,
        env=env,
        check=False,
    )
    assert "Traceback" not in ended.stderr, ended.stderr
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def learnt(folder: Path) -> Path:
    """A folder with the program, nominal documents, their recordings and the ``detector`` of these, and
    hostile documents."""
    program = build(folder)
    for name in ("nominal", "hostile"):
        (folder / name).mkdir()
    for seed in range(NOMINAL):
        (folder / "nominal" / f"nominal-{seed}.txt").write_text(nominal_text(seed))
    for name, character in HOSTILE.items():
        (folder / "hostile" / f"{name}.txt").write_text(hostile_text(character))
    # as often as it takes to have seen all that is usual
    (folder / "usual.txt").write_text("abcdeabcd" * 25)
    sandbox = ["--sandbox"] if SANDBOX else []
    done = trace(folder, "--benign", *sandbox, "-j", "2", folder / "nominal", "--", program, "{}")
    assert done.returncode == 0, done.stderr
    for arguments in (("preprocess", "traces", "extract"), ("fit", "-o", "detector", "traces")):
        ended = run(folder, *arguments)
        assert ended.code == 0, ended.err
    return folder


def children(pid: int) -> list[int]:
    """All processes that descend from one."""
    found = [pid]
    for parent in found:
        for file in Path("/proc").glob("[0-9]*/stat"):
            try:
                words = file.read_bytes().rpartition(b")")[2].split()
            except OSError:
                continue
            if int(words[1]) == parent:
                found.append(int(file.parent.name))
    return found[1:]


def env_with(**values: object) -> dict[str, str]:
    """This environment, with some variables set."""
    return {**os.environ, **{name: str(value) for name, value in values.items()}}


POLITE = (signal.SIGINT, signal.SIGTERM)
