"""Places for results are refused before work is spent on them."""

import os
import re

import pytest

from barnum.errors import OptionsError, OutputError, OutputExistsError
from barnum.files import check_places


def test_places_that_can_be_written_are_taken(tmp_path):
    (tmp_path / "there").write_text("mine")
    places = {"--csv": tmp_path / "a", "--json": None, "--plot": tmp_path / "b"}
    check_places(places, force=False, evaluations=tmp_path / "eval")
    check_places({"--csv": tmp_path / "there"}, force=True)
    assert (tmp_path / "there").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["there"]


@pytest.mark.parametrize("other", ["a", "eval/../a", "link/a"])
def test_two_options_cannot_name_one_file(tmp_path, other):
    (tmp_path / "eval").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(OptionsError, match="--csv and --json name the same file") as error:
        check_places({"--csv": tmp_path / "a", "--json": tmp_path / other}, force=True)
    assert error.value.exit_code == 2


def test_no_result_lies_among_evaluations(tmp_path):
    (tmp_path / "eval").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "eval")
    for folder in ("eval", "link", "eval/../eval"):
        with pytest.raises(OptionsError, match=r"--json: .* holds evaluations and nothing else"):
            check_places({"--json": tmp_path / folder / "x"}, force=True, evaluations=tmp_path / "eval")


def test_what_is_there_is_replaced_with_force_only(tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(OutputExistsError, match="--force"):
        check_places({"--csv": tmp_path / "b", "--json": tmp_path / "a"}, force=False)


def test_a_folder_must_be_there_and_be_writable(tmp_path, monkeypatch):
    file = tmp_path / "gone" / "a"
    with pytest.raises(OutputError, match=re.escape(f"{file}: cannot be written (no such folder: ")):
        check_places({"--csv": file}, force=True)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputError, match="no permission"):
        check_places({"--csv": tmp_path / "a"}, force=True)
