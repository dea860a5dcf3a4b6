"""Counts that several machines share: what rote learners have learnt, in a Redis server.

All keys of a store begin with its name, here NAME. Numbers in names of keys, fields and values are decimal.

- ``NAME:state``: a string, JSON: ``schema`` (1); ``learn``, ``tokens`` and ``lengths`` as in a model's
  document; ``runs``, how many runs the store holds; ``counted``, of each length of contexts, what all its
  counters add up to. Where it is missing, the store is empty.
- ``NAME:ORDER``: a hash for each length of contexts (ORDER 0, 1, … is its place among the lengths). Field: 16
  bytes, the context's key and the target's token, u64 each, big endian. Value: how often that target followed
  that context. Counters are only ever raised (HINCRBY).
- ``NAME:runs``: a hash, name of a sample (UTF-8) → number of its run, 1 to ``runs`` in the order they came.
- ``NAME:run:NUMBER``: a string, safetensors: the distinct transfers of a run by stretches (of the whole run,
  where it came when the store had 16 or more), without reference to any vocabulary. ``sample`` u8: its name.
  Of each stretch ``transfers`` i64, and ``edges`` and ``ways`` u32, how many rows it has of ``site`` u64,
  ``target`` u64, ``kind`` u8, ``count`` i64, ``first`` i64 (see sequences.Edges) and of ``way_site`` u64,
  ``way_target`` u64, ``way_entry`` u64, ``way_first`` i64 (sequences.edges.Entries). ``tried`` f64,
  ``escaped`` f64 and ``base`` f64[2]: the escapes measured when it was learnt.
- ``NAME:pending``: a hash, there only while increments of the last push are being added: 0, 1, … → one byte
  ORDER and rows of 20 bytes (key and token as above, increment u32 big endian).
- ``NAME:staged:ID`` and ``NAME:staged:ID:NUMBER``: the increments and runs of a push before they are part of
  the store. They expire in a day.

A push is all or nothing, however large: increments and runs are *staged* first, then one transaction (WATCH,
MULTI) enters the samples, renames what was staged to be pending, and changes the state; from then on the push
is part of the store. It is refused as a whole where the store has one of its samples. Increments that are
pending are added piece by piece, each in a transaction that removes the piece as well, by whoever uses the
store next, be it the machine that pushed them or another; so a machine or a connection may die at any moment,
and each increment is added once. What a server that dies keeps is a matter of its own persistence: with
``appendonly yes`` all of the above holds across a crash.

Whoever takes a store over reads it anew when something was pushed meanwhile. As its counters must add up to
what the state says, changes by others, and keys that the server has evicted, are noticed. Counts end at
2³² - 1 in a learner, and a counter that is full there is raised no more. A Redis cluster is not supported.
"""

from __future__ import annotations

import contextlib
import logging
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from barnum.errors import InputError, ModelError, OutputError
from barnum.files import is_text
from barnum.learning.rote.counters import _FORGOTTEN, U64, Counters
from barnum.learning.rote.learner import RoteLearner, fading
from barnum.learning.rote.runs import LARGEST_RUN, LONGEST_NAME, changes, pack_run, unpack_run
from barnum.learning.rote.store_url import parsed_url, redis_package
from barnum.models.arrays import shortened
from barnum.models.networks.rote import F64, RoteNetwork
from barnum.paths import Learn
from barnum.sequences import FEW_RUNS, RunEdges, Tokens

_log = logging.getLogger(__name__)

I64 = NDArray[np.int64]

SCHEMA = 1
_FULL = 0xFFFFFFFF  # the largest count of a learner

# seconds
_CONNECT, _ANSWER, _STAGED = 10, 60, 24 * 3600
# increments of a transaction; the server answers nobody else meanwhile
_ROWS = 1 << 12
_ROW = np.dtype([("context", ">u8"), ("target", ">u8"), ("count", ">u4")])
_FIELD = np.dtype([("context", ">u8"), ("target", ">u8")])
_PIECES = 64  # that are staged at once
_SCAN = 1 << 12  # counters asked for at once
_ATTEMPTS = 8

# what is read is no larger than this, whoever wrote it
_LARGEST_STATE = 1 << 16
_LARGEST_PIECE = 1 + (1 << 16) * _ROW.itemsize
_MOST_RUNS = 1 << 20
_MOST_COUNTED = 1 << 62
# memory that the server takes for a hash of counters: about 100 bytes a field, and its table
_BYTES_A_FIELD, _BYTES_A_HASH = 256, 1 << 16
_COUNTS = re.compile(rb"[1-9][0-9]{0,17}(?: [1-9][0-9]{0,17})*")


class _State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``NAME:state`` says."""

    schema: int
    learn: Learn
    tokens: Tokens
    lengths: list[int]
    runs: Annotated[int, msgspec.Meta(ge=1, le=_MOST_RUNS)]
    counted: list[Annotated[int, msgspec.Meta(ge=0, le=_MOST_COUNTED)]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a learner knew at a time: ``counters`` by length of contexts, and the names of its samples, of
    which it had learnt ``measured`` itself."""

    counters: tuple[Counters, ...]
    samples: tuple[str, ...]
    measured: int


@dataclass(slots=True)
class _Taken:
    """What is taken over from a store."""

    network: RoteNetwork
    samples: list[str] = field(default_factory=list)
    runs: list[RunEdges] = field(default_factory=list)


class RedisStore:
    """The store ``name`` of the Redis server at ``url`` (redis://, rediss:// or unix://), connected to when
    it is first used. To be closed, or used in a ``with``. ``shown`` is the server as messages name it: the
    URL without user, password and options.

    Raises:
        InputError: the URL or the name is none, or the package redis is missing.
    """

    def __init__(self, url: str, name: str = "barnum") -> None:
        # a colon would let keys of two stores meet
        if not name or not name.isprintable() or ":" in name or len(name) > 200:
            raise InputError("the name of a store is 1 to 200 printable characters, without a colon")
        self.shown, secret = parsed_url(url)
        self._secret = secret
        self._name = name
        self._redis = redis = redis_package()
        options: dict[str, Any] = {
            "socket_timeout": _ANSWER,
            # what may have been done is not simply done again
            "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0),
            "protocol": 2,
            "decode_responses": False,
        }
        if not url.startswith("unix:"):
            options |= {"socket_connect_timeout": _CONNECT, "socket_keepalive": True}
        self._client: Any = redis.Redis.from_url(url, **options)

    def __enter__(self) -> RedisStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @staticmethod
    def snapshot(learner: RoteLearner) -> Snapshot:
        """What a learner knows now, to tell later what it has learnt since. Takes 20 bytes a counter.

        Raises:
            ModelError: it has forgotten something.
        """
        _check_whole(learner)
        orders = range(len(learner.spec.lengths))
        counters = tuple(Counters.of(learner.network, order) for order in orders)
        return Snapshot(counters, tuple(learner.samples), len(learner.measured))

    def pull(self, learner: RoteLearner) -> int:
        """Take over all that the store holds into a learner that has learnt nothing; the number of samples.

        On any error the learner is as it was.

        Raises:
            InputError: the server cannot be reached, needs a password, or does not allow it.
            ModelError: the store was learnt with other options or is broken, or the learner knows something.
        """
        _check_whole(learner)
        if learner.samples or learner.contexts:
            raise ModelError("only a learner that has learnt nothing yet takes over what a store holds")
        with self._talking(InputError):
            taken = self._taken(learner)
        if taken is None:
            return 0
        learner.network, learner.samples, learner.runs = taken.network, taken.samples, taken.runs
        learner.network.settle()
        _log.info("%s: %s runs were taken over", self.shown, f"{len(taken.runs):,}")
        return len(taken.runs)

    def push(self, learner: RoteLearner, before: Snapshot) -> None:
        """Add what a learner has learnt since a snapshot of it: all of it, or nothing where an error says so.

        Raises:
            OutputError: the server cannot be reached, is full, needs a password, or does not allow it.
            ModelError: the store was learnt with other options, is broken, or has learnt one of the samples;
                or the learner has not learnt whole runs itself since then.
        """
        _check_whole(learner)
        samples = _since(learner, before)
        orders = range(len(learner.spec.lengths))
        increments = [Counters.of(learner.network, i).since(before.counters[i]) for i in orders]
        runs = learner.runs[len(before.samples) :]
        brought = sum(run.whole.transfers for run in runs)
        # a counter that is full hides what came
        full = (Counters.of(learner.network, 0).count == _FULL).any()
        if not full and int(increments[0].count.sum(dtype=np.int64)) != brought:
            raise ModelError("the learner has counted part of a run that it did not finish: learn anew")
        if not samples:
            return
        staged = self._key("staged", uuid.uuid4().hex)
        try:
            with self._talking(OutputError, "nothing was added"):
                before_all = self._state(self._client, learner)
                whole = (before_all.runs if before_all else 0) + len(runs) >= FEW_RUNS
                pieces = self._stage_increments(staged, increments)
                self._stage_runs(staged, samples, runs, learner.measured[before.measured :], whole)
            with self._talking(OutputError, "whether these samples were added shows the next command"):
                while not self._commit(learner, staged, samples, increments, pieces):
                    self._finish(learner)
        except BaseException:
            # what was committed has other names by now; the error that counts is the first one
            with contextlib.suppress(Exception):
                self._client.unlink(staged, *_run_keys(staged, len(samples)))
            raise
        # whoever comes next would do that as well
        with self._talking(OutputError, "the samples were added; the next command completes their counts"):
            self._finish(learner)
        _log.info("%s: %s runs were added", self.shown, f"{len(runs):,}")

    def _key(self, *parts: object) -> str:
        return ":".join([self._name, *map(str, parts)])

    # reading ------------------------------------------------------------------------------------------------

    def _state(self, client: Any, learner: RoteLearner) -> _State | None:
        """The state of the store, which fits a learner; None where the store is empty."""
        # asked first: where another machine begins the store meanwhile, both are there by then
        there = client.exists(self._key("runs"), self._key(0))
        data = client.getrange(self._key("state"), 0, _LARGEST_STATE)
        if not data:
            if there:
                raise self._broken("its state is missing")
            return None
        if len(data) > _LARGEST_STATE:
            raise self._broken(f"its state has more than {_LARGEST_STATE:,} bytes")
        try:
            schema = msgspec.json.decode(data, type=dict[str, Any]).get("schema")
            if schema != SCHEMA:
                raise ModelError(
                    f"{self.shown}: has schema {shortened(repr(schema))}, this version uses {SCHEMA}"
                )
            state = msgspec.json.decode(data, type=_State)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._broken(f"its state is none: {shortened(str(error))}") from None
        for name in ("learn", "tokens", "lengths"):
            if getattr(state, name) != getattr(learner.spec, name):
                raise ModelError(
                    f"{self.shown}: {self._name} was learnt with other options ({name} differs): use "
                    "the same, or another store"
                )
        if len(state.counted) != len(state.lengths):
            raise self._broken("its state does not say what was counted")
        return state

    def _taken(self, learner: RoteLearner) -> _Taken | None:
        for _ in range(_ATTEMPTS):
            state = self._state(self._client, learner)
            try:
                if state is None:
                    return None
                # nothing changes from here on but with the state
                self._finish(learner)
                taken = self._read(learner, state)
            except ModelError:
                if self._state(self._client, learner) == state:
                    raise
                continue
            if self._state(self._client, learner) == state:
                return taken
        raise InputError(f"{self.shown}: others add to {self._name} all the time: try again later")

    def _read(self, learner: RoteLearner, state: _State) -> _Taken:
        taken = _Taken(RoteNetwork(learner.network.config))
        if self._client.hlen(self._key("runs")) != state.runs:
            raise self._broken("it does not hold as many runs as its state says")
        cells = len(taken.network.tried)
        transfers = 0
        for number in range(1, state.runs + 1):
            data = self._client.getrange(self._key("run", number), 0, LARGEST_RUN)
            try:
                sample, run, measured = unpack_run(data, cells)
            except ModelError as error:
                raise self._broken(f"run {number:,}: {error}") from None
            if not self._client.hexists(self._key("runs"), sample.encode()):
                raise self._broken(f"run {number:,} is of a sample that it does not list")
            if number > 1:
                taken.network.fade(fading(number - 1))
            taken.network.measured(*measured)
            taken.samples.append(sample)
            taken.runs.append(run)
            transfers += run.whole.transfers
        if len(set(taken.samples)) != len(taken.samples):
            raise self._broken("two of its runs are of one sample")
        if max(state.counted) > transfers:
            raise self._broken("it counts more transfers than its runs have")
        for order, counted in enumerate(state.counted):
            self._read_counters(taken.network, order, counted)
        return taken

    def _read_counters(self, network: RoteNetwork, order: int, counted: int) -> None:
        key = self._key(order)
        size = self._client.hlen(key)
        if not size and not counted:
            return
        # values could be of any length: the server tells before they are asked for
        taken = (self._client.memory_usage(key, samples=0) or 0) if size else 0
        if not 0 < size <= counted or taken > _BYTES_A_HASH + size * _BYTES_A_FIELD:
            raise self._broken(f"counters of order {order} are missing, too many or too large")
        context, target, count = _distinct(*self._scan(key, order, size))
        # fields of other lengths are not among those found
        if len(context) != size or not context[0]:
            raise self._broken(f"it has fields of order {order} that are no counters")
        # each is small enough to be added up in 64 bits, once the sum is known to be about right
        if float(count.sum(dtype=np.float64)) > 2.0 * _MOST_COUNTED or int(count.sum()) != counted:
            raise self._broken(
                f"counters of order {order} do not add up: the server has evicted some, or others wrote to it"
            )
        begin = np.flatnonzero(changes(context))
        first = np.append(begin, size).astype(np.uint64)
        network.counts.add_counts(
            order, context[begin], first, target, np.minimum(count, _FULL).astype(np.uint32)
        )

    def _scan(self, key: str, order: int, size: int) -> tuple[U64, U64, U64]:
        """Context, target and count of counters, some of which may come twice."""
        fields, counts = [np.zeros(0, _FIELD)], [np.zeros(0, np.uint64)]
        cursor, found = 0, 0
        # a scan comes to an end long before
        for _ in range(16 + size):
            cursor, some = self._client.hscan(key, cursor, match=b"?" * _FIELD.itemsize, count=_SCAN)
            if some:
                values = b" ".join(some.values())
                if not _COUNTS.fullmatch(values):
                    raise self._broken(f"a counter of order {order} is no count")
                fields.append(np.frombuffer(b"".join(some), _FIELD))
                counts.append(np.fromstring(values, np.uint64, sep=" "))
                found += len(some)
            if not cursor or found > 4 * size + _SCAN:
                break
        rows = np.concatenate(fields)
        native = (rows["context"].astype(np.uint64), rows["target"].astype(np.uint64))
        return *native, np.concatenate(counts)

    # writing ------------------------------------------------------------------------------------------------

    def _stage_increments(self, staged: str, increments: Sequence[Counters]) -> int:
        """Write them beside the store; the number of their pieces."""
        pieces = 0
        with self._client.pipeline(transaction=False) as pipe:
            for order, counters in enumerate(increments):
                for at in range(0, len(counters), _ROWS):
                    part = slice(at, at + _ROWS)
                    rows = np.empty(len(counters.count[part]), _ROW)
                    for name in ("context", "target", "count"):
                        rows[name] = getattr(counters, name)[part]
                    pipe.hset(staged, str(pieces), bytes([order]) + rows.tobytes())
                    pieces += 1
                    if not pieces % _PIECES:
                        pipe.expire(staged, _STAGED)
                        pipe.execute()
            pipe.expire(staged, _STAGED)
            pipe.execute()
        return pieces

    def _stage_runs(
        self,
        staged: str,
        samples: Sequence[str],
        runs: Sequence[RunEdges],
        measured: Sequence[tuple[F64, F64, F64]],
        whole: bool,
    ) -> None:
        keys = _run_keys(staged, len(runs))
        for key, sample, run, escapes in zip(keys, samples, runs, measured, strict=True):
            data = pack_run(sample, run, escapes, whole)
            if len(data) > LARGEST_RUN:
                raise ModelError(
                    f"{shortened(sample)}: has too many distinct transfers for a store ({len(data):,} bytes)"
                )
            self._client.set(key, data, ex=_STAGED)

    def _commit(
        self,
        learner: RoteLearner,
        staged: str,
        samples: Sequence[str],
        increments: Sequence[Counters],
        pieces: int,
    ) -> bool:
        """Make what was staged part of the store; False where increments of others are to be added first, or
        they were quicker."""
        keys = [staged] if pieces else []
        staged_runs = _run_keys(staged, len(samples))
        pending, state_key, runs_key = (self._key(name) for name in ("pending", "state", "runs"))
        with self._client.pipeline(transaction=True) as pipe:
            pipe.watch(pending, state_key, runs_key, *keys, *staged_runs)
            state = self._state(pipe, learner)
            for sample in samples:
                if pipe.hexists(runs_key, sample.encode()):
                    raise ModelError(
                        f"{self.shown}: {self._name} has learnt {shortened(sample)} already (perhaps from "
                        "another machine): nothing was added"
                    )
            if pipe.exists(pending):
                return False
            # a rename that fails would not undo the rest
            if pipe.exists(*keys, *staged_runs) != len(keys) + len(staged_runs):
                raise OutputError(f"{self.shown}: has dropped what was to be added: nothing was added")
            had, counted = (state.runs, state.counted) if state else (0, [0] * len(increments))
            if had + len(samples) > _MOST_RUNS:
                raise ModelError(f"{self.shown}: {self._name} would hold more than {_MOST_RUNS:,} runs")
            made = _State(
                schema=SCHEMA,
                learn=learner.spec.learn,
                tokens=learner.spec.tokens,
                lengths=learner.spec.lengths,
                runs=had + len(samples),
                counted=[
                    old + int(new.count.sum(dtype=np.int64))
                    for old, new in zip(counted, increments, strict=True)
                ],
            )
            pipe.multi()
            for number, (key, sample) in enumerate(zip(staged_runs, samples, strict=True), had + 1):
                pipe.hset(runs_key, sample.encode(), number)
                pipe.rename(key, self._key("run", number))
                pipe.persist(self._key("run", number))
            if pieces:
                pipe.rename(staged, pending)
                pipe.persist(pending)
            pipe.set(state_key, msgspec.json.encode(made))
            try:
                pipe.execute()
            except self._redis.exceptions.WatchError:
                return False
        return True

    def _finish(self, learner: RoteLearner) -> None:
        """Add the increments that are pending."""
        while True:
            with contextlib.suppress(self._redis.exceptions.WatchError):  # another machine was quicker
                if not self._add_piece(len(learner.spec.lengths)):
                    return

    def _add_piece(self, orders: int) -> bool:
        """Add one piece of what is pending; False where nothing is."""
        pending = self._key("pending")
        with self._client.pipeline(transaction=True) as pipe:
            pipe.watch(pending)
            left = pipe.hlen(pending)
            if not left:
                return False
            piece = str(left - 1)
            small = pipe.hstrlen(pending, piece) <= _LARGEST_PIECE
            data: bytes = (pipe.hget(pending, piece) if small else None) or b"\xff"
            order = data[0]
            fits = order < orders and len(data) % _ROW.itemsize == 1
            rows = np.frombuffer(data[1:] if fits else b"", _ROW)
            pipe.multi()
            if not len(rows) or not bool((rows["context"] > 0).all() and (rows["count"] > 0).all()):
                # what was read is of one time only if nothing has changed
                pipe.exists(pending)
                pipe.execute()
                raise self._broken("increments that are pending are none")
            key, size = self._key(order), _FIELD.itemsize
            for at, count in zip(range(1, len(data), _ROW.itemsize), rows["count"].tolist(), strict=True):
                pipe.execute_command("HINCRBY", key, data[at : at + size], count)
            pipe.hdel(pending, piece)
            pipe.execute()
        return True

    # errors -------------------------------------------------------------------------------------------------

    def _broken(self, why: str) -> ModelError:
        return ModelError(f"{self.shown}: {self._name} is no usable store: {why}")

    @contextlib.contextmanager
    def _talking(self, error: type[InputError], then: str = "") -> Iterator[None]:
        """Say what went wrong, and what holds ``then``."""
        known = self._redis.exceptions
        then = f"; {then}" if then else ""
        try:
            yield
        except (known.AuthenticationError, known.AuthenticationWrongNumberOfArgsError):
            raise error(
                f"{self.shown}: needs a password, another one, or none: redis://[USER]:PASSWORD@…{then}"
            ) from None
        except known.NoPermissionError as refused:
            raise error(f"{self.shown}: does not allow it ({self._said(refused)}){then}") from None
        except UnicodeError:
            # before a connection is tried the name is encoded for DNS
            raise error(f"{self.shown}: cannot be reached (no host can be called so){then}") from None
        except (known.ConnectionError, known.TimeoutError, OSError) as lost:
            raise error(f"{self.shown}: cannot be reached ({self._said(lost)}){then}") from None
        except known.ResponseError as refused:
            said = self._said(refused)
            # of a key of another type, or a value that is no number
            if "WRONGTYPE" in said or "not an integer" in said or "overflow" in said:
                raise self._broken(said) from None
            raise error(f"{self.shown}: refuses it ({said}){then}") from None
        except known.RedisError as odd:
            raise error(f"{self.shown}: is no usable Redis server ({self._said(odd)}){then}") from None
        except (TypeError, AttributeError, RecursionError):
            # numbers or lists where text is due, or lists in lists without end
            raise error(f"{self.shown}: is no usable Redis server (its answers are none){then}") from None

    def _said(self, error: Exception) -> str:
        """Words of an error: on one line, and without the password, which some servers repeat."""
        text = str(error) or type(error).__name__
        # of a pipeline: "Command # 1 (HINCRBY …) of pipeline caused error: …"
        text = text.rpartition("of pipeline caused error: ")[2]
        if self._secret:
            text = text.replace(self._secret, "…")
        return shortened("".join(each if each.isprintable() else " " for each in text))


def _check_whole(learner: RoteLearner) -> None:
    if learner.forgotten or learner.network.config.forgotten:
        raise ModelError(_FORGOTTEN)


def _since(learner: RoteLearner, before: Snapshot) -> list[str]:
    """The samples that a learner has learnt itself since a snapshot."""
    had = len(before.samples)
    samples = learner.samples[had:]
    own = len(learner.measured) - before.measured == len(samples) == len(learner.runs) - had
    if tuple(learner.samples[:had]) != before.samples or not own:
        raise ModelError("only what a learner has learnt itself, since it was as given, can be shared")
    if len(set(learner.samples)) != len(learner.samples):
        twice = next(name for name in samples if learner.samples.count(name) > 1)
        raise ModelError(f"{shortened(twice)} was learnt twice: that cannot be shared")
    for name in samples:
        if len(name.encode(errors="replace")) > LONGEST_NAME or not is_text(name):
            raise ModelError(f"{shortened(ascii(name))} is no name of a sample that can be shared")
    return samples


def _run_keys(staged: str, count: int) -> list[str]:
    return [f"{staged}:{i}" for i in range(count)]


def _distinct(context: U64, target: U64, count: U64) -> tuple[U64, U64, U64]:
    """Counters sorted, each once."""
    order = np.lexsort((target, context))
    order = order[changes(context[order], target[order])]
    return context[order], target[order], count[order]
