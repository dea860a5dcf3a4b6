"""``barnum preprocess`` as a user meets it."""

import gzip
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from barnum.paths import Gap, Kind, open_path, transfers
from paths_tools import PSB, PSBEND, barnum, make_images, make_sample, stream


@pytest.fixture
def tree(tmp_path):
    """Three samples and their images."""
    make_images(tmp_path / "extract")
    for name in ("a", "b", "c"):
        make_sample(tmp_path / "traces" / name)
    return tmp_path


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def leftovers(folder: Path) -> set[str]:
    whole = {"info.txt", "mapping.txt", "trace_0.gz", "trace_parsed.parquet", "trace_digest"}
    return names(folder) - whole


def test_a_tree(tree):
    done = barnum("preprocess", "-j", 2, "-t", 1800, "-p", tree / "traces", tree / "extract")
    assert done.returncode == 0, done.stderr
    assert b"3 samples: 3 finished (0 partial), 0 skipped, 0 failed; 63 blocks, 0 gaps" in done.stdout
    for name in ("a", "b", "c"):
        assert leftovers(tree / "traces" / name) == set()
        path = open_path(tree / "traces" / name / "trace_parsed.parquet").read()
        assert path.header["name"] == f"{name}.pdf"
        assert path.header["label"] == "benign"
        assert path.header["source"] == "pt"
        assert path.header["truncated"] is None
        assert path.blocks.modules == ("/usr/bin/tiny",)
        assert len(path) == 21
        assert path.gap.tolist() == [Gap.START] + [0] * 20
        # start at +0, then by the way of the jump +2 or +4
        assert path.blocks.offset[path.block][:4].tolist() == [0, 2, 0, 4]
        assert path.blocks.kind[path.block][:2].tolist() == [Kind.CONDITIONAL, Kind.INDIRECT_JUMP]
        assert len(transfers(path)) == 10


def test_a_second_run_skips_and_force_makes_again(tree):
    barnum("preprocess", tree / "traces", tree / "extract")
    again = barnum("preprocess", tree / "traces", tree / "extract")
    assert again.returncode == 0
    assert b"3 skipped" in again.stdout
    assert again.stderr.count(b"is there already") == 3
    forced = barnum("preprocess", "-f", tree / "traces", tree / "extract")
    assert b"3 finished" in forced.stdout


def test_one_sample_is_refused_where_a_tree_skips(tree):
    one = tree / "traces" / "a"
    assert barnum("preprocess", one, tree / "extract").returncode == 0
    refused = barnum("preprocess", one, tree / "extract")
    assert refused.returncode == 16
    assert b"--force" in refused.stderr
    (one / "trace_parsed.parquet").rename(one / "trace_parsed.parquet.part")
    refused = barnum("preprocess", one, tree / "extract")
    assert refused.returncode == 16
    assert barnum("preprocess", "-f", one, tree / "extract").returncode == 0
    assert leftovers(one) == set()


def test_a_claim_of_another_machine_is_left_alone(tree):
    claim = tree / "traces" / "b" / "trace_parsed.parquet.part"
    claim.write_text("elsewhere 0123-45 4026531836 12 34 0123456789abcdef\n")
    done = barnum("preprocess", tree / "traces", tree / "extract")
    assert done.returncode == 0
    assert b"2 finished" in done.stdout
    assert b"1 skipped" in done.stdout
    assert claim.read_text() == "elsewhere 0123-45 4026531836 12 34 0123456789abcdef\n"


def test_two_runs_share_a_tree(tree):
    for index in range(8):
        make_sample(tree / "traces" / f"more{index}")
    command = [sys.executable, "-c", "from barnum.cli.main import main; main()"]
    command += ["preprocess", "-j", "1", str(tree / "traces"), str(tree / "extract")]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    outputs = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    finished = sum(int(output[0].split(b" finished")[0].split()[-1]) for output in outputs)
    assert finished == 11
    for folder in (tree / "traces").iterdir():
        assert leftovers(folder) == set()
        assert open_path(folder / "trace_parsed.parquet").rows == 21


BAD = {
    "empty": (gzip.compress(b""), 11, b"empty"),
    "no bytes": (b"", 11, b"empty"),
    "random": (gzip.compress(np.random.default_rng(1).bytes(50_000)), 11, b"no PSB packet"),
    "plain random": (np.random.default_rng(2).bytes(50_000), 11, b"no PSB packet"),
    "damaged": (gzip.compress(stream(10))[:10] + b"\x07" * 40, 11, b"damaged"),
    "nothing known": (gzip.compress(PSB + PSBEND), 11, b"the path is empty"),
    "bomb": (b"".join([gzip.compress(bytes(8 << 20))] * 20), 11, b"no PSB packet in its first"),
}


def test_a_bomb_that_begins_like_a_trace(tmp_path):
    images = make_images(tmp_path / "extract")
    member = gzip.compress(bytes(8 << 20))
    sample = make_sample(tmp_path / "bad", packed=gzip.compress(stream()) + member * 20)
    done = barnum("preprocess", "--max-size", 64 << 20, sample, images)
    assert done.returncode == 11
    assert b"more than 67,108,864 bytes once decompressed" in done.stderr
    assert done.stderr.count(b"barnum: ") == 1
    assert leftovers(sample) == set()
    assert "trace_parsed.parquet" not in names(sample)


def test_a_bomb_is_told_by_how_far_it_shrank(tmp_path, monkeypatch):
    from barnum.errors import TraceError
    from barnum.paths import packed

    monkeypatch.setattr(packed, "_RATIO_COUNTS_FROM", 32 << 20)
    file = tmp_path / "trace_0.gz"
    file.write_bytes(gzip.compress(stream()) + gzip.compress(bytes(8 << 20)) * 20)
    raw = packed.RawTrace(file)
    with pytest.raises(TraceError, match="a gzip bomb, no trace"):
        for _ in raw:
            pass
    assert raw.size < 100 << 20


@pytest.mark.parametrize("kind", BAD)
def test_bad_traces_have_one_clear_line(tmp_path, kind):
    packed, code, message = BAD[kind]
    images = make_images(tmp_path / "extract")
    sample = make_sample(tmp_path / "bad", packed=packed)
    done = barnum("preprocess", sample, images)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert b"Traceback" not in done.stderr
    assert done.stderr.count(b"barnum: ") == 1
    assert leftovers(sample) == set()
    assert "trace_parsed.parquet" not in names(sample)


def test_a_truncated_trace_keeps_what_could_be_read(tmp_path):
    images = make_images(tmp_path / "extract")
    whole = gzip.compress(stream(100_000), 1)
    sample = make_sample(tmp_path / "cut", packed=whole[: len(whole) // 2])
    done = barnum("preprocess", sample, images)
    assert done.returncode == 0, done.stderr
    assert b"cut short" in done.stderr
    path = open_path(sample / "trace_parsed.parquet").read()
    assert 1_000 < len(path) < 200_000
    assert "cut short" in path.header["streams"][0]["broken"]
    assert Gap.LOST in path.gaps.cause.tolist()


def test_a_stream_larger_than_allowed(tmp_path):
    images = make_images(tmp_path / "extract")
    sample = make_sample(tmp_path / "large", stream(1000))
    done = barnum("preprocess", "--max-size", 5000, sample, images)
    assert done.returncode == 11
    assert b"--max-size" in done.stderr


def test_some_that_fail_do_not_harm_the_others(tree):
    make_sample(tree / "traces" / "bad", packed=b"")
    make_sample(tree / "traces" / "lost", label="neither")
    done = barnum("preprocess", tree / "traces", tree / "extract")
    assert done.returncode == 22
    assert b"5 samples: 3 finished" in done.stdout
    assert b"2 failed" in done.stdout
    assert b"2 of 5 samples failed" in done.stderr
    assert b"none of 'benign', 'malicious', 'unknown'" in done.stderr


BROKEN = {
    "label": ("info.txt", b"a.pdf\nneither\n"),
    "info": ("info.txt", b"a.pdf"),
    "meta": ("meta.json", b"{"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_part_fails_where_a_missing_one_is_skipped(tree, kind):
    for name in ("b", "c"):
        (tree / "traces" / name / {"b": "info.txt", "c": "trace_0.gz"}[name]).unlink()
    done = barnum("preprocess", tree / "traces", tree / "extract")
    assert done.returncode == 0, done.stderr
    assert b"1 sample: 1 finished" in done.stdout
    assert done.stderr.count(b"skipped: ") == 2
    (tree / "traces" / "a" / "trace_parsed.parquet").unlink()
    name, content = BROKEN[kind]
    (tree / "traces" / "a" / name).write_bytes(content)
    done = barnum("preprocess", tree / "traces", tree / "extract")
    assert done.returncode == 22
    assert b"1 sample: 0 finished" in done.stdout
    assert b"1 failed" in done.stdout


@pytest.mark.parametrize("name", ["info.txt", "meta.json"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(tree, name):
    (tree / "traces" / "a" / name).unlink(missing_ok=True)
    os.mkfifo(tree / "traces" / "a" / name)
    done = barnum("preprocess", tree / "traces", tree / "extract")
    assert done.returncode == 22
    assert b"3 samples: 2 finished" in done.stdout
    assert f"{name}: cannot be read (not a regular file)".encode() in done.stderr


@pytest.mark.parametrize("time", ["inf", "nan", "-1", "0", "1e999"])
def test_a_time_limit_is_a_number_of_seconds(tree, time):
    done = barnum("preprocess", "-t", time, tree / "traces", tree / "extract")
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


def test_a_path_that_is_whole_is_not_partial_however_late_it_is(tree):
    from barnum.paths.decode import Decoding
    from barnum.samples import Sample

    def decode(folder: Path):
        decoding = Decoding(Sample.open(folder), tree / "extract")
        for _ in decoding.chunks(lambda: decoding.steps > 0):
            pass
        return decoding.steps, decoding.truncated

    assert decode(tree / "traces" / "a") == (21, None)
    # a second stream, or what follows in the same one, is left out
    (tree / "traces" / "b" / "trace_1.gz").write_bytes(gzip.compress(stream(3)))
    assert decode(tree / "traces" / "b") == (21, "timeout")
    steps, truncated = decode(make_sample(tree / "traces" / "long", stream(300_000)))
    assert truncated == "timeout"
    assert 0 < steps < 600_001


def test_a_map_without_images(tmp_path):
    (tmp_path / "extract").mkdir()
    sample = make_sample(tmp_path / "a")
    done = barnum("preprocess", sample, tmp_path / "extract")
    assert done.returncode == 13
    assert b"has an image" in done.stderr


@pytest.mark.parametrize(
    ("mapping", "code"),
    [
        ("400000-402000 r-xp 0 0:0 0 /a/tiny\n401000-403000 r-xp 0 0:0 0 /a/other\n", 12),
        ("400000-402000 r-xp 0 0:0 0 /a/..\n", 13),
        ("no map at all\n", 12),
        ("", 12),
        (None, 12),
    ],
)
def test_bad_maps(tmp_path, mapping, code):
    images = make_images(tmp_path / "extract")
    sample = make_sample(tmp_path / "a")
    (sample / "mapping.txt").unlink()
    if mapping is not None:
        (sample / "mapping.txt").write_text(mapping)
    done = barnum("preprocess", sample, images)
    assert done.returncode == code, done.stderr
    assert done.stderr.count(b"barnum: ") == 1


def test_a_folder_without_samples(tmp_path):
    (tmp_path / "traces").mkdir()
    done = barnum("preprocess", tmp_path / "traces", tmp_path)
    assert done.returncode == 10
    assert b"holds no samples" in done.stderr
    assert barnum("preprocess", tmp_path / "none", tmp_path).returncode == 2


TURNS = 2000


def long_sample(folder: Path) -> Path:
    """Twenty seconds of work in a small file, so that it is not done before it is looked at, however busy the
    machine is."""
    turns = stream(200_000)
    return make_sample(folder, packed=gzip.compress(turns, 1) * TURNS)


def test_a_time_limit_keeps_a_marked_part_or_nothing(tmp_path):
    images = make_images(tmp_path / "extract")
    sample = long_sample(tmp_path / "long")
    done = barnum("preprocess", "-t", 0.3, sample, images)
    assert done.returncode == 0, done.stderr
    assert b"(1 partial)" in done.stdout
    reader = open_path(sample / "trace_parsed.parquet")
    assert reader.header["truncated"] == "timeout"
    assert 0 < reader.rows < TURNS * 400_000
    done = barnum("preprocess", "-f", "-p", "-t", 0.3, sample, images)
    assert done.returncode == 11
    assert b"was not done" in done.stderr
    assert leftovers(sample) == set()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_the_finished_and_drops_the_unfinished(tmp_path, how):
    images = make_images(tmp_path / "extract")
    make_sample(tmp_path / "traces" / "a")
    long_sample(tmp_path / "traces" / "b")
    command = [sys.executable, "-c", "from barnum.cli.main import main; main()"]
    command += ["preprocess", "-j", "1", str(tmp_path / "traces"), str(images)]
    run = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # these tests may run behind a shell that has it ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    claim = tmp_path / "traces" / "b" / "trace_parsed.parquet.part"
    deadline = time.monotonic() + 60
    while not claim.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    # as a terminal does: the whole group is told
    os.killpg(run.pid, how)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130, errors
    assert b"Traceback" not in errors
    assert open_path(tmp_path / "traces" / "a" / "trace_parsed.parquet").rows == 21
    assert leftovers(tmp_path / "traces" / "b") == set()
    assert "trace_parsed.parquet" not in names(tmp_path / "traces" / "b")


def test_a_full_disk_is_one_clear_line(tmp_path):
    if not shutil.which("unshare"):
        pytest.skip("needs unshare")
    images = make_images(tmp_path / "extract")
    make_sample(tmp_path / "seed" / "a", stream(3000))
    disk = tmp_path / "disk"
    disk.mkdir()
    inner = f"{sys.executable} -c 'from barnum.cli.main import main; main()' preprocess {disk}/a {images}"
    script = (
        f"mount -t tmpfs -o size=24k tmpfs {disk} && cp -r {tmp_path}/seed/a {disk}/ && "
        f"{{ head -c 100k /dev/zero > {disk}/fill; true; }} && "
        f"{{ {inner}; rc=$?; ls -A {disk}/a; exit $rc; }}"
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, timeout=120, check=False
    )
    if b"unshare" in done.stderr or b"mount" in done.stderr:
        pytest.skip("no private mounts here")
    assert done.returncode == 17, done.stderr
    assert b"barnum: " in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"trace_parsed" not in done.stdout


def test_rows_of_a_decoded_path(tree):
    done = barnum("preprocess", "--format", "gz", tree / "traces" / "a", tree / "extract")
    assert done.returncode == 0, done.stderr
    data = gzip.decompress((tree / "traces" / "a" / "trace_parsed.gz").read_bytes())
    import zlib

    base = zlib.adler32(b"/usr/bin/tiny") << 32
    jnz = b"jnz 0x400004\n"
    first = struct.pack("<QQBBB", 0, base + 2, 3, len(jnz), 2) + b"jnz" + jnz
    jmp = b"jmp rax\n"
    second = struct.pack("<QQBBB", base + 2, base, 3, len(jmp), 2) + b"jmp" + jmp
    expected = b"".join(struct.pack("<H", len(row)) + row for row in (first, second))
    assert data.startswith(expected)
    reader = open_path(tree / "traces" / "a" / "trace_parsed.gz")
    assert reader.header["statistics"]["rows"] == 20
    assert reader.blocks.modules == ("/usr/bin/tiny",)


def test_rows_of_the_original_become_parquet_and_rows_again(data_dir, tmp_path):
    source = data_dir / "acrobat" / "traces"
    name = sorted(folder.name for folder in source.iterdir())[0]
    sample = tmp_path / "traces" / name
    sample.mkdir(parents=True)
    for file in ("info.txt", "mapping.txt.gz", "trace_parsed.gz"):
        shutil.copyfile(source / name / file, sample / file)
    original = gzip.decompress((sample / "trace_parsed.gz").read_bytes())
    (tmp_path / "extract").mkdir()
    assert barnum("preprocess", tmp_path / "traces", tmp_path / "extract").returncode == 0
    (sample / "trace_parsed.gz").unlink()
    done = barnum("preprocess", "--format", "gz", sample, tmp_path / "extract")
    assert done.returncode == 0, done.stderr
    assert gzip.decompress((sample / "trace_parsed.gz").read_bytes()) == original
    done = barnum("preprocess", "-f", "--format", "gz", sample, tmp_path / "extract")
    assert done.returncode == 0, done.stderr


def test_nothing_to_make_it_from(tmp_path):
    sample = tmp_path / "a"
    make_sample(sample)
    images = make_images(tmp_path / "extract")
    assert barnum("preprocess", sample, images).returncode == 0
    (sample / "trace_0.gz").unlink()
    done = barnum("preprocess", "-f", sample, images)
    assert done.returncode == 10
    assert b"no raw trace" in done.stderr
    assert (sample / "trace_parsed.parquet").exists()


def test_a_killed_run_takes_its_processes_along_and_the_next_one_makes_its_sample(tmp_path):
    images = make_images(tmp_path / "extract")
    sample = long_sample(tmp_path / "traces" / "long")
    command = [sys.executable, "-c", "from barnum.cli.main import main; main()"]
    run = subprocess.Popen([*command, "preprocess", str(sample), str(images)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not any(name.startswith(".trace_parsed") for name in names(sample)) and time.monotonic() < deadline:
        time.sleep(0.02)
    run.kill()
    run.wait()
    data = next(file for file in sample.iterdir() if file.name.startswith(".trace_parsed"))
    # nobody writes on: the process that decoded ended with the one that asked for it
    size = -1
    while size != data.stat().st_size and time.monotonic() < deadline:
        size = data.stat().st_size
        time.sleep(1)
    assert "trace_parsed.parquet" not in names(sample)
    done = barnum("preprocess", "-t", 0.2, tmp_path / "traces", images)
    assert done.returncode == 0, done.stderr
    assert b"1 finished" in done.stdout
    assert leftovers(sample) == set()


def test_decoding_on_the_way_learns_the_same_transfers(data_dir, tmp_path):
    from barnum.paths.decode import Decoding
    from barnum.paths.preprocess import Request, preprocess
    from barnum.samples import Sample

    source = data_dir / "intel-pt" / "griffin_last"
    output = tmp_path / "trace_parsed.parquet"
    result = preprocess(Request(folder=str(source), bin_dir=str(source / "extract"), output=str(output)))
    parsed = transfers(open_path(output))
    live = transfers(Decoding(Sample.open(source), source / "extract"))
    assert len(parsed) > 1000
    assert result.steps == open_path(output).rows
    for column in ("source", "target", "position", "first"):
        assert np.array_equal(getattr(parsed, column), getattr(live, column))
    assert np.array_equal(parsed.blocks.bbid, live.blocks.bbid)
    assert parsed.blocks.modules == live.blocks.modules
