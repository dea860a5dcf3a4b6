"""Samples by the names of their documents."""

import json
import os
import shutil

import pytest
from test_samples_folder import make_sample

import barnum
from barnum.errors import SampleError
from barnum.samples import LABELS, folder_named
from learning import barnum as run
from learning import nominal_path, write_sample


@pytest.fixture
def tree(tmp_path):
    """Three samples, of two of which the documents have one name."""
    root = tmp_path / "traces"
    write_sample(root, "a letter.pdf", "unknown", nominal_path(1))
    for name in ("one", "other"):
        write_sample(tmp_path / name, f"{name}.pdf", "benign", nominal_path(2))
        [folder] = (tmp_path / name).iterdir()
        (folder / "info.txt").write_text("twice.pdf\nbenign\n")
        shutil.move(folder, root)
    return root


def folder_of(root, name):
    return next(entry for entry in root.iterdir() if (entry / "info.txt").read_text().startswith(f"{name}\n"))


def test_the_only_one_of_that_name_is_found(tree):
    folder = folder_of(tree, "a letter.pdf")
    assert folder_named(tree / "a letter.pdf") == folder
    # what is there is what was meant
    assert folder_named(folder) == folder
    (tree / "a letter.pdf").mkdir()
    assert folder_named(tree / "a letter.pdf") == tree / "a letter.pdf"
    for place in (
        tree / "none.pdf",
        tree / "gone" / "a letter.pdf",
        tree / ("x" * 5000),
        tree / "x\0",
        tree / "..",
    ):
        assert folder_named(place) == place


def test_a_folder_that_is_not_there_is_no_other(tree):
    """Who names a document chooses its name, but not the hash of another."""
    gone = "ab" * 32
    info = folder_of(tree, "a letter.pdf") / "info.txt"
    info.write_text(f"{gone}\nbenign\n")
    assert folder_named(tree / gone) == tree / gone
    assert folder_named(tree / gone.upper()) == tree / gone.upper()


def test_several_of_a_name_are_listed(tree, tmp_path):
    folders = [entry.name for entry in tree.iterdir() if "twice" in (entry / "info.txt").read_text()]
    with pytest.raises(SampleError, match="2 samples have that name") as error:
        folder_named(tree / "twice.pdf")
    assert all(name in str(error.value) for name in folders) and "\n" not in str(error.value)
    for number in range(20):
        write_sample(tmp_path / "many", f"{number}", "benign", [0])
    for folder in (tmp_path / "many").iterdir():
        (folder / "info.txt").write_text("x.pdf\nbenign\n")
    with pytest.raises(SampleError, match=r"20 samples .* and 12 more in "):
        folder_named(tmp_path / "many" / "x.pdf")


@pytest.mark.parametrize("label", [*LABELS, "harmless"])
def test_names_are_found_as_they_were_written(tmp_path, label):
    root = tmp_path / "traces"
    for folder, name in (("a", "two\nlines"), ("b", "\x1b[2J.pdf"), ("c", r"\xff.pdf"), ("d", "ä.pdf")):
        make_sample(root / folder, label, name)
    for folder, name in (
        ("a", "two\nlines"),
        ("b", "\x1b[2J.pdf"),
        ("c", os.fsdecode(b"\xff.pdf")),
        ("d", "ä.pdf"),
    ):
        assert folder_named(root / name) == root / folder


def test_hostile_folders_are_passed_over(tree, tmp_path):
    (tmp_path / "secret").write_text("secret.pdf\nbenign\n")
    for name in ("link", "pipe", "large", "empty", "cut.part"):
        (tree / name).mkdir()
    (tree / "link" / "info.txt").symlink_to(tmp_path / "secret")
    os.mkfifo(tree / "pipe" / "info.txt")
    (tree / "large" / "info.txt").write_bytes(b"secret.pdf\nbenign\n" + bytes(1 << 20))
    (tree / "cut.part" / "info.txt").write_text("secret.pdf\nbenign\n")
    assert folder_named(tree / "secret.pdf") == tree / "secret.pdf"
    assert folder_named(tree / "a letter.pdf") == folder_of(tree, "a letter.pdf")


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("stats", ["-r", "SAMPLE", "OUT"]),
        ("export", ["--format", "drcov", "-o", "OUT", "SAMPLE"]),
        ("preprocess", ["SAMPLE", "BIN"]),
        ("decode", ["--bin-dir", "BIN", "SAMPLE"]),
    ],
)
def test_commands_take_names_of_documents(tree, tmp_path, command, options):
    (tmp_path / "bin").mkdir()

    def ended(sample, out):
        words = {"SAMPLE": sample, "OUT": tmp_path / out, "BIN": tmp_path / "bin"}
        return run(command, *(words.get(word, word) for word in options))

    by_folder = ended(folder_of(tree, "a letter.pdf"), "a")
    by_name = ended(tree / "a letter.pdf", "b")
    # the last two have nothing to decode, or are done, and say the same of the same folder
    assert (by_name.code, by_name.err) == (by_folder.code, by_folder.err)
    if (tmp_path / "a").exists():
        assert by_name.code == 0
        assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
    several = ended(tree / "twice.pdf", "c")
    assert several.code == 10
    assert "2 samples have that name" in several.error
    none = ended(tree / "none.pdf", "d")
    assert none.code == 2
    assert f"Directory '{tree / 'none.pdf'}' does not exist" in none.usage
    assert not (tmp_path / "c").exists() and not (tmp_path / "d").exists()


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    from learning import write_tree

    folder = tmp_path_factory.mktemp("detector")
    learned = barnum.learn(
        write_tree(folder / "traces"), network="rote", train_size=16, test_size=8, eval_dir=folder / "eval"
    )
    barnum.pack(folder / "detector", learned.model, barnum.classify(learned.evaluations))
    return folder / "detector"


def test_runs_are_judged_by_the_names_of_their_documents(detector, tree):
    ended = run("score", detector, *(tree / name for name in ("a letter.pdf", "twice.pdf", "none.pdf")))
    assert ended.code == 22
    found, several, none = map(json.loads, ended.out.splitlines())
    folder = folder_of(tree, "a letter.pdf")
    assert (found["sample"], found["folder"]) == (folder.name, str(tree / "a letter.pdf"))
    assert (found["name"], found["verdict"]) == ("a letter.pdf", "nominal")
    assert "2 samples have that name" in several["error"]
    assert "is no sample folder" in none["error"]


def test_the_library_takes_names_of_documents(detector, tree):
    folder = folder_of(tree, "a letter.pdf")
    place = tree / "a letter.pdf"
    assert barnum.open_sample(str(place)).folder == folder
    assert len(barnum.open_path(place)) == 3000
    assert barnum.judge(detector, place) == barnum.judge(detector, folder)
    for function in (barnum.open_sample, barnum.open_path, barnum.decode, barnum.preprocess):
        with pytest.raises(SampleError, match="2 samples have that name"):
            function(tree / "twice.pdf")
