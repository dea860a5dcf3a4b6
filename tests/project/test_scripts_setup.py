"""What ``scripts/setup.sh`` installs, and when. A script stands in for Python and pip, and notes it."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "setup.sh"
# Python of Debian 12
DEBIAN_12 = "3.11.2"
# all that the script needs of a system that has what is built with
TOOLS = ("sh", "cat", "dirname", "echo", "env", "find", "flock", "grep", "id", "mkdir", "rm", "sed",
         "sha256sum", "sort", "tail", "touch", "xargs")  # fmt: skip
PYTHON = """#!/bin/sh
case "$1" in
-m) # pip
    shift 3
    echo "$* from=${PIP_INDEX_URL:-}+${PIP_EXTRA_INDEX_URL:-}+${PIP_FIND_LINKS:-}" >>pip
    case "$*" in *torch | *network] | *test]) touch torch ;; esac
    ;;
-c) [ -e torch ] ;; # is torch installed?
-) cat >/dev/null ;; # it is new enough, and an emulator is there
*) echo Python 3.11 ;;
esac
"""


class Tree:
    """A checkout with an environment that holds nothing yet."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("scripts", "native", ".venv/bin", "tools"):
            (root / folder).mkdir(parents=True)
        shutil.copy(SCRIPT, root / "scripts")
        for name in ("pyproject.toml", "CMakeLists.txt", "constraints.txt", "native/a.c"):
            (root / name).touch()
        for name, text in (
            ("python", PYTHON),
            ("pip", f"#!{root}/.venv/bin/python\n"),
            ("barnum", "#!/bin/sh\n"),
        ):
            (root / ".venv/bin" / name).write_text(text)
            (root / ".venv/bin" / name).chmod(0o755)
        for tool in TOOLS:
            (root / "tools" / tool).symlink_to(str(shutil.which(tool)))

    def run(self, part: str, **variables: str) -> tuple[int, str, list[str]]:
        """Exit code, what was said, and what pip was asked for, of barnum and torch alone."""
        log = self.root / "pip"
        log.unlink(missing_ok=True)
        done = subprocess.run(
            ["sh", self.root / "scripts" / "setup.sh", part],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={"PATH": str(self.root / "tools"), **variables},
        )
        asked = log.read_text().splitlines() if log.exists() else []
        short = [line.partition("constraints.txt ")[2] for line in asked]
        return done.returncode, done.stdout + done.stderr, [line for line in short if "nanobind" not in line]

    def installs(self, part: str, **variables: str) -> list[str]:
        """What pip is asked for, without the index where that is the usual one."""
        code, said, asked = self.run(part, **variables)
        assert code == 0, said
        return [
            line.removesuffix(" from=++").removeprefix("--no-build-isolation --editable ") for line in asked
        ]


@pytest.fixture
def tree(tmp_path):
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"{missing[0]} is not installed")
    return Tree(tmp_path / "a tree")


def test_each_part_takes_what_it_needs(tmp_path):
    for part, variables, wanted in (
        ("run", {}, "."),
        ("run", {"WITH": "network"}, ".[network]"),
        ("run", {"WITHOUT": "network"}, "."),
        ("demo", {}, ".[network]"),
        ("demo", {"WITHOUT": "network"}, "."),
        ("bench", {}, ".[network]"),
        ("test", {}, ".[test]"),
        ("lint", {}, ".[test]"),
    ):
        tree = Tree(tmp_path / f"{part}{len(variables)}{wanted}{'WITHOUT' in variables}")
        assert tree.installs(part, **variables) == [wanted]
        assert tree.installs(part, **variables) == []


def test_what_is_there_is_not_installed_again(tree):
    assert tree.installs("run") == ["."]
    assert tree.installs("run", WITH="network") == [".[network]"]
    for part in ("run", "demo", "bench"):
        assert tree.installs(part) == []
    assert tree.installs("test") == [".[test]"]
    for part in ("run", "demo", "bench", "lint"):
        assert tree.installs(part) == []
    assert tree.installs("run", WITH="network") == []
    (tree.root / "native" / "a.c").write_text("int changed;")
    assert tree.installs("run") == ["."]
    assert tree.installs("demo") == [".[network]"]
    assert tree.installs("test") == [".[test]"]


def test_what_torch_costs_is_said_before_it_is_fetched(tree):
    _, said, _ = tree.run("demo")
    told = said.partition("networks need torch: about 200 MB")[2].replace("\nsetup:", "")
    assert "else 2.9 GB with libraries for GPUs" in told
    assert "TORCH_INDEX=https://download.pytorch.org/whl/cpu" in told
    assert told.index("make demo WITHOUT=network does without") < told.index("installing barnum")
    # where it is installed, nothing is fetched
    (tree.root / "native" / "a.c").write_text("int changed;")
    code, said, asked = tree.run("demo")
    assert (code, len(asked)) == (0, 1)
    assert "200 MB" not in said


def test_without_the_network_nothing_is_said_of_it(tree):
    for part, variables in (("run", {}), ("demo", {"WITHOUT": "network"})):
        assert "torch" not in tree.run(part, **variables)[1]


def test_torch_alone_comes_from_another_index(tree):
    index = "https://someone:secret@example.org/whl"
    code, said, asked = tree.run("run", WITH="network", TORCH_INDEX=index)
    assert code == 0
    assert asked == [
        f"--no-deps torch from={index}+{index}+{index}",
        "--no-build-isolation --editable .[network] from=++",
    ]
    assert "from https://example.org/whl" in said
    assert "secret" not in said
    (tree.root / "native" / "a.c").write_text("int changed;")
    code, said, asked = tree.run("demo", TORCH_INDEX=index)
    assert asked == ["--no-build-isolation --editable .[network] from=++"]
    assert "TORCH_INDEX is not looked at" in said


def test_a_folder_of_wheels_is_an_index_as_well(tree):
    (tree.root / "my wheels").mkdir()
    _, _, asked = tree.run("demo", TORCH_INDEX="my wheels")
    address = f"file://{tree.root}/my wheels".replace(" ", "%20")
    assert asked[0] == f"--no-deps torch from={address}+{address}+{address}"


@pytest.mark.parametrize(
    ("part", "variables", "why"),
    [
        ("run", {"WITH": "gpu"}, "WITH=gpu: only the network can be taken along: WITH=network"),
        ("demo", {"WITHOUT": "torch"}, "WITHOUT=torch: only the network can be left out: WITHOUT=network"),
        ("test", {"WITHOUT": "network"}, "WITHOUT=network is for make demo"),
        ("demo", {"WITH": "network", "WITHOUT": "network"}, "WITH=network and WITHOUT=network: give one"),
    ],
)
def test_what_cannot_be_asked_for(tree, part, variables, why):
    code, said, asked = tree.run(part, **variables)
    assert (code, asked) == (1, [])
    assert said.startswith(f"setup: {why}")
    assert os.listdir(tree.root / ".venv") == ["bin"]


def test_what_is_pinned_is_there_for_the_oldest_python():
    """pip of Debian 12 searches for hours where one pinned version does not suit its Python."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==")[0] for line in lines if "==" in line]
    assert len(pins) > 50
    unfit, installed = {}, 0
    for name in pins:
        with suppress(PackageNotFoundError):
            wanted = distribution(name).metadata.json.get("requires_python")
            installed += 1
            if wanted and DEBIAN_12 not in SpecifierSet(wanted):
                unfit[name] = wanted
    assert installed > 50
    assert unfit == {}
