"""The pickles of the detection benchmark do natively what they are for, and the harmless ones nothing."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from test_effects import needs_strace

sys.path.insert(0, str(Path(__file__).parents[2] / "bench" / "detection"))
import pickles

PYTHON = Path(sys.executable)
# those that need none but the packages of this interpreter
KINDS = (
    "collected",
    "objects",
    "names",
    "several",
    "old",
    "large",
    "failing",
    "arrays",
    "buffers",
    "tensors",
)
# one or two of each kind, and of each way to hide
TRIED = (
    *("os_system", "posix_spawn", "eval", "marshalled", "module_written", "partial", "at_exit"),
    *(
        "numpy_fortran",
        "write",
        "remove",
        "rename",
        "remove_tree",
        "secret",
        "environment",
        "socket",
        "signal",
    ),
    *("base64", "dotted", "memo", "registered", "state_function", "appended", "items_set", "nested_packed"),
    *("file_no_end", "file_text_instance", "file_second", "file_buffer", "file_buffer_name"),
    *("arrays_middle", "arrays_broken", "tensors_middle", "large_behind"),
)


@pytest.fixture(scope="module")
def harmless():
    return pickles.harmless(PYTHON, KINDS, 3)


@pytest.fixture(scope="module")
def harmful():
    return {document.name.removesuffix(".pkl"): document for document in pickles.harmful(PYTHON, KINDS)}


def loaded(content: bytes, folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "document.pkl"
    file.write_bytes(content)
    command = [word.replace("{}", str(file)) for word in pickles.command(PYTHON)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder)


def test_pickles_are_the_same_each_time(harmless, harmful):
    assert pickles.harmless(PYTHON, KINDS, 3) == harmless
    assert {d.name: d for d in pickles.harmful(PYTHON, KINDS)} == {d.name: d for d in harmful.values()}
    assert [document.kind for document in harmless] == [kind for kind in KINDS for _ in range(3)]
    for documents in (harmless, list(harmful.values())):
        assert len({document.name for document in documents}) == len(documents)
        assert len({document.content for document in documents}) == len(documents)
    assert not any(document.harmful for document in harmless)
    assert all(document.harmful for document in harmful.values())


def test_there_are_enough_of_each():
    assert len(pickles.KINDS) >= 12
    assert len(pickles.KINDS) * pickles.COUNT >= 260


@needs_strace
@pytest.mark.parametrize("kind", KINDS)
def test_harmless_pickles_do_nothing(tmp_path, harmless, kind):
    # the one of each kind that the others differ little from
    document = next(document for document in harmless if document.kind == kind)
    assert pickles.checked(document, tmp_path, PYTHON)
    # a check that takes anything would say this, too
    assert not pickles.checked(dataclasses.replace(document, name="write.pkl", kind="file", harmful=True),
                               tmp_path, PYTHON)  # fmt: skip


@needs_strace
@pytest.mark.parametrize("name", TRIED)
def test_harmful_pickles_do_what_they_are_for(tmp_path, harmful, name):
    assert pickles.checked(harmful[name], tmp_path, PYTHON)
    assert list(pickles.effects(harmful[name].content, PYTHON, tmp_path))
    if name in ("os_system", "secret", "socket"):
        assert not pickles.checked(dataclasses.replace(harmful[name], harmful=False), tmp_path, PYTHON)


def test_one_line_says_what_was_loaded_or_went_wrong(tmp_path, harmless):
    for document in harmless:
        done = loaded(document.content, tmp_path)
        assert len(done.stdout.splitlines()) == 1, document.name
        assert not done.stderr
        if document.kind != "failing":
            assert done.returncode == 0, done.stdout
    broken = loaded(harmless[0].content[:-20], tmp_path)
    assert broken.returncode == 1
    assert "Error" in broken.stdout and not broken.stderr


@pytest.mark.parametrize("kind", ["arrays", "large", "tensors"])
def test_what_hides_changes_nothing_else(tmp_path, harmless, harmful, kind):
    host = next(document for document in harmless if document.kind == kind)
    expected = loaded(host.content, tmp_path)
    assert expected.returncode == 0
    for place in ("before", "middle", "behind"):
        hidden = harmful[f"{kind}_{place}"].content
        assert hidden != host.content
        assert loaded(hidden, tmp_path).stdout == expected.stdout


def test_without_an_interpreter_a_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "_base_executable", "/bin/false")
    with pytest.raises(pickles.PickleError, match=r"^cannot make an environment"):
        pickles.interpreter(tmp_path / "python")
    with pytest.raises(pickles.PickleError, match=r"^cannot write pickles: .*no_such_kind"):
        pickles.harmless(PYTHON, ["no_such_kind"], 1)
