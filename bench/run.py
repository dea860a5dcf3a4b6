"""Measures start-up, recording, decoding, preprocessing, reading back, learning, verdicts and counts; prints
figures and ratios.

    .venv/bin/python bench/run.py [--only startup|recording|learning|fitting|verdicts|pictures] [--rounds N]
                                  [--folder bench-out] [--json FILE]

Ratios compare two things that do the same work, in turn, in this one run. Times of recording are medians over
the rounds, of each emulator here that can record (the one that BARNUM_QEMU names, build/qemu, those in PATH).
What is learnt from: two traces of Acrobat Reader, where there are any in the folder of test data
(BARNUM_TEST_DATA, or ../shared/data), and the demo's documents, which are recorded first if need be.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
from pathlib import Path

ROOT = Path(__file__).parent.parent
# kept between runs: recordings take minutes
DEMO = "demo"


def main() -> None:
    options = _options()
    folder: Path = options.folder.resolve()
    mark = folder / ".made-by-bench"
    if folder.exists() and not mark.exists():
        raise SystemExit(f"bench: {folder} was not made by the benchmark: name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()
    print(f"machine: {_processor()}, {os.cpu_count()} cores, {platform.platform()}")
    figures: dict[str, float] = {}
    if options.only in (None, "startup"):
        from startup import bench_startup

        figures |= bench_startup(folder / "startup")
    if options.only in (None, "recording"):
        figures |= _recording(folder, options)
    if options.only in (None, "learning"):
        figures |= _learning(folder / DEMO, options)
    if options.only in (None, "fitting"):
        from fitting import bench_fitting

        figures |= bench_fitting(folder / "fitting", 24 if options.quick else 1_000)
    if options.only in (None, "verdicts"):
        from verdicts import bench_verdicts

        figures |= bench_verdicts(folder / "verdicts", *((40, 10_000) if options.quick else ()))
    if options.only in (None, "pictures"):
        from pictures import bench_pictures

        figures |= bench_pictures(folder / "pictures", options.rounds)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only",
        choices=("startup", "recording", "learning", "fitting", "verdicts", "pictures"),
        help="one part alone",
    )
    parser.add_argument("--rounds", type=int, default=5, help="of recording (default: 5)")
    parser.add_argument("--folder", type=Path, default=Path("bench-out"))
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    learning = parser.add_argument_group("learning")
    learning.add_argument("--device", action="store_true", help="compute on an accelerator, if there is one")
    learning.add_argument("--demo-folder", type=Path, help="results of the demo: record nothing, use these")
    learning.add_argument("--quick", action="store_true", help="little of everything: figures mean nothing")
    learning.add_argument("--paper-epochs", type=int, default=1, help="default: 1")
    learning.add_argument(
        "--paper-transfers", type=int, default=32_768, help="paper learns of a trace; 0: all (default: 32768)"
    )
    learning.add_argument("--demo-paper-epochs", type=int, default=1, help="default: 1")
    learning.add_argument(
        "--demo-paper-transfers", type=int, default=400, help="paper learns of a trace (default: 400)"
    )
    learning.add_argument(
        "--ngram-order",
        type=int,
        default=512,
        help="highest that is tried (default: 512, as far as causal looks back)",
    )
    return parser.parse_args()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _recording(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    from recording import bench_recording

    for path in folder.iterdir():
        if path.is_dir() and path.name != DEMO:
            shutil.rmtree(path)
    return bench_recording(folder, options.rounds)


def _learning(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    import torch

    from learning import THREADS, PaperLimits, Settings, bench_acrobat, bench_demo

    data = Path(os.environ.get("BARNUM_TEST_DATA", ROOT.parent / "shared" / "data"))
    device = torch.device("cpu")
    if options.device and torch.cuda.is_available():
        device = torch.device("cuda", 0)
        print(f"learning on {torch.cuda.get_device_name(device)}, {THREADS} threads")
    else:
        lacking = "no accelerator here: CPU only, " if options.device else ""
        print(f"learning: {lacking}{THREADS} threads")
    settings = Settings(device, options.ngram_order)
    epochs, transfers = options.paper_epochs, options.paper_transfers or None
    paper = PaperLimits(epochs, transfers, held_out=None, contrast=8_192)
    epochs, transfers = options.demo_paper_epochs, options.demo_paper_transfers or None
    demo_paper = PaperLimits(epochs, transfers, held_out=400, contrast=400)
    most, samples = 30_000, None
    if options.quick:
        settings = Settings(device, options.ngram_order, transfers=200_000, rounds=1)
        paper, demo_paper = PaperLimits(1, 512, 256, 256), PaperLimits(1, 64, 64, 64)
        most, samples = 4_000, 8
    figures = bench_acrobat(data, paper, settings)
    return figures | bench_demo(options.demo_folder, folder, most, samples, demo_paper, settings)


if __name__ == "__main__":
    main()
