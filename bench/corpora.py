"""What learners are compared on: traces cut to the transfers that all of them learn or are judged by."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path as FilePath
from types import ModuleType

import numpy as np

from barnum.paths import Gap, Learn, Path, open_path, transfers
from barnum.samples import read_sets
from barnum.sequences import Selection

ROOT = FilePath(__file__).parent.parent
BARNUM = FilePath(sys.executable).with_name("barnum")
# steps before the first transfer of a window that stay, as context of networks that see blocks
LEAD = 32


@dataclass(frozen=True, slots=True)
class Corpus:
    """Traces in memory: those to learn, nominal ones held out, and malicious ones for contrast."""

    name: str
    train: list[tuple[str, Path]]
    held_out: list[Path]
    contrast: list[Path]


class AbsentError(Exception):
    """What a part of the benchmark needs is not there."""


def cut(path: Path, windows: Sequence[tuple[int, int]]) -> Path:
    """A path that holds just the learnt transfers ``begin … end`` of each window; state restarts before each.

    The steps before a window stay, but no transfer leads from one of them to the next.
    """
    position = transfers(path, Learn()).position.astype(np.int64)
    steps, gaps = [], []
    for begin, end in windows:
        target, last = int(position[begin]), int(position[end - 1])
        step = np.arange(max(0, target - LEAD), last + 1)
        gap = path.gap[step].copy()
        gap[step < target] = Gap.START
        steps.append(step)
        gaps.append(gap)
    step = np.concatenate(steps)
    return Path(path.blocks, path.block[step], np.concatenate(gaps), path.stream[step], path.header)


def again(path: Path, times: int) -> Path:
    """A path ``times`` over."""
    return cut(path, [(0, len(transfers(path, Learn())))] * times)


def middle(path: Path, most: int | None) -> Path:
    """At most so many transfers from the middle of a path."""
    total = len(transfers(path, Learn()))
    if most is None or total <= most:
        return path
    begin = (total - most) // 2
    return cut(path, [(begin, begin + most)])


def acrobat(data: FilePath) -> Corpus:
    """The first 80 % of a benign run of Acrobat Reader, the rest of it, and a malicious run."""
    folder = data / "acrobat" / "traces"
    found = {name: sorted(folder.glob(f"{name}*/trace_parsed.gz")) for name in ("44a7", "4a1a")}
    if not all(found.values()):
        raise AbsentError(f"{folder} has no parsed traces (BARNUM_TEST_DATA names another folder of data)")
    benign, malicious = (open_path(files[0]).read() for files in found.values())
    total = len(transfers(benign, Learn()))
    split = total * 8 // 10
    return Corpus(
        "acrobat", [("44a7", cut(benign, [(0, split)]))], [cut(benign, [(split, total)])], [malicious]
    )


def demo(folder: FilePath, most: int, samples: int | None) -> Corpus:
    """The demo's recordings, at most ``most`` transfers of each, and at most ``samples`` of each set."""
    sets = read_sets(folder / "sets.txt", folder / "traces")

    def load(sample: FilePath) -> Path:
        path = open_path(sample / "trace_parsed.parquet").read()
        windows = Selection(max_transfers=most).windows(len(transfers(path, Learn())))
        return cut(path, [(begin, end) for begin, end in windows.tolist()])

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        train, held_out, contrast = (
            list(pool.map(load, chosen[:samples])) for chosen in (sets.b_train, sets.b_test, sets.m_test)
        )
    if not (train and held_out and contrast):
        raise AbsentError(f"{folder / 'sets.txt'} names no samples for each of its sets")
    names = [sample.name for sample in sets.b_train]
    return Corpus("demo", list(zip(names, train, strict=False)), held_out, contrast)


def record_demo(folder: FilePath) -> None:
    """The demo's documents, their recordings, paths and sets, made as the demo makes them; what is there
    from an earlier run is kept."""
    print("recording the demo's documents takes minutes, where they are not there already", flush=True)
    demo = _demo()
    folders = {name: folder / name for name in ("documents", "traces", "extract")}
    jobs = str(len(os.sched_getaffinity(0)))
    try:
        documents = demo._documents(folders["documents"])
        for label in ("benign", "malicious"):
            _barnum(
                *("trace", f"--{label}", "-o", folders["traces"], "--bin-dir", folders["extract"]),
                *("--jobs", jobs, "-l", "30", folders["documents"] / label),
                *("--", *demo.GHOSTSCRIPT, demo.WARM_UP, "{}"),
            )
    except (demo.DocumentError, OSError) as error:
        raise AbsentError(str(error)) from None
    _barnum("preprocess", "-j", jobs, "-p", "-l", "30", folders["traces"], folders["extract"])
    demo._write_sets(folder / "sets.txt", folders, documents)


def _demo() -> ModuleType:
    # another run.py than the benchmark's own
    file = ROOT / "demo" / "run.py"
    spec = spec_from_file_location("demo_run", file)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _barnum(*words: str | FilePath) -> None:
    command = [str(BARNUM), *map(str, words)]
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if done.returncode:
        raise AbsentError(f"barnum {words[0]} ended with exit code {done.returncode}")
