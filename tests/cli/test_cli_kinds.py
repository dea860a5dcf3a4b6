"""Kinds of documents as a user meets them: told when recorded, learnt, judged by, and told with verdicts."""

import gzip
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load, save

import barnum as library
from barnum.detector import load_fitted
from barnum.detector.fitted import encoded
from barnum.digests import read_digest
from barnum.errors import OptionsError
from barnum.samples import Engine, Meta, read_meta, write_meta
from checking import SANDBOX, build, hostile_text, nominal_text, run
from learning import attack_path, barnum, nominal_path, write_sample
from recording import samples, trace

RATE = 0.05
# nominal runs of each kind; one of PostScript is as long as ten, and shows more that is new
COUNTS = {"pdf": 40, "ps": 20, "eps": 4, None: 3}
HOSTILE = ("", "pdf\n", "a b", "a/b", "../pdf", "x" * 65, "x" * 100_000, "\x1b[1mpdf", "pdf,ps", "ﬁ")


def sample_of(root, name, label, path, kind):
    folder = write_sample(root, name, label, path)
    if kind is not None:
        write_meta(
            folder / "meta.json",
            Meta(version="1", command=("app", "{}"), engine=Engine(name="x"), start="open", kind=kind),
        )
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with nominal runs of several kinds, their detector, and runs that come later."""
    folder = tmp_path_factory.mktemp("kinds")
    seed = 0
    for kind, count in COUNTS.items():
        for _ in range(count):
            rare = 9 if kind == "ps" else 3
            path = nominal_path(seed, 400, rare=rare)
            sample_of(folder / "traces", f"good-{seed}.doc", "benign", path, kind)
            seed += 1
    for kind in (*COUNTS, "xps"):
        sample_of(folder / "later", f"usual-{kind}", "unknown", nominal_path(900, 400, rare=3), kind)
        sample_of(folder / "later", f"attack-{kind}", "unknown", attack_path(901, 400), kind)
    fitted = barnum("fit", folder / "traces", "--false-alarm-rate", RATE, "-o", folder / "detector")
    assert fitted.code == 0, fitted.err
    (folder / "fit.txt").write_text(fitted.out)
    return folder


def score(*arguments):
    ended = barnum("score", *arguments)
    lines = [json.loads(line) for line in ended.out.splitlines()]
    return ended, {line["name"]: line for line in lines if "sample" in line}


def test_fit_says_of_each_kind_how_many_runs_there_are_and_which_rate_is_kept(made):
    lines = (made / "fit.txt").read_text().splitlines()
    told = {line.split(":")[0]: line for line in lines if line.startswith(("kind ", "no kind"))}
    assert told.keys() == {"kind pdf", "kind ps", "kind eps", "no kind told"}
    for kind in ("pdf", "ps"):
        assert f"{COUNTS[kind]} nominal runs of this kind; anomalous above " in told[f"kind {kind}"]
        assert "at most 5 % false alarms among runs of this kind" in told[f"kind {kind}"]
    assert "4 nominal runs of this kind, compared with all kinds" in told["kind eps"]
    assert "takes 19" in told["kind eps"]
    assert "3 nominal runs; such runs are compared with all kinds" in told["no kind told"]


def test_runs_are_judged_by_the_threshold_and_p_value_of_their_kind(made):
    ended, lines = score(made / "detector", made / "later")
    assert ended.code == 0, ended.err
    fitted = load_fitted(made / "detector")
    runs = sum(COUNTS.values())
    for kind, others in (("pdf", 40), ("ps", 20), ("eps", runs), (None, runs), ("xps", runs)):
        attack = lines[f"attack-{kind}"]
        assert attack["verdict"] == "anomalous" and attack.get("kind") == kind
        assert attack["p_value"] == pytest.approx(1 / (1 + others))
        assert lines[f"usual-{kind}"]["threshold"] == attack["threshold"]
        if others == runs:
            assert attack["threshold"] == fitted.classifier.threshold
        else:
            assert attack["threshold"] == fitted.groups.all[kind].classifier.threshold
    assert lines["attack-pdf"]["threshold"] < lines["attack-ps"]["threshold"]
    why = {name: line["among_all"] for name, line in lines.items() if "among_all" in line}
    assert why == {
        f"{what}-{kind}": reason
        for what in ("usual", "attack")
        for kind, reason in (
            ("eps", "of its kind 4 nominal runs were learnt, alone it takes 19"),
            ("xps", "no nominal run of its kind was learnt"),
            (None, "its kind is not told"),
        )
    }
    judged = library.judge(made / "detector", library.open_sample(made / "later" / "attack-ps"))
    assert (judged.kind, judged.among_all, judged.threshold) == ("ps", None, lines["attack-ps"]["threshold"])


def test_check_tells_the_kind_in_lines_json_and_page(made, tmp_path):
    page = tmp_path / "page.json"
    ended = barnum(
        "check", made / "detector", made / "later", "--report-json", page, "--report", tmp_path / "page.html"
    )
    assert ended.code == 0, ended.err
    lines = [line for line in ended.out.splitlines() if not line.startswith((" ", "note"))]
    assert sum(", kind pdf" in line for line in lines) == 2
    assert sum("compared with all kinds: its kind is not told" in line for line in lines) == 2
    document = json.loads(page.read_text())
    told = {each["name"]: each for each in document["samples"]}
    assert {name.split("-")[1]: each["kind"] for name, each in told.items()} == {
        "pdf": "pdf", "ps": "ps", "eps": "eps", "xps": "xps", "None": None
    }  # fmt: skip
    # no threshold holds for all
    assert document["classifier"]["threshold"] is None
    assert told["attack-ps"]["among_all"] is None and told["attack-ps"]["windows"][0]["above_threshold"]
    assert any("that kind alone: anomalous above" in note for note in told["attack-ps"]["notes"])
    assert any("It was compared with nominal runs of all" in note for note in told["usual-None"]["notes"])
    assert "no nominal run of its kind was learnt" in (tmp_path / "page.html").read_text()
    # of recordings that tell none the kind may be given
    given = barnum("check", "--json", "--kind", "ps", made / "detector", made / "later")
    kinds = {line["name"]: line["kind"] for line in map(json.loads, given.out.splitlines()) if "name" in line}
    assert kinds["usual-None"] == "ps" and kinds["usual-pdf"] == "pdf"


def test_runs_are_chosen_together_by_p_values_of_their_kinds(made):
    _, lines = score("--fdr", "0.2", made / "detector", made / "later")
    assert lines["attack-pdf"]["verdict"] == lines["attack-ps"]["verdict"] == "anomalous"
    # of a kind that was never learnt, or hardly, nothing is promised
    assert lines["attack-xps"]["q"] >= lines["attack-ps"]["q"] > lines["attack-pdf"]["q"] - 1e-12
    assert lines["usual-pdf"]["verdict"] == "nominal"


def test_halves_merge_to_the_bytes_of_the_whole(made, tmp_path):
    traces = sorted((made / "traces").iterdir())
    for name, some in (("a", traces[::2]), ("b", traces[1::2])):
        (tmp_path / name).mkdir()
        for each in some:
            shutil.copytree(each, tmp_path / name / each.name)
        ended = barnum("fit", "--false-alarm-rate", RATE, tmp_path / name, "-o", tmp_path / f"{name}.barnum")
        assert ended.code == 0, ended.err
    whole = (made / "detector").read_bytes()
    merged = barnum("merge", tmp_path / "b.barnum", tmp_path / "a.barnum", "-o", tmp_path / "merged")
    assert merged.code == 0 and (tmp_path / "merged").read_bytes() == whole
    added = barnum("fit", tmp_path / "b", "--add-to", tmp_path / "a.barnum", "-o", tmp_path / "added")
    assert added.code == 0 and (tmp_path / "added").read_bytes() == whole
    # kinds calibrate, and change nothing of what is learnt
    plain = tmp_path / "plain"
    shutil.copytree(made / "traces", plain)
    for each in plain.iterdir():
        (each / "meta.json").unlink(missing_ok=True)
        (each / "trace_digest").unlink()
    assert barnum("fit", "--false-alarm-rate", RATE, plain, "-o", tmp_path / "without").code == 0
    without = load_fitted(tmp_path / "without")
    assert b'"kinds"' not in encoded(without)
    assert np.array_equal(
        np.sort(without.classifier.scores), np.sort(load_fitted(made / "detector").classifier.scores)
    )
    assert "kind" not in (score(tmp_path / "without", plain)[1]["good-1.doc"])


def test_held_out_runs_calibrate_their_kind(made, tmp_path):
    for seed in range(700, 716):
        sample_of(tmp_path / "held", f"held-{seed}.doc", "benign", nominal_path(seed, 400), "eps")
    file = tmp_path / "d"
    ended = barnum("fit", made / "traces", "--calibrate", tmp_path / "held", "-o", file)
    assert ended.code == 0, ended.err
    # with the four that are learnt they are enough
    assert "kind eps: 20 nominal runs of this kind; anomalous above " in ended.out
    _, lines = score(file, made / "later", tmp_path / "held")
    assert lines["attack-eps"]["p_value"] == pytest.approx(1 / 21)
    assert "among_all" not in lines["attack-eps"]
    # one that calibrates is not compared with itself
    assert all(1 / 20 <= lines[f"held-{seed}.doc"]["p_value"] <= 1 for seed in range(700, 716))
    # runs that are added take no kinds of runs along that are gone
    again = barnum("fit", tmp_path / "held", "--add-to", file, "-o", tmp_path / "added")
    assert again.code == 0 and "kind eps: 20 nominal runs" in again.out


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_name_that_is_none_is_refused_in_one_line(made, tmp_path, kind):
    for arguments in (("check", "--kind", kind, made / "detector", tmp_path),
                      ("trace", "--kind", kind, tmp_path, "--", "true", "{}")):  # fmt: skip
        ended = barnum(*arguments)
        assert ended.code == 2 and "is no kind of documents: give 1 to 64 letters" in ended.err
        assert len(ended.err) < 1000 and "\x1b" not in ended.err
    with pytest.raises(OptionsError, match="is no kind of documents"):
        library.check(made / "detector", [], kind=kind, sandbox=False)
    with pytest.raises(OptionsError, match="is no kind of documents"):
        library.record(["true", "{}"], [], tmp_path / "t", kind=kind)


def rewritten(source, target, change):
    """A file of arrays whose description of itself was changed."""
    arrays = load(gzip.decompress(source.read_bytes()))
    about = json.loads(arrays["about"].tobytes())
    change(about)
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    target.write_bytes(gzip.compress(save(arrays), 1))
    return target


@pytest.mark.parametrize("kind", HOSTILE)
def test_files_that_name_such_a_kind_are_refused_in_one_line(made, tmp_path, kind):
    folder = sample_of(tmp_path / "t", "a.doc", "benign", nominal_path(3, 300), "pdf")
    assert barnum("preprocess", tmp_path / "t", tmp_path).code in (0, 22)
    assert score(made / "detector", folder)[0].code == 0
    meta = json.loads((folder / "meta.json").read_text())
    rewritten(folder / "trace_digest", folder / "trace_digest", lambda about: about.update(kind=kind))
    (folder / "meta.json").write_text(json.dumps(meta | {"kind": kind}))
    ended = barnum("score", made / "detector", folder)
    assert ended.code == 22 and "Traceback" not in ended.err + ended.out
    assert "$.kind" in ended.out and len(ended.out) < 5000
    forged = rewritten(
        made / "detector", tmp_path / "d", lambda about: about["kinds"].__getitem__(0).__setitem__(0, kind)
    )
    ended = barnum("score", forged, folder)
    assert ended.code == 20 and "is no fitted detector" in ended.err and len(ended.err) < 2000


@pytest.mark.parametrize(
    "change",
    [
        lambda kinds: kinds.append(kinds[0]),
        lambda kinds: kinds.reverse(),
        lambda kinds: kinds[0][1].append(kinds[1][1][0]),
        lambda kinds: kinds[0][1].append(12345),
        lambda kinds: kinds[0].__setitem__(1, []),
        lambda kinds: kinds.extend([f"z{i:04}", [i]] for i in range(300)),
    ],
)
def test_a_detector_whose_kinds_contradict_each_other_is_refused(made, tmp_path, change):
    forged = rewritten(made / "detector", tmp_path / "d", lambda about: change(about["kinds"]))
    ended = barnum("score", forged, made / "later")
    assert ended.code == 20 and "is no fitted detector" in ended.err and len(ended.err) < 2000


def test_recording_notes_the_kind_and_check_judges_by_it(tmp_path):
    program = build(tmp_path)
    for kind, first in (("txt", 0), ("log", 10)):
        (tmp_path / kind).mkdir()
        for seed in range(first, first + 9):
            (tmp_path / kind / f"{seed}.{kind}").write_text(nominal_text(seed))
        sandbox = ["--sandbox"] if SANDBOX else []
        done = trace(
            tmp_path, "--benign", *sandbox, "--kind", kind, "-j", "2", tmp_path / kind, "--", program, "{}"
        )
        assert done.returncode == 0, done.stderr
    assert sorted(read_meta(each.folder / "meta.json").kind for each in samples(tmp_path)) == [
        *["log"] * 9, *["txt"] * 9
    ]  # fmt: skip
    for arguments in (("preprocess", "traces", "extract"),
                      ("fit", "--false-alarm-rate", "0.1", "-o", "detector", "traces")):  # fmt: skip
        ended = run(tmp_path, *arguments)
        assert ended.code == 0, ended.err
    assert "kind log: 9 nominal runs" in ended.out and "kind txt: 9 nominal runs" in ended.out
    kinds = [read_digest(each.folder / "trace_digest")[0].about.kind for each in samples(tmp_path)]
    assert sorted(kinds) == [*["log"] * 9, *["txt"] * 9]
    (tmp_path / "bad.txt").write_text(hostile_text("u"))
    allowed = [] if SANDBOX else ["--no-sandbox"]
    for kind, runs in (("txt", 9), ("pdf", 18), (None, 18)):
        given = () if kind is None else ("--kind", kind)
        ended = run(tmp_path, "check", *allowed, "--json", *given, "detector", "bad.txt")
        assert ended.code == 0, ended.err
        line = ended.lines()["bad.txt"]
        assert line["verdict"] == "anomalous" and line.get("kind") == kind
        assert line["p_value"] == pytest.approx(1 / (1 + runs))
        assert ("among_all" in line) == (kind != "txt")
    ended = run(tmp_path, "check", *allowed, "--kind", "txt", "detector", "bad.txt")
    assert ", p = 0.1, kind txt, at " in ended.out
