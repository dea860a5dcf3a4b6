"""The options of a sandbox, where a command prefers one and where it was asked for."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from barnum.cli.sandbox_options import SandboxChoice, sandbox_options
from barnum.errors import EngineError
from barnum.recording import sandbox_state


@click.command()
@sandbox_options(default=True)
@click.argument("word")
def command(sandbox: SandboxChoice, word: str) -> None:
    """A command with these options."""
    click.echo(f"{word} {sandbox.wanted} {sandbox.memory} {sandbox.processes} {len(sandbox.readable)}")


def test_the_options_come_as_one(tmp_path):
    def run(*words):
        return CliRunner().invoke(command, [*words, "word"]).output

    assert run() == f"word None {4 << 30} 256 0\n"
    assert run("--sandbox", "--memory", "1G", "--processes", "9") == f"word True {1 << 30} 9 0\n"
    assert run("--no-sandbox", "--readable", str(tmp_path)) == f"word False {4 << 30} 256 1\n"
    assert "[default: sandbox, where one works]" in " ".join(run("--help").split())


def test_a_sandbox_that_is_preferred_is_missed_with_one_warning(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert SandboxChoice(None, 1 << 30, 9, ()).preferred() is None
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "without a sandbox: the program runs with your rights" in record.message
    assert "bubblewrap" in record.message
    with pytest.raises(EngineError, match="--sandbox: bubblewrap, which makes the sandbox, is missing"):
        SandboxChoice(True, 1 << 30, 9, ()).preferred()
    caplog.clear()
    assert SandboxChoice(False, 1 << 30, 9, ()).preferred() is None
    assert SandboxChoice(None, 1 << 30, 9, ()).required() is None
    assert not caplog.records


@pytest.mark.skipif(isinstance(sandbox_state(), str), reason=f"no sandbox here: {sandbox_state()}")
def test_a_sandbox_that_works_is_taken(tmp_path, caplog):
    state = SandboxChoice(None, 1 << 30, 9, (tmp_path,)).preferred()
    assert (state.memory, state.processes, state.readable) == (1 << 30, 9, (tmp_path,))
    assert not caplog.records


def test_all_files_are_not_shown(tmp_path):
    with pytest.raises(click.UsageError, match="--readable / would show the program all files"):
        SandboxChoice(True, 1 << 30, 9, (tmp_path / "../../../../../../../../..",)).required()
