#!/usr/bin/env python3
"""Show that two installed versions of barnum give the same results.

    scripts/compare-versions.py [options] OLD NEW
    scripts/compare-versions.py --recordings demo-out/traces --bin-dir demo-out/extract OLD NEW

OLD and NEW are two programs, such as .venv/bin/barnum of two checkouts. Both run the same commands (those of
comparison/steps.py) on copies of the same recordings and reports, each in a folder of its own; then all files
that they wrote and all that they printed is compared: byte for byte, and where bytes differ, by what they
mean. Run it before and after a change that must not change results, and with one version as OLD and NEW to
see whether its results repeat. Exit status: 0 all the same, 1 something differs or a step did not work, 2
nothing could be compared.

Only the programs are called, nothing of barnum is imported: the two may be laid out differently. numpy and
pyarrow are needed, and h5py for a model of Keras; without it, and without redis-server, a step is left out.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent))

try:
    from comparison.same import EXEMPT, Outcome, Sides
except ImportError as missing:
    sys.exit(f"compare-versions: {missing}: run it with the .venv/bin/python of a checkout")
from comparison.inputs import (
    InputsError,
    Recording,
    find_recordings,
    place_recordings,
    record,
    write_keras,
    write_reports,
    write_sets,
)
from comparison.steps import KERAS, REDIS, STORE, Step, all_steps, with_needed

_MARK = ".made-by-compare-versions"
_TIME = "{:>7.1f}"


@dataclass
class Side:
    """A version, and the folder in which it works."""

    program: Path
    folder: Path
    environment: dict[str, str]
    # no further command is run
    stopped: bool = False

    def run(self, step: Step) -> tuple[list[int], float]:
        """Run the commands of a step; returns their exit codes and how long they took. What they print is
        kept in STEP/N.stdout and STEP/N.stderr."""
        place = self.folder / step.name
        place.mkdir(exist_ok=True)
        codes = []
        began = time.monotonic()
        for number, command in enumerate(step.commands, 1):
            if self.stopped:
                break
            store = f"unix://{self.folder}/redis.sock"
            words = [word.replace(STORE, store) for word in command.words]
            with (
                (place / f"{number}.stdout").open("wb") as out,
                (place / f"{number}.stderr").open("wb") as err,
            ):
                done = subprocess.run(
                    [self.program, *words],
                    cwd=self.folder,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    check=False,
                )
            codes.append(done.returncode)
        return codes, time.monotonic() - began

    def results(self, step: Step) -> set[Path]:
        """The files that a step wrote, by their path within the folder."""
        patterns = (f"{step.name}/**/*", *step.also)
        return {
            file.relative_to(self.folder)
            for pattern in patterns
            for file in self.folder.glob(pattern)
            if file.is_file()
        }


@dataclass
class Result:
    """What came of a step: how many files were compared, and in what they differ."""

    files: int
    differences: list[str]
    reasons: frozenset[str]
    # why nothing is shown by it, although nothing differs
    failed: str | None = None

    def __str__(self) -> str:
        if self.differences:
            more = f" (and {len(self.differences) - 1} more)" if len(self.differences) > 1 else ""
            return f"DIFFERENT: {self.differences[0]}{more}"
        if self.failed:
            return f"FAILED IN BOTH: {self.failed}"
        return f"equal but for {', '.join(sorted(self.reasons))}" if self.reasons else "identical"


def main() -> int:
    """Compare; returns the exit status."""
    options = _options()
    steps = all_steps(options.threads)
    names = [step.name for step in steps]
    unknown = sorted({*(options.only or ()), *options.skip} - set(names))
    if unknown:
        return _fail(f"no step is called {unknown[0]}: there are {', '.join(names)}")
    steps = with_needed(steps, options.only or [name for name in names if name not in options.skip])
    if any(step.name in options.skip for step in steps):
        steps = [step for step in steps if not {step.name, *_all_needs(step, steps)} & {*options.skip}]
    try:
        with _work_folder(options.work) as work:
            return _compare(options, steps, work)
    except InputsError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.strerror or error}: {error.filename}")
    except KeyboardInterrupt:
        return _fail("interrupted")


def _options() -> argparse.Namespace:
    exempt = [textwrap.fill(f"{name}: {why}", 108, subsequent_indent="    ") for name, why in EXEMPT.items()]
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="what may differ, and is named where it does:\n  " + "\n  ".join(exempt),
    )
    parser.add_argument(
        "--recordings", type=Path, metavar="FOLDER", help="samples (default: some are recorded)"
    )
    parser.add_argument("--bin-dir", type=Path, metavar="FOLDER", help="their images")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="work there, and keep all that was made")
    parser.add_argument("--only", nargs="+", metavar="STEP", help="these steps, and those that they need")
    parser.add_argument("--skip", nargs="+", metavar="STEP", default=[], help="leave these out")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--threads", type=int, default=max(1, cores // 2), help="of each version (default: %(default)s)"
    )
    parser.add_argument("old", type=Path, metavar="OLD")
    parser.add_argument("new", type=Path, metavar="NEW")
    options = parser.parse_args()
    if (options.recordings is None) != (options.bin_dir is None):
        parser.error("--recordings and --bin-dir go together")
    for place in (options.recordings, options.bin_dir):
        if place is not None and not place.is_dir():
            parser.error(f"{place}: no such folder")
    for program in (options.old, options.new):
        if not os.access(program, os.X_OK) or not program.is_file():
            parser.error(f"{program}: is no program")
    if options.threads < 1:
        parser.error("--threads: give 1 or more")
    return options


def _all_needs(step: Step, steps: list[Step]) -> set[str]:
    return {needed.name for needed in with_needed(steps, [step.name])}


@contextmanager
def _work_folder(given: Path | None) -> Iterator[Path]:
    if given is None:
        with TemporaryDirectory(prefix="compare-versions-") as folder:
            yield Path(folder).resolve()
        return
    if given.exists() and any(given.iterdir()) and not (given / _MARK).exists():
        raise InputsError(
            f"{given}: holds something else: name an empty folder, or one of an earlier comparison"
        )
    given.mkdir(parents=True, exist_ok=True)
    (given / _MARK).touch()
    yield given.resolve()


def _compare(options: argparse.Namespace, steps: list[Step], work: Path) -> int:
    sides = []
    for name, program in (("old", options.old), ("new", options.new)):
        folder = work / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        # not resolved: a link may be what tells the program where its environment is
        side = Side(program.absolute(), folder, _environment(folder, work))
        sides.append(side)
        print(f"{name}: {side.program}, {_package(side)}")
    old, new = sides
    steps = _prepare(options, steps, work, old, new)
    with _stores(steps, sides), ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        running = [(step, first.submit(old.run, step), second.submit(new.run, step)) for step in steps]
        print(f"\n{'step':<18}{'files':>6}{'old, s':>8}{'new, s':>8}  result", flush=True)
        results = []
        try:
            for step, *both in running:
                (old_codes, old_time), (new_codes, new_time) = (one.result() for one in both)
                result = _judged(step, old, new, old_codes, new_codes)
                results.append(result)
                times = f"{_TIME.format(old_time)} {_TIME.format(new_time)}"
                print(f"{step.name:<18}{result.files:>6} {times}  {result}", flush=True)
        except BaseException:
            for side, pool in ((old, first), (new, second)):
                side.stopped = True
                pool.shutdown(wait=False, cancel_futures=True)
            raise
    return _close(results, options, work)


def _close(results: list[Result], options: argparse.Namespace, work: Path) -> int:
    reasons = sorted({reason for result in results for reason in result.reasons})
    if reasons:
        print("\nwhat differs and may:")
        for reason in reasons:
            print(
                textwrap.fill(
                    f"{reason}: {EXEMPT[reason]}", 110, initial_indent="  ", subsequent_indent="    "
                )
            )
    differences = [line for result in results for line in result.differences]
    if options.work:
        (work / "differences.txt").write_text("".join(f"{line}\n" for line in differences))
    failed = sum(result.failed is not None for result in results)
    files = sum(result.files for result in results)
    if differences:
        where = f"; all are in {work / 'differences.txt'}" if options.work else "; --work keeps a list of all"
        print(f"\n{len(differences)} of {files} files differ, or exit codes{where}")
    elif failed:
        print(f"\n{failed} of {len(results)} steps worked in neither version, and so show nothing")
    else:
        print(f"\nboth versions give the same: {len(results)} steps, {files} files")
    return 1 if differences or failed else 0


def _prepare(options: argparse.Namespace, steps: list[Step], work: Path, old: Side, new: Side) -> list[Step]:
    """Give both versions what the steps use; returns those steps that can be made."""
    uses = {use for step in steps for use in step.uses}
    left_out = set()
    recordings: list[Recording] = []
    if "recordings" in uses:
        traces, images = options.recordings, options.bin_dir
        if traces is None:
            traces, images = record(new.program, work / "recordings", 2 * options.threads)
        recordings = find_recordings(traces)
        (work / "samples.txt").write_text("".join(f"{one.name} {one.folder}\n" for one in recordings))
    for side in (old, new):
        if recordings:
            place_recordings(recordings, images, side.folder)
            write_sets(recordings, side.folder)
        if "reports" in uses:
            write_reports(side.folder)
        if any(step.name == KERAS for step in steps):
            try:
                write_keras(side.folder)
            except ImportError:
                left_out.add(KERAS)
    if shutil.which("redis-server") is None:
        left_out.add(REDIS)
    for step in steps:
        if step.name in left_out:
            print(f"left out: {step.name} (needs {'h5py' if step.name == KERAS else 'redis-server'})")
    return [step for step in steps if step.name not in left_out]


def _environment(folder: Path, work: Path) -> dict[str, str]:
    """As the user has it, but that nothing of one version is seen by the other, and results are those of the
    processor."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    temporary = folder / "tmp"
    temporary.mkdir()
    return environment | {
        # what was summed up of evaluations is kept there
        "XDG_CACHE_HOME": str(folder / "cache"),
        "MPLCONFIGDIR": str(work / "matplotlib"),
        "TMPDIR": str(temporary),
        "CUDA_VISIBLE_DEVICES": "",
        "COLUMNS": "100",
        "LC_ALL": "C.UTF-8",
    }


def _package(side: Side) -> str:
    """Where the version's package lies: an environment that was copied still runs the other's."""
    python = side.program.with_name("python")
    find = "import importlib.util as u; print((u.find_spec('barnum') or u).origin)"
    if not python.exists():
        return "of which no interpreter is beside it"
    done = subprocess.run(
        [python, "-c", find],
        cwd=side.folder,
        env=side.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return str(Path(done.stdout.strip()).parent) if done.returncode == 0 else "which has no package barnum"


@contextmanager
def _stores(steps: list[Step], sides: list[Side]) -> Iterator[None]:
    """A Redis server for each version, where a step needs one."""
    servers = []
    try:
        if any(step.name == REDIS for step in steps):
            for side in sides:
                words = ["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--daemonize", "no"]
                servers.append(
                    subprocess.Popen(
                        ["redis-server", *words],  # noqa: S607
                        cwd=side.folder,
                        stdout=subprocess.DEVNULL,
                        stdin=subprocess.DEVNULL,
                    )
                )
        yield
    finally:
        for server in servers:
            server.terminate()
            server.wait()


def _judged(step: Step, old: Side, new: Side, old_codes: list[int], new_codes: list[int]) -> Result:
    differences, failed = [], None
    for number, (command, one, other) in enumerate(zip(step.commands, old_codes, new_codes, strict=True), 1):
        words = " ".join(command.words)
        if one != other:
            differences.append(
                f"exit code {one} → {other} of: {_cut(words)}: {_said(step, number, old, new)}"
            )
        elif one not in command.codes and failed is None:
            failed = f"exit code {one} of: {_cut(words)}: {_said(step, number, old, new)}"
    files = [side.results(step) for side in (old, new)]
    sides = Sides(old.folder, new.folder)
    reasons: set[str] = set()
    for name in sorted(files[0] | files[1]):
        if name not in files[0] or name not in files[1]:
            differences.append(f"{name}: only the {'new' if name in files[1] else 'old'} version has it")
            continue
        outcome: Outcome = sides.compare(name)
        reasons |= outcome.reasons
        if outcome.difference is not None:
            differences.append(f"{name}: {outcome.difference}")
    if not files[0] | files[1] and failed is None:
        failed = "wrote nothing"
    return Result(len(files[0] | files[1]), differences, frozenset(reasons), failed)


def _said(step: Step, number: int, *sides: Side) -> str:
    """The last line of stderr, of the version that said something."""
    for side in sides:
        lines = (
            (side.folder / step.name / f"{number}.stderr").read_text(errors="replace").strip().splitlines()
        )
        if lines:
            return _cut(lines[-1])
    return "said nothing"


def _cut(text: str) -> str:
    return text if len(text) <= 90 else f"{text[:90]}…"


def _fail(message: str) -> int:
    print(f"compare-versions: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
