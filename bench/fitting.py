"""Times learning a detector from digests, merging, and adding runs, on made-up runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from barnum import __version__
from barnum.digests import About, Digest, Taken, Ways, write_digest
from barnum.evaluations.header import Source
from barnum.paths import Learn

BARNUM = Path(sys.executable).with_name("barnum")
# distinct transfers of the program, of a run, and of a run alone: about Ghostscript's
KNOWN, TAKEN, OWN = 24_000, 7_000, 12
WAYS = 1_000
ADDED = 10


def bench_fitting(folder: Path, runs: int = 1_000) -> dict[str, float]:
    """``barnum fit`` on so many digests, at once, in halves, and with a few added later."""
    shutil.rmtree(folder, ignore_errors=True)
    trees = {name: folder / name for name in ("all", "one", "other", "most", "few")}
    _write(trees["all"], runs)
    made = sorted(trees["all"].iterdir())
    for name, some in (
        ("one", made[: runs // 2]),
        ("other", made[runs // 2 :]),
        ("most", made[:-ADDED]),
        ("few", made[-ADDED:]),
    ):
        trees[name].mkdir()
        for each in some:
            (trees[name] / each.name).symlink_to(each)
    size = (made[0] / "trace_digest").stat().st_size
    print(f"\nfit: {runs:,} digests of {size:,} bytes", flush=True)
    detectors = {name: folder / f"{name}.barnum" for name in trees}
    seconds, peak = _timed("fit", trees["all"], "-o", detectors["all"])
    for name in ("one", "other", "most"):
        _timed("fit", trees[name], "-o", detectors[name])
    merged = folder / "merged.barnum"
    merge, _ = _timed("merge", detectors["one"], detectors["other"], "-o", merged)
    add, _ = _timed("fit", trees["few"], "--add-to", detectors["most"], "-o", detectors["few"])
    whole = detectors["all"].read_bytes()
    same = merged.read_bytes() == whole == detectors["few"].read_bytes()
    if not same:
        raise SystemExit("bench: merged detectors differ from that of the whole")
    print(
        f"fit: {seconds:.1f} s, {1000 * seconds / runs:.1f} ms a digest, {peak} MiB; a detector of "
        f"{len(whole):,} bytes; halves merged in {merge:.1f} s, {ADDED} runs added in {add:.1f} s, "
        "to the same bytes"
    )
    shutil.rmtree(folder)
    return {"fit_s": seconds, "fit_mib": peak, "fit_bytes": len(whole), "merge_s": merge, "fit_added_s": add}


def _timed(*words: str | Path) -> tuple[float, int]:
    """Seconds of a command, and MiB of memory that it took."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [str(BARNUM), *map(str, words), "-l", "40"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, _peak_of(process.pid))
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"bench: barnum {words[0]} ended with {process.returncode}")
    return time.perf_counter() - began, peak


def _peak_of(pid: int) -> int:
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) >> 10 if found else 0


def _write(folder: Path, runs: int) -> None:
    draw = np.random.default_rng(0)
    module = np.uint64(0x1234 << 32)
    site = module + np.sort(draw.choice(1 << 24, KNOWN, replace=False)).astype(np.uint64)
    target = module + draw.choice(1 << 24, KNOWN, replace=False).astype(np.uint64)
    # a core that all runs share, the rest by chance
    chance = np.sort(draw.random(KNOWN))[::-1]
    for number in range(runs):
        rows = draw.choice(KNOWN, TAKEN, replace=False, p=chance / chance.sum())
        new = draw.choice(TAKEN, OWN, replace=False)
        to = target[rows]
        to[new] += draw.integers(1, 1 << 20, OWN).astype(np.uint64)
        first = np.sort(draw.choice(1 << 20, TAKEN, replace=False))
        led = np.sort(draw.choice(TAKEN, WAYS, replace=False))
        order = np.lexsort((led, first[led] + 1))
        digest = Digest(
            About(
                schema=1,
                version=__version__,
                name=f"{number}.pdf",
                label="benign",
                learn=Learn(),
                transfers=1 << 20,
                stretches=((1 << 16,) * 16),
                modules=((0x1234, "/usr/lib/reader.so"),),
                source=Source(steps=1 << 24),
            ),
            Taken(
                site[rows], to, np.full(TAKEN, 6, np.uint8), first, (12 * first).astype(np.uint64),
                np.ones(TAKEN, np.uint32),
            ),
            Ways(
                led[order].astype(np.uint32), site[draw.integers(0, 40, WAYS)], first[led[order]] + 1,
                np.ones(WAYS, np.uint32),
            ),
        )  # fmt: skip
        sample = folder / f"{number:064x}"
        sample.mkdir(parents=True)
        (sample / "info.txt").write_text(f"{number}.pdf\nbenign\n")
        write_digest(sample / "trace_digest", digest)


if __name__ == "__main__":
    bench_fitting(Path(os.environ.get("BENCH_OUT", "bench-out")) / "fitting")
