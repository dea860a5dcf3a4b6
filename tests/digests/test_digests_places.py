"""What lies in place of a digest: links, pipes, folders that cannot be written, full disks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from learning import barnum, write_tree
from recording import LIKE_A_USER

RUNS = 4


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "traces", RUNS, 0)


def fit(folder: Path, *trees: Path) -> bytes:
    ended = barnum("fit", "-f", "-o", folder / "detector", *trees)
    assert ended.code == 0, ended.err
    return (folder / "detector").read_bytes()


def test_what_a_link_leads_to_is_not_written(tree, tmp_path):
    expected = fit(tmp_path, tree)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for folder in tree.iterdir():
        (folder / "trace_digest").unlink()
        (folder / "trace_digest").symlink_to(victim)
    assert fit(tmp_path, tree) == expected
    ended = barnum("score", tmp_path / "detector", tree)
    assert ended.code == 0, ended.err
    assert victim.read_text() == "precious"
    assert all((folder / "trace_digest").is_symlink() for folder in tree.iterdir())


@pytest.mark.parametrize("what", ["pipe", "zero", "folder", "nothing", "loop"])
def test_what_is_no_file_is_neither_waited_for_nor_read(tree, tmp_path, what):
    expected = fit(tmp_path, tree)
    places = [folder / "trace_digest" for folder in tree.iterdir()]
    for place in places:
        place.unlink()
        if what == "pipe":
            os.mkfifo(place)
        elif what == "folder":
            place.mkdir()
        else:
            place.symlink_to({"zero": "/dev/zero", "nothing": tmp_path / "gone", "loop": place}[what])
    # each has its parsed trace still
    assert fit(tmp_path, tree) == expected
    for folder in tree.iterdir():
        (folder / "trace_parsed.parquet").unlink()
    ended = barnum("score", tmp_path / "detector", *tree.iterdir())
    assert ended.code == 22
    lines = list(map(json.loads, ended.out.splitlines()))
    assert len(lines) == RUNS and all("error" in line for line in lines)


def test_a_tree_that_cannot_be_written_is_learnt_all_the_same(tree, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy)
    expected = fit(tmp_path, copy)
    for folder in (*tree.iterdir(), tree):
        folder.chmod(0o555)
    try:
        words = [sys.executable, "-c", "from barnum.cli.main import main; main()", "fit", "-o"]
        ended = subprocess.run(
            [*LIKE_A_USER, *words, tmp_path / "other", tree],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        assert (tmp_path / "other").read_bytes() == expected
        assert not list(tree.glob("*/trace_digest"))
    finally:
        for folder in (tree, *tree.iterdir()):
            folder.chmod(0o755)


def test_a_full_disk_is_one_clear_line_and_leaves_nothing_half_written(tree, tmp_path):
    fit(tmp_path, tree)
    script = (
        "import errno, barnum.files as files\n"
        "from barnum.detector import fitted\n"
        "def full(file, data):\n"
        "    with files.writing(file) as raw:\n"
        "        raw.write(data[:10])\n"
        "        raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "fitted.write_whole = full\n"
        "from barnum.cli.main import main; main()\n"
    )
    before = (tmp_path / "detector").read_bytes()
    for command in (["fit", "-f", tree], ["merge", "-f", tmp_path / "detector"]):
        ended = subprocess.run(
            [sys.executable, "-c", script, *map(str, command), "-o", str(tmp_path / "detector")],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 17, ended.stderr
        assert "the disk is full" in ended.stderr.splitlines()[-1]
        assert "Traceback" not in ended.stderr
        assert (tmp_path / "detector").read_bytes() == before
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["detector", "traces"]
