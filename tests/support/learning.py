"""Samples of an imaginary program, and transfers, for tests of learning and judging."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from barnum.paths import Blocks, Gap, GapDetails, Kind, Transfers
from barnum.paths.blocks import Chunk
from barnum.paths.blocks import Path as MemoryPath
from barnum.paths.parquet import Ending, write_parquet

MODULES = ("/usr/bin/app", "/usr/lib/libc.so")


def blocks_of(count: int, kinds: Sequence[Kind] = (Kind.RETURN,), in_libc: int = 0) -> Blocks:
    """Blocks of 16 bytes; the last ``in_libc`` lie in libc, kinds take turns."""
    index = np.arange(count)
    module = (index >= count - in_libc).astype(np.int32)
    offset = (16 * index).astype(np.uint64)
    hashes = np.array([zlib.adler32(path.encode()) for path in MODULES], np.uint64)
    return Blocks(
        bbid=(hashes[module] << np.uint64(32)) + offset,
        kind=np.array([kinds[i % len(kinds)] for i in range(count)], np.uint8),
        module=module,
        modules=MODULES,
        offset=offset,
        start=np.uint64(0x400000) + offset,
        length=np.full(count, 8, np.uint32),
        count=np.full(count, 2, np.uint32),
        process=np.zeros(count, np.uint16),
    )


def transfers_of(
    blocks: Blocks, path: Sequence[int], first: Sequence[int] = (0,), entered: dict[int, int] | None = None
) -> Transfers:
    """The transfers of a path in which each step is one; ``first`` are indexes of transfers, ``entered`` says
    before which of them the kernel was entered, and by which block."""
    steps = np.asarray(path, np.uint32)
    restart = np.zeros(len(steps) - 1, np.bool_)
    restart[list(first)] = True
    position = np.arange(1, len(steps), dtype=np.uint64)
    entry = np.full(len(restart), -1, np.int32)
    for index, block in (entered or {}).items():
        entry[index] = block
    return Transfers(blocks, steps[:-1], steps[1:], position, restart, entry)


def part(transfers: Transfers, begin: int, end: int) -> Transfers:
    return Transfers(
        transfers.blocks,
        transfers.source[begin:end],
        transfers.target[begin:end],
        transfers.position[begin:end],
        transfers.first[begin:end],
        transfers.entry[begin:end],
    )


def nominal_path(seed: int, length: int = 3000, usual: int = 20, rare: int = 6) -> list[int]:
    """Loops over the usual blocks, now and then one of the rare ones."""
    draw = np.random.default_rng(seed)
    path: list[int] = []
    while len(path) < length:
        begin = int(draw.integers(0, 4)) * 5
        path += range(begin, begin + 5)
        if draw.random() < 0.02:
            path.append(usual + int(draw.integers(0, rare)))
    return path[:length]


def attack_path(seed: int, length: int = 3000) -> list[int]:
    """A nominal path with a few steps through blocks of libc that no nominal one takes."""
    path = nominal_path(seed, length)
    path[length // 2 : length // 2 + 6] = [30, 36, 37, 38, 39, 31]
    return path


def write_sample(
    root: Path, name: str, label: str, path: Sequence[int], blocks: Blocks | None = None
) -> Path:
    """A sample folder with info.txt and a parsed trace in which every step is a transfer."""
    blocks = blocks or blocks_of(40, (Kind.RETURN, Kind.INDIRECT_CALL), in_libc=10)
    folder = root / hashlib.sha256(name.encode()).hexdigest()
    folder.mkdir(parents=True)
    (folder / "info.txt").write_text(f"{name}\n{label}\n")
    steps = np.asarray(path, np.uint32)
    gap = np.zeros(len(steps), np.uint8)
    gap[:1] = 1
    header = {"schema": 1, "name": name, "label": label}
    write_parquet(
        folder / "trace_parsed.parquet",
        [Chunk(steps, gap, np.zeros(len(steps), np.uint16))],
        lambda: Ending(blocks, header, GapDetails.empty()),
    )
    return folder


def write_tree(root: Path, benign: int = 24, malicious: int = 4) -> Path:
    """A folder of samples: ordinary runs, and runs with an attack."""
    for i in range(benign):
        write_sample(root, f"good-{i}.doc", "benign", nominal_path(i))
    for i in range(malicious):
        write_sample(root, f"bad-{i}.doc", "malicious", attack_path(100 + i))
    return root


def path_of(steps: Sequence[int], blocks: Blocks, gaps: dict[int, Gap] | None = None) -> MemoryPath:
    """A path in memory in which every step of a block that is learnt is a transfer; gaps before steps."""
    block = np.asarray(steps, np.uint32)
    gap = np.zeros(len(block), np.uint8)
    gap[:1] = Gap.START
    for step, cause in (gaps or {}).items():
        gap[step] = cause
    return MemoryPath(blocks, block, gap, np.zeros(len(block), np.uint16))


class Cut:
    """A path that is read in chunks of so many steps."""

    def __init__(self, path: MemoryPath, rows: int) -> None:
        self.blocks = path.blocks
        self._path = path
        self._rows = rows

    def chunks(self, rows: int = 0) -> Iterator[Chunk]:
        return self._path.chunks(self._rows)


def spec_of(network: str = "causal", vocabulary: str = "learnt", **changes: Any) -> Any:
    """What a small network learns; ``changes`` are fields of Spec, of its training, or of its tokens."""
    from barnum.models.networks.spec import Spec
    from barnum.models.train_config import TrainConfig
    from barnum.paths import Learn
    from barnum.sequences import Selection, Tokens

    def taken(names: Sequence[str]) -> dict[str, Any]:
        return {name: changes.pop(name) for name in names if name in changes}

    train = {"epochs": 2, "batch_size": 512, "learning_rate": 0.01}
    train |= taken(("epochs", "batch_size", "learning_rate", "learning_decay", "seed"))
    sizes = {"inputs": 64, "classes": 48, **taken(("inputs", "classes"))}
    chosen = {"units": 8, "sequence_len": 5, "embedding": 4, "selection": Selection(), **changes}
    return Spec(
        network=network,
        learn=chosen.pop("learn", Learn()),
        tokens=Tokens(vocabulary=vocabulary, **sizes),
        train=TrainConfig(**train),
        **chosen,
    )


def fit(
    spec: Any,
    runs: Sequence[Any],
    *,
    threads: int = 1,
    keeping: Any = None,
    interrupted: Callable[[], bool] = lambda: False,
    world: Any = None,
) -> tuple[Any, Any]:
    """The model, and the epochs, of paths in memory."""
    from barnum.learning.network.hooks import Hooks
    from barnum.learning.network.learner import Learner
    from barnum.learning.network.world import World

    learner = Learner(spec, world or World())
    samples = [(f"run-{i}", partial(nullcontext, run)) for i, run in enumerate(runs)]
    learner.read(samples, threads, 2, lambda _: None)
    hooks = Hooks(
        bar=lambda name, total: nullcontext(lambda _: None), stoppable=lambda: nullcontext(interrupted)
    )
    return learner.fit(threads, hooks, keeping)


# the command, as a user meets it ----------------------------------------------------------------------------

_LOG = re.compile(r"\d\d:\d\d:\d\d \S+ (DEBUG|INFO|WARNING|ERROR) (.*)")
_PROGRESS = re.compile(r"[a-z ]+ [\d,]+/[\d,]+")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    def logged(self, level: str) -> list[str]:
        """Messages of a level."""
        matches = map(_LOG.fullmatch, self.err.splitlines())
        return [match[2] for match in matches if match is not None and match[1] == level]

    @property
    def error(self) -> str:
        """The one line that says why it failed. There is nothing else but progress, logs and a word on
        checkpoints."""
        lines = [line for line in self.err.splitlines() if line and not _PROGRESS.fullmatch(line)]
        said = [
            line for line in lines if not _LOG.fullmatch(line) and not line.startswith("training stopped")
        ]
        assert len(said) == 1, self.err
        assert said[0].startswith("barnum: "), self.err
        assert said[0] == lines[-1]
        assert said[0].isprintable()
        return said[0].removeprefix("barnum: ")

    @property
    def usage(self) -> str:
        """What is wrong with the options."""
        assert self.code == 2, self.err
        assert "Traceback" not in self.err
        return self.err.splitlines()[-1].removeprefix("Error: ")


def barnum(command: str, *arguments: object) -> Ended:
    """Run a command in this process; errors that nobody foresaw come through."""
    from barnum.cli.main import main

    words, out, err = sys.argv, io.StringIO(), io.StringIO()
    sys.argv = ["barnum", command, *map(str, arguments)]
    code: Any = None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as ended:
        code = ended.code
    finally:
        sys.argv = words
    return Ended(int(code or 0), out.getvalue(), err.getvalue())


def lstm(*arguments: object) -> Ended:
    """Run ``barnum lstm`` in this process."""
    return barnum("lstm", *arguments)


class Processes:
    """Runs ``barnum lstm`` in processes of its own, one at a time, which may be killed.

    They are forked from one that has imported what the command does: so they start at once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pid = 0
        here = str(Path(__file__).parent)
        self._server = subprocess.Popen(
            [sys.executable, "-c", "import learning; learning.serve()"],
            cwd=here,
            env={**os.environ, "PYTHONPATH": here, "TMPDIR": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self._line(120) == "ready"

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.pid:
                os.kill(self.pid, signal.SIGKILL)
        self._server.kill()
        self._server.communicate()

    def start(self, *arguments: object, largest_file: int | None = None) -> int:
        """Start one in the folder; its number. It may write no file of more bytes than ``largest_file``."""
        assert self._server.stdin is not None
        job = {
            "folder": str(self.folder),
            "arguments": ["barnum", "lstm", *map(str, arguments)],
            "said": str(self.folder / ".said"),
            "largest_file": largest_file,
        }
        self._server.stdin.write(json.dumps(job) + "\n")
        self.pid = int(self._line(60))
        return self.pid

    def kill(self, number: signal.Signals = signal.SIGKILL) -> Ended:
        """Send a signal; how it ended, of which it may be quicker."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
        return self.end()

    def end(self, seconds: float = 600) -> Ended:
        """How it ended; negative numbers of signals are codes, too."""
        code = int(self._line(seconds))
        self.pid = 0
        out, err = ((self.folder / f".said.{name}").read_text() for name in ("out", "err"))
        for name in ("out", "err"):
            (self.folder / f".said.{name}").unlink()
        return Ended(code, out, err)

    def run(self, *arguments: object, largest_file: int | None = None) -> Ended:
        """Start one and wait for its end."""
        self.start(*arguments, largest_file=largest_file)
        return self.end()

    def wait_until(self, happened: Callable[[], bool], seconds: float = 600) -> None:
        """Wait for something, of which the process must not end."""
        end = time.monotonic() + seconds
        while not happened():
            assert not self._ready(0), self.end()
            assert time.monotonic() < end
            time.sleep(0.002)

    def said(self) -> str:
        """What the process has said so far on stderr."""
        file = self.folder / ".said.err"
        return file.read_text() if file.exists() else ""

    def _line(self, seconds: float) -> str:
        assert self._server.stdout is not None
        assert self._ready(seconds), "no answer"
        return self._server.stdout.readline().strip()

    def _ready(self, seconds: float) -> bool:
        return bool(select.select([self._server.stdout], [], [], seconds)[0])


def serve() -> None:
    """The process behind Processes: starts what stands on stdin, and tells numbers and codes."""
    # all that a training imports by the way
    import numpy.ma  # noqa: F401
    import pyarrow.compute  # noqa: F401
    import rich.console  # noqa: F401
    import torch._dynamo
    import torch._meta_registrations  # noqa: F401

    import barnum.cli.lstm
    import barnum.learning.session_network  # noqa: F401
    from barnum.cli.main import main

    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        pipes = {name: os.pipe() for name in ("out", "err")}
        pid = os.fork()
        if not pid:
            os.chdir(job["folder"])
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(pipes["out"][1], 1)
            os.dup2(pipes["err"][1], 2)
            for ends in pipes.values():
                os.close(ends[0])
                os.close(ends[1])
            if job["largest_file"] is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest_file"],) * 2)
            sys.argv = job["arguments"]
            main()
        print(pid, flush=True)
        _pass_on({pipes[name][0]: Path(f"{job['said']}.{name}") for name in pipes}, pipes)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _pass_on(files: dict[int, Path], pipes: dict[str, tuple[int, int]]) -> None:
    """Write what comes out of pipes to files, until they are closed."""
    for _, end in pipes.values():
        os.close(end)
    with contextlib.ExitStack() as stack:
        left = {pipe: stack.enter_context(file.open("wb", buffering=0)) for pipe, file in files.items()}
        while left:
            for pipe in select.select(list(left), [], [])[0]:
                data = os.read(pipe, 1 << 16)
                if data:
                    left[pipe].write(data)
                else:
                    del left[pipe]
                    os.close(pipe)


# models that others wrote -----------------------------------------------------------------------------------


def write_keras(
    folder: Path, inputs: int = 64, classes: int = 64, length: int = 4, units: int = 3
) -> dict[str, Any]:
    """``lstm.json`` and ``lstm.h5`` as Keras 2 writes them: Embedding, LSTM, Dense. Returns the document."""
    import h5py

    draw = np.random.default_rng(7)
    layers: list[tuple[str, dict[str, Any], list[tuple[str, tuple[int, ...]]]]] = [
        (
            "Embedding",
            {
                "input_dim": inputs,
                "output_dim": units,
                "input_length": length,
                "batch_input_shape": [None, length],
            },
            [("embeddings", (inputs, units))],
        ),
        (
            "LSTM",
            {
                "units": units,
                "activation": "tanh",
                "recurrent_activation": "hard_sigmoid",
                "use_bias": True,
                "return_sequences": False,
                "go_backwards": False,
                "stateful": False,
            },
            [
                ("kernel", (units, 4 * units)),
                ("recurrent_kernel", (units, 4 * units)),
                ("bias", (4 * units,)),
            ],
        ),
        (
            "Dense",
            {"units": classes, "activation": "softmax", "use_bias": True},
            [("kernel", (units, classes)), ("bias", (classes,))],
        ),
    ]
    document = {
        "class_name": "Sequential",
        "config": {
            "name": "sequential_1",
            "layers": [
                {"class_name": kind, "config": {"name": f"{kind.lower()}_1", "trainable": True, **config}}
                for kind, config, _ in layers
            ],
        },
        "keras_version": "2.2.4",
        "backend": "tensorflow",
    }
    (folder / "lstm.json").write_text(json.dumps(document))
    with h5py.File(folder / "lstm.h5", "w") as root:
        root.attrs["layer_names"] = np.array([f"{kind.lower()}_1".encode() for kind, _, _ in layers])
        for kind, _, arrays in layers:
            layer = f"{kind.lower()}_1"
            group = root.create_group(layer)
            group.attrs["weight_names"] = np.array([f"{layer}/{name}:0".encode() for name, _ in arrays])
            for name, shape in arrays:
                group.create_dataset(f"{layer}/{name}:0", data=draw.normal(size=shape).astype(np.float32))
    return document


@contextlib.contextmanager
def unchanged(*files: Path) -> Iterator[None]:
    """Files that hold the same bytes afterwards; of a folder, all that is in it."""
    before = {file: _bytes_of(file) for file in files}
    yield
    assert {file: _bytes_of(file) for file in files} == before


def _bytes_of(file: Path) -> Any:
    if file.is_dir():
        return {inner.name: _bytes_of(inner) for inner in file.iterdir()}
    return file.read_bytes()
