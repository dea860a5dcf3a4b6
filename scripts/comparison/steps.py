"""What is run, by each version in a folder of its own. Names of files are relative to that, so that no path
of a folder stands in a result.

    traces/b000 … m000 …   recordings, smallest first (harmless, malicious); raw/, rows/: the smallest of them
    extract/               images
    all.txt few.txt part-a.txt part-b.txt    sets
    calls/b00 … m00 …      reports with labels; reports/r0 …: others to judge
    keras/                 a model of Keras 2
    STEP/                  what a step writes

What is recorded as a step are programs that do the same each time. Ghostscript does not (its recordings are
an input), as what it does depends on the time and on random numbers.
"""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass

from .inputs import FEW, sets_file

_COMMANDS = (
    "trace", "decode", "preprocess", "lstm", "prob", "syscall", "classifier", "pack", "score", "report",
    "cluster", "stats", "bloom", "eval2png", "export",
)  # fmt: skip
# steps that take more than this project's packages; STORE stands for the URL of a version's own Redis server
KERAS, REDIS = "keras", "redis"
STORE = "{store}"
# conformal's; what the fewest runs of any step below allow
_RATE = "--false-alarm-rate 0.2"


@dataclass(frozen=True)
class Command:
    """The words after ``barnum``, and the exit codes that are expected."""

    words: tuple[str, ...]
    codes: frozenset[int] = frozenset({0})


@dataclass(frozen=True)
class Step:
    """Commands that belong together. ``needs`` are steps whose results they read, ``also`` patterns of the
    files that they write outside of the folder STEP; ``uses`` says what they need to begin with: recordings,
    reports, both or nothing."""

    name: str
    commands: tuple[Command, ...]
    needs: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    uses: frozenset[str] = frozenset({"recordings"})


def all_steps(threads: int) -> list[Step]:
    """Every step, in an order in which each comes after those it needs."""
    return [*_steps_of_traces(threads), *_steps_of_calls(threads), *_judging(threads), *_others(threads)]


def with_needed(steps: list[Step], names: list[str]) -> list[Step]:
    """The steps of these names, and those that they need."""
    by_name = {step.name: step for step in steps}
    wanted: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting.extend(by_name[name].needs)
    return [step for step in steps if step.name in wanted]


def _commands(text: str) -> tuple[Command, ...]:
    """A command a line; exit codes other than 0 stand before it, as in ``22: score …`` and ``0|3: …``."""
    found = []
    for line in text.strip().splitlines():
        codes, colon, words = line.strip().partition(": ")
        if not (colon and codes.replace("|", "").isdecimal()):
            codes, words = "0", line
        found.append(Command(tuple(shlex.split(words)), frozenset(map(int, codes.split("|")))))
    return tuple(found)


def _steps_of_traces(threads: int) -> list[Step]:
    sizes = "--units 6 --embedding-output-dimension 5 -s 5 --max-classes 64 --embedding-input-dimension 64"
    kinds = "--learn-ret --learn-icall --learn-ijmp"
    t = f"-t {threads} -l 30"
    # a sample is called by the SHA-256 of what was opened
    recorded = hashlib.sha256(sets_file(FEW).encode()).hexdigest()
    return [
        Step(
            "help",
            _commands("\n".join(["--version", "--help", *(f"{name} --help" for name in _COMMANDS)])),
            uses=frozenset(),
        ),
        Step(
            "trace",
            _commands(
                f"""
                trace --benign -l 30 -o trace/opened --bin-dir trace/extract -e extra all.txt few.txt -- \
                sha256sum {{}}
                trace --malicious -l 30 --start exec -o trace/begun --bin-dir trace/extract few.txt -- \
                sh -c 'sort "$1"; cat "$1"; exec wc "$1"' sh {{}}
                decode --blocks --bin-dir trace/extract trace/begun/{recorded}
                decode --instructions --stream 0 --bin-dir trace/extract trace/begun/{recorded}
                """
            ),
        ),
        Step(
            "preprocess",
            _commands(f"preprocess -j {threads} traces extract"),
            also=("traces/*/trace_parsed.parquet",),
        ),
        Step(
            "preprocess-gz",
            _commands(f"preprocess -j {threads} --format gz rows extract"),
            also=("rows/*/trace_parsed.gz",),
        ),
        Step(
            "decode",
            _commands(
                """
                decode --bin-dir extract traces/b000
                decode --summary traces/m000
                decode --blocks --stream 0 raw/b000
                """
            ),
        ),
        Step(
            "export",
            _commands(
                """
                export --format drcov -o export/b.drcov --bin-dir extract traces/b000
                export --format drcov -o export/m.drcov --bin-dir extract traces/m000
                """
            ),
            needs=("preprocess",),
        ),
        Step(
            "lstm",
            _commands(
                f"lstm -p --max-transfers 4000 {t} -i all.txt -o lstm/sets.txt --save-model lstm/m.json"
                " --save-weights lstm/w.safetensors --eval-dir lstm/eval traces"
            ),
            needs=("preprocess",),
        ),
        Step(
            "lstm-options",
            _commands(
                f"""
                lstm -p --train-size 6 --test-size-benign 2 --test-size-malicious 1 --seed 7 \
                --vocabulary modulo --learn-call --fold-loops 4 --max-transfers 2000 -e 1 -b 512 \
                --learning-decay 0.01 {t} -o lstm-options/sets.txt --save-model lstm-options/m.json \
                --save-weights lstm-options/w.h5 --skip-eval traces
                lstm --bin-dir extract {t} -i few.txt --use-model lstm/m.json \
                --use-weights lstm/w.safetensors --eval-format gz --eval-dir lstm-options/eval raw
                lstm -p {t} -i few.txt --max-transfers 1000 --multi-gpu 2 --save-model lstm-options/n.json \
                --save-weights lstm-options/n --skip-eval traces
                """
            ),
            needs=("lstm",),
        ),
        Step(
            "paper",
            _commands(
                f"""
                lstm -p --network paper --disable-ret {sizes} --max-transfers 300 -e 1 --checkpoint 0.01 {t} \
                -i few.txt --save-model paper/m.json --save-weights paper/w --eval-dir paper/eval traces
                lstm -p --network paper --disable-ret {sizes} --use-cudnn --vocabulary learnt \
                --max-transfers 300 -e 1 {t} -i few.txt --save-model paper/n.json --save-weights paper/n \
                --skip-eval traces
                """
            ),
            needs=("preprocess",),
        ),
        Step(
            "prob",
            _commands(f"prob -p {kinds} {t} -i all.txt --save prob/model --eval-dir prob/eval traces"),
            needs=("preprocess",),
        ),
        Step(
            "prob-options",
            _commands(
                f"""
                prob -p {kinds} {t} -i part-a.txt --save prob-options/a --skip-test --skip-eval traces
                prob -p {kinds} {t} -i part-b.txt --save prob-options/b --skip-test --skip-eval traces
                prob -p --load prob-options/b --merge prob-options/a --skip-train {t} -i few.txt \
                --save prob-options/ab --eval-dir prob-options/eval traces
                prob -p --load prob-options/b {t} -i few.txt --save prob-options/more --skip-eval traces
                prob --learn-ret --learn-call --rule draw --vocabulary modulo --max-classes 64 -s 8 \
                --max-memory 1M {t} --train-size 3 --test-size 2 -r 0.5 --seed 5 -o prob-options/sets.txt \
                --eval-format gz --eval-dir prob-options/drawn --save prob-options/drawn-model raw extract
                """
            ),
            needs=("preprocess",),
        ),
        Step(
            "mixture",
            _commands(
                f"lstm -p --max-transfers 1000 -e 1 {t} -i few.txt --with-prob prob-options/b"
                " --save-model mixture/m.json --save-weights mixture/w --eval-dir mixture/eval traces"
            ),
            needs=("prob-options",),
        ),
    ]


def _steps_of_calls(threads: int) -> list[Step]:
    t = f"-t {threads} -l 30"
    sizes = "--train-size 36 --test-size-benign 12 --test-size-malicious 12"
    small = "--train-size 6 --test-size-benign 3 --test-size-malicious 3"
    reports = frozenset({"reports"})
    return [
        Step(
            "syscall",
            _commands(
                f"syscall {sizes} --folds 6 {t} -o syscall/sets.txt --save-model syscall/m.json"
                " --save-weights syscall/w --eval-dir syscall/eval calls"
            ),
            uses=reports,
        ),
        Step(
            "syscall-options",
            _commands(
                f"""
                syscall {small} --children --by-thread --folds 3 {t} --save-model syscall-options/c.json \
                --save-weights syscall-options/c --eval-dir syscall-options/children calls
                syscall {small} --process splwow64.exe --network causal -e 1 --seed 3 {t} \
                --save-model syscall-options/m.json --save-weights syscall-options/w \
                --eval-dir syscall-options/causal calls
                syscall {small} --no-overlap -s 4 --vocabulary modulo --network paper --units 4 \
                --embedding-output-dimension 4 -e 1 --eval-format gz {t} --save-model syscall-options/p.json \
                --save-weights syscall-options/p --eval-dir syscall-options/apart calls
                """
            ),
            uses=reports,
        ),
    ]


def _judging(threads: int) -> list[Step]:
    w = f"-w {threads}"
    both = frozenset({"recordings", "reports"})

    def judged(step: str, name: str, options: str, evaluations: str) -> str:
        out = f"{step}/{name}"
        return (
            f"classifier {options} {w} --csv {out}.csv --json {out}.json --plot {out}.png --roc {out}-roc.csv"
            f" {evaluations}"
        )

    def classifiers(step: str, *cases: tuple[str, str, str]) -> tuple[Command, ...]:
        return _commands(
            "\n".join(
                judged(step, name, f"-s {step}/{name}-saved.json {options}", evaluations)
                for name, options, evaluations in cases
            )
        )

    def report(name: str, options: str, evaluations: str) -> str:
        out = f"report/{name}"
        return f"report {options} {w} -o {out}.html --json {out}.json --jsonl {out}.jsonl {evaluations}"

    def cluster(name: str, options: str, evaluations: str) -> str:
        out = f"cluster/{name}"
        return f"cluster {options} {w} --csv {out}.csv --json {out}.json --plot {out}.png {evaluations}"

    traces = "--traces traces --bin-dir extract"
    return [
        Step(
            "classifier",
            (
                *classifiers(
                    "classifier",
                    ("novelty", _RATE, "lstm/eval"),
                    ("cut", f"{_RATE} --cut", "lstm/eval"),
                    ("forced", "--force", "prob/eval"),
                    ("logistic", "--method logistic", "lstm/eval"),
                    ("svm", "--method svm", "prob/eval"),
                ),
                *_commands(
                    judged("classifier", "loaded", "-l classifier/novelty-saved.json", "lstm/eval")
                    + f"\n0|3: classifier -l classifier/svm-saved.json --fail-on-anomaly -i {w} prob/eval"
                ),
            ),
            needs=("lstm", "prob"),
        ),
        Step(
            "classifier-calls",
            (
                *classifiers(
                    "classifier-calls",
                    ("novelty", _RATE, "syscall/eval"),
                    ("adjusted", f"{_RATE} --score adjusted", "syscall/eval"),
                    ("combined", f"{_RATE} --score combined", "syscall/eval"),
                    ("surprisal", f"{_RATE} --score surprisal", "syscall-options/children"),
                ),
                *_commands(judged("classifier-calls", "gz", "--method svm", "syscall-options/apart")),
            ),
            needs=("syscall", "syscall-options"),
            uses=frozenset({"reports"}),
        ),
        Step(
            "pack",
            _commands(
                """
                pack --use-model lstm/m.json --use-weights lstm/w.safetensors \
                -l classifier/novelty-saved.json pack/lstm
                pack --prob prob/model -l classifier/svm-saved.json --max-lost 0.1 pack/prob
                pack --use-model syscall/m.json --use-weights syscall/w \
                -l classifier-calls/combined-saved.json pack/calls
                pack --use-model syscall-options/c.json --use-weights syscall-options/c --children \
                --by-thread -l classifier-calls/surprisal-saved.json pack/children
                """
            ),
            needs=("classifier", "classifier-calls"),
            uses=both,
        ),
        Step(
            "score",
            _commands(
                f"""
                22: score -t {threads} pack/lstm traces/b000 traces/b003 traces/m000 nowhere traces/m001
                score -t {threads} --cut --bin-dir extract pack/lstm raw/b000 raw/m000
                score -t {threads} pack/prob traces/b000 traces/m000
                22: score -t {threads} pack/calls reports/r0 reports/r1 reports/r2 reports/r3 reports/r4 \
                reports/r5
                score -t {threads} --process Reader.exe pack/children reports/r0/report.json reports/r1 \
                reports/r5
                """
            ),
            needs=("pack", "preprocess"),
            uses=both,
        ),
        Step(
            "report",
            _commands(
                "\n".join(
                    (
                        report("lstm", f"{_RATE} {traces}", "lstm/eval"),
                        report("cut", f"--cut {_RATE} --traces traces --windows 2", "prob/eval"),
                        report("svm", "-l classifier/svm-saved.json", "prob/eval"),
                        report("calls", f"{_RATE} --score combined", "syscall/eval"),
                        report("surprisal", f"{_RATE} --score surprisal --traces calls", "syscall/eval"),
                    )
                )
            ),
            needs=("classifier", "syscall"),
            uses=both,
        ),
        Step(
            "cluster",
            _commands(
                "\n".join(
                    (
                        cluster("place", f"--min-samples 2 {traces}", "lstm/eval"),
                        cluster("all", "--all --min-samples 3 --eps 0.5 --traces traces", "prob/eval"),
                        cluster("predicted", "--all --by predicted --min-samples 3 --eps 0.2", "prob/eval"),
                        cluster("hdbscan", "--all --algorithm hdbscan --min-samples 2", "lstm/eval"),
                        cluster("calls", "--min-samples 2", "syscall/eval"),
                    )
                )
            ),
            needs=("lstm", "prob", "syscall"),
            uses=both,
        ),
        Step(
            "stats",
            _commands(
                """
                stats -r -c -j traces/b000 stats/parquet.csv
                stats -c -j --indirect ptr -s 9 rows/b001 stats/rows.csv
                """
            ),
            needs=("preprocess", "preprocess-gz"),
        ),
        Step(
            "bloom",
            _commands(
                """
                bloom -r -c -j --plot bloom/curve.png --json bloom/curve.json all.txt traces
                bloom -c -j --indirect ptr -s 5 --flat 0.3 --json bloom/rows.json few.txt rows
                """
            ),
            needs=("preprocess", "preprocess-gz"),
        ),
        Step(
            "eval2png",
            _commands(
                """
                eval2png -w 512 lstm/eval/benign-b000.parquet eval2png/right.png
                eval2png -w 512 -c surprisal lstm/eval/malicious-m000.parquet eval2png/surprisal.png
                eval2png -w 512 -c md5 prob/eval/benign-b000.parquet eval2png/md5.png
                eval2png -w 512 -c adler32 lstm-options/eval/malicious-m000.gz eval2png/adler32.png
                """
            ),
            needs=("lstm", "prob", "lstm-options"),
        ),
    ]


def _others(threads: int) -> list[Step]:
    t = f"-t {threads} -l 30"
    kinds = "--learn-ret --learn-icall --learn-ijmp"
    return [
        Step(
            KERAS,
            _commands(
                f"""
                lstm -p --disable-ret {t} -i few.txt --use-model keras/lstm.json --use-weights keras/lstm.h5 \
                --eval-dir keras/eval traces
                19: classifier --method logistic --csv keras/verdicts.csv keras/eval
                """
            ),
            needs=("preprocess",),
        ),
        Step(
            REDIS,
            _commands(
                f"""
                prob -p {kinds} {t} --redis {STORE} -i few.txt --skip-eval traces
                prob -p {kinds} {t} --redis {STORE} --skip-train -i few.txt --save redis/model \
                --eval-dir redis/eval traces
                """
            ),
            needs=("preprocess",),
        ),
        Step(
            "errors",
            _commands(
                """
                2: frobnicate
                2: lstm traces
                2: prob -p traces
                2: classifier --method svm --score adjusted calls
                10: preprocess reports/r0 extract
                10: stats -r raw/b000 errors/none.csv
                11: decode --max-size 16 raw/b000
                13: decode raw/b000 --bin-dir calls
                14: trace --benign all.txt -- no-such-program {}
                17: classifier --csv no-such-folder/out.csv calls
                19: classifier calls
                20: prob -p --load all.txt --skip-train -i few.txt raw
                21: lstm -p --train-size 9999 raw
                21: bloom -r calls/b00/info.txt
                """
            ),
            uses=frozenset({"recordings", "reports"}),
        ),
    ]
