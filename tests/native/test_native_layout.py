"""The folders and files of the native parts: which may need which."""

import graphlib
import re
import subprocess
from pathlib import Path

NATIVE = Path(__file__).parents[2] / "native"


def test_no_file_of_the_recorder_needs_one_that_needs_it(tmp_path):
    sources = sorted((NATIVE / "recorder").glob("*.c"))
    subprocess.run(["gcc", "-std=gnu11", "-fPIC", "-c", *sources], cwd=tmp_path, check=True)
    needed, owner = {}, {}
    for source in sources:
        words = ["nm", "--format=posix", tmp_path / f"{source.stem}.o"]
        symbols = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        kinds = [line.split()[:2] for line in symbols.splitlines()]
        needed[source.stem] = {name for name, kind in kinds if kind == "U"}
        owner |= {name: source.stem for name, kind in kinds if kind in "BCDRTV"}
    graph = {stem: {owner[name] for name in names & owner.keys()} for stem, names in needed.items()}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError
    assert order[-1] == "install"
    assert "stream" in graph["kill"]


def test_extensions_include_their_own_files_and_those_that_all_share():
    included = {}
    for folder in sorted(path for path in NATIVE.iterdir() if path.is_dir()):
        texts = [path.read_text() for path in folder.iterdir()]
        included[folder.name] = {
            (folder / name).resolve().parent.name
            for text in texts
            for name in re.findall(r'^#include "(.*)"', text, re.MULTILINE)
        }
    assert included.pop("common") <= {"common"}
    assert included["sequences"] == {"sequences", "common"}
    assert all(folders <= {folder, "common"} for folder, folders in included.items())
