"""What `barnum trace` could not record is said in the sample's meta.json, not passed over."""

import os
import time

import pytest

from recording import LIKE_A_USER, compile_c, document, executable, samples, trace, without_program

_OPEN = (
    "#include <fcntl.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n"
)
_FIRST = "int main(int n, char **a) { char *open_it = a[1]; close(open(open_it, O_RDONLY)); "


def _lost(folder) -> tuple[str, ...]:
    [sample] = samples(folder)
    return sample.meta.lost


def test_a_child_for_which_there_is_no_emulator(tmp_path):
    answer = compile_c(tmp_path, "int main() { return 3; }", "-m32", "-static", name="answer")
    env = without_program(tmp_path / "bin", "qemu-x86_64", "sh")
    script = f"read line < $1; {answer}; exit $?"
    done = trace(tmp_path, "--benign", document(tmp_path), "--", "sh", "-c", script, "sh", "{}", env=env)
    assert done.returncode == 0, done.stderr
    assert _lost(tmp_path) == (
        f"process 1: not recorded is what it started as {answer}: the emulator for its kind is not installed",
    )
    assert "not recorded is what it started" in done.stderr
    assert samples(tmp_path)[0].meta.exit.status == 3


def test_a_child_that_may_not_be_read(tmp_path):
    secret = compile_c(tmp_path, "int main() { return 3; }", name="secret")
    secret.chmod(0o111)
    script = f"read line < $1; {secret}; exit $?"
    command = ("--benign", document(tmp_path), "--", "sh", "-c", script, "sh", "{}")
    trace(tmp_path, *command, prefix=LIKE_A_USER)
    assert _lost(tmp_path) == (f"process 1: not recorded is what it started as {secret}: it may not be read",)


def test_what_could_not_be_started_anyway_is_no_loss(tmp_path):
    executable(tmp_path / "strange", b"\x01\x02\x03\x04\x05")
    executable(tmp_path / "nothing", "#!\n")
    executable(tmp_path / "loop", f"#!{tmp_path}/loop\n")
    program = compile_c(
        tmp_path,
        _OPEN
        + _FIRST
        + "for (int i = 2; i < n; i++) { char *word[] = {a[i], 0}; execv(a[i], word); } return 7; }",
    )
    names = [tmp_path / name for name in ("strange", "nothing", "loop", "missing")]
    done = trace(tmp_path, "--benign", document(tmp_path), "--", program, "{}", *names)
    assert done.returncode == 0, done.stderr
    assert samples(tmp_path)[0].meta.exit.status == 7
    assert _lost(tmp_path) == ()


def test_as_many_scripts_of_scripts_as_the_kernel_runs(tmp_path):
    script = executable(tmp_path / "s1", "#!/bin/sh\nexit 6\n")
    for depth in range(2, 6):
        script = executable(tmp_path / f"s{depth}", f"#!{script}\n")
    line = f"read line < $1; {script}; exit $?"
    done = trace(tmp_path, "--benign", document(tmp_path), "--", "sh", "-c", line, "sh", "{}")
    assert done.returncode == 0, done.stderr
    [sample] = samples(tmp_path)
    assert sample.meta.exit.status == 6
    assert sample.meta.lost == ()
    # the shell, its child, and the shell that this became
    assert [process.event for process in sample.meta.processes] == ["start", "fork", "exec"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its rights or give files away")
def test_a_child_of_a_program_that_gave_up_its_rights(tmp_path):
    program = compile_c(
        tmp_path,
        _OPEN
        + "#include <sys/wait.h>\n"
        + _FIRST
        + "if (setgid(65534) || setuid(65534)) return 1; if (fork() == 0) { if (fork() == 0) "
        'execl("/bin/true", "true", NULL); wait(NULL); _exit(0); } wait(NULL); '
        'execl("/bin/sh", "sh", "-c", "exit 9", NULL); }',
    )
    done = trace(tmp_path, "--benign", document(tmp_path), "--", program, "{}")
    assert done.returncode == 0, done.stderr
    assert samples(tmp_path)[0].meta.exit.status == 9
    child, shell = _lost(tmp_path)
    assert child.startswith("process 0: a forked child (process id ")
    assert child.endswith(" and all that it started: no files could be made for it")
    assert shell == (
        "process 0: not recorded is what it started as /bin/sh: "
        "the program that started it had given up its rights"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_child_that_is_setuid(tmp_path):
    program = compile_c(tmp_path, "#include <unistd.h>\nint main() { return geteuid() == 65534; }")
    os.chown(program, 65534, 65534)
    program.chmod(0o4755)
    script = f"read line < $1; {program}; exit $?"
    done = trace(tmp_path, "--benign", document(tmp_path), "--", "sh", "-c", script, "sh", "{}")
    assert done.returncode == 0, done.stderr
    assert samples(tmp_path)[0].meta.exit.status == 0
    [sentence] = _lost(tmp_path)
    assert sentence.startswith(f"process 1: what it started ran without the rights of {program}: setuid")


def test_memory_that_changes_often_costs_what_changes(tmp_path):
    program = compile_c(
        tmp_path,
        _OPEN
        + "#include <sys/mman.h>\n"
        + _FIRST
        + """
        for (int i = 0; i < 1500; i++) {
            char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            for (int round = 0; round < 2; round++) {
                mprotect(page, 4096, PROT_READ | PROT_WRITE);
                memcpy(page, "\\xb8\\x01\\x00\\x00\\x00\\xc3", 6);
                mprotect(page, 4096, PROT_READ | PROT_EXEC);
                ((int (*)(void))page)();
            }
        }
        return 0; }
        """,
    )
    # the map that is left behind must be looked at before it goes with the run's folder
    script = f'{program} "$1"; stat -c %s ../raw/maps_* >&2'
    began = time.monotonic()
    done = trace(tmp_path, "--benign", document(tmp_path), "--", "sh", "-c", script, "sh", "{}")
    assert done.returncode == 0, done.stderr
    [sample] = samples(tmp_path)
    assert sample.meta.lost == ()
    assert max(map(int, sample.meta.stderr.split())) < 1 << 20
    assert time.monotonic() - began < 60
    processes = sample.processes(tmp_path / "extract")
    assert max(len(process.mapping.modules) for process in processes) > 1500
