"""Sample folders, memory maps and sets files, as a user meets them."""

import gzip
import itertools
import logging

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnum.errors import ImageError, InputError, MappingError, SampleError, SetsError
from barnum.paths.decode import Decoding
from barnum.samples import (
    LABELS,
    Engine,
    Image,
    Info,
    MemoryMap,
    Meta,
    ProcessMeta,
    Sample,
    Sets,
    SpawnMeta,
    StreamMeta,
    find_samples,
    read_info,
    read_meta,
    read_sets,
    write_info,
    write_meta,
    write_sets,
)
from barnum.samples.choice import Chosen, Sizes, check, choose

MAPS = """\
400000-401000 r--p 00000000 fe:00 12 /opt/my program/bin (x)
401000-402000 r-xp 00001000 fe:00 12 /opt/my program/bin (x)
402000-403000 rw-p 00000000 00:00 0
403000-404000 rw-p 00003000 fe:00 12 /opt/my program/bin (x)
500000-521000 rw-p 00000000 00:00 0 [heap]
7f0000000000-7f0000001000 r-xp 00000000 00:00 0
7f0000002000-7f0000003000 r-xp 00000000 fe:00 14 /lib/libx.so (deleted)
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0 [stack]
7ffd00022000-7ffd00023000 r-xp 00000000 00:00 0 [vdso]
"""

LDRMODULES = """\
Pid      Process              Base               InLoad InInit InMem MappedPath
-------- -------------------- ------------------ ------ ------ ----- ----------
    1528 AcroRd32.exe         0x0000000073960000 True   True   True  \\Windows\\System32\\wow64.dll
    1528 AcroRd32.exe         0x0000000000fd0000 True   False  True  \\Program Files\\AcroRd32.exe
    1528 AcroRd32.exe         0x0000000001000000 False  False  False
    1528 AcroRd32.exe         0x0000000001fd0000 False  False  False \\Windows\\a.dll
"""


def make_sample(folder, label="benign", name="letter.pdf"):
    folder.mkdir(parents=True)
    write_info(folder / "info.txt", Info(name, label))
    (folder / "mapping.txt").write_text(MAPS)
    (folder / "trace_0.gz").write_bytes(gzip.compress(b"\x02\x82" * 8))
    return folder


def test_maps_of_proc_give_modules_with_their_lowest_address_as_base():
    modules = {m.path: m for m in MemoryMap.parse(MAPS).modules}
    program = modules["/opt/my program/bin (x)"]
    assert (program.base, program.end, program.name) == (0x400000, 0x404000, "bin (x)")
    assert modules["/lib/libx.so"].name == "libx.so"
    assert "/anon/7f0000000000" in modules
    assert "[vdso]" in modules
    assert "[stack]" not in modules


def test_bbid_of_a_module_is_adler32_of_its_path():
    # computed by hand: a = 1 + sum of bytes, b = running sum of a
    module = MemoryMap.parse("1000-2000 r-xp 0 0:0 0 /a\n").modules[0]
    assert module.hash == (((1 + 0x2F) + (1 + 0x2F + 0x61)) << 16) + (1 + 0x2F + 0x61)


def test_ldrmodules_reach_to_the_next_base_or_to_the_end_of_their_image():
    unsized = {m.name: m for m in MemoryMap.parse(LDRMODULES).modules}
    assert unsized["AcroRd32.exe"].end == 0x1FD0000
    sized = MemoryMap.parse(LDRMODULES, lambda path: 0x5000).modules
    assert next((m.base, m.end) for m in sized) == (0xFD0000, 0xFD5000)
    assert unsized["AcroRd32.exe"].path == "\\Program Files\\AcroRd32.exe"


def test_find_gives_the_module_of_an_address():
    mapping = MemoryMap.parse(MAPS)
    assert mapping.find(0x402800).name == "bin (x)"
    assert mapping.find(0x404000) is None
    assert mapping.find(0) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ("hello\n", "neither"),
        ("1000-2000 r-xp 0 0:0 0 /a\nnonsense\n", "line 2"),
        ("2000-1000 r-xp 0 0:0 0 /a\n", "end after it starts"),
        ("1000-3000 r-xp 0 0:0 0 /a\n2000-4000 r-xp 0 0:0 0 /b\n", "/a .* and /b"),
    ],
)
def test_wrong_maps_are_named(text, words):
    with pytest.raises(MappingError, match=words):
        MemoryMap.parse(text)


@pytest.mark.parametrize("path", ["/lib/..", "/lib/", "\\Windows\\..", "/" + "x" * 300])
def test_a_module_cannot_name_an_image_outside_its_folder(path):
    module = MemoryMap.parse(f"1000-2000 r-xp 0 0:0 0 {path}\n").modules[0]
    with pytest.raises(ImageError):
        _ = module.name


@given(st.text())
def test_any_text_is_a_map_or_a_named_error(text):
    try:
        modules = MemoryMap.parse(text).modules
    except MappingError as error:
        assert "\n" not in str(error)
    else:
        assert all(a.end <= b.base for a, b in itertools.pairwise(modules))


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_info_may_begin_with_a_byte_order_mark(tmp_path, start):
    (tmp_path / "info.txt").write_bytes(start + "ä.pdf\r\nbenign\r\n".encode())
    assert read_info(tmp_path / "info.txt") == Info("ä.pdf", "benign")


def test_a_wrong_label_is_shown_in_short_and_never_that_of_a_link(tmp_path):
    (tmp_path / "target").write_text("root\nsecret" + "x" * 1000)
    with pytest.raises(SampleError, match=r"label 'secretx{93}…' is none of"):
        read_info(tmp_path / "target")
    (tmp_path / "info.txt").symlink_to(tmp_path / "target")
    with pytest.raises(SampleError, match=r"info\.txt: label is none of 'benign', .*: correct"):
        read_info(tmp_path / "info.txt")


def test_info_keeps_name_label_and_further_lines(tmp_path):
    info = Info("a b.pdf", "malicious", ("pdfka",))
    write_info(tmp_path / "info.txt", info)
    assert read_info(tmp_path / "info.txt") == info


def test_a_name_with_a_newline_cannot_set_the_label(tmp_path):
    write_info(tmp_path / "info.txt", Info("x\nmalicious", "benign"))
    assert read_info(tmp_path / "info.txt") == Info("x?malicious", "benign")


def test_a_label_that_is_none_is_named(tmp_path):
    (tmp_path / "info.txt").write_text("x.pdf\nharmless\n")
    with pytest.raises(SampleError, match="'harmless' is none of 'benign', 'malicious', 'unknown'"):
        read_info(tmp_path / "info.txt")


@pytest.mark.parametrize("label", LABELS)
def test_an_unknown_run_is_neither_benign_nor_malicious(tmp_path, label):
    sample = Sample.open(make_sample(tmp_path / "a", label))
    assert (sample.label, sample.benign, sample.malicious) == (label, label == "benign", label == "malicious")


def test_samples_of_unknown_label_are_never_drawn(tmp_path):
    labels = ["unknown", "benign", "unknown", "malicious", "benign", "unknown"]
    samples = [Sample.open(make_sample(tmp_path / str(i), label)) for i, label in enumerate(labels)]
    known = [sample for sample in samples if sample.label != "unknown"]
    for seed in range(5):
        drawn = choose(tmp_path, samples, Sizes(1, 1, 1), seed)
        assert drawn == choose(tmp_path, known, Sizes(1, 1, 1), seed)
        assert not drawn.u_test
    for sizes in (Sizes(2, 1, 1), Sizes(1, 1, 2)):
        with pytest.raises(SetsError, match=r"has (2 usable benign|1 usable malicious)"):
            choose(tmp_path, samples, sizes, 0)


def test_each_label_has_its_place_in_sets(tmp_path):
    samples = {label: Sample.open(make_sample(tmp_path / label, label)) for label in LABELS}
    for place, own in (
        ("train", "benign"),
        ("b_test", "benign"),
        ("m_test", "malicious"),
        ("u_test", "unknown"),
    ):
        for label, sample in samples.items():
            chosen = Chosen(**({"train": [], "b_test": [], "m_test": []} | {place: [sample]}))
            if label == own:
                check(tmp_path, chosen, learns=False)
                continue
            with pytest.raises(SetsError, match=f"{label} is among the {own} but labelled {label}"):
                check(tmp_path, chosen, learns=False)


@pytest.mark.parametrize("label", LABELS)
def test_what_was_learnt_is_not_held_out_whatever_its_label_is_now(tmp_path, label):
    sample = Sample.open(make_sample(tmp_path / "a", label))
    places = [[sample] if label == own else [] for own in ("benign", "malicious", "unknown")]
    with pytest.raises(SetsError, match="a is both learnt and held out"):
        check(tmp_path, Chosen([], *places), learns=False, learnt=frozenset(["a"]))
    if label == "malicious":
        with pytest.raises(SetsError, match="has 0 usable malicious samples"):
            choose(tmp_path, [sample], Sizes(0, 0, 1, ("--a", "--b")), 0, learnt=frozenset(["a"]))


def test_folders_that_lack_parts_are_skipped_with_a_warning(tmp_path, caplog):
    make_sample(tmp_path / "whole")
    make_sample(tmp_path / "unfinished.part")
    (tmp_path / "empty").mkdir()
    with caplog.at_level(logging.WARNING, "barnum"):
        assert [sample.folder.name for sample in find_samples(tmp_path)] == ["whole"]
    assert "empty" in caplog.text
    assert "unfinished" not in caplog.text


def test_parquet_comes_before_the_originals_rows(tmp_path):
    folder = make_sample(tmp_path / "s")
    assert Sample.open(folder).parsed is None
    (folder / "trace_parsed.gz").touch()
    assert Sample.open(folder).parsed == folder / "trace_parsed.gz"
    (folder / "trace_parsed.parquet").touch()
    assert Sample.open(folder).parsed == folder / "trace_parsed.parquet"


def make_meta(**changes):
    fields = {
        "version": "1",
        "command": ("gs", "{}"),
        "engine": Engine(name="emulator"),
        "start": "open",
        "processes": (ProcessMeta(index=0, pid=7, program="/bin/gs", mapping="mapping.txt"),),
        "streams": (StreamMeta(file="trace_0.gz", process=0, thread=7, bytes=16),),
    }
    return Meta(**(fields | changes))


def test_meta_is_read_as_written(tmp_path):
    meta = make_meta(images={"/bin/gs": Image(file="gs", sha256="00")})
    write_meta(tmp_path / "meta.json", meta)
    assert read_meta(tmp_path / "meta.json") == meta


def with_spawn(value):
    meta = msgspec.json.decode(msgspec.json.encode(make_meta()))
    return msgspec.json.encode({**meta, "spawn": value})


def test_meta_may_say_where_a_process_was_started(tmp_path):
    file = tmp_path / "meta.json"
    file.write_bytes(with_spawn({"stream": 0, "offset": 16}))
    assert read_meta(file).spawn == SpawnMeta(stream=0, offset=16)
    file.write_bytes(with_spawn(None))
    assert read_meta(file).spawn is None
    file.write_bytes(b"".join(msgspec.json.encode(make_meta()).split(b'"spawn":null,')))
    assert b"spawn" not in file.read_bytes()
    assert read_meta(file).spawn is None


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        7,
        {"stream": 0},
        {"stream": -1, "offset": 0},
        {"stream": 1 << 16, "offset": 0},
        {"stream": 0, "offset": -1},
        {"stream": 0, "offset": 1 << 63},
        {"stream": 0, "offset": 0.5},
        {"stream": "0", "offset": 0},
    ],
)
def test_a_wrong_place_of_a_start_is_named(tmp_path, value):
    file = tmp_path / "meta.json"
    file.write_bytes(with_spawn(value))
    with pytest.raises(SampleError, match=r"meta\.json") as caught:
        read_meta(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 100_000, b'{"schema": 9}', b"\xff"])
def test_a_broken_meta_is_named(tmp_path, data):
    (tmp_path / "meta.json").write_bytes(data)
    with pytest.raises(SampleError, match=r"meta\.json"):
        read_meta(tmp_path / "meta.json")


@pytest.mark.parametrize("name", ["../other/trace_0.gz", "/etc/passwd", "..", ".hidden", "gone.gz"])
def test_meta_cannot_name_files_outside_the_sample(tmp_path, name):
    folder = make_sample(tmp_path / "s")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "trace_0.gz").touch()
    write_meta(
        folder / "meta.json", make_meta(streams=(StreamMeta(file=name, process=0, thread=0, bytes=1),))
    )
    with pytest.raises(SampleError):
        _ = Sample.open(folder).streams


@pytest.mark.parametrize(
    "changes",
    [
        {"process": -1},
        {"process": 1 << 16},
        {"process": 1},
        {"thread": -1},
        {"bytes": -1},
        {"bytes": 1 << 64},
        {"file": "x" * 300},
    ],
)
def test_numbers_and_names_of_streams_out_of_bounds_are_named(tmp_path, changes):
    folder = make_sample(tmp_path / "s")
    fields = {"file": "trace_0.gz", "process": 0, "thread": 0, "bytes": 1} | changes
    write_meta(folder / "meta.json", make_meta(streams=(StreamMeta(**fields),)))
    with pytest.raises(SampleError, match=r"meta\.json|which it lacks"):
        Decoding(Sample.open(folder), tmp_path)


@pytest.mark.parametrize("changes", [{"index": -1}, {"pid": -1}, {"parent": -1}, {"mapping": "x" * 300}])
def test_numbers_and_names_of_processes_out_of_bounds_are_named(tmp_path, changes):
    folder = make_sample(tmp_path / "s")
    fields = {"index": 0, "pid": 1, "program": "/bin/a", "mapping": "mapping.txt"} | changes
    write_meta(folder / "meta.json", make_meta(processes=(ProcessMeta(**fields),)))
    with pytest.raises(SampleError, match=r"meta\.json"):
        Sample.open(folder).processes(tmp_path)


@pytest.mark.parametrize("what", ["processes", "streams"])
def test_more_processes_or_streams_than_a_path_can_number(tmp_path, what):
    folder = make_sample(tmp_path / "s")
    made = getattr(make_meta(), what)
    if what == "processes":
        many = tuple(msgspec.structs.replace(made[0], index=index) for index in range(1 << 16))
    else:
        many = made * (1 << 16)
    write_meta(folder / "meta.json", make_meta(**{what: many}))
    with pytest.raises(SampleError, match="65535"):
        _ = Sample.open(folder).streams


def test_maps_are_read_once_and_only_those_that_are_wanted(tmp_path, monkeypatch):
    folder = make_sample(tmp_path / "s")
    read = []
    monkeypatch.setattr(
        MemoryMap, "read", lambda file, _size: read.append(file.name) or MemoryMap.parse(MAPS)
    )
    (folder / "other.txt").write_text("broken")
    names = ["mapping.txt"] * 3000 + ["other.txt"]
    processes = tuple(
        ProcessMeta(index=index, pid=7, program="/bin/gs", mapping=name) for index, name in enumerate(names)
    )
    write_meta(folder / "meta.json", make_meta(processes=processes))
    found = Sample.open(folder).processes(tmp_path, range(3000))
    assert [process.index for process in found] == list(range(3000))
    assert read == ["mapping.txt"]


def test_an_image_with_a_name_that_no_file_can_have_is_named(tmp_path):
    folder = make_sample(tmp_path / "s")
    module = Sample.open(folder).processes(tmp_path)[0].mapping.modules[0]
    write_meta(folder / "meta.json", make_meta(images={module.path: Image(file="ü" * 200, sha256="")}))
    with pytest.raises(ImageError, match="is not in"):
        Sample.open(folder).image_path(module, tmp_path)


def test_images_come_from_the_bin_dir_alone(tmp_path):
    folder = make_sample(tmp_path / "s")
    bin_dir = tmp_path / "extract"
    bin_dir.mkdir()
    (bin_dir / "libx.so").write_bytes(b"image")
    (tmp_path / "secret").write_bytes(b"secret")
    (bin_dir / "bin (x)").symlink_to(tmp_path / "secret")
    sample = Sample.open(folder)
    modules = {m.name: m for m in sample.processes(bin_dir)[0].mapping.modules}
    assert sample.image_path(modules["libx.so"], bin_dir) == bin_dir / "libx.so"
    with pytest.raises(ImageError, match="leads out"):
        sample.image_path(modules["bin (x)"], bin_dir)
    write_meta(folder / "meta.json", make_meta(images={"/lib/libx.so": Image(file="../secret", sha256="")}))
    with pytest.raises(ImageError, match="is not in"):
        Sample.open(folder).image_path(modules["libx.so"], bin_dir)


def test_sets_are_read_as_written(tmp_path):
    folders = [make_sample(tmp_path / "traces" / name) for name in "abc"]
    sets = Sets(*((folder.resolve(),) for folder in folders))
    write_sets(tmp_path / "sets.txt", sets)
    assert read_sets(tmp_path / "sets.txt", tmp_path / "traces") == sets
    # readers of earlier versions, and the original's, know no other sections
    assert "u_test" not in (tmp_path / "sets.txt").read_text()
    sets = msgspec.structs.replace(
        sets, u_test=(make_sample(tmp_path / "traces" / "d", "unknown").resolve(),)
    )
    write_sets(tmp_path / "sets.txt", sets)
    assert read_sets(tmp_path / "sets.txt", tmp_path / "traces") == sets


def test_sets_outside_the_root_are_skipped_with_a_warning(tmp_path, caplog):
    inside, outside = make_sample(tmp_path / "traces" / "a"), make_sample(tmp_path / "b")
    (tmp_path / "sets").write_text(f"[b_train]\n{inside}\n../b\n[b_test]\n{outside}\ngone\n[m_test]\n")
    with caplog.at_level(logging.WARNING, "barnum"):
        sets = read_sets(tmp_path / "sets", tmp_path / "traces")
    assert sets == Sets((inside.resolve(),), (), ())
    assert caplog.text.count(" is outside ") == 2
    assert "gone is missing" in caplog.text


@pytest.mark.parametrize("text", ["", "a\n", "[train]\na\n", "[b_train]\n\0\n", "[b_train]\nmissing\n"])
def test_wrong_sets_files_are_named(tmp_path, text):
    (tmp_path / "sets").write_text(text)
    with pytest.raises(SetsError, match="sets"):
        read_sets(tmp_path / "sets", tmp_path)


@given(data=st.binary())
def test_any_bytes_in_a_sample_give_a_sample_or_a_named_error(tmp_path_factory, data):
    folder = make_sample(tmp_path_factory.mktemp("fuzz") / "s")
    for name in ("info.txt", "mapping.txt", "meta.json"):
        good = (folder / name).read_bytes() if (folder / name).exists() else None
        (folder / name).write_bytes(data)
        try:
            sample = Sample.open(folder)
            sample.processes(folder)
            _ = sample.streams
        except InputError as error:
            assert "\n" not in str(error)
        if good is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(good)


def test_a_map_that_unpacks_to_more_than_any_map_is_refused(tmp_path):
    folder = make_sample(tmp_path / "s")
    (folder / "mapping.txt").write_bytes(gzip.compress(b" " * (65 << 20), 9))
    with pytest.raises(MappingError, match="more than"):
        Sample.open(folder).processes(folder)
