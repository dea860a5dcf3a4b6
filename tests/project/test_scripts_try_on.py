"""What a try on a fresh system says of itself. The try takes root, debootstrap and an hour: it is no test."""

import subprocess
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "try-on.sh"


def run(*arguments):
    return subprocess.run(["sh", SCRIPT, *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_a_release_must_be_named():
    for arguments in ((), ("sid",), ("--help",)):
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.endswith("bookworm|trixie [target…]\n")


def test_downloads_are_counted_by_what_apt_and_pip_say(tmp_path):
    wheel = tmp_path / "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl"
    wheel.write_bytes(bytes(12345))
    (tmp_path / "setup.log").write_text(
        "+ apt-get update\n"
        "Get:1 http://mirror.invalid/debian trixie/main amd64 Packages [9,679 kB]\n"
        "Fetched 9,700 kB in 3s (3,000 kB/s)\n"
        "+ env apt-get install -y g++\n"
        "Need to get 40.5 MB/160 MB of archives.\n"  # the rest was in the cache
        "Fetched 40.5 MB in 2s (20.2 MB/s)\n"
        "+ env apt-get install -y make\n"
        "Need to get 512 B of archives.\n"
        "Fetched 512 B in 0s (0 B/s)\n"
        "+ .venv/bin/python -m pip install torch\n"
        "Collecting click>=8.1 (from barnum==0.1.0)\n"
        "  Downloading click-8.5.1-py3-none-any.whl.metadata (2.5 kB)\n"
        "  Using cached numpy-2.4.6-cp313-cp313-manylinux_2_28_x86_64.whl (16.6 MB)\n"
        "Downloading click-8.5.1-py3-none-any.whl (105 kB)\n"
        f"Processing {wheel} (from barnum==0.1.0)\n"
        "Processing ./here\n"
    )
    (tmp_path / "make.log").write_text(
        "fetch-qemu: build/qemu has QEMU 7.2.22 (26 MB were downloaded)\n3,497 passed in 120 s\n"
    )
    done = run("--downloaded", tmp_path / "setup.log", tmp_path / "make.log")
    counted = sorted(line.split() for line in done.stdout.splitlines())
    net = 9.7e6 + 160e6 + 512 + 2500 + 16.6e6 + 105e3 + 26e6
    assert counted == [["local", "12345"], ["net", f"{net:.0f}"]]
