"""Whose a result under way is."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from barnum.errors import OutputError, OutputExistsError
from barnum.paths.claims import Claim
from barnum.paths.preprocess import beside
from barnum.samples.folder import DIGEST
from barnum.samples.owner import Owner, started


def gone_process() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


TOKEN = "0123456789abcdef"
ELSEWHERE = f"elsewhere 0123-45 4026531836 12 34 {TOKEN}\n"


def claim_of(pid: int, begun: int = 1) -> str:
    """The line of a process of this machine."""
    return f"{msgspec.structs.replace(Owner.mine(), pid=pid, begun=begun).text()} {TOKEN}\n"


def test_a_result_appears_whole_and_nothing_else_stays(tmp_path):
    claim = Claim(tmp_path / "r.parquet")
    assert (tmp_path / "r.parquet.part").read_text().split()[3] == str(os.getpid())
    claim.data.write_text("x")
    assert not (tmp_path / "r.parquet").exists()
    claim.finish()
    assert [file.name for file in tmp_path.iterdir()] == ["r.parquet"]
    assert (tmp_path / "r.parquet").read_text() == "x"


def made_with_a_digest(folder, text, force=False):
    claim = Claim(folder / "r.parquet", force=force)
    claim.data.write_text(text)
    beside(claim.data).write_text(text)
    return claim


def test_a_digest_is_that_of_the_path_beside_it(tmp_path):
    made_with_a_digest(tmp_path, "1").finish()
    assert (tmp_path / DIGEST).read_text() == "1"
    made_with_a_digest(tmp_path, "2", force=True).finish()
    assert (tmp_path / DIGEST).read_text() == (tmp_path / "r.parquet").read_text() == "2"
    # a path without a digest takes the old one's away
    claim = Claim(tmp_path / "r.parquet", force=True)
    claim.data.write_text("3")
    claim.finish()
    assert [file.name for file in tmp_path.iterdir()] == ["r.parquet"]


@pytest.mark.parametrize("after", [0, 1])
def test_a_kill_leaves_no_digest_of_another_path(tmp_path, monkeypatch, after):
    made_with_a_digest(tmp_path, "1").finish()
    claim = made_with_a_digest(tmp_path, "2", force=True)
    renamed = []
    replace = Path.replace

    def killed(self, target):
        if len(renamed) == after:
            raise KeyboardInterrupt
        renamed.append(target)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        claim.finish()
    digest = tmp_path / DIGEST
    assert not digest.exists() or digest.read_text() == (tmp_path / "r.parquet").read_text()


def test_dropping_leaves_nothing(tmp_path):
    claim = Claim(tmp_path / "r")
    claim.data.write_text("x")
    claim.drop()
    assert list(tmp_path.iterdir()) == []


def test_results_and_claims_are_refused_without_force(tmp_path):
    first = Claim(tmp_path / "r")
    with pytest.raises(OutputExistsError, match="is making it"):
        Claim(tmp_path / "r")
    first.data.write_text("1")
    first.finish()
    with pytest.raises(OutputExistsError, match="use --force"):
        Claim(tmp_path / "r")
    second = Claim(tmp_path / "r", force=True)
    second.data.write_text("2")
    second.finish()
    assert (tmp_path / "r").read_text() == "2"


def test_force_does_not_rob_a_running_process_of_this_machine(tmp_path):
    Claim(tmp_path / "r")
    with pytest.raises(OutputExistsError, match="wait for it"):
        Claim(tmp_path / "r", force=True)


def test_what_a_dead_process_left_is_taken_over_with_its_data(tmp_path):
    (tmp_path / "r.part").write_text(claim_of(gone_process()))
    (tmp_path / f".r.{TOKEN}").write_text("half")
    claim = Claim(tmp_path / "r")
    assert [file.name for file in tmp_path.iterdir()] == ["r.part"]
    with pytest.raises(OutputExistsError, match="is making it"):
        Claim(tmp_path / "r")
    claim.data.write_text("whole")
    claim.finish()
    assert [file.name for file in tmp_path.iterdir()] == ["r"]


def test_of_several_that_see_a_dead_owner_one_takes_over(tmp_path):
    (tmp_path / "r.part").write_text(claim_of(gone_process()))
    begin = threading.Barrier(8)

    def take(_number: int) -> int:
        begin.wait()
        try:
            Claim(tmp_path / "r")
        except OutputExistsError:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(8))) == 1


def test_a_number_that_now_belongs_to_another_process_counts_as_gone(tmp_path):
    (tmp_path / "r.part").write_text(claim_of(os.getpid(), started(os.getpid()) + 1))
    Claim(tmp_path / "r").drop()


@pytest.mark.parametrize("content", [ELSEWHERE, "", "what?", "a b c ../../x\n", f"host 12 34 {TOKEN}\n"])
def test_only_force_takes_over_from_elsewhere_and_from_nobody(tmp_path, content):
    (tmp_path / "r.part").write_text(content)
    with pytest.raises(OutputExistsError, match="use --force to take it over"):
        Claim(tmp_path / "r")
    assert (tmp_path / "r.part").read_text() == content
    Claim(tmp_path / "r", force=True).drop()
    assert list(tmp_path.iterdir()) == []


def test_a_result_that_was_finished_just_before_the_claim_is_seen(tmp_path, monkeypatch):
    take = Claim._take

    def late(claim: Claim) -> None:
        (tmp_path / "r").write_text("theirs")
        take(claim)

    monkeypatch.setattr(Claim, "_take", late)
    with pytest.raises(OutputExistsError, match="is there already"):
        Claim(tmp_path / "r")
    assert [file.name for file in tmp_path.iterdir()] == ["r"]


def test_a_robbed_owner_throws_its_data_away_and_leaves_the_robber_alone(tmp_path):
    robbed = Claim(tmp_path / "r")
    robbed.data.write_text("old")
    theirs = ELSEWHERE
    (tmp_path / "r.part").write_text(theirs)
    with pytest.raises(OutputExistsError, match="taken over"):
        robbed.finish()
    robbed.drop()
    assert (tmp_path / "r.part").read_text() == theirs
    assert [file.name for file in tmp_path.iterdir()] == ["r.part"]


def test_a_result_that_appeared_meanwhile_is_kept(tmp_path):
    claim = Claim(tmp_path / "r")
    claim.data.write_text("mine")
    (tmp_path / "r").write_text("theirs")
    with pytest.raises(OutputExistsError, match="appeared"):
        claim.finish()
    assert (tmp_path / "r").read_text() == "theirs"


def test_a_folder_that_is_missing_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        Claim(tmp_path / "no" / "r")
