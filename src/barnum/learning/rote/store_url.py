"""URLs of Redis servers."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from barnum.errors import InputError
from barnum.extras import require

_FORMS = "redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE] or rediss://…, or unix://[[USER]:PASSWORD@]/SOCKET"
_OPTIONS = {
    "redis": frozenset[str](),
    "rediss": frozenset({"ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs"}),
    "unix": frozenset({"db"}),
}


def redis_package() -> Any:
    """The package redis.

    Raises:
        MissingPackageError: it is not installed.
    """
    require("redis", "sharing counts")
    import redis
    import redis.backoff
    import redis.retry

    return redis


def parsed_url(url: str) -> tuple[str, str]:
    """The URL without user, password and options, for messages; and the password.

    Raises:
        InputError: it is no URL of a Redis server. The message shows nothing of it, as a password may be
            anywhere in it.
    """
    wrong = InputError(f"the URL of a store is none: {_FORMS}; special characters of a password as %XX")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        query = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
    except ValueError:
        raise wrong from None
    scheme = parts.scheme
    if scheme not in _OPTIONS or not url.startswith(f"{scheme}://") or parts.fragment or "#" in url:
        raise wrong
    if not url.isprintable() or not query.keys() <= _OPTIONS[scheme]:
        raise wrong
    secret = unquote(parts.password or "")
    if scheme == "unix":
        database = query.get("db", ["0"])[0]
        if parts.netloc.rpartition("@")[2] or len(parts.path) < 2 or not _is_number(database):
            raise wrong
        return f"unix://{parts.path}", secret
    if not host or port == 0 or not (parts.path in ("", "/") or _is_number(parts.path[1:])):
        raise wrong
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}" + (f":{port}" if port else "") + parts.path.rstrip("/"), secret


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 6
