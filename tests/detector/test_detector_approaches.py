"""A real program that is made to write a file: found by its way to the call, before there is a file."""

from __future__ import annotations

import json
import random

import pytest

from barnum.detector import load_fitted
from checking import run
from recording import compile_c, trace

# reads a document; what it counts says how much it prints. One letter makes it open a file, for reading or,
# by the mode that stands in the document, for writing
READER = r"""
#include <stdio.h>
#include <string.h>
int main(int count, char **words)
{
    FILE *file = fopen(words[1], "r"), *other;
    char line[64];
    long sum = 0;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (line[0] == '@' && (other = fopen(line + 2, line[1] == '0' ? "r" : line[1] == '1' ? "w" : "a")))
            fclose(other);
        for (char *at = line; *at; at++)
            sum += *at % 7 == 3 ? *at * 3 : *at;
        if (line[0] == 'p')
            printf("%ld\n", sum);
    }
    return 0;
}
"""
NOMINAL = 24


def text(seed):
    rng = random.Random(seed)
    lines = ["".join(rng.choices("abcdefgh p", k=rng.randrange(1, 40))) for _ in range(rng.randrange(3, 30))]
    return "\n".join(["page", "@0/etc/hostname", *lines]) + "\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Recordings of harmless documents and a detector of them, and documents that make it write."""
    folder = tmp_path_factory.mktemp("approaches")
    compile_c(folder, READER, name="reader")
    for part, seeds in (("nominal", range(NOMINAL)), ("others", range(100, 108))):
        (folder / part).mkdir()
        for seed in seeds:
            (folder / part / f"{seed}.txt").write_text(text(seed))
    (folder / "writing").mkdir()
    (folder / "writing" / "w.txt").write_text(text(300).replace("@0/etc/hostname", "@1written"))
    (folder / "writing" / "a.txt").write_text(text(301).replace("@0/etc/hostname", "@2added"))
    for part in ("nominal", "others", "writing"):
        places = ("-o", f"{part}-traces", "--bin-dir", "images")
        done = trace(folder, "--benign", *places, part, "--", "./reader", "{}")
        assert done.returncode == 0, done.stderr
        done = run(folder, "preprocess", f"{part}-traces", "images")
        assert done.code == 0, done.err
    done = run(folder, "fit", "nominal-traces", "-o", "detector")
    assert done.code == 0, done.err
    promised = "ways to system calls that no nominal run goes are anomalous"
    assert promised in done.out and "at most 4 % more false alarms" in done.out
    return folder


def judged(folder, part, *options):
    done = run(folder, "score", *options, "detector", f"{part}-traces")
    assert done.code == 0, done.err
    told = [json.loads(line) for line in done.out.splitlines() if '"sample"' in line]
    return {line["name"]: line for line in told}


def test_a_file_is_opened_for_writing_for_the_first_time(made):
    whole = judged(made, "writing")
    assert {each["verdict"] for each in whole.values()} == {"anomalous"}
    cut = judged(made, "writing", "--cut", "effect")
    assert sorted(cut) == ["a.txt", "w.txt"]
    for name, each in cut.items():
        assert (each["verdict"], each["because"]) == ("anomalous", "evidence"), name
        [found] = [shown for shown in each.get("evidence", ()) if shown["kind"] == "approach"]
        assert "libc" in found["text"] and "is reached by a new way through libc" in found["text"]
        assert found["weight"] > 0
        # nothing of the run after the system call is looked at
        effect = next(shown for shown in whole[name]["effects"] if shown["kind"].startswith("open"))
        assert found["step"] == effect["step"]
    assert not any(
        shown["kind"] == "approach"
        for each in judged(made, "others").values()
        for shown in each.get("evidence", ())
    )


def test_runs_that_only_read_go_the_usual_way(made):
    assert {each["verdict"] for each in judged(made, "others", "--cut", "effect").values()} == {"nominal"}
    # what was learnt shows nothing that is new
    learnt = judged(made, "nominal")
    assert len(learnt) == NOMINAL and not any(each.get("evidence", ()) for each in learnt.values())


def test_detectors_of_parts_merge_to_that_of_the_whole(made):
    samples = sorted((made / "nominal-traces").iterdir())
    for name, part in (("one", samples[:9]), ("two", samples[9:])):
        assert run(made, "fit", *part, "-o", name).code == 0
    assert run(made, "merge", "one", "two", "-o", "both").code == 0
    assert (made / "both").read_bytes() == (made / "detector").read_bytes()
    keys = load_fitted(made / "detector").about.notes.approaches
    assert 50 < len(keys) < 2000 and max(key.runs for key in keys) == NOMINAL
