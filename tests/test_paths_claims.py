"""Whose a result under way is."""

import os
import subprocess
import sys

import pytest

from barnum.errors import OutputError, OutputExistsError
from barnum.paths.claims import Claim, start_of


def gone_process() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def host(tmp_path) -> str:
    claim = Claim(tmp_path / "who")
    name = claim.part.read_text().split()[0]
    claim.drop()
    return name


def test_a_result_appears_whole_and_nothing_else_stays(tmp_path):
    claim = Claim(tmp_path / "r.parquet")
    assert (tmp_path / "r.parquet.part").read_text().split()[1] == str(os.getpid())
    claim.data.write_text("x")
    assert not (tmp_path / "r.parquet").exists()
    claim.finish()
    assert [file.name for file in tmp_path.iterdir()] == ["r.parquet"]
    assert (tmp_path / "r.parquet").read_text() == "x"


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


def test_force_takes_over_what_a_dead_process_left_and_its_data(tmp_path):
    token = "0123456789abcdef"
    (tmp_path / "r.part").write_text(f"{host(tmp_path)} {gone_process()} 1 {token}\n")
    (tmp_path / f".r.{token}").write_text("half")
    with pytest.raises(OutputExistsError, match="which is gone: use --force"):
        Claim(tmp_path / "r")
    Claim(tmp_path / "r", force=True).drop()
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_now_belongs_to_another_process_counts_as_gone(tmp_path):
    start = start_of(os.getpid())
    (tmp_path / "r.part").write_text(f"{host(tmp_path)} {os.getpid()} {start + 1} 0123456789abcdef\n")
    Claim(tmp_path / "r", force=True).drop()


@pytest.mark.parametrize("content", ["elsewhere 12 34 0123456789abcdef\n", "", "what?", "a b c ../../x\n"])
def test_force_takes_over_from_elsewhere_and_from_nobody(tmp_path, content):
    (tmp_path / "r.part").write_text(content)
    with pytest.raises(OutputExistsError, match="use --force to take it over"):
        Claim(tmp_path / "r")
    Claim(tmp_path / "r", force=True).drop()
    assert list(tmp_path.iterdir()) == []


def test_a_robbed_owner_throws_its_data_away_and_leaves_the_robber_alone(tmp_path):
    robbed = Claim(tmp_path / "r")
    robbed.data.write_text("old")
    theirs = "elsewhere 12 34 0123456789abcdef\n"
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
