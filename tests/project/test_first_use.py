"""Threads that are the first of a process to read something: msgspec crashes where several prepare a type."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

import barnum
from barnum.verdicts.cache import RunCache
from learning import write_tree

# modules are loaded anew each time, so that nothing of theirs was read before
RACE = """
    import importlib, sys, threading
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    sys.setswitchinterval(1e-7)
    names, read, place = sys.argv[1].split(","), sys.argv[2], Path(sys.argv[3])
    THREADS = 6

    def together(barrier, module):
        barrier.wait()
        return eval(read, {"module": module, "place": place}) is not None

    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(15):
            modules = [importlib.reload(importlib.import_module(name)) for name in names]
            barrier = threading.Barrier(THREADS)
            done = [pool.submit(together, barrier, modules[-1]) for _ in range(THREADS)]
            assert all([one.result() for one in done])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("first")
    learned = barnum.learn(
        write_tree(root / "traces", 12, 2), network="rote", train_size=6, test_size=4, eval_dir=root / "eval"
    )
    sorted((root / "eval").iterdir())[0].rename(root / "benign-1.parquet")
    barnum.pack(root / "detector", learned.model, barnum.classify(root / "eval"))
    RunCache(root / "cache").read_run(root / "benign-1.parquet")
    [entry] = (root / "cache").iterdir()
    entry.rename(root / "run.json")
    (root / "meta.json").write_text('{"version": "", "command": [], "engine": {"name": ""}, "start": "open"}')
    return root


@pytest.mark.parametrize(
    ("modules", "read", "place"),
    [
        ("evaluations.header,evaluations.parquet", "module.ParquetEvaluation(place)", "benign-1.parquet"),
        ("verdicts.features,verdicts.cache", "module._read(place)", "run.json"),
        ("samples.meta", "module.read_meta(place)", "meta.json"),
        ("models.model,models.saved", "module.load_document(place)", "detector/model.json"),
    ],
)
def test_threads_may_be_the_first_to_read(folder, modules, read, place):
    names = ",".join(f"barnum.{name}" for name in modules.split(","))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(RACE), names, read, str(folder / place)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
