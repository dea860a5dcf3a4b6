"""What the recorder noted of effects is read with suspicion: the program could write there, too."""

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barnum.recording.effect_calls import address_of, numbers_of, result_of
from barnum.recording.effects import EffectSource, gather_effects
from barnum.recording.raw import RawFolder
from barnum.samples import (
    MAX_EFFECTS,
    Effects,
    Engine,
    Meta,
    ProcessMeta,
    StreamMeta,
    read_effects,
    write_effects,
)
from recording import PAGE, PSB, raw_folder, raw_stream

UNKNOWN = (1 << 64) - 1
NOTES = "pid {}\nparent {}\nevent {}\nmode 64\nprogram /bin/x\n"


def part(kind: int, data: bytes, flags: int = 0) -> bytes:
    return struct.pack("<HHI", kind, flags, len(data)) + data + bytes(-len(data) % 8)


def call(
    number: int,
    name: bytes = b"mkdir",
    *parts: bytes,
    time: int = 0,
    stream: int = 0,
    offset: int = 4,
    entry: int = 2,
) -> bytes:
    """A record of a call."""
    body = b"".join(parts)
    row = struct.pack(
        "<IIQQq24sIiQQ6Q",
        128 + len(body),
        1,
        number,
        time,
        0,
        name,
        77,
        stream,
        offset,
        entry,
        0,
        511,
        0,
        0,
        0,
        0,
    )
    return row + body


def returned(number: int, result: int, *parts: bytes) -> bytes:
    """A record of what a call returned."""
    body = b"".join(parts)
    return (
        struct.pack("<IIQQq24sIiQQ6Q", 128 + len(body), 2, number, 0, result, b"", 0, 0, 0, 0, *[0] * 6)
        + body
    )


def raw_effects(*records: bytes, more: dict[bytes, int] | None = None, used: int | None = None) -> bytes:
    """A file of effects as the plugin leaves it."""
    body = b"".join(records)
    head = struct.pack("<8sQQ", b"BRNMEFF1", PAGE + len(body) if used is None else used, len(records))
    rows = b"".join(struct.pack("<24sQ", name, count) for name, count in (more or {}).items())
    return (head + rows).ljust(PAGE, b"\0") + body + bytes(64)


def gather(folder: Path, **files: bytes | str) -> tuple[Effects, list[str]]:
    """Effects and complaints of a work folder, whose processes are all in the sample."""
    raw = RawFolder(raw_folder(folder, **files))
    processes, streams = raw.processes(), raw.streams()
    source = EffectSource(
        processes=[
            ProcessMeta(
                index=at, pid=each.pid, program="x", mapping="m", parent=each.parent, event=each.event
            )  # type: ignore[arg-type]
            for at, each in enumerate(processes)
        ],
        positions={each.index: at for at, each in enumerate(processes)},
        streams=[
            StreamMeta(file=f"trace_{at}.gz", process=each.process, thread=77, bytes=each.size)
            for at, each in enumerate(streams)
        ],
        stream_of={each.index: at for at, each in enumerate(streams)},
    )
    return gather_effects(raw, processes, source, lambda: None), raw.complaints


def test_calls_and_what_they_returned_are_put_together(tmp_path):
    effects, complaints = gather(
        tmp_path / "raw",
        effects_0=raw_effects(
            call(0, b"mkdir", part(1, b"a\nb"), part(2, b"/tmp")),
            call(1, b"connect", part(5, b"\x01\x00\x00name")),
            returned(0, 0),
            call(2, b"unlink", part(1, b"x" * 4096, 1)),
            returned(2, -36),
            more={b"unlink": 7},
        ),
    )
    assert not complaints
    assert effects.more == {"unlink": 7}
    made, connected, removed = effects.effects
    assert (made.call, made.result, made.path, made.folder) == ("mkdir", 0, "a\\x0ab", "/tmp")
    assert (made.process, made.stream, made.thread, made.offset, made.entry) == (0, 0, 77, 4, 2)
    assert made.values == {"mode": 511}
    assert (connected.result, connected.error, connected.address) == (None, None, "unix:@name")
    assert (removed.result, removed.error, removed.cut) == (None, "ENAMETOOLONG", True)


def test_effects_of_several_processes_are_in_the_order_in_which_they_began(tmp_path):
    effects, _ = gather(
        tmp_path / "raw",
        process_0=NOTES.format(5, -1, "start"),
        process_1=NOTES.format(6, 0, "fork"),
        process_2=NOTES.format(6, 1, "exec"),
        effects_0=raw_effects(
            call(0, b"fork", time=1), call(1, b"fork", time=9), returned(0, 6), returned(1, 6)
        ),
        effects_1=raw_effects(call(0, b"unlink", time=4, stream=-1), call(1, b"execve", time=5)),
        effects_2=raw_effects(call(0, b"rmdir", time=6)),
    )
    assert [(each.call, each.process, each.started) for each in effects.effects] == [
        ("fork", 0, 1),
        ("unlink", 1, None),
        ("execve", 1, 2),
        ("rmdir", 2, None),
        ("fork", 0, None),
    ]
    # the only stream is that of the first process
    assert [each.stream for each in effects.effects] == [0, None, None, None, 0]


def test_places_that_cannot_be_are_unknown(tmp_path):
    effects, _ = gather(
        tmp_path / "raw",
        stream_0=raw_stream(PSB),
        effects_0=raw_effects(
            call(0, offset=len(PSB)),
            call(1, offset=len(PSB) + 1),
            call(2, offset=UNKNOWN, entry=UNKNOWN),
            call(3, stream=4),
        ),
    )
    assert [(each.stream, each.offset, each.entry) for each in effects.effects] == [
        (0, 16, 2),
        (0, None, None),
        (0, None, None),
        (None, None, None),
    ]


def test_more_effects_than_are_kept_are_counted_whoever_made_them(tmp_path):
    half = MAX_EFFECTS // 2 + 1
    effects, complaints = gather(
        tmp_path / "raw",
        process_0=NOTES.format(5, -1, "start"),
        process_1=NOTES.format(6, 0, "fork"),
        effects_0=raw_effects(*(call(n, b"rmdir", time=2 * n) for n in range(half)), more={b"rmdir": 10}),
        effects_1=raw_effects(*(call(n, b"unlink", time=2 * n + 1) for n in range(half))),
    )
    assert not complaints
    assert len(effects.effects) == MAX_EFFECTS
    assert effects.more == {"rmdir": 11, "unlink": 1}
    assert [each.call for each in effects.effects[:3]] == ["rmdir", "unlink", "rmdir"]


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        (b"", 0),
        (b"BRNMEFF1", 0),
        (raw_effects(used=1 << 40), 0),
        (raw_effects(used=7), 0),
        (raw_effects(call(0), used=PAGE + 64), 0),
        (raw_effects(call(0), struct.pack("<II", 0, 1) + bytes(120)), 1),
        (raw_effects(call(0), struct.pack("<II", 1 << 20, 1) + bytes(120)), 1),
        (raw_effects(call(0), call(0)), 1),
        (raw_effects(call(0), returned(5, 0)), 1),
        (raw_effects(call(0), call(1, b"no call")), 1),
        (raw_effects(call(0), call(1, b"\xff")), 1),
        (raw_effects(call(0), call(1, b"unlink", part(1, b"x" * 5000))), 1),
        (raw_effects(call(0), call(1, b"unlink", part(9, b"x"))), 1),
        (raw_effects(call(0), call(1, b"unlink", part(6, b"a word"))), 1),
    ],
)
def test_broken_files_of_effects_are_read_as_far_as_they_go(data, kept, tmp_path):
    effects, complaints = gather(tmp_path / "raw", effects_0=data)
    assert len(effects.effects) == kept
    assert len(complaints) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_whatever_the_program_writes_gives_effects_that_can_be_read(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    good = bytearray(
        raw_effects(
            call(0, b"execve", part(1, b"/bin/x"), part(6, b"x"), part(7, bytes(4))),
            call(1, b"link", part(1, b"a"), part(2, b"/"), part(3, b"b"), part(4, b"/")),
            call(2, b"sendto", part(5, b"\x02\x00\x00\x50" + bytes(12))),
            returned(1, -2),
            more={b"link": 3},
        )
    )
    for at, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(good) - 1), st.integers(0, 255)), max_size=20)
    ):
        good[at] = value
    effects, _ = gather(folder / "raw", effects_0=bytes(good))
    written = write_effects(folder / "effects.json", effects)
    process = ProcessMeta(index=0, pid=7, program="x", mapping="m")
    stream = StreamMeta(file="trace_0.gz", process=0, thread=77, bytes=16)
    meta = Meta(
        version="1",
        command=("x",),
        engine=Engine(name="emulator"),
        start="exec",
        processes=(process,),
        streams=(stream,),
    )
    assert read_effects(folder / "effects.json", meta) == written
    assert all(text.isprintable() for each in written.effects for text in (each.path, each.address) if text)


def test_addresses_are_told_as_people_write_them():
    assert address_of(bytes.fromhex("02000050c0000201") + bytes(8)) == "192.0.2.1:80"
    inet6 = bytes.fromhex("0a0001bb00000000") + bytes.fromhex("20010db8" + "00" * 11 + "01")
    assert address_of(inet6 + bytes(4)) == "[2001:db8::1]:443"
    assert address_of(inet6 + struct.pack("<I", 3)) == "[2001:db8::1%3]:443"
    assert address_of(b"\x01\x00/run/x\0junk") == "unix:/run/x"
    assert address_of(b"\x01\x00\0a\0b\n") == "unix:@a\\x00b\\x0a"
    assert address_of(b"\x01\x00@a") == "unix:\\x40a"
    assert address_of(b"\x01\x00") == "unix:"
    assert address_of(bytes(16)) == "unspecified"
    assert address_of(bytes.fromhex("10000000070000000000")) == "netlink:7"
    assert address_of(b"\x11\x00\xab") == "family 17:ab"
    assert address_of(b"\x02\x00\x00") == "family 2:00"
    assert address_of(b"\x02") == ""


def test_flags_numbers_and_errors_have_the_names_of_the_kernel():
    assert numbers_of("openat", (0, 0, 0o2101, 0o600, 0, 0)) == ("O_WRONLY|O_CREAT|O_APPEND", {"mode": 0o600})
    assert numbers_of("open", (0, 0o1001, 0o600, 0, 0, 0)) == ("O_WRONLY|O_TRUNC", {})
    assert numbers_of("openat", (0, 0, 0o20200001, 0o600, 0, 0)) == ("O_TMPFILE|O_WRONLY", {"mode": 0o600})
    assert numbers_of("mprotect", (4096, 8192, 5, 0, 0, 0)) == (
        "PROT_READ|PROT_EXEC",
        {"address": 4096, "length": 8192},
    )
    assert numbers_of("kill", ((1 << 64) - 1, 9, 0, 0, 0, 0)) == (None, {"pid": -1, "signal": 9})
    assert numbers_of("unlinkat", (0, 0, 0x80000200, 0, 0, 0)) == ("AT_REMOVEDIR|0x80000000", {})
    assert numbers_of("unlink", (1, 2, 3, 4, 5, 6)) == (None, {})
    assert result_of(-2, 64) == (None, "ENOENT")
    assert result_of(-512, 64) == (None, "ERESTARTSYS")
    assert result_of(-4095, 64) == (None, "E4095")
    assert result_of(-4096, 32) == (0xFFFFF000, None)
    assert result_of(7, 64) == (7, None)
