"""Write harmless pickles: ``python make_pickles.py FOLDER COUNT KIND...``.

A script of its own, so that pickles are written by the interpreter that has the packages and will load them.
Each is named by its kind and a number; the same kinds and numbers have the same content.
"""

import pickle
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import pickle_packages
import pickle_values

VALUES = pickle_values.VALUES | pickle_packages.VALUES
FILES = pickle_values.FILES | pickle_packages.FILES


def content(kind: str, number: int) -> bytes:
    """The content of a file."""
    chance = random.Random(f"{kind} {number}")
    if kind in FILES:
        return FILES[kind](chance)
    return pickle.dumps(VALUES[kind](chance), chance.randrange(2, 6))


def main(folder: str, count: str, *kinds: str) -> None:
    """Write so many pickles of each kind into a folder."""
    for kind in kinds:
        for number in range(int(count)):
            Path(folder, f"{kind}-{number:02}.pkl").write_bytes(content(kind, number))


if __name__ == "__main__":
    main(*sys.argv[1:])
