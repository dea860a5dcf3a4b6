"""The number of steps that the footer of a parsed trace tells, however hostile it is."""

from __future__ import annotations

import struct
import time

import pytest

from barnum.errors import ParsedTraceError
from barnum.paths.steps import steps_in
from learning import nominal_path, write_sample


def varint(value):
    data = b""
    while value > 127:
        data += bytes([value & 127 | 128])
        value >>= 7
    return data + bytes([value])


def with_footer(file, footer):
    file.write_bytes(b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1")
    return file


def test_steps_are_those_that_were_written(tmp_path):
    folder = write_sample(tmp_path, "a.doc", "benign", nominal_path(1, 777))
    assert steps_in(folder / "trace_parsed.parquet") == 777


@pytest.mark.parametrize("kind", range(16))
def test_endless_lists_end(tmp_path, kind):
    footer = bytes([0x19, 0xF0 | kind]) + varint(1 << 62) + bytes(8)
    began = time.process_time()
    with pytest.raises(ParsedTraceError):
        steps_in(with_footer(tmp_path / "t.parquet", footer))
    assert time.process_time() - began < 5


@pytest.mark.parametrize("kind", [9, 12])
def test_deep_values_end(tmp_path, kind):
    with pytest.raises(ParsedTraceError):
        steps_in(with_footer(tmp_path / "t.parquet", bytes([0x19, 0x10 | kind]) * 2000))
