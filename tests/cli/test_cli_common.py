"""Types of options that several commands have."""

import re

import click
import pytest
from click.testing import CliRunner

from barnum.cli import decode, preprocess, prob, trace
from barnum.cli.common import SIZE

_SIZES = {
    "1": 1,
    "100000": 100_000,
    "16k": 16 << 10,
    "16K": 16 << 10,
    "512M": 512 << 20,
    "512MB": 512 << 20,
    "4G": 4 << 30,
    "4GiB": 4 << 30,
    "4 gib": 4 << 30,
    "2TiB": 2 << 40,
    "7B": 7,
    str((1 << 63) - 1): (1 << 63) - 1,
}


@pytest.mark.parametrize(("text", "size"), _SIZES.items())
def test_sizes(text, size):
    assert SIZE.convert(text, None, None) == size


@pytest.mark.parametrize(
    "text",
    ["", "0", "0G", "-1", "+1", "1.5G", "much", "G", "4X", "4iG", "4GG", "1_0", "٤G", str(1 << 63), "9" * 30],
)
def test_what_is_no_size(text):
    with pytest.raises(click.BadParameter, match="is no size"):
        SIZE.convert(text, None, None)


@pytest.mark.parametrize("command", [decode, preprocess, prob, trace], ids=lambda module: module.__name__)
def test_each_command_takes_the_same_sizes(command):
    options = {option.name: option for option in command.command.params}
    [option] = [options[name] for name in ("max_size", "max_memory") if name in options]
    assert option.type is SIZE
    assert option.metavar == "SIZE"
    # help shows a default as one would write it
    shown = CliRunner().invoke(command.command, ["--help"]).output
    assert command is prob or re.search(r"\[default:\s+[0-9]+G\]", shown)
