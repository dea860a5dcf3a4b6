"""Effects of recorded runs are those that strace sees natively, and each has its place in the path."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from barnum.paths import Kind, PathReader, effect_steps, open_path
from barnum.paths.preprocess import Request, preprocess
from barnum.recording import Recorder, Settings, find_engine
from barnum.samples import MAX_EFFECTS, Effect, Sample
from barnum.texts import unescaped
from recording import BARNUM, compile_c, document
from strace import Seen, can_strace, normal_result, strace

PROGRAMS = Path(__file__).parents[1] / "programs"
needs_32 = pytest.mark.skipif(
    not any(Path(loader).exists() for loader in ("/usr/lib32/ld-linux.so.2", "/lib/ld-linux.so.2")),
    reason="no 32-bit programs here: install gcc-multilib",
)
needs_strace = pytest.mark.skipif(
    not can_strace(),
    reason="strace may not trace here" if shutil.which("strace") else "strace is not installed",
)


def record(folder: Path, *command: object, **settings: object) -> Sample:
    """Record a command once."""
    recorder = Recorder(
        Settings(
            command=tuple(map(str, command)),
            label="benign",
            output=folder / "traces",
            bin_dir=folder / "extract",
            **{"start": "exec", "timeout": 60, **settings},  # type: ignore[arg-type]
        ),
        find_engine(),
    )
    outcome = recorder.record(document(folder))
    assert outcome.folder is not None, outcome
    return Sample.open(outcome.folder)


def effects_of(sample: Sample) -> tuple[Effect, ...]:
    assert sample.effects is not None
    return sample.effects.effects


def seen_by_barnum(sample: Sample) -> list[Seen]:
    """The effects in the words of strace's reader."""
    assert sample.meta is not None
    processes: dict[int, int] = {}
    seen = []
    for effect in effects_of(sample):
        number = processes.setdefault(sample.meta.processes[effect.process].pid, len(processes))
        texts = {
            name: text
            for name in ("path", "folder", "target", "target_folder", "address")
            if (text := getattr(effect, name)) is not None
        }
        # a path without a descriptor before it starts in the current folder, which strace does not tell
        if effect.call == "creat" or not effect.call.endswith(("at", "at2")):
            texts.pop("folder", None)
            texts.pop("target_folder", None)
        result = "none" if effect.result is None else normal_result(effect.call, effect.result)
        seen.append(
            Seen(number, effect.call, tuple(sorted(texts.items())), effect.arguments, effect.error or result)
        )
    return seen


def without_fallbacks(seen: list[Seen]) -> list[Seen]:
    """Without calls that not every emulator has, and what newer C libraries do in their place then."""
    return [
        effect
        for effect in seen
        if effect.call != "fchmodat2"
        and not (effect.call == "chmod" and dict(effect.texts).get("path", "").startswith("/proc/self/fd/"))
    ]


def by_process(seen: list[Seen]) -> list[list[Seen]]:
    """The effects of each process, in an order that does not depend on which of them was faster."""
    processes: dict[int, list[Seen]] = {}
    for effect in seen:
        processes.setdefault(effect.process, []).append(effect._replace(process=0))
    return sorted(processes.values(), key=repr)


def compare(folder: Path, script: str, at_once: bool = False) -> Sample:
    """Run a script of the shell both ways, each time in the same empty folder; their effects are equal.

    ``at_once``: it has several processes that run at once.
    """
    place = folder / "place"
    place.mkdir()
    command = ("/bin/sh", "-c", f"cd {place}; {script}")
    expected = strace(command, folder, folder / "strace.txt")
    shutil.rmtree(place)
    place.mkdir()
    sample = record(folder, *command)
    seen, expected = without_fallbacks(seen_by_barnum(sample)), without_fallbacks(expected)
    if at_once:
        assert by_process(seen) == by_process(expected)
    else:
        assert seen == expected
    assert len(expected) > 2
    return sample


SCRIPTS = {
    "cp": "echo a > a; cp -p a b; mkdir c; cp -r c d; cp absent e",
    "mkdir": "mkdir -p a/b/c; mkdir a; rmdir a/b/c a/b; rmdir a absent",
    "rm": "mkdir -p a/b; echo x > a/b/c; rm -r a; rm absent; rm -f absent",
    "mv": "echo x > a; mkdir d; mv a 'new name'; mv 'new name' d; mv d/* 'tab\tand\\backslash'",
    "ln": "echo x > a; ln a b; ln -s a c; ln -s 'one\\n' 'é ü'; ln absent d; cat c > d",
    "chmod": "echo x > a; chmod 4755 a; chmod u-s a; chown 0:0 a; chmod 600 absent",
    "touch": "touch a; touch -d 2020-01-01 a b; truncate -s 5 a; echo y >> a; touch absent/c",
    "tar": "mkdir a; echo x > a/b; ln -s b a/c; tar cf a.tar a; rm -r a; tar xf a.tar",
    "dd and find": "dd if=/dev/zero of=a bs=100 count=3; echo x > b; sort -o c b; gzip b; find . -delete",
    "processes": (
        "(exit 3); mkfifo never; (: > started; read x < never) & while [ ! -e started ]; do :; done; "
        "kill $!; wait; exec /bin/true"
    ),
    "perl": (
        'perl -e \'use IO::Socket::INET; use IO::Socket::UNIX; IO::Socket::INET->new("127.0.0.1:9"); '
        "IO::Socket::UNIX->new(Local => q(s), Listen => 1); rename q(s), qq(t\\n); system(q(true)); exit 1'"
    ),
}


@needs_strace
@pytest.mark.parametrize("bits", [64, pytest.param(32, marks=needs_32)])
@pytest.mark.parametrize("rights", ["", "rights"])
def test_effects_of_all_kinds_are_those_that_strace_sees(rights: str, bits: int, tmp_path: Path) -> None:
    program = compile_c(tmp_path, (PROGRAMS / "effects.c").read_text(), f"-m{bits}")
    sample = compare(tmp_path, f"exec {program} {rights}")
    check_places(tmp_path, sample)


@needs_strace
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_effects_of_common_programs_are_those_that_strace_sees(script: str, tmp_path: Path) -> None:
    sample = compare(tmp_path, script)
    check_places(tmp_path, sample)


def parse(folder: Path, sample: Sample) -> PathReader:
    """The sample's path."""
    parsed = sample.folder / "trace_parsed.parquet"
    preprocess(Request(folder=str(sample.folder), bin_dir=str(folder / "extract"), output=str(parsed)))
    return open_path(parsed)


def check_places(folder: Path, sample: Sample) -> None:
    """Every effect has a step, in its own stream, whose block ends with a way into the kernel."""
    reader = parse(folder, sample)
    path = reader.read()
    steps = effect_steps(effects_of(sample), reader)
    assert (steps >= 0).all()
    assert (path.blocks.kind[path.block[steps]] == Kind.FAR).all()
    assert path.stream[steps].tolist() == [effect.stream for effect in effects_of(sample)]


@needs_strace
def test_effects_of_processes_that_run_at_once_are_those_that_strace_sees(tmp_path: Path) -> None:
    script = (
        "mkdir a b c d; for i in a b c d; do (touch $i/1; mv $i/1 $i/2) & done; wait; ls a | cat > e; rm -r d"
    )
    check_places(tmp_path, compare(tmp_path, script, at_once=True))


# --- the place, right to the block


def check_sites(folder: Path, sample: Sample, program: Path) -> Counter[str]:
    """Each folder that programs/places.c makes is named after the label behind the system call, and how often
    its stream had been there; returns the number of effects by label."""
    lines = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout.splitlines()
    labels = {
        name: int(address, 16) for address, _, name in (line.split() for line in lines if line[0] != " ")
    }
    reader = parse(folder, sample)
    path = reader.read()
    ends = (path.blocks.start + path.blocks.length)[path.block]
    far = path.blocks.kind[path.block] == Kind.FAR
    effects = effects_of(sample)
    counts: Counter[str] = Counter()
    packets = [gzip.decompress(stream.path.read_bytes()) for stream in sample.streams]
    for effect, step in zip(effects, effect_steps(effects, reader).tolist(), strict=True):
        if effect.path is None or not effect.path.startswith("site_"):
            continue
        label, _, times = effect.path.partition("-")
        assert step >= 0, effect
        assert ends[step] == labels[label], effect
        assert effect.stream is not None
        assert effect.offset is not None
        # TIP.PGD without an address
        assert packets[effect.stream][effect.offset - 1] == 0x01, effect
        before = far[:step] & (ends[:step] == labels[label]) & (path.stream[:step] == effect.stream)
        assert before.sum() == int(times), effect
        counts[label] += 1
    return counts


@pytest.mark.parametrize("bits", [64, pytest.param(32, marks=needs_32)])
@pytest.mark.parametrize("start", ["exec", "open"])
def test_each_effect_is_at_the_block_that_made_it(start: str, bits: int, tmp_path: Path) -> None:
    options = ("-no-pie", "-fno-pie", "-pthread", f"-m{bits}")
    program = compile_c(tmp_path, (PROGRAMS / "places.c").read_text(), *options)
    sample = record(tmp_path, program, "{}", start=start)
    counts = check_sites(tmp_path, sample, program)
    assert counts.pop("site_alarm") >= 4
    assert counts.pop("site_first", 0) == (start == "exec")
    assert counts == {
        "site_loop": 50,
        "site_trap": 1,
        "site_after_trap": 1,
        "site_after_two": 1,
        "site_after_return": 1,
        "site_child": 3,
        "site_after_alarm": 3,
        "site_among_alarms": 200,
        "site_thread": 20,
        "site_beside_thread": 20,
        "site_last": 1,
    }


def test_no_place_is_known_where_packets_were_lost_before(tmp_path: Path) -> None:
    program = compile_c(
        tmp_path,
        """
        #include <sys/stat.h>
        int main(void) {
            volatile int sum = 0;
            mkdir("before", 0700);
            for (int i = 0; i < 5000000; i++)
                if (i * 2654435761u >> 31)
                    sum++;
            mkdir("after", 0700);
        }
        """,
    )
    sample = record(tmp_path, program, max_bytes=64 << 10)
    before, after = (effect for effect in effects_of(sample) if effect.call == "mkdir")
    assert (after.result, after.stream, after.entry, after.offset) == (0, 0, None, None)
    steps = effect_steps(effects_of(sample), parse(tmp_path, sample)).tolist()
    assert steps[effects_of(sample).index(before)] >= 0
    assert steps[effects_of(sample).index(after)] == -1


# --- what a program may do to its recorder


@pytest.mark.parametrize("bits", [64, pytest.param(32, marks=needs_32)])
def test_hostile_paths_are_kept_or_cut_and_stop_nothing(bits: int, tmp_path: Path) -> None:
    program = compile_c(
        tmp_path,
        r"""
        #define _GNU_SOURCE
        #include <string.h>
        #include <sys/mman.h>
        #include <unistd.h>
        int main(void) {
            char *two = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            munmap(two + 2 * 4096, 4096);
            memset(two, 'a', 2 * 4096);
            unlink(two);                  /* without an end */
            two[4095] = 0;
            unlink(two);                  /* as long as a path may be, and over the edge below */
            unlink(two + 4096 + 4000);    /* up to the edge, and no further */
            memcpy(two + 2 * 4096 - 5, "edge", 5);
            unlink(two + 2 * 4096 - 5);
            memcpy(two + 4094, "over", 5);
            unlink(two + 4094);
            unlink("line\nbreak \x1b]0;x\a \xff\xfe \\x0a \xe2\x80\xae");
            unlink((char *)-1);
            unlink(NULL);
            mprotect(two, 4096, PROT_NONE);
            unlink(two);
            return 7;
        }
        """,
        f"-m{bits}",
    )
    sample = record(tmp_path, program)
    assert sample.meta is not None
    assert sample.meta.exit.status == 7
    paths = [effect for effect in effects_of(sample) if effect.call == "unlink"]
    told = [
        (None if effect.path is None else unescaped(effect.path), effect.cut, effect.error)
        for effect in paths
    ]
    # the emulator looks for the end of a path first, where a processor's kernel says ENAMETOOLONG
    assert told == [
        (b"a" * 4096, True, "EFAULT"),
        (b"a" * 4095, False, "ENAMETOOLONG"),
        (b"a" * 96, True, "EFAULT"),
        (b"edge", False, "ENOENT"),
        (b"over", False, "ENOENT"),
        (b"line\nbreak \x1b]0;x\a \xff\xfe \\x0a \xe2\x80\xae", False, "ENOENT"),
        (b"", True, "EFAULT"),
        (None, False, "EFAULT"),
        (b"", True, "EFAULT"),
    ]
    assert all((effect.path or "").isprintable() for effect in paths)


def test_of_a_million_effects_each_is_kept_or_counted(tmp_path: Path) -> None:
    program = compile_c(
        tmp_path,
        """
        #include <unistd.h>
        int main(void) {
            for (int i = 0; i < 1000000; i++)
                i % 10 ? rmdir("absent") : unlink("absent");
        }
        """,
    )
    sample = record(tmp_path, program)
    assert sample.effects is not None
    calls = Counter(effect.call for effect in sample.effects.effects)
    assert len(sample.effects.effects) == MAX_EFFECTS
    assert calls + Counter(sample.effects.more) == {"rmdir": 900_000, "unlink": 100_000}
    assert sample.meta is not None
    assert sample.meta.effects == 1_000_000
    assert {effect.error for effect in sample.effects.effects} == {"ENOENT"}


def test_what_was_noted_before_a_kill_stays(tmp_path: Path) -> None:
    program = compile_c(
        tmp_path,
        """
        #include <fcntl.h>
        #include <sys/socket.h>
        #include <sys/stat.h>
        int main(void) {
            mkdir("before", 0700);
            int fd = socket(AF_UNIX, SOCK_STREAM, 0);
            listen(fd, 1);
            struct { unsigned short family; char name[8]; } name = {AF_UNIX, "queue"};
            bind(fd, (struct sockaddr *)&name, sizeof name);
            listen(fd, 1);
            accept(fd, 0, 0);
        }
        """,
    )
    sample = record(tmp_path, program, timeout=2)
    assert sample.meta is not None
    assert sample.meta.exit.timeout
    told = [(effect.call, effect.result, effect.error) for effect in effects_of(sample)]
    assert told == [
        ("mkdir", 0, None),
        ("listen", None, "EINVAL"),
        ("bind", 0, None),
        ("listen", 0, None),
        ("accept", None, None),
    ]
    assert effect_steps(effects_of(sample), parse(tmp_path, sample)).min() > 0


def test_programs_and_processes_that_an_effect_starts_are_named(tmp_path: Path) -> None:
    sample = record(tmp_path, "/bin/sh", "-c", "/bin/true; exec /bin/echo 'a b' $(echo) {}")
    assert sample.meta is not None
    started = [effect for effect in effects_of(sample) if effect.started is not None]
    processes = sample.meta.processes
    for effect in started:
        assert effect.started is not None
        assert processes[effect.started].parent == effect.process
        assert processes[effect.started].event == ("exec" if effect.call == "execve" else "fork")
        if effect.call == "execve":
            assert (
                effect.path
                == {"true": "/bin/true", "echo": "/bin/echo"}[Path(processes[effect.started].program).name]
            )
    assert {effect.started for effect in started} == {process.index for process in processes[1:]}
    assert started[-1].arguments is not None
    assert started[-1].arguments[:2] == ("/bin/echo", "a b")


def test_words_of_a_program_are_bounded(tmp_path: Path) -> None:
    program = compile_c(
        tmp_path,
        """
        #include <stdlib.h>
        #include <string.h>
        #include <unistd.h>
        int main(void) {
            char *words[200] = {"true"}, *none[] = {NULL}, *longest = malloc(100000);
            memset(longest, 'x', 99999);
            longest[99999] = 0;
            for (int i = 1; i < 199; i++)
                words[i] = i == 50 ? longest : "word";
            execve("/nowhere", words, none);
            words[50] = "word";
            execve("/nowhere", words, none);
        }
        """,
    )
    long, many = (effect for effect in effects_of(record(tmp_path, program)) if effect.call == "execve")
    assert long.arguments is not None
    assert many.arguments is not None
    assert (len(long.arguments), long.left_out, long.cut) == (51, 148, True)
    assert long.arguments[50] == "x" * (4096 - 4 * 50)
    assert (len(many.arguments), many.left_out, many.cut) == (64, 135, False)


def test_decode_prints_effects_with_their_steps(tmp_path: Path) -> None:
    sample = record(tmp_path, "/bin/sh", "-c", "mkdir 'a\nb'; chmod 640 'a\nb'; exit 3")
    steps = effect_steps(effects_of(sample), parse(tmp_path, sample)).tolist()
    done = subprocess.run(
        [BARNUM, "decode", "--effects", sample.folder], capture_output=True, text=True, timeout=60, check=True
    )
    lines = done.stdout.splitlines()
    assert [int(line.split()[0]) for line in lines] == steps
    assert [int(line.split()[1]) for line in lines] == [effect.process for effect in effects_of(sample)]
    (made,) = (line for line in lines if " mkdir(" in line)
    assert '"a\\x0ab" in "' in made
    assert made.endswith(", mode=0o777) = 0")
    (changed,) = (line for line in lines if " fchmodat(" in line)
    assert ", mode=0o640) = 0" in changed
    of_one = subprocess.run(
        [BARNUM, "decode", "--effects", "--stream", "2", sample.folder],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert [line.split(maxsplit=1)[1] for line in of_one.stdout.splitlines()] == [
        line.split(maxsplit=1)[1]
        for line, effect in zip(lines, effects_of(sample), strict=True)
        if effect.stream == 2
    ]


def test_samples_of_other_recorders_tell_of_no_effects(tmp_path: Path) -> None:
    sample = record(tmp_path, "/bin/true")
    assert sample.effects is not None
    meta = json.loads((sample.folder / "meta.json").read_text())
    del meta["effects"]
    (sample.folder / "meta.json").write_text(json.dumps(meta))
    assert Sample.open(sample.folder).effects is None
