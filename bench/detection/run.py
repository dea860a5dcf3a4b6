"""Detection: how many harmful documents are found, how early, at what cost in false alarms, by what scores.

.venv/bin/python bench/detection/run.py [--family NAME]… [--folder bench-out/detection] [--json FILE]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from recordings import recorded
from subjects import FAMILIES, subjects


def main() -> None:
    options = _options()
    folder: Path = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    families = tuple(options.family) if options.family else FAMILIES
    runs = {}
    for subject in subjects(folder, families):
        start = time.monotonic()
        runs[subject.name] = recorded(subject, folder / subject.name, options.jobs)
        harmful = sum(run.harmful for run in runs[subject.name])
        print(
            f"{subject.name}: {len(runs[subject.name]) - harmful} harmless and {harmful} harmful runs, "
            f"{time.monotonic() - start:.0f} s",
            flush=True,
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--family", action="append", choices=FAMILIES, help="these programs alone")
    parser.add_argument("--folder", type=Path, default=Path("bench-out/detection"))
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("-j", "--jobs", type=int, default=(os.cpu_count() or 1) + 1, help="runs at once")
    return parser.parse_args()


if __name__ == "__main__":
    main()
