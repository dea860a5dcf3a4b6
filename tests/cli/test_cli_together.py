"""`barnum score` on many runs: chosen at a false discovery rate, and told when unlike those learnt."""

import json
import shutil

import msgspec
import pytest

import barnum as library
from barnum.detector import judge_with, load_fitted
from barnum.errors import OptionsError
from barnum.samples import Sample
from learning import attack_path, barnum, nominal_path, write_sample, write_tree

LEARNT, USUAL, ATTACKS = 40, 14, 6


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a detector of the runs in ``traces``, other harmless ones and attacks."""
    folder = tmp_path_factory.mktemp("together")
    write_tree(folder / "traces", LEARNT, 0)
    for i in range(USUAL):
        write_sample(folder / "usual", f"usual-{i}.doc", "unknown", nominal_path(1000 + i))
    for i in range(24):
        write_sample(folder / "attacks", f"attack-{i}.doc", "unknown", attack_path(500 + i))
    fitted = barnum("fit", folder / "traces", "-o", folder / "detector")
    assert fitted.code == 0, fitted.err
    return folder


@pytest.fixture(scope="module")
def attacks(made):
    return sorted((made / "attacks").iterdir())


def score(*arguments):
    ended = barnum("score", *arguments)
    lines = [json.loads(line) for line in ended.out.splitlines()]
    return ended, [line for line in lines if "sample" in line], [x for x in lines if "sample" not in x]


def test_verdicts_are_chosen_for_all_runs_together(made, attacks):
    ended, lines, _ = score("--fdr", "0.1", made / "detector", made / "usual", *attacks[:ATTACKS])
    assert ended.code == 0, ended.err
    assert len(lines) == USUAL + ATTACKS
    runs = USUAL + ATTACKS
    for line in lines:
        attack = line["name"].startswith("attack")
        assert line["verdict"] == ("anomalous" if attack else "nominal")
        assert (line["q"] <= 0.1) == attack
        # no score alone decides
        assert line["threshold"] is None
        assert ("because" in line) == attack
        if attack:
            assert line["q"] == pytest.approx(runs / ATTACKS / (LEARNT + 1))
    # a single one would not be found
    assert (
        f"at least 5 are called anomalous or none: to find a single one takes about {runs * 10 - 1} nominal"
        in (ended.err)
    )


def test_too_few_anomalous_runs_are_not_called_so(made, attacks):
    ended, lines, _ = score(
        "--fdr", "0.1", "--fail-on-anomaly", made / "detector", made / "usual", *attacks[:2]
    )
    assert ended.code == 0
    assert {line["verdict"] for line in lines} == {"nominal"}
    assert "at least 4 are called anomalous or none" in ended.err
    alone, lines, _ = score("--fail-on-anomaly", made / "detector", made / "usual", *attacks[:2])
    assert alone.code == 3
    found = [line["name"] for line in lines if line["verdict"] == "anomalous"]
    assert len(found) == 2 and all(name.startswith("attack") for name in found)
    assert not any("q" in line or line["threshold"] is None for line in lines)


def test_what_cannot_be_judged_does_not_stop_the_choice(made, attacks, tmp_path):
    ended, lines, _ = score("--fdr", "0.2", made / "detector", tmp_path / "none", *attacks[:ATTACKS])
    assert ended.code == 22
    assert "1 of 7 samples could not be judged" in ended.err
    assert "error" in lines[0] and "q" not in lines[0]
    assert [line["verdict"] for line in lines[1:]] == ["anomalous"] * ATTACKS


def test_a_detector_without_p_values_is_refused(made, tmp_path):
    one = next((made / "traces").iterdir())
    assert barnum("fit", one, "-o", tmp_path / "single").code == 0
    ended, lines, _ = score("--fdr", "0.1", tmp_path / "single", made / "usual")
    assert ended.code == 2
    assert lines == []
    assert "has learnt a single run" in ended.err
    for rate in ("0", "1", "nan", "-0.1"):
        assert score("--fdr", rate, made / "detector", made / "usual")[0].code == 2


def test_runs_that_are_unlike_those_learnt_are_told(made, attacks):
    ended, lines, last = score(made / "detector", made / "attacks")
    assert ended.code == 0
    assert len(lines) == len(attacks) == 24
    [told] = last
    assert told.keys() == {"exchangeability"}
    found = told["exchangeability"]
    assert found["runs"] == 24 and found["evidence"] >= 20 and found["stranger"] is True
    assert found["alarm"] <= 24
    assert found["text"].startswith(
        "the promise of the false-alarm rate does not hold: runs are no longer like"
    )
    # it is the last line
    assert json.loads(ended.out.splitlines()[-1]) == told
    # the same run again and again is one run
    assert score(made / "detector", *attacks[:1] * 40)[2] == []


def test_runs_that_are_like_those_learnt_or_learnt_themselves_raise_nothing(made):
    assert score(made / "detector", made / "usual")[2] == []
    # learnt runs, whose novelty is 0, are none that came later
    assert score(made / "detector", made / "traces")[2] == []


def test_the_order_is_that_of_recording(made, attacks, tmp_path):
    """Two kinds of runs in turn are less of a sign than first one and then the other."""
    usual = sorted((made / "usual").iterdir())
    evidence = {}
    for name, later in (("usual first", True), ("attacks first", False)):
        tree = tmp_path / name
        for number, folder in enumerate([*usual, *attacks[:USUAL]]):
            shutil.copytree(folder, tree / folder.name)
            at = (0 if (number < USUAL) == later else 30) + number % USUAL
            meta = {"schema": 1, "version": "0.1.0", "recorded": f"2026-01-01T00:00:{at:02}Z"}
            meta |= {"engine": {"name": "emulator"}, "command": ["reader"], "start": "open"}
            (tree / folder.name / "meta.json").write_text(json.dumps(meta))
            assert Sample.open(tree / folder.name).meta.recorded
        [last] = score(made / "detector", tree)[2]
        evidence[name] = last["exchangeability"]["alarm"]
    assert evidence["attacks first"] < USUAL < evidence["usual first"]


def test_the_library_chooses_as_the_command_does(made, attacks):
    places = [*sorted((made / "usual").iterdir()), *attacks[:ATTACKS]]
    with judge_with(load_fitted(made / "detector")) as judge:
        judged = [judge.judge(place) for place in places]
    decided = library.discoveries(judged, 0.1)
    _, lines, _ = score("--fdr", "0.1", made / "detector", *places)
    for run, line in zip(decided, lines, strict=True):
        told = json.loads(msgspec.json.encode(run.document()))
        assert told == {name: value for name, value in line.items() if name not in ("sample", "folder")}
    # the runs themselves are as they were
    assert [run.q for run in judged] == [None] * len(judged)
    with pytest.raises(OptionsError, match="more than 0 and less than 1"):
        library.discoveries(judged, 1.5)
    with pytest.raises(OptionsError, match="has no p-value"):
        library.discoveries([msgspec.structs.replace(judged[0], candidate=None)], 0.1)
