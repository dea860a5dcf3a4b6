"""Measures recording, decoding, preprocessing and reading back."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from barnum import _decoder
from barnum.digests.preprocess import with_digest
from barnum.paths import open_path
from barnum.paths.code import load_code
from barnum.paths.preprocess import Request, Result, beside, preprocess
from barnum.recording.engine import EngineFiles, Start, command_line, find_engines
from barnum.recording.program import find_program
from barnum.samples import Sample

LICENCES = Path("/usr/share/common-licenses")
PAGES = 30
BARNUM = str(Path(sys.executable).with_name("barnum"))


def bench_recording(folder: Path, rounds: int) -> dict[str, float]:
    """Everything from a document to a path that is read back, in ``folder``."""
    document = _document(folder)
    figures = _bench_recording(document, folder, rounds)
    sample = _record(document, folder)
    figures |= _bench_decoding(sample, folder / "extract", rounds)
    figures |= _bench_preprocess(sample, folder / "extract", rounds)
    figures |= _bench_digest(sample, folder / "extract", rounds)
    figures |= _bench_reading(sample, rounds)
    figures |= _bench_memory(sample, folder, 130_000_000)
    return figures


def _document(folder: Path) -> Path:
    """A PDF of at least PAGES pages, typeset from the licences that every Debian has."""
    texts = sorted(text for text in LICENCES.iterdir() if not text.is_symlink())
    source = folder / "text.ms"
    paragraphs = []
    for text in texts:
        paragraphs.append(f".SH\n{text.name}\n")
        for paragraph in text.read_text(errors="replace").split("\n\n"):
            lines = [line.strip().replace("\\", "\\e").lstrip(".'") for line in paragraph.splitlines()]
            paragraphs.append(".PP\n" + "\n".join(line for line in lines if line) + "\n")
    source.write_text("".join(paragraphs))
    postscript, document = folder / "text.ps", folder / "text.pdf"
    with postscript.open("wb") as output:
        subprocess.run(
            ["groff", "-ms", "-Tps", str(source)], stdout=output, stderr=subprocess.DEVNULL, check=True
        )
    subprocess.run(["ps2pdf", str(postscript), str(document)], check=True)
    told = subprocess.run(["pdfinfo", str(document)], capture_output=True, text=True, check=True).stdout
    pages = next(int(line.split()[1]) for line in told.splitlines() if line.startswith("Pages:"))
    if pages < PAGES:
        raise SystemExit(f"bench: the document has {pages} pages, not {PAGES}")
    print(f"document: {pages} pages, {document.stat().st_size:,} bytes")
    return document


def _bench_recording(document: Path, folder: Path, rounds: int) -> dict[str, float]:
    """Every emulator that fits, in turn: the first is the one that `barnum trace` takes."""
    engines = find_engines()
    program = find_program("pdftotext")
    words = [str(document), "/dev/null"]

    def native() -> float:
        return _wall([program.path, *words])

    def bare(engine: EngineFiles) -> float:
        # the processor is the one that recorded programs see
        model = engine.cpu_of(program.mode)
        return _wall([engine.program_for(program), "-cpu", model, program.path, *words])

    def recorded(engine: EngineFiles) -> float:
        with tempfile.TemporaryDirectory(dir=folder) as raw:
            return _wall(command_line(engine, program, words, Path(raw), Start("exec"), 1 << 32))

    measured: dict[str, Callable[[], float]] = {"native": native}
    for number, engine in enumerate(engines):
        measured[f"bare {number}"] = partial(bare, engine)
        measured[f"recorded {number}"] = partial(recorded, engine)
    times = _in_turn(rounds, **measured)
    medians = {name: statistics.median(values) for name, values in times.items()}
    figures = {"record_native_s": medians["native"]}
    print(f"pdftotext, native: {medians['native']:.3f} s")
    for number, engine in enumerate(engines):
        ratio = _median_ratio(times[f"recorded {number}"], times[f"bare {number}"])
        bare_s, recorded_s = medians[f"bare {number}"], medians[f"recorded {number}"]
        print(
            f"QEMU {engine.version} ({engine.qemu[64]}): bare {bare_s:.3f} s, recorded {recorded_s:.3f} s: "
            f"{ratio:.2f}x (at most 3)"
        )
        found = {"bare_qemu_s": bare_s, "s": recorded_s, "ratio": ratio}
        if number == 0:
            figures |= {f"record_{name}": value for name, value in found.items()}
        figures |= {f"record_{engine.version}_{name}": value for name, value in found.items()}
    return figures


def _record(document: Path, folder: Path) -> Sample:
    command = [
        *(BARNUM, "trace", "--benign", "--start", "exec", "-o", str(folder / "traces")),
        *("--bin-dir", str(folder / "extract"), str(document), "--", "pdftotext", "{}", "/dev/null"),
    ]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    print(f"barnum trace, compression and images included: {time.perf_counter() - began:.2f} s")
    (found,) = (folder / "traces").iterdir()
    return Sample.open(found)


def _bench_decoding(sample: Sample, bin_dir: Path, rounds: int) -> dict[str, float]:
    (stream,) = sample.streams
    data = gzip.decompress(stream.path.read_bytes())

    def space() -> _decoder.AddressSpace:
        made = _decoder.AddressSpace(64)
        code = load_code(sample, sample.processes(bin_dir)[0], bin_dir)
        for piece in code.pieces:
            made.add_file(str(piece.file), piece.offset, piece.size, piece.address)
        for record in code.records:
            made.add_bytes(record.data, record.address, record.epoch)
        return made

    counts: dict[str, int] = {}

    def own() -> float:
        spaces, table = space(), _decoder.BlockTable()
        decoder = _decoder.Decoder(spaces, table)
        began, steps = time.process_time(), 0
        decoder.feed(data, True)
        while len((blocks := decoder.read(1 << 20))[0]):
            steps += len(blocks[0])
        spent = time.process_time() - began
        counts["own"] = steps
        counts["lost"] = decoder.statistics()["bytes_lost"]
        return spent

    def libipt() -> float:
        spaces = space()
        began = time.process_time()
        counts["libipt"], _, counts["errors"] = _decoder.libipt_blocks(data, spaces)
        return time.process_time() - began

    times = _in_turn(rounds, own=own, libipt=libipt)
    own_s, libipt_s = (statistics.median(times[name]) for name in ("own", "libipt"))
    ratio = _median_ratio(times["libipt"], times["own"])
    rate = counts["own"] / own_s / 1e6
    print(
        f"decoding {len(data):,} bytes, {counts['own']:,} canonical blocks, {counts['lost']} bytes lost: "
        f"{own_s:.3f} s, {rate:.1f} M blocks/s on one core (at least 15)\n"
        f"bare libipt block loop {libipt_s:.3f} s ({counts['libipt']:,} blocks of its own, "
        f"{counts['errors']} errors): barnum at {ratio:.2f}x its speed (at least 0.8)"
    )
    return {"decode_mblocks_s": rate, "decode_ratio_libipt": ratio, "blocks": counts["own"]}


def _bench_preprocess(sample: Sample, bin_dir: Path, rounds: int) -> dict[str, float]:
    command = [BARNUM, "preprocess", "--force", str(sample.folder), str(bin_dir)]
    spent = []
    for _ in range(rounds):
        before = os.times()
        # one core for all its threads and processes
        subprocess.run(
            ["taskset", "-c", "0", *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        after = os.times()
        spent.append(after.elapsed - before.elapsed)
    parsed = sample.folder / "trace_parsed.parquet"
    rows = open_path(parsed).rows
    seconds = statistics.median(spent)
    size = parsed.stat().st_size / rows
    print(
        f"preprocess, the whole command on one core: {seconds:.2f} s, {rows / seconds / 1e6:.1f} M blocks/s "
        f"(at least 10); {size:.3f} bytes a transfer (at most 0.5)"
    )
    return {"preprocess_mblocks_s": rows / seconds / 1e6, "bytes_per_transfer": size}


def _bench_digest(sample: Sample, bin_dir: Path, rounds: int) -> dict[str, float]:
    """The same work with and without a digest, in one process."""
    output = sample.folder / "trace_parsed.measured"
    request = Request(folder=str(sample.folder), bin_dir=str(bin_dir), output=str(output))

    def timed(work: Callable[[Request], Result]) -> Callable[[], float]:
        def measured() -> float:
            began = time.process_time()
            work(request)
            return time.process_time() - began

        return measured

    times = _in_turn(rounds, without=timed(preprocess), digest=timed(with_digest))
    size = beside(output).stat().st_size
    for file in (output, beside(output)):
        file.unlink()
    ratio = _median_ratio(times["digest"], times["without"])
    print(f"with a digest of {size:,} bytes: {ratio:.2f}x the time of preprocessing without it")
    return {"digest_ratio": ratio, "digest_bytes": size}


def _bench_reading(sample: Sample, rounds: int) -> dict[str, float]:
    parsed = sample.folder / "trace_parsed.parquet"

    def read() -> float:
        began = time.perf_counter()
        sum(len(chunk.block) for chunk in open_path(parsed).chunks())
        return time.perf_counter() - began

    seconds = statistics.median(_in_turn(rounds, read=read)["read"])
    rate = open_path(parsed).rows / seconds / 1e6
    print(f"reading it back: {seconds:.2f} s, {rate:.0f} M transfers/s (at least 50)")
    return {"read_mtransfers_s": rate}


def _bench_memory(sample: Sample, folder: Path, steps: int) -> dict[str, float]:
    """Preprocess a trace of at least so many blocks: the same packets over and over."""
    rows = open_path(sample.folder / "trace_parsed.parquet").rows
    times = -(-steps // rows)
    larger = folder / "larger" / sample.folder.name
    shutil.copytree(sample.folder, larger, ignore=shutil.ignore_patterns("trace_*"))
    with (larger / "trace_0.gz").open("wb") as output:
        for _ in range(times):
            # a gzip file may have many members; each begins with a PSB and starts tracing anew
            output.write((sample.folder / "trace_0.gz").read_bytes())
    command = [BARNUM, "preprocess", str(larger), str(folder / "extract")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    # each sample has a process of its own, whose memory the command tells
    peak = re.search(r"([\d,]+) MiB of memory", done.stdout)
    if done.returncode or not peak:
        raise SystemExit("bench: preprocess failed on the larger trace")
    peak_mib = int(peak[1].replace(",", ""))
    blocks = open_path(larger / "trace_parsed.parquet").rows
    print(f"memory of preprocess on {blocks:,} blocks: {peak_mib} MiB (under 1,024)")
    return {"preprocess_peak_mib": peak_mib, "preprocess_peak_blocks": blocks}


def _wall(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _in_turn(rounds: int, **measured: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of each, by name: one after the other in every round, so that all meet the same machine."""
    times: dict[str, list[float]] = {name: [] for name in measured}
    for function in measured.values():
        function()  # warms caches; not counted
    for _ in range(rounds):
        for name, function in measured.items():
            times[name].append(function())
    return times


def _median_ratio(left: list[float], right: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(left, right, strict=True))
