"""Detectors of parts of the runs, merged: whole files, with programs, images, evidence and effects."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnum.detector import Fitted, load_fitted, merged, save_fitted
from barnum.detector.fitted import fit
from barnum.digests import Digest, Program, digest_of_path, write_digest
from barnum.digests.digest import Limits
from barnum.digests.effects import EffectKind
from barnum.evidence import Finding, Findings
from barnum.evidence.findings import Place
from barnum.paths import open_path
from barnum.samples import Sample
from barnum.sequences import FEW_RUNS
from learning import barnum, nominal_path, write_sample

RUNS = 24
Runs = list[tuple[Digest, int]]


def finding(number: int, strong: bool) -> Finding:
    place = Place("app", number)
    return Finding(
        kind="return", strong=strong, by="return", site=number, target=number + 1, site_place=place,
        target_place=place, step=number, count=1 + number % 3, key=f"return app+{number % 5}",
    )  # fmt: skip


def limits(rng: random.Random) -> Limits:
    return Limits(
        timeout=rng.choice([None, 0.5, 60.0, 600.0]), max_size=rng.randrange(1, 9), memory=rng.randrange(9)
    )


def with_notes(digest: Digest, seed: int) -> Digest:
    """The digest with evidence, effects and a program drawn at random."""
    rng = random.Random(seed)
    findings = tuple(
        finding(number, rng.random() < 0.3) for number in sorted(rng.sample(range(40), rng.randrange(4)))
    )
    effects = tuple(
        EffectKind(key=f"open /folder-{number}", text=f"open({number})", count=1 + number, step=number)
        for number in sorted(rng.sample(range(6), rng.randrange(4)))
    )
    images = {f"/lib/{name}": f"{rng.randrange(2):032x}" for name in rng.sample("abcd", rng.randrange(4))}
    program = Program(
        command=("app", "{}", *rng.choice([(), ("-x",)])),
        start="open",
        engine="emulator",
        cpu=rng.choice(["qemu64", "Haswell"]),
        sandbox=rng.choice(["", "bubblewrap"]),
        images=images,
    )
    modules = tuple(
        sorted({**dict(digest.about.modules), rng.randrange(9): rng.choice(["/m/a", None])}.items())
    )
    about = msgspec.structs.replace(
        digest.about,
        evidence=rng.choice([None, Findings(findings=findings)]),
        limits=rng.choice([None, limits(rng)]),
        effects=rng.choice([None, effects]),
        program=rng.choice([None, program, program]),
        modules=modules,
        kind=rng.choice([None, "pdf", "ps"]),
    )
    return Digest(about, digest.taken, digest.ways)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    root = tmp_path_factory.mktemp("runs")
    made = []
    for seed in range(RUNS):
        sample = Sample.open(write_sample(root, f"{seed}.doc", "benign", nominal_path(seed, 500)))
        assert sample.parsed is not None
        made.append((with_notes(digest_of_path(sample, open_path(sample.parsed)), seed), 7 * seed + 3))
    return made


def written(folder: Path, fitted: Fitted) -> bytes:
    """A detector's file, which is read and written once more on the way."""
    save_fitted(folder / "one", fitted)
    save_fitted(folder / "other", load_fitted(folder / "one"))
    assert (folder / "other").read_bytes() == (folder / "one").read_bytes()
    return (folder / "one").read_bytes()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_split_merges_to_the_file_of_the_whole(runs, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("split")
    size = data.draw(st.integers(2, RUNS))
    chosen = data.draw(st.permutations(range(RUNS)))[:size]
    cuts = sorted(data.draw(st.sets(st.integers(1, size - 1), min_size=1, max_size=5)))
    parts = [chosen[begin:end] for begin, end in zip([0, *cuts], [*cuts, size], strict=True)]
    rate = data.draw(st.sampled_from([None, 0.25]))
    whole = written(folder, fit([runs[number] for number in sorted(chosen)], rate=rate))
    fitted = [fit([runs[number] for number in part], rate=rate) for part in parts]
    # parts are written and read, as files that are merged are
    for number, part in enumerate(fitted):
        save_fitted(folder / f"part-{number}", part)
    read = [load_fitted(folder / f"part-{number}") for number in range(len(fitted))]
    assert written(folder, merged(read)) == whole
    # two by two, and by adding to what is there
    together = read[0]
    for part in read[1:]:
        together = merged([part, together])
    assert written(folder, together) == whole
    added = read[-1]
    for part_runs in parts[:-1]:
        added = fit([runs[number] for number in part_runs], rate=rate, beside=added)
    assert written(folder, added) == whole


def test_what_is_added_up_is_what_the_runs_show(runs):
    notes = fit(runs).about.notes
    assert RUNS >= FEW_RUNS
    abouts = [digest.about for digest, _ in runs]
    for known in notes.effects:
        have = [kind for about in abouts if about.effects for kind in about.effects if kind.key == known.key]
        assert known.runs == len(have)
        assert (known.run is None) == (len(have) > 1)
    for known in notes.evidence:
        have = [
            identity
            for digest, identity in runs
            if digest.about.evidence and known.key in digest.about.evidence.keys
        ]
        assert known.runs == len(have)
        assert known.run == (have[0] if len(have) == 1 else None)
    assert notes.watched == sum(about.effects is not None for about in abouts)
    assert sum(known.runs for known in notes.programs) == sum(about.program is not None for about in abouts)
    images = [image for about in abouts if about.program for image in about.program.images.items()]
    assert {(each.path, each.sha256): each.runs for each in notes.images} == {
        image: images.count(image) for image in images
    }


def of_program(folder: Path, name: str, seed: int, program: Program) -> None:
    """A sample that is a digest alone."""
    sample = Sample.open(write_sample(folder, name, "benign", nominal_path(seed, 400)))
    assert sample.parsed is not None
    digest = digest_of_path(sample, open_path(sample.parsed))
    about = msgspec.structs.replace(digest.about, program=program)
    write_digest(sample.folder / "trace_digest", Digest(about, digest.taken, digest.ways))
    sample.parsed.unlink()


def test_programs_and_processors_that_are_mixed_are_told_in_a_line_each(tmp_path):
    app = Program(command=("/bin/app", "{}"), start="open", engine="emulator", cpu="qemu64")
    other = msgspec.structs.replace(app, command=("/bin/\x1bother", "{}"), cpu="Haswell")
    for seed in range(4):
        of_program(tmp_path / "one", f"{seed}.doc", seed, app)
        of_program(tmp_path / "two", f"{seed}-other.doc", 10 + seed, other if seed % 2 else app)
    one = barnum("fit", "-o", tmp_path / "a", tmp_path / "one")
    assert one.code == 0 and "the runs are of" not in one.err
    both = barnum("fit", "-o", tmp_path / "ab", tmp_path / "one", tmp_path / "two")
    assert both.code == 0
    assert barnum("fit", "-o", tmp_path / "b", tmp_path / "two").code == 0
    again = barnum("merge", "-o", tmp_path / "merged", tmp_path / "a", tmp_path / "b")
    for ended in (both, again):
        told = [line for line in ended.err.splitlines() if "the runs are of" in line]
        assert len(told) == 2
        assert "of several programs, /bin/" in told[0] and "other (2), /bin/app (6): " in told[0]
        assert "of several models of processor, Haswell (2), qemu64 (6): " in told[1]
        assert "\x1b" not in ended.err
    assert (tmp_path / "merged").read_bytes() == (tmp_path / "ab").read_bytes()
