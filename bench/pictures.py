"""Measures stats and bloom against plain transcriptions of what the manual says of them."""

from __future__ import annotations

import gzip
import statistics
import struct
import subprocess
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path as FilePath
from typing import NamedTuple, TypeVar

import numpy as np

from barnum.paths import Blocks, Chunk, Gap, GapDetails, Kind, Learn, open_path
from barnum.paths.parquet import Ending, write_parquet
from barnum.sequences.curve import KnownSequences
from barnum.sequences.following import count_targets
from barnum.sequences.histories import Histories

Result = TypeVar("Result")

BARNUM = str(FilePath(sys.executable).with_name("barnum"))
STEPS = 10_000_001
# steps that the plain transcriptions run on: they would take many minutes on all of them
EXTRACT = 500_001
LENGTH = 32
OPTIONS = ("-r", "-c", "-j", "-s", str(LENGTH))


def bench_pictures(folder: FilePath, rounds: int) -> dict[str, float]:
    """Both commands on paths of ten million transfers, which are written to ``folder``."""
    root = folder / "pictures"
    # the second is a run of the same program that goes other ways, so that bloom has something to compare
    samples = [_write(root / name, *_run(STEPS, seed)) for seed, name in enumerate(("one", "other"))]
    extracts = [_extract(sample) for sample in samples]
    return _bench_stats(root, samples[0], extracts[0], rounds) | _bench_bloom(root, samples, extracts, rounds)


def _bench_stats(root: FilePath, sample: FilePath, extract: FilePath, rounds: int) -> dict[str, float]:
    def ours(trace: FilePath) -> list[list[int]]:
        return count_targets(_histories(trace), LENGTH).tolist()

    def command() -> None:
        subprocess.run([BARNUM, "stats", "-f", *OPTIONS, str(sample), str(root / "stats.csv")], check=True)

    plain_s, plain = _timed(lambda: plain_stats(plain_rows(extract / "rows.gz"), LENGTH))
    if ours(extract) != plain:
        raise SystemExit("bench: stats and its plain transcription differ")
    seconds = statistics.median(_timed(lambda: ours(sample))[0] for _ in range(rounds))
    whole = statistics.median(_timed(command)[0] for _ in range(rounds))
    return _compared("stats", plain_s, EXTRACT - 1, seconds, whole, STEPS - 1)


def _bench_bloom(
    root: FilePath, samples: list[FilePath], extracts: list[FilePath], rounds: int
) -> dict[str, float]:
    sets = root / "sets.txt"
    sets.write_text("\n".join(["[b_train]", *map(str, samples)]) + "\n")

    def ours(traces: list[FilePath]) -> list[tuple[int, int]]:
        known = KnownSequences(LENGTH)
        return [(one.new, one.distinct) for one in (known.meet(_histories(trace)) for trace in traces)]

    def command() -> None:
        subprocess.run([BARNUM, "bloom", *OPTIONS, str(sets)], check=True, capture_output=True)

    plain_s, plain = _timed(lambda: plain_bloom([plain_rows(one / "rows.gz") for one in extracts], LENGTH))
    if ours(extracts) != plain:
        raise SystemExit("bench: bloom and its plain transcription differ")
    seconds = statistics.median(_timed(lambda: ours(samples))[0] for _ in range(rounds))
    whole = statistics.median(_timed(command)[0] for _ in range(rounds))
    return _compared("bloom", plain_s, 2 * (EXTRACT - 1), seconds, whole, 2 * (STEPS - 1))


def _histories(sample: FilePath) -> Histories:
    return Histories(open_path(sample / "trace_parsed.parquet"), Learn())


def _timed(function: Callable[[], Result]) -> tuple[float, Result]:
    began = time.perf_counter()
    result = function()
    return time.perf_counter() - began, result


def _compared(
    name: str, plain_s: float, plain_steps: int, seconds: float, whole: float, steps: int
) -> dict[str, float]:
    scaled = plain_s / plain_steps * steps
    print(
        f"{name} -s {LENGTH}, from file to counts, {steps:,} transfers: {seconds:.2f} s, "
        f"{steps / seconds / 1e6:.0f} M transfers/s; the whole command {whole:.2f} s\n"
        f"plain transcription, from rows in gzip, on {plain_steps:,} of them: {plain_s:.1f} s, scaled to all "
        f"{scaled:.0f} s: barnum at {scaled / seconds:.0f}x its speed (at least 50), the whole command at "
        f"{scaled / whole:.0f}x",
        flush=True,
    )
    return {
        f"{name}_s": seconds,
        f"{name}_command_s": whole,
        f"{name}_plain_s": scaled,
        f"{name}_ratio": scaled / seconds,
        f"{name}_command_ratio": scaled / whole,
    }


# --- what the manual says, plainly -------------------------------------------------------------------------

Row = tuple[int, int, bool]  # source, target, whether it counts


def plain_stats(rows: Iterator[Row], longest: int) -> list[list[int]]:
    """For each length 1 … longest: numbers of sequences with 1, 2, … 100 (or more) distinct targets."""
    targets: list[dict[tuple[int, ...], set[int]]] = [defaultdict(set) for _ in range(longest)]
    history: deque[int] = deque(maxlen=longest)
    for source, target, counts in rows:
        history.append(source)
        if counts:
            sequence = tuple(history)
            for length in range(1, len(sequence) + 1):
                targets[length - 1][sequence[-length:]].add(target)
    table = []
    for found in targets:
        line = [0] * 100
        for of in found.values():
            line[min(len(of), 100) - 1] += 1
        table.append(line)
    return table


def plain_bloom(traces: list[Iterator[Row]], length: int) -> list[tuple[int, int]]:
    """Of each trace: how many distinct sequences no earlier trace has, and how many it has."""
    known: set[tuple[int, ...]] = set()
    curve = []
    for rows in traces:
        history: deque[int] = deque(maxlen=length)
        own: set[tuple[int, ...]] = set()
        for source, _, counts in rows:
            history.append(source)
            if counts and len(history) == length:
                own.add(tuple(history))
        curve.append((len(own - known), len(own)))
        known |= own
    return curve


def plain_rows(file: FilePath) -> Iterator[Row]:
    """Rows of the original's format, one by one."""
    with gzip.open(file) as rows:
        while length := rows.read(2):
            row = rows.read(int.from_bytes(length, "little"))
            source, target, size, _, _ = struct.unpack_from("<QQBBB", row)
            mnemonic, text = row[19 : 19 + size], row[19 + size :]
            indirect = mnemonic in (b"call", b"jmp") and b"ptr" in text.split()
            yield source, target, mnemonic == b"ret" or indirect


# --- a program, and runs of it -----------------------------------------------------------------------------

LAYERS = 7
FUNCTIONS = 60  # in each layer; they call functions of the layers below, which lie before them


# text of the instruction that ends a block
TEXTS = {
    Kind.CONDITIONAL: "jz 0x40",
    Kind.JUMP: "jmp 0x40",
    Kind.INDIRECT_JUMP: "jmp qword ptr [rax*8]",
    Kind.CALL: "call 0x40",
    Kind.INDIRECT_CALL: "call qword ptr [rax]",
    Kind.RETURN: "ret",
}


def _extract(sample: FilePath) -> FilePath:
    """A sample of the middle of a path, which also has it as the original's rows."""
    path = open_path(sample / "trace_parsed.parquet").read()
    middle = (len(path) - EXTRACT) // 2
    block = path.block[middle : middle + EXTRACT]
    folder = _write(sample.with_name(f"{sample.name}-extract"), path.blocks, block)
    bbids = path.blocks.bbid.tolist()
    tails = []
    for kind in path.blocks.kind.tolist():
        text = TEXTS[Kind(kind)].encode()
        name = text.split()[0]
        tails.append(struct.pack("<BBB", len(name), len(text), len(text.split())) + name + text)
    with gzip.open(folder / "rows.gz", "wb", compresslevel=1) as rows:
        for source, target in pairwise(block.tolist()):
            row = struct.pack("<QQ", bbids[source], bbids[target]) + tails[source]
            rows.write(struct.pack("<H", len(row)) + row)
    return folder


def _write(folder: FilePath, blocks: Blocks, path: np.ndarray) -> FilePath:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "info.txt").write_text(f"{folder.name}.doc\nbenign\n")
    gap = np.zeros(len(path), np.uint8)
    gap[0] = Gap.START
    header = {"schema": 1, "version": "0", "source": "pt", "name": folder.name, "label": "benign"}
    chunk = Chunk(path, gap, np.zeros(len(path), np.uint16))
    write_parquet(
        folder / "trace_parsed.parquet", [chunk], lambda: Ending(blocks, header, GapDetails.empty())
    )
    return folder


def _run(steps: int, seed: int) -> tuple[Blocks, np.ndarray]:
    """A run of so many steps of an imaginary program: functions in layers, with loops, branches, switches,
    direct and indirect calls. The program is always the same; what its run meets depends on the seed."""
    program = _program()
    draw = np.random.default_rng(seed)
    path = np.empty(steps, np.uint32)
    chances = iter(())
    stack: list[int] = []
    turns = [0] * len(program)
    at = main = len(program) - 1
    for step in range(steps):
        path[step] = at
        kind, ways, rounds, usual = program[at]
        if kind == Kind.RETURN:
            at = stack.pop()
            continue
        if kind in (Kind.CALL, Kind.INDIRECT_CALL):
            stack.append(at - 1)  # the last block of a function is its first in the program
        if rounds:
            turns[at] += 1
            at = ways[turns[at] % rounds == 0]
        elif len(ways) == 1:
            at = ways[0]
        else:
            drawn = next(chances, None)
            if drawn is None:
                chances = iter(draw.random(1 << 16).tolist())
                drawn = next(chances)
            rest = (drawn - usual) / (1 - usual)
            at = ways[0] if drawn < usual else ways[1 + int(rest * (len(ways) - 1))]
        if at == main:
            stack.clear()
    count = len(program)
    offset = 16 * np.arange(count, dtype=np.uint64)
    blocks = Blocks(
        bbid=(np.uint64(0x1234) << np.uint64(32)) + offset,
        kind=np.array([block.kind for block in program], np.uint8),
        module=np.zeros(count, np.int32),
        modules=("/usr/bin/imaginary",),
        offset=offset,
        start=np.uint64(0x400000) + offset,
        length=np.full(count, 12, np.uint32),
        count=np.full(count, 4, np.uint32),
        process=np.zeros(count, np.uint16),
    )
    return blocks, path


class _Block(NamedTuple):
    kind: Kind
    ways: list[int]
    rounds: int = 0  # of a loop: the other way is taken each time after so many
    usual: float = 1.0  # chance of the first way


def _program() -> list[_Block]:
    draw = np.random.default_rng(7)
    program: list[_Block] = []
    below: list[int] = []  # entries of functions that may be called
    for _ in range(LAYERS):
        entries = []
        for _function in range(FUNCTIONS):
            program.append(_Block(Kind.RETURN, []))
            program += _body(draw, len(program), int(draw.integers(4, 20)), below)
            entries.append(len(program) - 1)
        below = entries + below[: 2 * FUNCTIONS]
    # main calls one function of the highest layers after the other, in an order that its input gives
    main = len(program) + 2
    program.append(_Block(Kind.JUMP, [main]))
    program.append(_Block(Kind.CONDITIONAL, [main - 2]))
    program.append(_Block(Kind.INDIRECT_CALL, draw.choice(below, 40).tolist(), usual=0.1))
    return program


def _body(draw: np.random.Generator, begin: int, size: int, below: list[int]) -> list[_Block]:
    """Blocks of a function but for its return, which lies before them; they run from last to first."""
    blocks = []
    for place in range(size):
        on, back = begin + place - 1, min(begin + place + int(draw.integers(0, 3)), begin + size - 1)
        over = max(begin - 1, on - 1)
        choice = draw.random()
        if choice < 0.2 and below:
            blocks.append(_Block(Kind.CALL, [int(draw.choice(below))]))
        elif choice < 0.25 and below:
            callees = draw.choice(below, int(draw.integers(1, 5))).tolist()
            blocks.append(_Block(Kind.INDIRECT_CALL, callees, usual=0.95))
        elif choice < 0.265:
            switch = [on, *(begin - 1 + draw.integers(0, place + 1, 5)).tolist()]
            blocks.append(_Block(Kind.INDIRECT_JUMP, switch, usual=0.95))
        elif choice < 0.36:
            blocks.append(_Block(Kind.CONDITIONAL, [back, on], rounds=int(draw.integers(2, 12))))
        elif choice < 0.5:
            blocks.append(_Block(Kind.CONDITIONAL, [on, over], usual=float(draw.uniform(0.9, 1))))
        else:
            blocks.append(_Block(Kind.CONDITIONAL, [on if choice < 0.9 else over]))
    return blocks


if __name__ == "__main__":
    bench_pictures(FilePath(sys.argv[1]), 3)
