"""``barnum cluster`` as a user meets it."""

import csv
import io
import json
import os
import zlib

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image
from test_evaluations_files import columns, header

from barnum import evaluations
from barnum.cli.cluster import command
from barnum.errors import BarnumError, EvaluationError, OutputExistsError, ParsedTraceError
from barnum.evaluations.folder import find_evaluations
from barnum.paths import Blocks, Chunk, GapDetails
from barnum.paths.parquet import Ending, write_parquet
from barnum.pictures.radar import HEIGHT, WIDTH, draw_radar
from barnum.report import symbols
from barnum.report.cluster_places import read_all
from barnum.report.clusters import ClusterRequest, cluster
from paths_tools import barnum

PATHS = ("/usr/lib/libone.so", "/opt/two $x^2$ ü.so")
HASHES = [zlib.adler32(path.encode()) for path in PATHS]
ROWS = 60


def run(*arguments):
    # starting processes takes long; those tests that are about them say how many
    words = ["-w", "1", *(str(word) for word in arguments)]
    result = CliRunner().invoke(command, words, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    assert (result.return_value or 0) == 0
    return result.stdout


def bbid(module, offset):
    return HASHES[module] << 32 | offset


def steps_of(family, number):
    """BBIDs of a run's path: known ground, and at every fifth step an anomaly of the family's, or its own."""
    steps = [bbid(0, 0x10 * (i % 7)) for i in range(ROWS + 1)]
    for i in range(4, ROWS, 5):
        own = i >= 59
        page = (0x50 + number if own else 0x20 + family) << 12
        steps[i] = bbid(1 if family == 1 else 0, page + 8 * (i % 30))
    return np.array(steps, np.uint64)


def write(folder, label, number, family, format="parquet", steps=None, **changes):
    """An evaluation with a row a step from the second on; a run of no family has no anomaly."""
    folder.mkdir(exist_ok=True)
    actual = (steps_of(family, number) if steps is None else steps)[1:]
    odd = (np.arange(1, ROWS + 1) % 5 == 4) & (np.arange(1, ROWS + 1) < ROWS) & (family is not None)
    parts = columns(
        ROWS,
        number,
        actual=actual,
        correct=~odd,
        predicted=actual + np.uint64(family or 0),
        seen=np.where(odd, 0, 2).astype(np.uint8),
        novelty=np.where(odd, 2, 0).astype(np.float32),
        position=np.arange(1, ROWS + 1).astype(np.uint64),
    )
    sample = f"s{number:02}"
    fields = {"name": f"{label}-{number}.doc", "sample": sample, **changes}
    file = folder / evaluations.file_name(label, sample, format)
    with evaluations.writer_for(format, file, header(label, **fields)) as writer:
        writer.write(parts)
    return file


def write_trace(root, number, steps, gaps=()):
    folder = root / f"s{number:02}"
    folder.mkdir(parents=True)
    table, block = np.unique(steps, return_inverse=True)
    count = len(table)
    wide = np.zeros(count, np.uint64)
    module = np.array([HASHES.index(int(each) >> 32) for each in table], np.int32)
    blocks = Blocks(
        bbid=table,
        kind=np.zeros(count, np.uint8),
        module=module,
        modules=PATHS,
        offset=table & np.uint64(0xFFFFFFFF),
        start=wide,
        length=np.ones(count, np.uint32),
        count=np.ones(count, np.uint32),
        process=np.zeros(count, np.uint16),
    )
    gap = np.zeros(len(steps), np.uint8)
    gap[[0, *gaps]] = 1
    chunk = Chunk(block.astype(np.uint32), gap, np.zeros(len(steps), np.uint16))
    # in two pieces that readers see as such
    pieces = [chunk.part(0, 5), chunk.part(5, len(steps))]
    write_parquet(
        folder / "trace_parsed.parquet", pieces, lambda: Ending(blocks, {"schema": 1}, GapDetails.empty())
    )
    return folder


@pytest.fixture
def folder(tmp_path):
    """Two families of five malicious runs, one of none, one without an anomaly, and benign ones."""
    made = tmp_path / "eval"
    for number in range(10):
        write(made, "malicious", number, number % 2)
    write(made, "malicious", 10, 9)
    write(made, "malicious", 11, None, steps=np.full(ROWS + 1, bbid(0, 0), np.uint64))
    for number in range(20, 24):
        write(made, "benign", number, 1 if number == 20 else None, steps=steps_of(1, number))
    return made


@pytest.fixture
def traces(tmp_path, folder):
    root = tmp_path / "traces"
    for file in folder.iterdir():
        table = pq.read_table(file, columns=["actual"])["actual"].to_numpy()
        write_trace(root, int(file.stem.split("-s")[1]), np.append(np.uint64(bbid(0, 0x999)), table))
    return root


@pytest.mark.parametrize("algorithm", ["dbscan", "hdbscan"])
def test_families_are_told_with_what_makes_them_one(folder, algorithm):
    output = run(folder, "--algorithm", algorithm)
    assert f"cluster: {algorithm} by place" in output
    assert "11 points, 2 clusters, 1 noise" in output
    assert "left out, 1 run without any anomalous transfer: malicious-11.doc" in output
    assert "cluster 0, 5 runs: malicious-0.doc, malicious-2.doc" in output
    assert "cluster 1, 5 runs: malicious-1.doc" in output
    assert "noise, 1 runs: malicious-10.doc" in output
    # first what comes first
    assert f"5/5 runs, 0/11 others  → module {HASHES[0]:08x}+0x20020" in output
    # a benign run had the other family's too
    assert f"5/5 runs, 1/11 others  → module {HASHES[1]:08x}+0x21020" in output


def test_the_originals_view(folder, tmp_path):
    for words in (("--by", "predicted"), ("--max-classes", "256")):
        output = run(folder, *words, "--eps", "0.3", "-c", tmp_path / "c.csv", "-f")
        assert "classes predicted wrongly (mod 256), Euclidean distance, 4 runs within 0.3" in output
        assert "11 points" in output
        assert "without any wrong prediction: malicious-11.doc" in output
    rows = list(csv.reader((tmp_path / "c.csv").read_text().splitlines()))
    assert rows[0] == ["cluster", "filename"]
    assert rows[1:3] == [["0", "malicious-s00.parquet"], ["1", "malicious-s01.parquet"]]
    assert len(rows) == 12


def test_everything_is_in_the_json(folder, tmp_path):
    run(folder, "--json", tmp_path / "c.json", "-c", tmp_path / "c.csv")
    document = json.loads((tmp_path / "c.json").read_text())
    assert (document["schema"], document["algorithm"], document["by"]) == (1, "dbscan", "place")
    assert (document["eps"], document["min_samples"], document["max_classes"]) == (0.4, 4, None)
    assert (document["points"], document["noise"], document["model"]) == (11, 1, "m")
    assert [each["name"] for each in document["left_out"]] == ["malicious-11.doc"]
    first = document["clusters"][0]
    assert (first["cluster"], first["runs"], first["core"]) == (0, 5, 5)
    assert sum(each["share"] for each in first["mean"]) == pytest.approx(1)
    assert first["mean"][0]["offset"] == 0x20000
    transfer = first["transfers"][0]
    assert transfer["source"] is None
    assert transfer["target"]["bbid"] == bbid(0, 0x20020)
    assert transfer["target"] | {"module": None} == transfer["target"]
    assert (transfer["inside"], transfer["outside"], transfer["novelty"]) == (1, 0, 2)
    labels = {each["file"]: each["cluster"] for each in document["runs"]}
    rows = list(csv.DictReader((tmp_path / "c.csv").read_text().splitlines()))
    assert {row["filename"]: int(row["cluster"]) for row in rows} == labels
    assert labels["malicious-s10.parquet"] == -1


def test_traces_name_modules_and_sites(folder, traces, tmp_path):
    output = run(folder, "--traces", traces, "--json", tmp_path / "c.json")
    assert "5/5 runs, 0/11 others  libone.so+0x30 → libone.so+0x20020" in output
    # names cannot command the terminal, but letters of any language are letters
    assert "→ two $x^2$ ü.so+0x21020" in output
    transfer = json.loads((tmp_path / "c.json").read_text())["clusters"][0]["transfers"][0]
    assert transfer["source"]["module"] == transfer["target"]["module"] == PATHS[0]
    assert transfer["source"]["offset"] == 0x30


def test_images_name_functions(folder, traces, tmp_path, monkeypatch):
    images = tmp_path / "extract"
    images.mkdir()
    (images / "libone.so").write_bytes(b"an image")
    for sample in traces.iterdir():
        (sample / "info.txt").write_text("a.doc\nmalicious\n")
    asked = []

    def read(image, *_):
        asked.append(image.name)
        return symbols.Symbols([symbols.Function(0x20000, 0x100, "open\x1bit")]), None

    monkeypatch.setattr(symbols, "read_symbols", read)
    output = run(folder, "--traces", traces, "--bin-dir", images, "--json", tmp_path / "c.json")
    assert "libone.so+0x30 → libone.so+0x20020 (open?it+0x20)" in output
    assert "→ two $x^2$ ü.so+0x21020\n" in output
    assert asked == ["libone.so"]
    target = json.loads((tmp_path / "c.json").read_text())["clusters"][0]["transfers"][0]["target"]
    assert (target["function"], target["function_offset"]) == ("open\x1bit", 0x20)


def test_a_run_without_its_trace_takes_the_sites_away(folder, traces):
    (traces / "s03" / "trace_parsed.parquet").unlink()
    output = run(folder, "--traces", traces)
    assert "told by targets alone, for these have no trace: malicious-3.doc" in output
    assert "5/5 runs, 0/11 others  → libone.so+0x20020" in output


def test_maps_name_modules_of_the_originals_evaluations(tmp_path):
    made, root = tmp_path / "eval", tmp_path / "traces"
    for number in range(10):
        write(made, "malicious", number, number % 2, format="gz")
        (root / f"s{number:02}").mkdir(parents=True)
    (root / "s04" / "mapping.txt").write_text(f"400000-401000 r-xp 00000000 00:00 0 {PATHS[0]}\n")
    (root / "s05" / "mapping.txt").write_text("nonsense\n")
    output = run(made, "--traces", root)
    assert "pages of wrong predictions" in output
    assert "10 points, 2 clusters, 0 noise" in output
    # they do not know what the document was called
    assert "cluster 0, 5 runs: s00, s02" in output
    assert "5/5 runs, 0/5 others  → libone.so+0x20020" in output
    assert f"→ module {HASHES[1]:08x}+0x21020" in output


def test_another_trace_is_refused(folder, traces, tmp_path):
    for file in (traces / "s04").iterdir():
        file.unlink()
    (traces / "s04").rmdir()
    steps = np.append(np.uint64(bbid(0, 0x999)), steps_of(0, 4)[1:])
    write_trace(traces, 4, np.roll(steps, 1))
    with pytest.raises(EvaluationError, match=r"s04.*not those of its trace"):
        run(folder, "--traces", traces, "-w", 1)
    for other, gaps in ((steps[:20], ()), (steps, (4,))):
        (traces / "s04" / "trace_parsed.parquet").unlink()
        (traces / "s04").rmdir()
        write_trace(traces, 4, other, gaps)
        with pytest.raises(EvaluationError, match=r"s04.*has no transfer where"):
            run(folder, "--traces", traces, "-w", 1)
    (traces / "s04" / "trace_parsed.parquet").write_bytes(b"PAR1 and no more")
    # errors come through from other processes too
    with pytest.raises(ParsedTraceError, match="s04"):
        run(folder, "--traces", traces, "-w", 3)


def test_results_do_not_depend_on_processes(folder, traces, tmp_path):
    for workers in (1, 3):
        files = [tmp_path / f"{workers}.{ending}" for ending in ("csv", "png", "json")]
        run(folder, "--traces", traces, "-w", workers, "-c", files[0], "-p", files[1], "--json", files[2])
    for ending in ("csv", "png", "json"):
        assert (tmp_path / f"1.{ending}").read_bytes() == (tmp_path / f"3.{ending}").read_bytes()


@pytest.mark.parametrize("words", [(), ("--by", "predicted"), ("--min-samples", "12")])
def test_the_plot_is_a_picture(folder, traces, tmp_path, words):
    """Also where a name holds what matplotlib takes for a formula, and where there is no cluster."""
    run(folder, *words, "--traces", traces, "-p", tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as picture:
        picture.load()
        assert (picture.format, picture.size) == ("PNG", (WIDTH, HEIGHT))
        assert len(set(picture.convert("L").resize((120, 90)).tobytes())) > 10


def drawn(*arguments):
    with Image.open(io.BytesIO(draw_radar(*arguments))) as picture:
        picture.load()
        assert picture.size == (WIDTH, HEIGHT)
        return np.asarray(picture.convert("RGB")).astype(int)


def test_a_radar_shows_each_shape_in_its_direction():
    """From the top clockwise: the second of four axes points to the right."""
    blank = drawn("t", list("abcd"), [("one", np.array([1e-9, 0, 0, 1.0]))])
    right = drawn("t", list("abcd"), [("one", np.array([0, 1.0, 0, 1.0]))])
    changed = np.abs(right - blank).sum(axis=2) > 30
    at = np.flatnonzero(changed.any(axis=0))
    centre = int(WIDTH * 0.4)
    assert at.min() >= centre - 5
    assert at.max() > centre + 150


@pytest.mark.parametrize(("axes", "shapes"), [(0, 0), (1, 1), (2, 40), (3, 1), (5000, 2)])
def test_any_number_of_axes_and_shapes_is_drawn(axes, shapes):
    draw = np.random.default_rng(axes)
    names = [f"_${i}_{{\x00\N{SNOWMAN}" for i in range(axes)]
    drawn("x" * 500, names, [(f"_$cluster {i}\n$$", draw.random(axes)) for i in range(shapes)])


def test_fewer_runs_than_a_cluster_needs(folder, tmp_path):
    output = run(folder, "--min-samples", 12, "-c", tmp_path / "c.csv")
    assert "11 points, 0 clusters, 11 noise" in output
    assert "fewer points than --min-samples 12, so all are noise" in output
    rows = (tmp_path / "c.csv").read_text().splitlines()[1:]
    assert {row.split(",")[0] for row in rows} == {"-1"}


def test_only_runs_labelled_malicious_are_grouped_unless_asked(folder):
    assert "12 points" in run(folder, "--all")
    for file in folder.glob("malicious-*"):
        file.unlink()
    with pytest.raises(EvaluationError, match=r"no run labelled malicious.*--all"):
        run(folder)
    assert "1 point, 0 clusters, 1 noise" in run(folder, "--all")


def test_runs_of_unknown_label_are_grouped_when_asked_and_else_no_others_either(folder, tmp_path):
    before = run(folder, "--json", tmp_path / "before.json")
    for number in range(30, 36):
        write(folder, "unknown", number, 0)
    output = run(folder, "--json", tmp_path / "c.json", "-c", tmp_path / "c.csv")
    line = "of unknown label, 6 runs (--all groups them): " + ", ".join(
        f"unknown-{i}.doc" for i in range(30, 36)
    )
    assert [each for each in output.splitlines() if each != line] == before.splitlines()
    assert line in output
    found, known = (json.loads((tmp_path / name).read_text()) for name in ("c.json", "before.json"))
    assert [row["label"] for row in found.pop("unknown")] == ["unknown"] * 6
    assert known.pop("unknown") == []
    assert found == known
    assert "unknown" not in (tmp_path / "c.csv").read_text()
    assert "18 points" in run(folder, "--all", "--json", tmp_path / "all.json", "--force")
    assert json.loads((tmp_path / "all.json").read_text())["unknown"] == []
    for file in [*folder.glob("benign-*"), *folder.glob("malicious-*")]:
        file.unlink()
    with pytest.raises(EvaluationError, match=r"no run labelled malicious.*--all"):
        run(folder)


def test_a_folder_where_nothing_went_wrong(folder, tmp_path):
    for file in folder.iterdir():
        if file.name != "malicious-s11.parquet":
            file.unlink()
    output = run(folder, "--json", tmp_path / "c.json", "-p", tmp_path / "c.png")
    assert "0 points, 0 clusters, 0 noise" in output
    assert json.loads((tmp_path / "c.json").read_text())["clusters"] == []


def test_what_is_there_is_kept_unless_forced(folder, tmp_path):
    for option, name in (("-c", "a"), ("-p", "b"), ("--json", "c")):
        (tmp_path / name).write_text("mine")
        with pytest.raises(OutputExistsError, match="--force"):
            run(folder, option, tmp_path / name)
        assert (tmp_path / name).read_text() == "mine"
        run(folder, option, tmp_path / name, "--force")
        assert (tmp_path / name).read_bytes() != b"mine"
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c", "eval"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--eps", "0"), "eps"),
        (("--eps", "-1"), "eps"),
        (("--eps", "nan"), "eps"),
        (("--min-samples", "0"), "min-samples"),
        (("--max-classes", "0"), "max-classes"),
        (("--max-classes", "9", "--by", "place"), "--by predicted"),
        (("--algorithm", "hdbscan", "--eps", "0.1"), "dbscan"),
        (("--algorithm", "hdbscan", "--min-samples", "1"), "2 or more"),
        (("-w", "0"), "workers"),
        (("--traces", "/nowhere"), "traces"),
        (("--bin-dir", "/"), "--traces"),
        (("-c", "EVAL/x.csv"), "nothing else"),
        (("--json", "EVAL/x.csv"), "--json"),
        (("-c", "EVAL/../x", "--json", "EVAL/../x"), "same file"),
    ],
)
def test_wrong_words_are_usage_errors(folder, words, message):
    done = barnum("cluster", *(word.replace("EVAL", str(folder)) for word in words), folder)
    assert done.returncode == 2
    assert message in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_a_folder_that_is_missing_is_noticed_before_work_is_done(folder, tmp_path):
    done = barnum("cluster", "-c", tmp_path / "gone" / "x", folder)
    assert done.returncode == 17
    assert done.stderr.decode().splitlines()[-1].endswith(f"(no such folder: {tmp_path}/gone)")


def test_broken_evaluations_end_with_a_line(folder, tmp_path):
    broken = folder / "malicious-s03.parquet"
    broken.write_bytes(broken.read_bytes()[:100])
    for workers in ("1", "2"):
        done = barnum("cluster", "-w", workers, "-c", tmp_path / "c.csv", folder)
        assert done.returncode == 19
        last = done.stderr.decode().splitlines()[-1]
        assert last.startswith("barnum: ")
        assert "malicious-s03" in last
        assert b"Traceback" not in done.stderr
    assert not (tmp_path / "c.csv").exists()


def test_missing_mixed_and_foreign(folder, tmp_path):
    with pytest.raises(EvaluationError, match="no such folder"):
        run(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EvaluationError, match="holds no evaluation"):
        run(tmp_path / "empty")
    mixed = write(folder, "malicious", 40, 0, format="gz")
    with pytest.raises(EvaluationError, match=r"s40\.gz does not say which model"):
        run(folder)
    mixed.unlink()
    write(folder, "malicious", 41, 0, model="another")
    with pytest.raises(EvaluationError, match="another model"):
        run(folder)


def test_classes_have_no_places(tmp_path):
    made = tmp_path / "eval"
    for number in range(5):
        write(made, "malicious", number, 0, steps=steps_of(0, number) % np.uint64(1024))
    with pytest.raises(EvaluationError, match="--by predicted"):
        run(made)
    output = run(made, "--by", "predicted", "--eps", "0.9")
    assert "5/5 runs, 0/0 others  → class 32" in output
    root = tmp_path / "traces"
    for number in range(5):
        write_trace(root, number, steps_of(0, number))
    output = run(made, "--traces", root)
    assert "5/5 runs, 0/0 others  libone.so+0x30 → libone.so+0x20020" in output


def test_names_cannot_command_the_terminal(folder):
    write(folder, "malicious", 50, 0, name="\x1b[2Jevil\n.doc")
    output = run(folder)
    assert "\x1b" not in output
    assert "?[2Jevil?.doc" in output


def test_names_that_are_no_text(tmp_path):
    made = tmp_path / "eval"
    name = os.fsencode(write(made, "malicious", 1, 0, format="gz"))
    os.rename(name, name.replace(b"s01", b"s\xff"))
    output = run(made, "-c", tmp_path / "c.csv", "--json", tmp_path / "c.json", "-p", tmp_path / "c.png")
    assert "1 point" in output
    assert b"\n-1,malicious-s\xff.gz\n" in (tmp_path / "c.csv").read_bytes()
    assert json.loads((tmp_path / "c.json").read_text())["runs"][0]["name"] == r"s\xff"


def test_the_library_gives_what_the_command_writes(folder, traces, tmp_path, capsys):
    """Without a word on standard output."""
    files = {option: tmp_path / option for option in ("--csv", "--plot", "--json")}
    printed = run(folder, "--traces", traces, *(word for item in files.items() for word in item))
    request = ClusterRequest(folder=folder, traces=traces)
    read = []
    runs, names = read_all(find_evaluations(folder), 1, request.max_classes, traces, lambda: read.append(1))
    result = cluster(request, runs, names)
    assert len(read) == len(runs) == 16
    assert result.text() + "\n" == printed
    assert files["--csv"].read_bytes() == result.csv()
    assert files["--plot"].read_bytes() == result.plot()
    assert files["--json"].read_bytes() == result.json()
    assert [len(result.members(number)) for number in (0, 1, -1)] == [5, 5, 1]
    assert "".join(capsys.readouterr()) == ""


def test_help_is_quick_and_errors_are_of_the_project():
    assert issubclass(EvaluationError, BarnumError)
    done = barnum("cluster", "--help")
    assert done.returncode == 0
    assert b"EVAL_DIR" in done.stdout
