"""Grouping of runs: against plain transcriptions of the rules, and on clusters that are known."""

import math

import numpy as np
import pytest
from test_evaluations_files import columns, header

from barnum import evaluations
from barnum.errors import EvaluationError
from barnum.verdicts import clusters
from barnum.verdicts.judgement import check_model

MODULE = 77 << 32


def write(folder, name, parts, format="parquet", label="malicious", **changes):
    folder.mkdir(exist_ok=True)
    file = folder / evaluations.file_name(label, name, format)
    with evaluations.writer_for(format, file, header(label, sample=name, **changes)) as writer:
        for part in parts:
            writer.write(part)
    return file


def blocks(draw, count, pages=4):
    """BBIDs of a few pages of two modules."""
    module = draw.integers(7, 9, count).astype(np.uint64) << np.uint64(32)
    return module | draw.integers(0, pages << 5, count).astype(np.uint64) << np.uint64(7)


def random_runs(folder, seed, count=24, format="parquet"):
    """Runs that take after one of three models each, read, and with their rows."""
    draw = np.random.default_rng(seed)
    favourites = [blocks(draw, 6) for _ in range(3)]
    rows, runs = [], []
    for i in range(count):
        n = int(draw.integers(1, 60))
        favourite = favourites[i % 3]
        part = columns(
            n,
            seed * 1000 + i,
            predicted=np.where(draw.random(n) < 0.8, draw.choice(favourite, n), blocks(draw, n)),
            actual=np.where(draw.random(n) < 0.8, draw.choice(favourite, n), blocks(draw, n)),
        )
        cut = n // 2
        parts = [{k: v[:cut] for k, v in part.items()}, {k: v[cut:] for k, v in part.items()}]
        runs.append(clusters.read_anomalies(write(folder, f"r{i:03}", parts, format), max_classes=16))
        rows.append(
            [
                dict(zip(part, row, strict=True))
                for row in zip(*map(np.ndarray.tolist, part.values()), strict=True)
            ]
        )
    return rows, runs


def anomalous(row, format):
    return row["seen"] < 2 if format == "parquet" else not row["correct"]


def plain_distribution(rows, by, format):
    counts = {}
    if by == "predicted":
        for row in rows:
            if not row["correct"]:
                key = row["predicted"] % 16
                counts[key] = counts.get(key, 0) + 1
    else:
        for target in {row["actual"] for row in rows if anomalous(row, format)}:
            counts[target >> 12] = counts.get(target >> 12, 0) + 1
    return {key: count / sum(counts.values()) for key, count in counts.items()}


def plain_distance(p, q, by):
    keys = p.keys() | q.keys()
    if by == "predicted":
        return math.sqrt(sum((p.get(key, 0) - q.get(key, 0)) ** 2 for key in keys))
    return math.sqrt(max(0, 1 - sum(math.sqrt(p.get(key, 0) * q.get(key, 0)) for key in keys)))


def plain_dbscan(distance, min_samples, eps):
    """As the paper tells it: clusters grow from core points, in order; who is reached first keeps it."""
    count = len(distance)
    near = [[j for j in range(count) if distance[i][j] <= eps] for i in range(count)]
    core = [len(near[i]) >= min_samples for i in range(count)]
    label = [-1] * count
    found = 0
    for i in range(count):
        if core[i] and label[i] < 0:
            label[i], stack = found, [i]
            while stack:
                at = stack.pop()
                for j in near[at] if core[at] else ():
                    if label[j] < 0:
                        label[j] = found
                        stack.append(j)
            found += 1
    return label, core


@pytest.mark.parametrize("format", ["parquet", "gz"])
@pytest.mark.parametrize("by", ["predicted", "place"])
@pytest.mark.parametrize("seed", range(4))
def test_vectors_and_dbscan_are_what_the_plain_rule_gives(tmp_path, by, format, seed):
    rows, runs = random_runs(tmp_path / "eval", seed, format=format)
    plain = [plain_distribution(each, by, format) for each in rows]
    assert [run.has_vector(by) for run in runs] == [bool(p) for p in plain]
    taken = [run for run in runs if run.has_vector(by)]
    plain = [p for p in plain if p]
    points = clusters.points_of(taken, by)
    for i, row in enumerate(points.shares.toarray()):
        found = {int(points.keys[j]): row[j] for j in np.flatnonzero(row)}
        assert found == pytest.approx(plain[i])
    distance = [[plain_distance(p, q, by) for q in plain] for p in plain]
    embedded = points.embedded().toarray()
    apart = np.sqrt(((embedded[:, None] - embedded[None]) ** 2).sum(axis=2))
    assert apart == pytest.approx(np.array(distance), abs=1e-7)
    for min_samples, eps in ((1, 0.2), (2, 0.35), (3, 0.45), (4, 0.6), (4, 0.001)):
        label, core = plain_dbscan(distance, min_samples, eps)
        groups = clusters.group(points, "dbscan", min_samples, eps)
        assert groups.label.tolist() == label
        assert groups.core.tolist() == core
        assert groups.clusters == len(set(label) - {-1})
        assert groups.noise == label.count(-1)


@pytest.mark.parametrize("by", ["predicted", "place"])
def test_means_are_those_of_core_runs(tmp_path, by):
    _, runs = random_runs(tmp_path / "eval", 9)
    points = clusters.points_of([run for run in runs if run.has_vector(by)], by)
    groups = clusters.group(points, "dbscan", 3, 0.4)
    assert groups.clusters
    whole = points.shares.toarray()
    for c, mean in enumerate(clusters.means(points, groups)):
        rows = [whole[i] for i in range(len(points)) if groups.label[i] == c and groups.core[i]]
        assert mean == pytest.approx(np.mean(rows, axis=0))
        assert mean.sum() == pytest.approx(1)


@pytest.mark.parametrize("algorithm", ["dbscan", "hdbscan"])
@pytest.mark.parametrize("by", ["predicted", "place"])
def test_known_families_are_found(tmp_path, by, algorithm):
    """Three families, each with its own pages and classes, and three runs that are like no other."""
    draw = np.random.default_rng(3)
    runs, truth = [], []
    for i in range(33):
        family = i % 3 if i < 30 else 10 + i
        n = 200
        offset = draw.integers(0, 0x400, n).astype(np.uint64) * np.uint64(4)
        place = np.uint64(MODULE + (family << 16)) + offset
        made = columns(
            n,
            i,
            predicted=(family * 7 + draw.integers(0, 3, n)).astype(np.uint64),
            correct=draw.random(n) < 0.3,
            actual=place,
            seen=np.where(draw.random(n) < 0.5, 0, 2).astype(np.uint8),
        )
        runs.append(clusters.read_anomalies(write(tmp_path / "eval", f"r{i:03}", [made])))
        truth.append(i % 3 if i < 30 else -1)
    points = clusters.points_of(runs, by)
    groups = clusters.group(points, algorithm, 4, 0.3 if by == "predicted" else clusters.EPS[by])
    assert groups.label.tolist() == truth


@pytest.mark.parametrize("algorithm", ["dbscan", "hdbscan"])
def test_equal_runs_are_one_place(tmp_path, algorithm):
    runs = []
    for i in range(20):
        made = columns(50, i % 2, seen=np.zeros(50, np.uint8))
        runs.append(clusters.read_anomalies(write(tmp_path / "eval", f"r{i:03}", [made])))
    groups = clusters.group(clusters.points_of(runs, "place"), algorithm, 4, 0.01)
    assert groups.label.tolist() == [0, 1] * 10


@pytest.mark.parametrize("algorithm", ["dbscan", "hdbscan"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_runs_are_noise(tmp_path, algorithm, count):
    _, runs = random_runs(tmp_path / "eval", 1, count=9)
    points = clusters.points_of([run for run in runs if run.has_vector("place")][:count], "place")
    groups = clusters.group(points, algorithm, 4, 0.5)
    assert (groups.clusters, groups.noise, len(points)) == (0, count, count)
    assert clusters.means(points, groups).shape[0] == 0


def plain_shared(rows, label, format="parquet"):
    own = []
    for each in rows:
        first = {}
        for row in each:
            if anomalous(row, format):
                first.setdefault(row["actual"], len(first))
        own.append(first)
    result = []
    for cluster in range(max(label) + 1):
        members = [o for o, its in zip(own, label, strict=True) if its == cluster]
        others = [o for o, its in zip(own, label, strict=True) if its != cluster]
        found = []
        for target in {t for o in members for t in o}:
            inside, outside = sum(target in o for o in members), sum(target in o for o in others)
            lead = inside / len(members) - outside / max(len(others), 1)
            if 2 * inside >= len(members) and lead > 0:
                met = sum(o[target] for o in members if target in o) / inside
                found.append((-lead, met, target, inside, outside))
        result.append([(t, i, o) for _, _, t, i, o in sorted(found)])
    return result


@pytest.mark.parametrize("format", ["parquet", "gz"])
def test_shared_transfers_are_those_of_the_plain_rule(tmp_path, format):
    rows, runs = random_runs(tmp_path / "eval", 5, format=format)
    label = [i % 3 if i % 7 else -1 for i in range(len(runs))]
    found = clusters.shared(runs, np.array(label))
    plain = plain_shared(rows, label, format)
    assert any(plain)
    # equal in lead but for rounding, equals may change places
    assert [sorted((e.target, e.inside, e.outside) for e in each) for each in found] == [
        sorted(each) for each in plain
    ]
    assert [[e.target for e in each][:3] for each in found] == [[t for t, _, _ in each][:3] for each in plain]
    assert {each.source for one in found for each in one} == {0}
    assert clusters.shared(runs, np.full(len(runs), -1)) == []


def test_all_runs_in_one_cluster_share_against_nobody(tmp_path):
    made = columns(
        5, 1, seen=np.array([2, 0, 2, 1, 0], np.uint8), novelty=np.array([0, 3, 0, 0, 1], np.float32)
    )
    runs = [clusters.read_anomalies(write(tmp_path / "e", f"r{i}", [made])) for i in range(3)]
    (found,) = clusters.shared(runs, np.zeros(3, np.int64))
    assert [each.target for each in found] == [int(made["actual"][i]) for i in (1, 3, 4)]
    assert [(each.inside, each.outside, each.novelty) for each in found] == [(3, 0, 3), (3, 0, 0), (3, 0, 1)]


def test_a_run_is_read_in_parts(tmp_path):
    parts = [columns(300, i, actual=blocks(np.random.default_rng(i), 300)) for i in range(3)]
    run = clusters.read_anomalies(write(tmp_path / "e", "aa", [*parts, columns(0)]))
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    assert (run.transfers, run.wrong) == (900, int((~whole["correct"]).sum()))
    at = np.flatnonzero(whole["seen"] < 2)
    expected = sorted({int(t) for t in whole["actual"][at]})
    assert run.target.tolist() == expected
    for target, first, novelty in zip(expected, run.first.tolist(), run.novelty.tolist(), strict=True):
        its = at[whole["actual"][at] == target]
        assert first == its[0]
        assert novelty == whole["novelty"][its].max()
    assert run.new
    assert not run.sited


def test_sites_tell_apart_what_targets_do_not(tmp_path):
    made = columns(
        6,
        correct=np.zeros(6, bool),
        actual=np.array([5, 5, 5, 9, 5, 5], np.uint64) + np.uint64(MODULE),
        seen=np.array([0, 1, 0, 1, 2, 0], np.uint8),
        position=np.array([3, 4, 7, 8, 9, 20], np.uint64),
    )
    asked = []

    def sites(position):
        asked.extend(position.tolist())
        return position % np.uint64(2), made["actual"][np.searchsorted(made["position"], position)]

    file = write(
        tmp_path / "e", "aa", [{k: v[:2] for k, v in made.items()}, {k: v[2:] for k, v in made.items()}]
    )
    run = clusters.read_anomalies(file, sites=sites)
    assert asked == [3, 4, 7, 8, 20]
    assert run.sited
    pairs = list(
        zip(run.source.tolist(), (run.target - np.uint64(MODULE)).tolist(), run.first.tolist(), strict=True)
    )
    assert pairs == [(0, 5, 1), (0, 9, 3), (1, 5, 0)]
    # places are of targets alone, so that traces do not change who is near whom
    without = clusters.points_of([clusters.read_anomalies(file)], "place")
    assert clusters.points_of([run], "place").shares.toarray().tolist() == without.shares.toarray().tolist()
    # where one run does not know its sites, all are compared by targets
    both = clusters.shared([run, clusters.read_anomalies(file)], np.zeros(2, np.int64))
    assert [(each.source, each.target - MODULE, each.inside) for each in both[0]] == [(0, 5, 2), (0, 9, 2)]
    with pytest.raises(EvaluationError, match="not those of its trace"):
        clusters.read_anomalies(file, sites=lambda position: (position, position + np.uint64(MODULE)))


def test_a_model_without_memory_has_wrong_predictions_for_anomalies(tmp_path):
    made = columns(80, actual=blocks(np.random.default_rng(1), 80))
    run = clusters.read_anomalies(
        write(tmp_path / "e", "aa", [made], calibration=None),
        sites=lambda position: (position, made["actual"][np.searchsorted(made["position"], position)]),
    )
    assert (run.new, run.sited) == (False, True)
    assert set(run.target.tolist()) == set(made["actual"][~made["correct"]].tolist())
    assert len(run.source) == run.wrong
    assert not run.novelty.any()


def test_classes_have_no_place_unless_the_trace_says(tmp_path):
    made = columns(5, actual=np.arange(5).astype(np.uint64), seen=np.zeros(5, np.uint8))
    file = write(tmp_path / "e", "aa", [made])
    with pytest.raises(EvaluationError, match=r"malicious-aa.*names classes.*--by predicted"):
        clusters.points_of([clusters.read_anomalies(file)], "place")
    run = clusters.read_anomalies(file, sites=lambda p: (p + np.uint64(MODULE), p + np.uint64(MODULE + 4096)))
    assert len(clusters.points_of([run], "place")) == 1


@pytest.mark.parametrize("name", ["confidence", "novelty"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -1])
def test_values_that_are_no_numbers_are_refused(tmp_path, name, value):
    file = write(tmp_path / "e", "aa", [columns(5, **{name: np.full(5, value, np.float32)})])
    with pytest.raises(EvaluationError, match=f"{name} holds"):
        clusters.read_anomalies(file)


def test_evaluations_without_predictions_or_order_are_refused(tmp_path):
    for format in ("parquet", "gz"):
        with pytest.raises(EvaluationError, match="no prediction"):
            clusters.read_anomalies(write(tmp_path / "e", "aa", [columns(0)], format))
    made = columns(4, seen=np.zeros(4, np.uint8), position=np.array([1, 5, 4, 6], np.uint64))
    for parts in ([made], [{k: v[:2] for k, v in made.items()}, {k: v[2:] for k, v in made.items()}]):
        with pytest.raises(EvaluationError, match="do not ascend"):
            clusters.read_anomalies(
                write(tmp_path / "e", "aa", parts), sites=lambda p: (p, made["actual"][: len(p)])
            )


def test_bounds(tmp_path, monkeypatch):
    file = write(tmp_path / "e", "aa", [columns(50, seen=np.zeros(50, np.uint8))])
    run = clusters.read_anomalies(file)
    monkeypatch.setattr(clusters, "MAX_RUNS", 3)
    with pytest.raises(EvaluationError, match="4 runs are too many"):
        clusters.points_of([run] * 4, "place")
    monkeypatch.setattr(clusters, "MAX_TRANSFERS", 49)
    with pytest.raises(EvaluationError, match="more than 49 distinct"):
        clusters.read_anomalies(file)


def test_runs_of_different_models_are_not_compared(tmp_path):
    def read(name, **changes):
        return clusters.read_anomalies(write(tmp_path / "e", name, [columns(5)], **changes))

    def by_file(run):
        return run.file

    one = read("aa")
    check_model(tmp_path, [one, read("bb")], by_file)
    with pytest.raises(EvaluationError, match=r"malicious-cc\.parquet was scored by another model"):
        check_model(tmp_path, [one, read("cc", model="other")], by_file)
    with pytest.raises(EvaluationError, match=r"malicious-dd\.gz does not say which model"):
        check_model(tmp_path, [one, read("dd", format="gz")], by_file)
