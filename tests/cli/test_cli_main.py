"""The ways in which the program ends."""

import errno
import logging
import os

import pytest

from barnum.cli import main as main_module
from barnum.cli.common import set_up_logging
from barnum.errors import MissingPackageError, SampleError
from paths_tools import barnum, make_images, make_sample


@pytest.fixture
def ended(monkeypatch, capsys):
    """Exit code and lines of a command that raises an error."""

    def end(error: BaseException) -> tuple[int, list[str]]:
        def fail(*_words):
            raise error

        monkeypatch.setattr(main_module.cli, "make_context", fail)
        with pytest.raises(SystemExit) as caught:
            main_module.main()
        return caught.value.code, capsys.readouterr().err.splitlines()

    return end


def test_a_full_disk_and_other_errors_of_the_system_are_one_line(ended, tmp_path):
    full = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "a"))
    start = f"barnum: {tmp_path}/a: "
    line = start + "cannot be written (no space left on device): nothing that was finished is lost"
    assert ended(full) == (17, [line])
    gone = FileNotFoundError(errno.ENOENT, "No such file or directory", b"gone")
    assert ended(gone) == (10, ["barnum: gone: cannot be read (no such file or directory)"])
    assert ended(OSError(errno.EMFILE, "Too many open files")) == (10, ["barnum: too many open files"])
    assert ended(OSError("two\nlines")) == (10, ["barnum: two?lines"])


def test_too_little_memory_is_one_line(ended):
    assert ended(MemoryError())[0] == 10
    assert ended(MemoryError())[1][0].startswith("barnum: not enough memory: ")
    told = MemoryError("Unable to allocate 5.59 GiB for an array with\nshape (750000000,)" + "x" * 1000)
    code, lines = ended(told)
    assert code == 10
    assert lines[0].startswith(
        "barnum: not enough memory: Unable to allocate 5.59 GiB for an array with shape"
    )
    assert len(lines) == 1
    assert len(lines[0]) < 300
    torch = RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you"
    )
    assert ended(torch)[1][0].startswith("barnum: not enough memory: [enforce")
    card = type("OutOfMemoryError", (RuntimeError,), {})
    assert ended(card("CUDA out of memory."))[1] == ["barnum: not enough memory: CUDA out of memory."]
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        ended(RuntimeError("a mistake of ours"))


@pytest.mark.parametrize(
    ("there", "readable", "code"),
    [(True, True, 17), (True, False, 10), (False, True, 17), (False, False, 10)],
)
def test_what_was_refused_tells_whether_reading_or_writing_failed(
    ended, tmp_path, monkeypatch, there, readable, code
):
    file = tmp_path / "a"
    if there:
        file.touch()
    monkeypatch.setattr(os, "access", lambda _file, _how: readable)
    status, lines = ended(PermissionError(errno.EACCES, "Permission denied", str(file)))
    assert status == code
    assert lines[0].startswith(f"barnum: {file}: cannot be {'written' if code == 17 else 'read'} (permission")


def test_messages_cannot_draw_on_the_terminal(ended, capsys):
    assert ended(SampleError("\x1b[2Ja\nbarnum: b")) == (10, ["barnum: ?[2Ja?barnum: b"])
    set_up_logging(logging.INFO)
    logging.getLogger("barnum.x").info("%s", "\x1b[2Ja\nb\u202e")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].endswith("INFO ?[2Ja?b?")
    try:
        raise ValueError("\x1b[2J")
    except ValueError:
        logging.getLogger("barnum.x").exception("it\rfailed")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("ERROR it?failed")
    assert lines[1].startswith("Traceback")
    assert lines[-1] == "ValueError: ?[2J"


def test_a_hostile_name_of_a_sample(tmp_path):
    images = make_images(tmp_path / "extract")
    make_sample(tmp_path / "traces" / "a\x1b[31m\nb", packed=b"")
    done = barnum("preprocess", tmp_path / "traces", images)
    assert done.returncode == 22
    assert b"a?[31m?b" in done.stderr
    assert b"\x1b" not in done.stderr


def test_options_that_the_library_refuses_are_a_usage_error(tmp_path):
    same = tmp_path / "x"
    (tmp_path / "eval").mkdir()
    done = barnum("cluster", "--csv", same, "--json", same, tmp_path / "eval")
    assert done.returncode == 2
    lines = done.stderr.decode().splitlines()
    assert lines[0] == "Usage: barnum cluster [OPTIONS] EVAL_DIR"
    assert lines[-1] == "Error: --csv and --json name the same file: give each its own"


def test_a_package_that_is_missing_has_its_own_exit_code(ended):
    assert ended(MissingPackageError("this needs torch")) == (24, ["barnum: this needs torch"])
