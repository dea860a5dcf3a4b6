"""`barnum check` as a user meets it: the real command on a real program, in a sandbox where one works."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from msgspec.structs import replace

from barnum.detector import load_fitted, save_fitted
from barnum.detector.limits import limits_for
from barnum.digests.digest import Limits
from barnum.samples import samples_in
from checking import (
    HOSTILE,
    NO_SANDBOX,
    POLITE,
    SANDBOX,
    build,
    children,
    env_with,
    hostile_text,
    learnt,
    run,
)
from recording import BARNUM, alive, without_program

# without a sandbox it must be said that what the detector names may run
ALLOWED = [] if SANDBOX else ["--no-sandbox"]
needs_sandbox = pytest.mark.skipif(not SANDBOX, reason=NO_SANDBOX)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return learnt(tmp_path_factory.mktemp("check"))


@pytest.fixture(scope="module")
def kept(made, tmp_path_factory):
    """Recordings of the hostile documents and of a usual one, and what was said of them."""
    folder = tmp_path_factory.mktemp("kept")
    ended = check(folder, made, made / "hostile", made / "usual.txt", "-o", "runs", "--json")
    assert ended.code == 0, ended.err
    return folder, ended.lines()


@pytest.fixture
def room():
    """A folder for temporary files; a short one, as sockets lie in it."""
    with TemporaryDirectory(prefix="barnum-room-") as folder:
        yield Path(folder)


def check(folder, made, *arguments, env=None):
    return run(folder, "check", *ALLOWED, made / "detector", *arguments, env=env)


def test_verdicts_say_what_each_document_did(made, tmp_path):
    ended = check(tmp_path, made, made / "hostile", made / "usual.txt")
    assert ended.code == 0, ended.err
    told = {}
    for line in ended.out.splitlines():
        if line.startswith("    "):
            told[name].append(line.strip())  # noqa: F821
        else:
            name, _, words = line.partition(": ")
            told[name] = [words]
    assert set(told) == {"usual.txt", *(f"{name}.txt" for name in HOSTILE)}
    assert told["usual.txt"][0].startswith("nominal, 0.00 nats (anomalous above ")
    assert len(told["usual.txt"]) == 1
    for name in ("start", "drop", "unreached"):
        assert told[f"{name}.txt"][0].startswith("anomalous, ")
        assert "p = 0.0526" in told[f"{name}.txt"][0]
    assert f"at {made}/reader+0x" in told["unreached.txt"][0]
    assert len(told["unreached.txt"]) == 1
    assert any('execve("/bin/true", ["true"]) = 0' in line for line in told["start.txt"])
    # a file is opened in a way that no nominal run opens one, too
    [drop] = [line for line in told["drop.txt"][1:] if line.startswith("effect")]
    assert drop.startswith("effect at step ")
    assert 'openat("dropped"' in drop and "O_WRONLY|O_CREAT" in drop
    first, *evidence = told["wild.txt"]
    assert first.startswith("anomalous, by evidence, ")
    for line, words in zip(
        evidence,
        (
            "called to 0x4141414000, where nothing is mapped",
            "died (signal 11) right after it called to 0x41414",
        ),
        strict=True,
    ):
        assert words in line and "(from reader+0x" in line
    assert evidence[0].endswith(" [strong]")
    # the detector was learnt here, with the same program
    assert "differs:" not in ended.err


def test_json_has_what_the_lines_have_and_places(made, kept):
    folder, lines = kept
    assert {name: line["verdict"] for name, line in lines.items()} == {
        "usual.txt": "nominal", **{f"{name}.txt": "anomalous" for name in HOSTILE}
    }  # fmt: skip
    wild, start = lines["wild.txt"], lines["start.txt"]
    assert wild["because"] == "evidence"
    assert [each["kind"] for each in wild["evidence"]] == ["unknown", "death"]
    assert wild["evidence"][0]["strong"] is True
    assert wild["where"] == {
        "by": "evidence", "step": wild["evidence"][0]["step"], "module": "[unmapped]", "offset": 0x4141414000
    }  # fmt: skip
    assert [each["kind"] for each in start["effects"]] == ["clone", "execve"]
    assert start["because"] == "novelty"
    # where novelty adds up to most: before the other program runs, or in that, as the system's libraries are
    assert start["where"]["by"] == "novelty"
    assert start["where"]["module"].startswith("/")
    assert lines["drop.txt"]["effects"][0]["kind"] == "open"
    assert "effects" not in lines["usual.txt"] and "evidence" not in lines["usual.txt"]
    for name, line in lines.items():
        assert line["document"].endswith(f"/{name}")
        assert line["sample"].startswith(str(folder / "runs"))
        assert (line["score"] > line["threshold"]) == (
            name != "usual.txt" and line["because"] == "novelty"
        ) or (line["because"] == "evidence")


def test_documents_are_chosen_together(made, kept):
    folder, alone = kept
    arguments = ("--bin-dir", "runs-extract", "--json", "--report-json", "page.json", "-f", "runs")
    ended = check(folder, made, "--fdr", "0.1", *arguments)
    assert ended.code == 0, ended.err
    lines = {line["name"]: line for line in map(json.loads, ended.out.splitlines())}
    page = {each["name"]: each for each in json.loads((folder / "page.json").read_text())["samples"]}
    assert lines.keys() == page.keys() == alone.keys()
    for name, line in lines.items():
        hostile = name != "usual.txt"
        assert line["verdict"] == page[name]["verdict"] == ("anomalous" if hostile else "nominal")
        # four of five, at the least p-value that 18 runs allow, by evidence or by score
        assert line["q"] == page[name]["q"] == pytest.approx(5 / 4 / 19 if hostile else 1.0)
        assert line.get("because") == alone[name].get("because")
    assert "at least 3 are called anomalous or none" in ended.err
    strict = check(folder, made, "--fdr", "0.02", *arguments)
    assert "so that nothing can be called anomalous" in strict.err
    assert {json.loads(line)["verdict"] for line in strict.out.splitlines()} == {"nominal"}
    document = json.loads((folder / "page.json").read_text())
    assert document["overview"]["anomalous"] == 0
    assert document["classifier"]["threshold"] is None
    for each in document["samples"]:
        assert each["verdict"] == "nominal" and each["first_alarm"] is None and each["because"] is None
        assert not any(window["above_threshold"] for window in each["windows"])
    told = check(folder, made, "--fdr", "0.1", "--bin-dir", "runs-extract", "runs").out
    assert "q = 0.0658" in told and "anomalous above" not in told


def test_documents_that_are_unlike_those_learnt_are_told(made, tmp_path):
    copies = tmp_path / "again"
    copies.mkdir()
    for number in range(16):
        # the same way is new in each of them
        (copies / f"{number}.txt").write_text(hostile_text("u") + "abcde" * number)
    ended = check(tmp_path, made, "-j", "2", copies, "--report-json", "page.json")
    assert ended.code == 0, ended.err
    *lines, last = ended.out.splitlines()
    assert len(lines) == 16
    assert last.startswith("note: the promise of the false-alarm rate does not hold: runs are no longer like")
    found = json.loads((tmp_path / "page.json").read_text())["overview"]["exchangeability"]
    assert found["runs"] == 16 and last == f"note: {found['text']}"
    # a document that has the same content is the same run
    same = tmp_path / "same"
    same.mkdir()
    for number in range(16):
        (same / f"{number}.txt").write_text(hostile_text("u"))
    assert "note: " not in check(tmp_path, made, same).out


def test_exit_codes(made, tmp_path):
    usual, hostile = made / "usual.txt", made / "hostile" / "unreached.txt"
    assert check(tmp_path, made, usual, "--fail-on-anomaly").code == 0
    assert check(tmp_path, made, hostile, usual, "--fail-on-anomaly").code == 3
    missing = check(tmp_path, made, usual, tmp_path / "missing.txt")
    assert missing.code == 22
    assert "missing.txt: error: " in missing.out and "no such file" in missing.out
    assert "usual.txt: nominal" in missing.out
    assert missing.err.splitlines()[-1].startswith("barnum: 1 of 2 documents could not be judged")
    both = check(tmp_path, made, hostile, tmp_path / "missing.txt", "--fail-on-anomaly", "--json")
    assert both.code == 3
    assert "no such file" in both.lines()["missing.txt"]["error"]


def test_what_is_cut_is_not_judged(made, kept):
    folder, whole = kept
    for cut, name in (("spawn", "start"), ("effect", "start"), ("effect", "drop")):
        ended = check(
            folder, made, "--cut", cut, "--json", "--bin-dir", "runs-extract", whole[f"{name}.txt"]["sample"]
        )
        assert ended.code == 0, ended.err
        [line] = map(json.loads, ended.out.splitlines())
        assert line["cut"] is True
        assert 0 < line["transfers"] < whole[f"{name}.txt"]["transfers"]
        assert line["verdict"] == "anomalous"
        assert line["score"] < whole[f"{name}.txt"]["score"]
        # it is cut where the effect is
        assert line["where"]["step"] <= whole[f"{name}.txt"]["effects"][0]["step"]
    for cut in ("spawn", "effect"):
        ended = check(
            folder,
            made,
            "--cut",
            cut,
            "--json",
            "--bin-dir",
            "runs-extract",
            whole["unreached.txt"]["sample"],
        )
        [line] = map(json.loads, ended.out.splitlines())
        assert (line["cut"], line["transfers"]) == (False, whole["unreached.txt"]["transfers"])


def test_recordings_are_judged_as_they_are(made, kept):
    folder, whole = kept
    # their digests are there; what has none is decoded, which takes the images
    shutil.copytree(folder / "runs", folder / "bare", ignore=shutil.ignore_patterns("trace_digest"))
    blind = check(folder, made, "--json", "bare")
    assert blind.code == 22 and "give --bin-dir" in blind.out
    decoded = check(folder, made, "--json", "bare", "--bin-dir", "runs-extract")
    assert decoded.code == 0
    tree = check(folder, made, "--json", "runs")
    assert tree.code == 0
    assert decoded.out.replace("bare/", "runs/") == tree.out
    again = {line["name"]: line for line in map(json.loads, tree.out.splitlines())}
    assert set(again) == set(whole)
    for name, line in whole.items():
        for key in ("verdict", "score", "transfers", "evidence", "effects", "where"):
            assert again[name].get(key) == line.get(key), (name, key)
    mixed = check(
        folder,
        made,
        whole["wild.txt"]["sample"],
        made / "usual.txt",
        "--fail-on-anomaly",
        "--bin-dir",
        "runs-extract",
    )
    assert mixed.code == 3
    assert [line.split(":")[0] for line in mixed.out.splitlines() if line[0] != " "] == [
        "wild.txt", "usual.txt"
    ]  # fmt: skip


def test_of_documents_with_the_same_content_one_is_run_and_all_are_judged(made, tmp_path):
    names = ("one.txt", "two.txt", "three.txt")
    for name in names:
        shutil.copy(made / "hostile" / "start.txt", tmp_path / name)
    ended = check(tmp_path, made, "--json", "-o", "runs", *(tmp_path / name for name in names))
    assert ended.code == 0, ended.err
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [line["name"] for line in lines] == list(names)
    assert [Path(line["document"]).name for line in lines] == list(names)
    assert {line["verdict"] for line in lines} == {"anomalous"}
    assert len({line["sample"] for line in lines}) == len(list((tmp_path / "runs").iterdir())) == 1


def test_recordings_that_are_kept_are_used_again(made, tmp_path):
    first = check(tmp_path, made, "-o", "runs", "--json", made / "usual.txt")
    [sample] = samples_in([tmp_path / "runs"])
    before = (sample.folder / "trace_0.gz").stat()
    again = check(tmp_path, made, "-o", "runs", "--json", made / "usual.txt")
    assert again.code == 0, again.err
    assert (sample.folder / "trace_0.gz").stat() == before
    assert again.lines() == first.lines()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["runs", "runs-extract"]
    # what is kept is a recording like any other
    assert "usual.txt" in run(tmp_path, "list", "runs").out


def test_nothing_is_left_of_recordings_that_are_not_kept(made, tmp_path, room):
    ended = check(tmp_path, made, made / "hostile", "-j", "2", env=env_with(TMPDIR=room))
    assert ended.code == 0, ended.err
    assert not list(room.iterdir())
    assert not list(tmp_path.iterdir())


def test_hostile_names_of_documents(made, tmp_path):
    documents = tmp_path / "documents"
    documents.mkdir()
    names = [
        b"new\nline.txt",
        b"\x1b]0;title\x07.txt",
        b"-rf",
        b"\xff\xfe.txt",
        b"$(id) {} .txt",
        b"\xe2\x80\xae.txt",
    ]
    for number, name in enumerate(names):
        (documents / os.fsdecode(name)).write_text("abcde" * (40 + number))
    ended = check(tmp_path, made, documents)
    assert ended.code == 0, ended.err
    assert len(ended.out.splitlines()) == len(names)
    assert not {"\x1b", "\x07", "\u202e"} & set(ended.out + ended.err)
    ended.out.encode()
    told = check(tmp_path, made, documents, "--json")
    assert told.code == 0, told.err
    lines = list(map(json.loads, told.out.splitlines()))
    assert {line["verdict"] for line in lines} == {"nominal"}
    assert not {"\x1b", "\x07", "\u202e"} & set(told.out)


def test_a_program_that_is_gone_or_another_one(made, tmp_path):
    moved = learnt_elsewhere(made, tmp_path)
    (moved / "reader").unlink()
    gone = run(tmp_path, "check", *ALLOWED, moved / "detector", made / "usual.txt")
    assert gone.code not in (0, 2, 3)
    assert f"{moved}/reader" in gone.err and len(gone.err.splitlines()[-1]) < 400


def test_other_versions_options_and_processors_are_told_once(made, tmp_path):
    program = build(tmp_path / "other", scale=5)
    ended = check(
        tmp_path, made, made / "usual.txt", made / "hostile" / "drop.txt", "--", program, "{}", "more"
    )
    assert ended.code == 0, ended.err
    told = [line for line in ended.err.splitlines() if line.startswith("differs: ")]
    assert len([line for line in told if line.startswith("differs: command line: ")]) == 1
    assert f"{program} {{}} more, learnt with {made}/reader {{}}" in told[0]
    assert "usual.txt: " in ended.out
    shown = check(tmp_path, made, made / "usual.txt", "--json", "--", program, "{}")
    [line] = shown.lines().values()
    assert any(each.startswith("command line: ") for each in line["differs"])
    assert "differs:" not in shown.err


def test_another_version_at_the_same_place_is_told(made, tmp_path):
    moved = learnt_elsewhere(made, tmp_path)
    before = run(tmp_path, "check", *ALLOWED, moved / "detector", made / "usual.txt")
    assert before.code == 0 and "differs:" not in before.err
    build(moved, scale=70_000)
    ended = run(
        tmp_path, "check", *ALLOWED, moved / "detector", made / "usual.txt", made / "hostile" / "drop.txt"
    )
    assert ended.code == 0, ended.err
    [line] = [line for line in ended.err.splitlines() if line.startswith("differs: ")]
    assert f"{moved}/reader is another version than was learnt" in line


def learnt_elsewhere(made, folder):
    """A folder with a copy of the program, and a detector of four runs of it."""
    moved = folder / "moved"
    moved.mkdir()
    shutil.copy(made / "reader", moved / "reader")
    sandbox = ["--sandbox"] if SANDBOX else []
    documents = sorted((made / "nominal").iterdir())[:4]
    ended = run(moved, "trace", "--benign", *sandbox, *documents, "--", moved / "reader", "{}")
    assert ended.code == 0, ended.err
    assert run(moved, "fit", "-o", "detector", "--bin-dir", "extract", "traces").code == 0
    return moved


def test_another_processor_is_told(made, kept, tmp_path):
    _, whole = kept
    copied = tmp_path / "sample"
    shutil.copytree(whole["usual.txt"]["sample"], copied, ignore=lambda *_: {"trace_digest"})
    meta = json.loads((copied / "meta.json").read_text())
    learnt_with = meta["engine"]["cpu"]
    meta["engine"]["cpu"] = "Haswell"
    (copied / "meta.json").write_text(json.dumps(meta))
    ended = check(tmp_path, made, copied, "--bin-dir", kept[0] / "runs-extract")
    assert f"differs: processor: Haswell, learnt with {learnt_with}: " in ended.err
    assert "usual.txt: nominal" in ended.out


@needs_sandbox
def test_without_a_sandbox_one_warning_says_so(made, tmp_path):
    env = without_program(tmp_path / "path", "qemu-x86_64", "qemu-i386")
    documents = made / "usual.txt", made / "hostile" / "drop.txt"
    ended = check(tmp_path, made, *documents, "--", made / "reader", "{}", env=env)
    assert ended.code == 0, ended.err
    [line] = [line for line in ended.err.splitlines() if "without a sandbox" in line]
    assert "bubblewrap" in line
    assert ended.err.count("differs: sandbox: none, learnt with bubblewrap") == 1
    assert "differs: command line" not in ended.err
    assert not [line for line in ended.err.splitlines() if line.startswith("runs ")]
    wanted = check(tmp_path, made, *documents, "--sandbox", env=env)
    assert wanted.code == 15 and not wanted.out
    assert "--sandbox: bubblewrap" in wanted.err


@needs_sandbox
def test_what_a_detector_names_is_told_and_runs_in_a_sandbox_or_not_at_all(made, tmp_path):
    document = made / "usual.txt"
    told = check(tmp_path, made, document)
    assert f"runs in a sandbox: {made}/reader '{{}}'" in told.err.splitlines()
    env = without_program(tmp_path / "path", "qemu-x86_64", "qemu-i386")
    refused = check(tmp_path, made, document, env=env)
    assert refused.code == 15 and not refused.out
    assert "add --no-sandbox if you trust the detector" in refused.err
    assert "runs " not in refused.err
    trusted = check(tmp_path, made, "--no-sandbox", document, env=env)
    assert trusted.code == 0 and "usual.txt: " in trusted.out
    assert f"runs with your rights, on your files: {made}/reader '{{}}'" in trusted.err.splitlines()


def test_no_shell_sees_the_command_of_a_detector(made, tmp_path):
    fitted = load_fitted(made / "detector")
    [known] = fitted.about.notes.programs
    victim = tmp_path / "victim"
    words = (str(made / "reader"), "{}", f"; touch {victim}", f"$(touch {victim})", "\x1b[2J")
    changed = replace(known, program=replace(known.program, command=words))
    notes = replace(fitted.about.notes, programs=(changed,))
    save_fitted(tmp_path / "detector", type(fitted)(replace(fitted.about, notes=notes), fitted.counts))
    ended = run(tmp_path, "check", "--no-sandbox", "detector", made / "usual.txt")
    assert ended.code == 0, ended.err
    assert not victim.exists()
    assert f"'; touch {victim}' '$(touch {victim})'" in ended.err
    assert "\x1b" not in ended.err + ended.out


def test_a_run_that_takes_too_long_is_ended_and_judged_by_what_there_is(made, tmp_path):
    slow = tmp_path / "slow.txt"
    slow.write_text(hostile_text("S"))
    started = time.monotonic()
    ended = check(tmp_path, made, "-t", "3", "--json", slow, "--fail-on-anomaly")
    assert time.monotonic() - started < 60
    [line] = ended.lines().values()
    assert line.get("verdict") in ("refused", "anomalous")
    assert ended.code == {"refused": 22, "anomalous": 3}[line["verdict"]]


def limits_in(folder):
    [sample] = samples_in([folder])
    meta = json.loads((sample.folder / "meta.json").read_text())
    told = meta["limits"]
    if meta["sandbox"]:
        told |= {name: meta["sandbox"][name] for name in ("memory", "processes")}
    return told


def test_runs_are_allowed_what_the_learnt_runs_were(made, tmp_path):
    options = ["--sandbox", "--memory", "3G", "--processes", "99"] if SANDBOX else []
    nominal = sorted((made / "nominal").iterdir())
    for number, more in ((0, ["-t", "77", "--max-size", "64M"]), (3, ["-t", "88", "--max-size", "32M"])):
        documents = nominal[number : number + 3]
        ended = run(tmp_path, "trace", "--benign", *options, *more, *documents, "--", made / "reader", "{}")
        assert ended.code == 0, ended.err
    ended = run(tmp_path, "fit", "-o", "detector", "--bin-dir", "extract", "traces")
    assert ended.code == 0 and "the runs are of" not in ended.err
    [known] = load_fitted(tmp_path / "detector").about.notes.programs
    assert known.runs == 6
    learnt_with = {"timeout": 88.0, "max_size": 64 << 20}
    given = {"timeout": 55.0, "max_size": 1 << 20}
    if SANDBOX:
        learnt_with |= {"memory": 3 << 30, "processes": 99}
        given |= {"memory": 2 << 30, "processes": 44}
    usual = made / "usual.txt"
    ended = run(tmp_path, "check", *ALLOWED, "-o", "as-learnt", "detector", usual)
    assert ended.code == 0, ended.err
    # other limits make no other program of it
    assert "differs" not in ended.err
    assert limits_in(tmp_path / "as-learnt") == learnt_with
    words = ["-t", "55", "--max-size", "1M", "--memory", "2G", "--processes", "44"]
    ended = run(tmp_path, "check", *ALLOWED, *words, "-o", "as-given", "detector", usual)
    assert ended.code == 0 and "differs" not in ended.err
    assert limits_in(tmp_path / "as-given") == given


def test_where_limits_are_not_known_it_is_what_check_always_allowed(made, tmp_path):
    fitted = load_fitted(made / "detector")
    programs = tuple(replace(known, limits=None) for known in fitted.about.notes.programs)
    notes = replace(fitted.about.notes, programs=programs)
    save_fitted(tmp_path / "old", type(fitted)(replace(fitted.about, notes=notes), fitted.counts))
    ended = run(tmp_path, "check", *ALLOWED, "-o", "runs", "old", made / "usual.txt")
    assert ended.code == 0, ended.err
    expected = {"timeout": 600.0, "max_size": 4 << 30}
    if SANDBOX:
        expected |= {"memory": 4 << 30, "processes": 256}
    assert limits_in(tmp_path / "runs") == expected
    # nor does a limit that the learnt runs did not have let a run go on for ever
    assert [known.limits.timeout for known in fitted.about.notes.programs] == [None]
    ended = run(tmp_path, "check", *ALLOWED, "-o", "again", made / "detector", made / "usual.txt")
    assert limits_in(tmp_path / "again")["timeout"] == 600.0


def test_no_detector_lifts_the_limits_of_a_sandbox(made, tmp_path):
    most = (1 << 63) - 1
    fitted = load_fitted(made / "detector")
    hostile = Limits(timeout=1e300, max_size=most, memory=most, processes=most, temporary=most)
    programs = tuple(replace(known, limits=hostile) for known in fitted.about.notes.programs)
    notes = replace(fitted.about.notes, programs=programs)
    limits = limits_for(type(fitted)(replace(fitted.about, notes=notes), fitted.counts))
    room = max(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), 4 << 30)
    assert limits.timeout <= 86_400
    assert limits.processes <= 1 << 15
    assert max(limits.memory, limits.temporary) <= room


@pytest.mark.parametrize("number", POLITE)
def test_a_polite_kill_ends_the_runs_and_leaves_nothing(made, tmp_path, room, number):
    slow = tmp_path / "slow.txt"
    slow.write_text(hostile_text("S"))
    started = subprocess.Popen(
        [BARNUM, "check", *ALLOWED, made / "detector", made / "usual.txt", slow],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env_with(TMPDIR=room),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    # the first is judged, the other rests
    assert started.stdout.readline().startswith("usual.txt: nominal")
    deadline = time.monotonic() + 60
    while not any(runs_reader(pid, slow) for pid in children(started.pid)):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    running = children(started.pid)
    started.send_signal(number)
    out, err = started.communicate(timeout=60)
    assert started.returncode == 130, err
    assert err.splitlines()[-1] == "barnum: interrupted"
    assert not out
    assert not [pid for pid in running if alive(pid)]
    assert not list(room.iterdir())


def runs_reader(pid, document):
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return b"qemu" in words[0] and any(document.name.encode() in word for word in words)
    except OSError:
        return False


def test_mistakes_are_told_in_a_line(made, tmp_path):
    for arguments, code, words in [
        ((made / "detector",), 2, "DOCUMENT"),
        ((tmp_path / "none", made / "usual.txt"), 2, "does not exist"),
        ((made / "usual.txt", made / "usual.txt"), 20, "barnum fit"),
        ((made / "detector", made / "usual.txt", "--", "cat"), 2, "{}"),
        ((made / "detector", tmp_path), 10, "holds no file"),
        ((made / "detector", made / "usual.txt", "--", tmp_path / "no-program", "{}"), None, "no-program"),
        ((made / "detector", made / "usual.txt", "-o", made / "usual.txt"), 2, "usual.txt"),
    ]:
        ended = run(tmp_path, "check", *ALLOWED, *arguments)
        assert ended.code == code or (code is None and ended.code >= 10), (arguments, ended.code, ended.err)
        assert words in ended.err
        assert not ended.out
