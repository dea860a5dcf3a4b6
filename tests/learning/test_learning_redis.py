"""Counts that machines share through a real Redis server: all of a push is there, once, or nothing."""

import contextlib
import json
import shutil
import socket
import socketserver
import subprocess
import threading
import time
import tracemalloc
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
from safetensors.numpy import load, save

from barnum.errors import InputError, MissingPackageError, ModelError, OutputError, TraceError
from barnum.learning.rote import learner as rote_learn
from barnum.learning.rote import store as rote_store
from barnum.learning.rote import store_connection, store_pull, store_push
from barnum.learning.rote.learner import RoteLearner, RoteSpec
from barnum.learning.rote.store import RedisStore
from barnum.learning.rote.store_pending import add_piece
from barnum.learning.rote.store_push import Push
from barnum.models.networks.rote import RoteNetwork, lengths_up_to
from barnum.paths import Kind, Learn
from barnum.sequences import Tokens
from learning import blocks_of, nominal_path, path_of

REDIS = shutil.which("redis-server")
if REDIS is None:
    pytest.skip("redis-server is not installed", allow_module_level=True)
redis = pytest.importorskip("redis")

BLOCKS = blocks_of(40, (Kind.RETURN, Kind.INDIRECT_CALL, Kind.FAR), in_libc=10)


class Server:
    """A Redis server of its own on a socket, which may be killed."""

    def __init__(self, folder, *options, save=False):
        self.socket = folder / "s"
        self.url = f"unix://{self.socket}"
        persistence = ["yes" if save else "no", "--appendfsync", "always"]
        self._command = [REDIS, "--port", "0", "--save", "", "--appendonly", *persistence, *options]
        self._command += ["--unixsocket", str(self.socket), "--dir", str(folder), "--daemonize", "no"]
        self.start()

    def start(self):
        self.socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None, "redis-server did not start"
            assert time.monotonic() < end
            time.sleep(0.01)

    def _answers(self):
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.socket))
                probe.sendall(b"PING\r\n")
                # it may want a password first; as long as it loads it says so
                return not probe.recv(64).startswith(b"-LOADING")
            except OSError:
                return False

    def kill(self):
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("redis"))
    yield made
    made.kill()


@pytest.fixture
def raw(server):
    """A client that sees, and changes, all keys of an empty server."""
    with redis.Redis(unix_socket_path=str(server.socket)) as client:
        client.flushall()
        yield client


@pytest.fixture
def store(server, raw):
    with RedisStore(server.url) as made:
        yield made


def learner(longest=4, **changes):
    spec = {"learn": Learn(), "tokens": Tokens(), "lengths": lengths_up_to(longest), **changes}
    return RoteLearner(RoteSpec(**spec), threads=1)


def learn(into, *numbers, length=400):
    for i in numbers:
        into.learn(f"run-{i}", partial(nullcontext, path_of(nominal_path(i, length), BLOCKS)))
    return into


def share(store, *numbers, longest=4):
    """Take over, learn, and add what was learnt: what a command does."""
    made = learner(longest)
    store.pull(made)
    before = store.snapshot(made)
    learn(made, *numbers)
    store.push(made, before)
    return made


def pulled(store, longest=4):
    made = learner(longest)
    return made, store.pull(made)


def assert_same(one, other, escapes=True):
    """Both give the same model."""
    assert one.samples == other.samples
    found, expected = one.model().arrays(), other.model().arrays()
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        if name in ("network.tried", "network.escaped", "network.base"):
            if escapes:
                np.testing.assert_allclose(found[name], array, rtol=1e-12, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], array, err_msg=name)


def everything(raw):
    """All keys and their values."""
    read = {b"string": raw.get, b"hash": raw.hgetall}
    return {key: read[raw.type(key)](key) for key in raw.scan_iter()}


def assert_untouched(made):
    assert (made.samples, made.runs, made.contexts) == ([], [], 0)
    assert not made.network.tried.any()


def line(error):
    message = str(error.value)
    assert "\n" not in message
    assert message.isprintable()
    assert len(message) < 500
    return message


# what is shared ---------------------------------------------------------------------------------------------


def test_store_gives_back_what_was_learnt(store, raw):
    local = learn(learner(), 0, 1, 2)
    assert sum(len(run.entries) for run in local.runs) > 0
    share(store, 0, 1, 2)
    taken, samples = pulled(store)
    assert samples == 3
    assert_same(taken, local)
    # exactly so: escapes fade as they did
    assert (taken.network.escaped == local.network.escaped).all()
    assert local.network.escaped.any()
    assert {key.decode() for key in raw.scan_iter()} == {
        "barnum:state",
        "barnum:runs",
        *(f"barnum:run:{i}" for i in (1, 2, 3)),
        *(f"barnum:{order}" for order in range(len(lengths_up_to(4)))),
    }
    assert all(raw.ttl(key) == -1 for key in raw.scan_iter())


def test_store_that_is_empty_gives_nothing_and_stays_empty(store, raw):
    made, samples = pulled(store)
    assert samples == 0
    assert_untouched(made)
    store.push(made, store.snapshot(made))
    assert not raw.keys()


def test_counters_are_as_documented(store, raw):
    made = share(store, 0)
    for order in range(len(made.spec.lengths)):
        key, first, token, count = made.network.counts.counts(order)
        expected = {}
        for i, context in enumerate(key.tolist()):
            for at in range(int(first[i]), int(first[i + 1])):
                name = context.to_bytes(8, "big") + int(token[at]).to_bytes(8, "big")
                expected[name] = str(count[at]).encode()
        assert raw.hgetall(f"barnum:{order}") == expected
    state = json.loads(raw.get("barnum:state"))
    assert state["lengths"] == made.spec.lengths
    assert (state["schema"], state["runs"]) == (1, 1)
    assert state["counted"][0] == made.transfers
    assert raw.hgetall("barnum:runs") == {b"run-0": b"1"}


@pytest.mark.parametrize("parts", [[1, 1, 1], [2, 3], [5, 6, 6], [17], [14, 1, 1, 1]])
def test_learners_one_after_the_other_learn_what_one_does(store, parts):
    begin = 0
    for size in parts:
        last = share(store, *range(begin, begin + size))
        begin += size
    local = learn(learner(), *range(begin))
    assert_same(last, local)
    assert_same(pulled(store)[0], local)


def test_learners_at_the_same_time_add_up(server, store):
    made = [learner(), learner()]
    with RedisStore(server.url) as other:
        stores = [store, other]
        before = [each.snapshot(one) for each, one in zip(stores, made, strict=True)]
        for i in range(4):
            learn(made[i % 2], i)
            # a part of them is pushed early
            if i == 1:
                stores[1].push(made[1], before[1])
                before[1] = stores[1].snapshot(made[1])
        stores[0].push(made[0], before[0])
        stores[1].push(made[1], before[1])
    taken, samples = pulled(store)
    assert samples == 4
    assert_same(taken, learn(learner(), 1, 0, 2, 3), escapes=False)
    escapes = [made[1].measured[0], *made[0].measured, made[1].measured[1]]
    expected = sum(((i + 1) / 4) ** 3 * each[0] for i, each in enumerate(escapes))
    np.testing.assert_allclose(taken.network.tried, expected, rtol=1e-12)


def test_many_machines_at_once(server, store, raw, monkeypatch):
    monkeypatch.setattr(store_push, "_ROWS", 16)
    failed, done = [], threading.Event()

    def work(first):
        try:
            with RedisStore(server.url) as own:
                for i in range(first, first + 3):
                    made = learner(2)
                    before = own.snapshot(made)
                    learn(made, i, length=150)
                    own.push(made, before)
        except BaseException as error:
            failed.append(error)

    def look():
        with RedisStore(server.url) as own:
            while not done.is_set():
                try:
                    seen, samples = pulled(own, 2)
                    assert seen.transfers == 0
                    whole = learn(learner(2), *(int(name[4:]) for name in seen.samples), length=150)
                    assert len(whole.samples) == samples
                    if samples:
                        assert_same(seen, whole, escapes=False)
                except InputError as error:
                    # nothing else is the matter while they push
                    if not str(error).endswith("all the time: try again later"):
                        failed.append(error)
                except BaseException as error:
                    failed.append(error)

    workers = [threading.Thread(target=work, args=(10 * i,)) for i in range(3)]
    looker = threading.Thread(target=look)
    for thread in [looker, *workers]:
        thread.start()
    for thread in workers:
        thread.join()
    done.set()
    looker.join()
    assert not failed, failed
    taken, samples = pulled(store, 2)
    assert samples == 9
    assert_same(
        taken, learn(learner(2), *(int(name[4:]) for name in taken.samples), length=150), escapes=False
    )
    assert not raw.keys("*staged*")
    assert not raw.exists("barnum:pending")


def test_stores_of_other_names_know_nothing_of_each_other(server, store):
    share(store, 0)
    with RedisStore(server.url, "other store") as other:
        assert pulled(other)[1] == 0
        share(other, 0, 1)
    assert pulled(store)[1] == 1


def test_other_rules_and_modulo_tokens_are_shared_too(store):
    modulo = {"tokens": Tokens(vocabulary="modulo", inputs=16, classes=8), "rule": "draw"}
    local = learn(learner(**modulo), 0, 1)
    store.push(local, store.snapshot(learner(**modulo)))
    taken = learner(**modulo)
    assert store.pull(taken) == 2
    assert_same(taken, local)


def test_counts_that_are_full_stay_full(store, raw):
    made = learner(1)
    before = store.snapshot(made)
    learn(made, 0)
    key, first, token, count = made.network.counts.counts(0)
    full = np.full(len(count), 0xFFFFFFFF, np.uint32)
    made.network.counts.add_counts(0, key, first, token, full)
    # what a run of so many transfers says
    with pytest.MonkeyPatch.context() as patch:
        pack = store_push.pack_run

        def packed(*arguments):
            arrays = load(pack(*arguments))
            lifted = np.full_like(arrays["count"], 1 << 32)
            return save(arrays | {"count": lifted, "transfers": np.array([lifted.sum()])})

        patch.setattr(store_push, "pack_run", packed)
        store.push(made, before)
    taken, _ = pulled(store, 1)
    assert set(taken.network.counts.counts(0)[3].tolist()) == {0xFFFFFFFF}
    # a counter that others have raised further is as full
    field = next(iter(raw.hkeys("barnum:0")))
    raw.hincrby("barnum:0", field, 5)
    state = json.loads(raw.get("barnum:state"))
    state["counted"][0] += 5
    raw.set("barnum:state", json.dumps(state))
    taken, _ = pulled(store, 1)
    before = store.snapshot(taken)
    learn(taken, 1)
    store.push(taken, before)
    assert int(raw.hget("barnum:0", field)) == 0xFFFFFFFF + 5
    assert pulled(store, 1)[1] == 2


# what is refused --------------------------------------------------------------------------------------------


def test_sample_that_the_store_has_is_refused_as_a_whole(server, store, raw):
    late = learner()
    before = store.snapshot(late)
    share(store, 0)
    there = everything(raw)
    learn(late, 1, 0)
    with RedisStore(server.url) as other, pytest.raises(ModelError) as error:
        other.push(late, before)
    assert "has learnt run-0 already" in line(error)
    assert line(error).endswith("nothing was added")
    assert everything(raw) == there


@pytest.mark.parametrize(
    ("name", "value"),
    [("lengths", [0, 1]), ("tokens", Tokens(vocabulary="modulo")), ("learn", Learn(jmp=True))],
)
def test_other_options_are_refused(store, raw, name, value):
    share(store, 0)
    there = everything(raw)
    made = learner(**{name: value})
    before = store.snapshot(made)
    with pytest.raises(ModelError, match=f"other options \\({name} differs\\)") as error:
        store.pull(made)
    line(error)
    assert_untouched(made)
    learn(made, 1)
    with pytest.raises(ModelError, match=f"other options \\({name} differs\\)"):
        store.push(made, before)
    assert everything(raw) == there


def test_only_a_fresh_learner_takes_over(store):
    with pytest.raises(ModelError, match="has learnt nothing yet"):
        store.pull(learn(learner(), 0))


def test_counts_of_which_lengths_were_forgotten_are_refused(store):
    made = learner()
    before = store.snapshot(made)
    learn(made, 0)
    made.network.counts.keep(len(made.spec.lengths) - 1)
    for use in (store.pull, store.snapshot, lambda one: store.push(one, before)):
        with pytest.raises(ModelError, match="were forgotten"):
            use(made)


def test_counts_that_are_fewer_than_before_are_refused(store):
    made = learn(learner(), 0)
    before = store.snapshot(made)
    made.network = RoteNetwork(made.network.config)
    with pytest.raises(ModelError, match="were forgotten"):
        store.push(made, before)


def test_part_of_a_run_is_refused(store, raw):
    made = learner()
    before = store.snapshot(made)
    learn(made, 0)
    made.network.counts.add_counts(0, *learn(learner(), 1).network.counts.counts(0))
    with pytest.raises(ModelError, match="part of a run"):
        store.push(made, before)
    assert not raw.keys()


def test_of_a_torn_run_nothing_is_pushed(store, monkeypatch):
    monkeypatch.setattr(rote_learn, "_PIECE", 64)

    class Cut:
        blocks = BLOCKS

        def chunks(self, rows=0):
            yield from path_of(nominal_path(5), BLOCKS).chunks(200)
            raise TraceError("it ends here")

    made = learner()
    before = store.snapshot(made)
    with pytest.raises(TraceError):
        made.learn("run-1", partial(nullcontext, Cut()))
    learn(made, 0)
    store.push(made, before)
    taken = learner()
    assert store.pull(taken) == 1
    assert taken.contexts == learn(learner(), 0).contexts


def test_only_what_was_learnt_itself_is_pushed(store, raw):
    made = learner()
    before = store.snapshot(made)
    made.merge(learn(learner(), 0).model())
    with pytest.raises(ModelError, match="learnt itself"):
        store.push(made, before)
    twice = learner()
    before = store.snapshot(twice)
    learn(twice, 0, 0)
    with pytest.raises(ModelError, match="run-0 was learnt twice"):
        store.push(twice, before)
    with pytest.raises(ModelError, match="learnt itself"):
        store.push(learn(learner(), 1), store.snapshot(twice))
    odd = learner()
    before = store.snapshot(odd)
    odd.learn("a\udcff", partial(nullcontext, path_of(nominal_path(0), BLOCKS)))
    with pytest.raises(ModelError, match="no name of a sample"):
        store.push(odd, before)
    assert not raw.keys()


@pytest.mark.parametrize("name", ["", "a:b", "a\n", "n" * 201])
def test_name_that_is_none(server, name):
    with pytest.raises(InputError, match="the name of a store is"):
        RedisStore(server.url, name)


# broken stores ----------------------------------------------------------------------------------------------


def in_state(**changes):
    def change(raw):
        raw.set("barnum:state", json.dumps({**json.loads(raw.get("barnum:state")), **changes}))

    return change


def in_run(**changes):
    def change(raw):
        arrays = load(raw.get("barnum:run:2"))
        for name, made in changes.items():
            array = made(arrays[name].copy() if name in arrays else None)
            arrays.pop(name, None)
            if array is not None:
                arrays[name] = array
        raw.set("barnum:run:2", save(arrays))

    return change


def put(value, at=0):
    def changed(array):
        array[at] = value
        return array

    return changed


def some(raw, order=1):
    return sorted(raw.hkeys(f"barnum:{order}"))[0]


BROKEN = {
    "state is missing": lambda raw: raw.delete("barnum:state"),
    "state is no JSON": lambda raw: raw.set("barnum:state", b"{\xff"),
    "state is a list": lambda raw: raw.set("barnum:state", b"[1]"),
    "state is deep": lambda raw: raw.set("barnum:state", b'{"schema":' + b"[" * 60000),
    "state is long": lambda raw: raw.set("barnum:state", b" " * (1 << 20)),
    "state is a hash": lambda raw: (raw.delete("barnum:state"), raw.hset("barnum:state", "a", 1)),
    "schema": in_state(schema=2),
    "unknown field": in_state(more=2),
    "too few runs": in_state(runs=1),
    "too many runs": in_state(runs=3),
    "absurdly many runs": in_state(runs=1 << 40),
    "runs below none": in_state(runs=-1),
    "counted is short": in_state(counted=[1]),
    "counted is absurd": in_state(counted=[1 << 61] * 5),
    "counted is beyond all": in_state(counted=[1 << 70] * 5),
    "counted is other": in_state(counted=[3] * 5),
    "samples are missing": lambda raw: raw.delete("barnum:runs"),
    "a sample is missing": lambda raw: raw.hdel("barnum:runs", "run-1"),
    "another sample": lambda raw: (raw.hdel("barnum:runs", "run-1"), raw.hset("barnum:runs", "x", 2)),
    "samples are a string": lambda raw: raw.set("barnum:runs", "x"),
    "run is missing": lambda raw: raw.delete("barnum:run:2"),
    "run is of the same sample": lambda raw: raw.copy("barnum:run:1", "barnum:run:2", replace=True),
    "run is a hash": lambda raw: (raw.delete("barnum:run:2"), raw.hset("barnum:run:2", "a", 1)),
    "run is no safetensors": lambda raw: raw.set("barnum:run:2", b"no"),
    "run is cut off": lambda raw: raw.set("barnum:run:2", raw.get("barnum:run:2")[:-9]),
    "run has an absurd header": lambda raw: raw.set("barnum:run:2", b"\xff" * 64),
    "run lacks a column": in_run(kind=lambda _: None),
    "run has one more": in_run(**{"odd\nname": lambda _: np.zeros(3)}),
    "run has another type": in_run(count=lambda array: array.astype(np.uint64)),
    "run has a table": in_run(count=lambda array: array[:, None]),
    "run has no name": in_run(sample=lambda array: array[:0]),
    "run has a name that is no text": in_run(sample=put(255)),
    "run has no transfers": in_run(transfers=put(0)),
    "run has fewer than none": in_run(transfers=put(-5)),
    "run has absurdly many": in_run(transfers=put(1 << 62)),
    "run has no stretches": in_run(
        **{name: lambda array: array[:0] for name in ("transfers", "edges", "ways")}
    ),
    "run has other rows": in_run(edges=put(1 << 31)),
    "run has other ways": in_run(ways=put(1 << 31)),
    "run is short": in_run(first=lambda array: array[:-1]),
    "run counts nothing": in_run(count=put(0)),
    "run counts too much": in_run(count=put(1 << 62)),
    "run counts otherwise": in_run(count=put(7)),
    "run goes back": in_run(first=put(-1)),
    "run goes on": in_run(first=put(1 << 50)),
    "run is in disorder": in_run(site=lambda array: array[::-1].copy()),
    "run leads another way": in_run(way_site=put(1 << 40)),
    "ways are in disorder": in_run(way_entry=lambda array: array[::-1].copy()),
    "escapes are no numbers": in_run(tried=put(np.nan)),
    "escapes are infinite": in_run(tried=put(np.inf)),
    "escapes are negative": in_run(escaped=put(-1.0)),
    "escapes are too many": in_run(escaped=put(9.0)),
    "escapes are absurd": in_run(tried=put(1e9)),
    "escapes are of others": in_run(tried=lambda array: array[1:]),
    "base is short": in_run(base=lambda array: array[1:]),
    "base is absurd": in_run(base=lambda array: array * 0 + 1e12),
    "counters are missing": lambda raw: raw.delete("barnum:1"),
    "counters are a string": lambda raw: raw.set("barnum:1", "5"),
    "a counter is missing": lambda raw: raw.hdel("barnum:1", some(raw)),
    "a counter is higher": lambda raw: raw.hincrby("barnum:1", some(raw), 1),
    "a counter is no number": lambda raw: raw.hset("barnum:1", some(raw), "many"),
    "a counter is empty": lambda raw: raw.hset("barnum:1", some(raw), ""),
    "a counter has spaces": lambda raw: raw.hset("barnum:1", some(raw), "1 1"),
    "a counter is no whole number": lambda raw: raw.hset("barnum:1", some(raw), "1.5"),
    "a counter is zero": lambda raw: raw.hset("barnum:1", some(raw), 0),
    "a counter is negative": lambda raw: raw.hset("barnum:1", some(raw), -3),
    "a counter is a giant": lambda raw: raw.hset("barnum:1", some(raw), (1 << 63) - 1),
    "a counter is nearly one": lambda raw: raw.hset("barnum:1", some(raw), 10**18 - 1),
    "counters are giants": lambda raw: raw.hset(
        "barnum:1", mapping=dict.fromkeys(raw.hkeys("barnum:1"), 10**18 - 1)
    ),
    "a field is short": lambda raw: raw.hset("barnum:1", b"x" * 15, 1),
    "a field is long": lambda raw: raw.hset("barnum:1", b"x" * 17, 1),
    "a field is of no context": lambda raw: raw.hset("barnum:1", b"\0" * 16, 1),
    "a field is a giant": lambda raw: raw.hset("barnum:1", b"x" * (1 << 25), 1),
    "a value is a giant": lambda raw: raw.hset("barnum:1", some(raw), b"1" * (1 << 25)),
    "pending is a string": lambda raw: raw.set("barnum:pending", "x"),
    "pending is no increments": lambda raw: raw.hset("barnum:pending", "0", b"\0no"),
    "pending is empty": lambda raw: raw.hset("barnum:pending", "0", b""),
    "pending has no rows": lambda raw: raw.hset("barnum:pending", "0", b"\0"),
    "pending is of another order": lambda raw: raw.hset("barnum:pending", "0", b"\7" + b"\1" * 20),
    "pending adds nothing": lambda raw: raw.hset("barnum:pending", "0", b"\0" + b"\1" * 16 + b"\0" * 4),
    "pending has no context": lambda raw: raw.hset("barnum:pending", "0", b"\0" * 21),
    "pending has another number": lambda raw: raw.hset("barnum:pending", "7", b"\1" * 21),
    "pending is a giant": lambda raw: raw.hset("barnum:pending", "0", b"\1" * (1 << 25)),
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_store_is_refused(server, store, raw, how):
    share(store, 0, 1)
    BROKEN[how](raw)
    made = learner()
    tracemalloc.start()
    try:
        with pytest.raises(ModelError) as error:
            store.pull(made)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert line(error).startswith(f"{server.url}: ")
    assert peak < 16 << 20
    assert_untouched(made)


@pytest.mark.parametrize("how", [how for how in BROKEN if how.startswith(("state", "pending", "schema"))])
def test_push_to_a_broken_store_adds_nothing(store, raw, how):
    share(store, 0, 1)
    BROKEN[how](raw)
    there = everything(raw)
    made = learner()
    before = store.snapshot(made)
    learn(made, 2)
    with pytest.raises(ModelError) as error:
        store.push(made, before)
    line(error)
    assert everything(raw) == there


@pytest.mark.parametrize("key", ["state", "run:2", "pending"])
def test_damaged_bytes_never_surprise(store, raw, key, seed=0):
    share(store, 0, 1)
    draw = np.random.default_rng(seed)
    if key == "pending":
        raw.hset("barnum:pending", "0", b"\1" + b"\2" * 40)
    whole = raw.hget("barnum:pending", "0") if key == "pending" else raw.get(f"barnum:{key}")
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(int(draw.integers(1, 4))):
            data[int(draw.integers(len(data)))] = int(draw.integers(256))
        if key == "pending":
            raw.hset("barnum:pending", "0", bytes(data))
        else:
            raw.set(f"barnum:{key}", bytes(data))
        made = learner()
        try:
            assert store.pull(made) == 2
            made.model()
        except ModelError as error:
            assert str(error).isprintable()
            assert_untouched(made)


# servers ----------------------------------------------------------------------------------------------------


def push_of(url):
    """A push of a new run."""
    made = learner()
    before = RedisStore.snapshot(made)
    learn(made, 7)
    with RedisStore(url) as store:
        store.push(made, before)


def pull_of(url):
    with RedisStore(url) as store:
        return store.pull(learner())


def refused(url, error, words):
    """Both ways end in one line."""
    with pytest.raises(InputError) as pulling:
        pull_of(url)
    with pytest.raises(OutputError) as pushing:
        push_of(url)
    assert type(pulling.value) is InputError
    for each in (pulling, pushing):
        assert words in line(each)
        assert line(each).startswith(f"{error}: ")
        assert "hunter2" not in line(each)
    assert line(pushing).endswith("; nothing was added")


def test_server_that_is_not_there(tmp_path):
    refused(f"unix://{tmp_path}/none", f"unix://{tmp_path}/none", "cannot be reached")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        address = f"127.0.0.1:{port}"
        refused(f"redis://user:hunter2@{address}/3", f"redis://{address}/3", "cannot be reached")
        refused(f"rediss://:hunter2@{address}/", f"rediss://{address}", "cannot be reached")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://:hunter2@localhost",
        "REDIS://:hunter2@localhost",
        "redis:hunter2",
        "redis:///0",
        "redis://:hunter2#x@localhost",
        "redis://:hunter2/x@localhost",
        "redis://:hunter2?x@localhost",
        "redis://:hunter2[x@localhost",
        "redis://localhost:hunter2",
        "redis://localhost:99999",
        "redis://localhost:0",
        "redis://localhost/hunter2",
        "redis://localhost?password=hunter2",
        "redis://localhost?decode_responses=1",
        "redis://localhost?ssl_ca_certs=a",
        "redis://loc\nalhost",
        "unix://hunter2/x",
        "unix://:hunter2@",
        "unix:///run/redis?db=hunter2",
        "unix:///run/redis?password=hunter2",
    ],
)
def test_url_that_is_none(url):
    with pytest.raises(InputError, match="URL of a store is none") as error:
        RedisStore(url)
    assert "hunter2" not in line(error)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost", "redis://localhost"),
        ("redis://user:hunter2@[::1]:7000/2", "redis://[::1]:7000/2"),
        ("rediss://:hunter%402@host/?ssl_ca_certs=/etc/ca.pem", "rediss://host"),
        ("unix://user:hunter2@/run/redis.sock?db=2", "unix:///run/redis.sock"),
    ],
)
def test_server_is_named_without_its_password(url, shown):
    with RedisStore(url) as store:
        assert store.shown == shown
        assert "hunter" not in repr(store)


def test_password(tmp_path):
    guarded = Server(tmp_path, "--requirepass", "s3same")
    try:
        refused(guarded.url, guarded.url, "needs a password")
        refused(f"unix://:hunter2@{guarded.socket}", guarded.url, "needs a password")
        url = f"unix://:s3same@{guarded.socket}"
        push_of(url)
        assert pull_of(url) == 1
        with redis.Redis(unix_socket_path=str(guarded.socket), password="s3same") as client:
            client.execute_command("ACL", "SETUSER", "reader", "on", ">hunter2", "~other*", "+@all")
        refused(f"unix://reader:hunter2@{guarded.socket}", guarded.url, "does not allow it")
    finally:
        guarded.kill()


def test_password_for_a_server_that_has_none(server, raw):
    refused(f"unix://:hunter2@{server.socket}", server.url, "needs a password, another one, or none")


@contextlib.contextmanager
def answering(reply):
    """The address of a server that always says the same."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            with contextlib.suppress(OSError):
                while self.request.recv(1 << 16):
                    self.request.sendall(reply)

    class Threaded(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Threaded(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"127.0.0.1:{made.server_address[1]}"
        finally:
            made.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"-ERR unknown command 'AUTH', with args beginning with: 'hunter2'\r\n" * 4,
        b"-LOADING Redis is loading the dataset in memory\r\n" * 4,
    ],
)
def test_server_that_is_no_redis(reply):
    with answering(reply) as address:
        refused(f"redis://:hunter2@{address}", f"redis://{address}", "")


@pytest.mark.parametrize("reply", [b":7\r\n", b"*1\r\n$1\r\nx\r\n", b"*1\r\n" * 5000, b"+OK\r\n" * 4])
def test_server_whose_answers_are_of_another_kind(reply):
    with answering(reply) as address:
        refused(f"redis://{address}", f"redis://{address}", "")


@pytest.mark.parametrize("host", ["a..b", ".host", 64 * "a" + ".de"])
def test_host_that_cannot_be(host):
    refused(f"redis://{host}/0", f"redis://{host}/0", "no host can be called so")


def test_server_without_tls():
    with answering(b"-ERR Protocol error\r\n") as address:
        refused(f"rediss://{address}", f"rediss://{address}", "cannot be reached")


def test_server_that_never_answers(monkeypatch):
    monkeypatch.setattr(store_connection, "_ANSWER", 0.2)
    with answering(b"") as address:
        refused(f"redis://{address}", f"redis://{address}", "cannot be reached")


def test_server_that_is_full(server, store, raw):
    share(store, 0)
    there = everything(raw)
    raw.config_set("maxmemory", 1000)
    try:
        with pytest.raises(OutputError) as error:
            push_of(server.url)
    finally:
        raw.config_set("maxmemory", 0)
    assert "maxmemory" in line(error)
    assert line(error).endswith("; nothing was added")
    assert everything(raw) == there


def test_package_that_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "redis", None)
    with pytest.raises(MissingPackageError) as error:
        RedisStore("redis://localhost")
    assert line(error).startswith("sharing counts needs redis, which is not installed: pip install")
    assert error.value.exit_code == 24


# deaths -----------------------------------------------------------------------------------------------------


def test_machine_that_dies_after_its_push_was_entered(store, raw, monkeypatch):
    monkeypatch.setattr(store_push, "_ROWS", 8)
    share(store, 0)
    with pytest.MonkeyPatch.context() as patch:

        def dying(connection, orders):
            add_piece(connection, orders)
            raise KeyboardInterrupt

        patch.setattr(rote_store, "add_pending", dying)
        made = learner()
        before = store.snapshot(made)
        learn(made, 1)
        with pytest.raises(KeyboardInterrupt):
            store.push(made, before)
    assert raw.hlen("barnum:pending") > 3
    # another machine's push completes it as well as a pull
    late = learner()
    before = store.snapshot(late)
    learn(late, 2)
    store.push(late, before)
    assert not raw.exists("barnum:pending")
    assert_same(pulled(store)[0], learn(learner(), 0, 1, 2), escapes=False)


def test_machine_that_dies_before_leaves_nothing_for_long(store, raw, monkeypatch):
    monkeypatch.setattr(Push, "commit_once", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        share(store, 0)
    assert not raw.keys()
    monkeypatch.setattr(store._connection.client, "unlink", lambda *_: 0)
    with pytest.raises(ZeroDivisionError):
        share(store, 0)
    left = raw.keys()
    assert len(left) == 2
    assert all(key.startswith(b"barnum:staged:") and 0 < raw.ttl(key) <= 86400 for key in left)
    assert pulled(store)[1] == 0


def test_staged_that_is_dropped_is_not_entered(store, raw, monkeypatch):
    commit = Push.commit_once

    def late(self):
        [run] = raw.keys("barnum:staged:*:0")
        raw.delete(run)
        return commit(self)

    monkeypatch.setattr(Push, "commit_once", late)
    with pytest.raises(OutputError, match="nothing was added"):
        share(store, 0)
    assert not raw.keys()


def test_store_that_changes_while_it_is_read(server, store, monkeypatch):
    share(store, 0)
    read, turns = store_pull.read_contents, []

    def changing(*arguments):
        taken = read(*arguments)
        if not turns:
            turns.append(1)
            push_of(server.url)
        return taken

    monkeypatch.setattr(store_pull, "read_contents", changing)
    taken, samples = pulled(store)
    assert samples == 2
    assert_same(taken, learn(learner(), 0, 7), escapes=False)


def test_store_that_never_rests(server, store, monkeypatch):
    share(store, 0)
    read, turns = store_pull.read_contents, iter(range(100, 200))

    def changing(*arguments):
        made = learner()
        before = store.snapshot(made)
        learn(made, next(turns))
        store.push(made, before)
        return read(*arguments)

    monkeypatch.setattr(store_pull, "read_contents", changing)
    made = learner()
    with pytest.raises(InputError, match="try again later"):
        store.pull(made)
    assert_untouched(made)


def test_server_that_dies_midway_keeps_all_or_nothing(tmp_path, monkeypatch):
    """It is killed before and after each message of a push, and goes on from its disk."""
    monkeypatch.setattr(store_push, "_ROWS", 64)
    connection = redis.connection.AbstractConnection
    send = connection.send_packed_command
    left, after, outcomes = [-1], [False], []
    folders = iter(range(1000))
    local = {n: learn(learner(2), *range(n)) for n in (1, 2)}
    made = learner(2)

    def sending(self, command, *rest, **options):
        left[0] -= 1
        if left[0] == 0 and not after[0]:
            server.kill()
        send(self, command, *rest, **options)
        if left[0] == 0 and after[0]:
            time.sleep(0.002 * (len(outcomes) % 3))
            server.kill()

    monkeypatch.setattr(connection, "send_packed_command", sending)
    for when in (False, True):
        after[0] = when
        for count in range(1, 200):
            (folder := tmp_path / str(next(folders))).mkdir()
            server = Server(folder, save=True)
            try:
                with RedisStore(server.url) as store:
                    share(store, 0, longest=2)
                    made = learner(2)
                    store.pull(made)
                    before = store.snapshot(made)
                    learn(made, 1)
                    left[0] = count
                    try:
                        store.push(made, before)
                    except OutputError as error:
                        said = str(error).rpartition("; ")[2]
                    else:
                        said = "all"
                    finished = left[0] > 0
                    left[0] = -1
                if not finished:
                    server.start()
                with RedisStore(server.url) as store:
                    taken, samples = pulled(store, 2)
                    assert_same(taken, local[samples])
                    outcomes.append((said, samples))
                    # and it goes on from there
                    if samples == 1:
                        before = store.snapshot(taken)
                        learn(taken, 1)
                        store.push(taken, before)
                    assert_same(pulled(store, 2)[0], local[2])
            finally:
                server.kill()
            if finished:
                break
        assert finished
    # each message says the truth
    assert {samples for said, samples in outcomes if said == "nothing was added"} == {1}
    assert {samples for said, samples in outcomes if said == "all" or "were added;" in said} <= {2}
    added = "the next command completes their counts"
    assert {samples for said, samples in outcomes if said == added} | {2} == {2}
    assert {samples for _, samples in outcomes} == {1, 2}


def test_large_push(server, store, capsys):
    """200,000 counters take seconds; printed for whoever wants to know."""
    draw = np.random.default_rng(1)
    blocks = blocks_of(3000, (Kind.RETURN,))
    made = learner(32)
    before = store.snapshot(made)
    made.learn("large", partial(nullcontext, path_of(draw.integers(0, 3000, 20_000).tolist(), blocks)))
    counters = sum(len(made.network.counts.counts(i)[2]) for i in range(len(made.spec.lengths)))
    assert counters > 200_000
    begin = time.perf_counter()
    store.push(made, before)
    pushed = time.perf_counter()
    taken, _ = pulled(store, 32)
    ended = time.perf_counter()
    assert_same(taken, made)
    with capsys.disabled():
        print(
            f"\n{counters:,} counters: pushed in {pushed - begin:.1f} s "
            f"({counters / (pushed - begin):,.0f}/s), pulled in {ended - pushed:.1f} s "
            f"({counters / (ended - pushed):,.0f}/s)"
        )
    assert ended - begin < 120
