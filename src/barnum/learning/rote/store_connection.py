"""The connection to a store: its server, and what the server's errors mean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec

from barnum.errors import InputError, ModelError
from barnum.learning.rote.learner import RoteSpec
from barnum.learning.rote.store_layout import SCHEMA, Keys, State
from barnum.learning.rote.store_url import parsed_url, redis_package
from barnum.texts import reason, shortened

# seconds to wait for a connection, and for an answer
_CONNECT, _ANSWER = 10, 60
_LONGEST_NAME = 200
# bytes of a state; a larger one is not read
_LARGEST_STATE = 1 << 16


class Connection:
    """The connection to the store ``name`` of the Redis server at ``url``; it is opened at the first use.

    Attributes:
        name: of the store.
        shown: the server as messages name it, without user, password and options.
        keys: the keys of the store.
        client: client of the package redis, whose answers are bytes.
        errors: the exceptions of the package redis.

    Raises:
        InputError: the URL or the name is not valid.
        MissingPackageError: the package redis is not installed.
    """

    def __init__(self, url: str, name: str) -> None:
        # with a colon, two stores could have the same keys
        if not name or not name.isprintable() or ":" in name or len(name) > _LONGEST_NAME:
            raise InputError("the name of a store is 1 to 200 printable characters, without a colon")
        self.name = name
        self.shown, self._secret = parsed_url(url)
        self.keys = Keys(name)
        redis = redis_package()
        options: dict[str, Any] = {
            "socket_timeout": _ANSWER,
            # no retry: a command whose answer was lost may have been done
            "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0),
            "protocol": 2,
            "decode_responses": False,
        }
        if not url.startswith("unix:"):
            options |= {"socket_connect_timeout": _CONNECT, "socket_keepalive": True}
        self.client: Any = redis.Redis.from_url(url, **options)
        self.errors: Any = redis.exceptions

    def state(self, client: Any, spec: RoteSpec) -> State | None:
        """The state of the store, read through a client or a pipeline; None if the store is empty.

        Raises:
            ModelError: it was learnt with other options than ``spec`` has, or is broken.
        """
        # asked before the state: a store that another machine begins meanwhile has its state by then
        has_content = client.exists(self.keys.runs, self.keys.counters(0))
        data = client.getrange(self.keys.state, 0, _LARGEST_STATE)
        if not data:
            if has_content:
                raise self.broken("its state is missing")
            return None
        if len(data) > _LARGEST_STATE:
            raise self.broken(f"its state has more than {_LARGEST_STATE:,} bytes")
        try:
            schema = msgspec.json.decode(data, type=dict[str, Any]).get("schema")
            if schema != SCHEMA:
                raise ModelError(
                    f"{self.shown}: has schema {shortened(repr(schema))}, this version uses {SCHEMA}"
                )
            state = msgspec.json.decode(data, type=State)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self.broken(f"its state is none: {reason(error)}") from None
        for name in ("learn", "tokens", "lengths"):
            if getattr(state, name) != getattr(spec, name):
                raise ModelError(
                    f"{self.shown}: {self.name} was learnt with other options ({name} differs): use "
                    "the same, or another store"
                )
        if len(state.counted) != len(state.lengths):
            raise self.broken("its state does not say what was counted")
        return state

    def broken(self, why: str) -> ModelError:
        """The error that says what is wrong with the store."""
        return ModelError(f"{self.shown}: {self.name} is no usable store: {why}")

    @contextlib.contextmanager
    def talking(self, error: type[InputError], then: str = "") -> Iterator[None]:
        """A context in which errors of the server become errors of this package.

        Args:
            error: class of the errors.
            then: what holds after an error; the message ends with it.

        Raises:
            InputError: of the class ``error``.
            ModelError: a key of the store is of another type, or a counter is no number.
        """
        known = self.errors
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
            # the name of the host cannot be encoded for DNS
            raise error(f"{self.shown}: cannot be reached (no host can be called so){then}") from None
        except (known.ConnectionError, known.TimeoutError, OSError) as lost:
            raise error(f"{self.shown}: cannot be reached ({self._said(lost)}){then}") from None
        except known.ResponseError as refused:
            said = self._said(refused)
            # a key of another type, or a value that is no number
            if "WRONGTYPE" in said or "not an integer" in said or "overflow" in said:
                raise self.broken(said) from None
            raise error(f"{self.shown}: refuses it ({said}){then}") from None
        except known.RedisError as odd:
            raise error(f"{self.shown}: is no usable Redis server ({self._said(odd)}){then}") from None
        except (TypeError, AttributeError, RecursionError):
            # its answers have numbers or lists in place of text, or lists that are nested too deeply
            raise error(f"{self.shown}: is no usable Redis server (its answers are none){then}") from None

    def _said(self, error: Exception) -> str:
        """The message of an error, without the password, which some servers repeat."""
        text = str(error) or type(error).__name__
        # of a pipeline: "Command # 1 (HINCRBY …) of pipeline caused error: …"
        text = text.rpartition("of pipeline caused error: ")[2]
        if self._secret:
            text = text.replace(self._secret, "…")
        return shortened(text)
