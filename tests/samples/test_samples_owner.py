"""Who makes a result under way, and whether it still does."""

import os
import subprocess
import sys
import threading

import msgspec
import pytest

from barnum.samples import owner
from barnum.samples.owner import Owner, locked, owner_text


def test_a_line_gives_the_owner_back_whatever_follows():
    mine = Owner.mine()
    assert Owner.parse(mine.text()) == mine
    assert Owner.parse(f"{mine.text()}\n") == mine
    assert Owner.parse(f"{mine.text()} 0123456789abcdef\n") == mine
    assert len(mine.text().split()) == 5
    assert mine.pid == os.getpid()


@pytest.mark.parametrize(
    "text", ["", "host", "host 12 34\n", "a b c d e", "h 0-1 2 3 4x", "h 0-1 2 -3 4", f"h 0-1 2 {'9' * 99} 4"]
)
def test_what_is_no_owner(text):
    assert Owner.parse(text) is None


def test_a_process_is_alive_until_it_ends():
    code = "from barnum.samples.owner import Owner; print(Owner.mine().text(), flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    other = Owner.parse(child.stdout.readline())
    assert other.pid == child.pid
    assert other.state() == "alive"
    # the number may go to another process, which began at another time
    assert msgspec.structs.replace(other, begun=other.begun + 1).state() == "dead"
    child.communicate("\n")
    assert other.state() == "dead"


@pytest.mark.parametrize("field", ["boot", "namespace"])
def test_the_same_host_name_does_not_make_it_this_machine(field):
    there = {"boot": "01234567-89ab-cdef-0123-456789abcdef", "namespace": "1"}[field]
    assert msgspec.structs.replace(Owner.mine(), pid=1, begun=1).state() == "dead"
    assert msgspec.structs.replace(Owner.mine(), pid=1, begun=1, **{field: there}).state() == "elsewhere"


def test_another_host_name_alone_changes_nothing():
    assert msgspec.structs.replace(Owner.mine(), host="renamed").state() == "alive"


def test_nobody_is_judged_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.setattr(owner, "_boot", lambda: "-")
    assert Owner.mine().state() == "elsewhere"


def test_the_text_of_an_owner_is_read_from_regular_files_alone(tmp_path):
    (tmp_path / "owner").write_text(f"{Owner.mine().text()} token\n")
    assert Owner.parse(owner_text(tmp_path / "owner")) == Owner.mine()
    (tmp_path / "long").write_bytes(b"\xff" * 10_000)
    assert owner_text(tmp_path / "long") == "\ufffd" * 4096
    # a program that was recorded may have put these there: none is waited for, or followed
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "owner")
    for name in ("pipe", "link", "gone", "."):
        assert owner_text(tmp_path / name) == ""


def test_one_at_a_time_holds_the_lock_of_a_folder(tmp_path):
    order = []

    def second():
        with locked(tmp_path):
            order.append("second")

    waiting = threading.Thread(target=second)
    with locked(tmp_path):
        waiting.start()
        waiting.join(0.2)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]
    with pytest.raises(FileNotFoundError), locked(tmp_path / "gone"):
        pass
