"""Values of the standard library that harmless pickles hold, drawn at random: a function for each kind."""

import array
import collections
import copyreg
import datetime
import decimal
import email.message
import enum
import fractions
import functools
import http
import http.cookies
import io
import ipaddress
import logging
import operator
import pathlib
import pickle
import pickletools
import random
import re
import signal
import socket
import string
import types
import urllib.parse
import uuid
import xml.etree.ElementTree as ElementTree


def word(chance):
    """A made-up word."""
    return "".join(chance.choices(string.ascii_lowercase, k=chance.randrange(2, 11)))


def _words(chance, most=12):
    return [word(chance) for _ in range(chance.randrange(1, most))]


def _several(chance, makers, least=2, most=9):
    return [chance.choice(makers)(chance) for _ in range(chance.randrange(least, most))]


def _time(chance):
    return datetime.datetime(2020, 1, 1) + datetime.timedelta(seconds=chance.randrange(10**8))


def _zoned(chance):
    zone = datetime.timezone(datetime.timedelta(minutes=30 * chance.randrange(-20, 20)))
    return _time(chance).replace(tzinfo=zone)


def dates(chance):
    """Dates, times, and what lies between them."""
    makers = (
        _time,
        _zoned,
        lambda c: _time(c).date(),
        lambda c: _zoned(c).timetz(),
        lambda c: datetime.timedelta(c.randrange(1000), c.randrange(86400), c.randrange(10**6)),
    )
    return _several(chance, makers, 3, 40)


def numbers(chance):
    """Numbers of all kinds, ranges and slices."""
    makers = (
        lambda c: decimal.Decimal(c.randrange(10**9)).scaleb(-c.randrange(9)),
        lambda c: fractions.Fraction(c.randrange(-999, 999), c.randrange(1, 999)),
        lambda c: complex(c.random(), c.random()),
        lambda c: c.randrange(-1, 1) * c.getrandbits(c.randrange(1, 3000)),
        lambda c: c.gauss(0, 1e9),
        lambda c: range(c.randrange(9), c.randrange(99), c.randrange(1, 5)),
        lambda c: slice(c.randrange(9), c.randrange(99), c.choice((None, 2))),
        lambda c: c.choice((True, False, None, float("inf"), 0, 255, 65536, -1)),
    )
    return _several(chance, makers, 3, 60)


def collected(chance):
    """What collections has: ordered, counted, with two ends, with a default, chained."""
    makers = (
        lambda c: collections.OrderedDict((name, c.randrange(99)) for name in _words(c)),
        lambda c: collections.Counter("".join(_words(c))),
        lambda c: collections.deque(_words(c), maxlen=c.choice((None, 5))),
        lambda c: collections.defaultdict(c.choice((list, int, dict, set)), {word(c): c.random()}),
        lambda c: collections.ChainMap({word(c): 1}, {word(c): 2}),
        lambda c: collections.UserDict({word(c): c.random()}),
        lambda c: {c.randrange(999) for _ in range(9)},
        lambda c: frozenset((c.randrange(99), c.random()) for _ in range(4)),
    )
    return _several(chance, makers)


def records(chance, depth=4):
    """Records as JSON has them, with bytes."""
    if not depth or chance.random() < 0.2:
        makers = (
            word,
            lambda c: " ".join(_words(c)) + c.choice(("", "é", "→", "\U0001f40d")),
            lambda c: c.randbytes(c.randrange(300)),
            lambda c: bytearray(c.randbytes(c.randrange(30))),
            lambda c: c.randrange(10**6),
            lambda c: c.random(),
        )
        return chance.choice(makers)(chance)
    if chance.random() < 0.6:
        return {word(chance): records(chance, depth - 1) for _ in range(chance.randrange(1, 7))}
    parts = [records(chance, depth - 1) for _ in range(chance.randrange(1, 6))]
    return chance.choice((list, tuple))(parts)


def recursive(chance):
    """Structures that hold themselves, or one part many times."""
    nodes = [types.SimpleNamespace(name=word(chance), links=[]) for _ in range(chance.randrange(3, 40))]
    for node in nodes:
        node.links += chance.choices(nodes, k=chance.randrange(4))
    table = {"nodes": nodes, "first": nodes[0]}
    table["self"] = table
    ring = _words(chance)
    ring.append((ring, table))
    return ring


def _error(chance):
    error = chance.choice((ValueError, KeyError, OSError, ZeroDivisionError, LookupError))(word(chance))
    error.detail = _words(chance, 4)
    return error


def _log_record(chance):
    names = {
        "name": word(chance),
        "levelno": chance.choice((10, 20, 30)),
        "msg": "%s",
        "args": (word(chance),),
    }
    times = {"created": chance.random(), "msecs": 1.0, "relativeCreated": 2.0}
    return logging.makeLogRecord(names | times | {"process": 7, "thread": 7})


def _text_file(chance):
    file = io.StringIO(" ".join(_words(chance)))
    file.seek(chance.randrange(3))
    return file


def _network(chance):
    address = ipaddress.ip_address(chance.getrandbits(chance.choice((32, 128))))
    return [address, ipaddress.ip_network((chance.getrandbits(8) << 24, 8))]


def objects(chance):
    """Objects of many classes of the standard library."""
    makers = (
        _error,
        _log_record,
        _text_file,
        _network,
        lambda c: io.BytesIO(c.randbytes(50)),
        lambda c: uuid.UUID(int=c.getrandbits(128)),
        lambda c: pathlib.PurePosixPath("/", *_words(c)),
        lambda c: pathlib.PureWindowsPath("c:/", *_words(c)),
        lambda c: array.array(c.choice("bHiqd"), [c.randrange(100) for _ in range(c.randrange(50))]),
        lambda c: types.SimpleNamespace(**{word(c) + "_": c.random() for _ in range(4)}),
        lambda c: re.compile(
            c.choice((r"\d+", r"(\w+)@(\w+)\.org", "^a*b", "[a-z]{2,5}")), c.choice((0, re.I))
        ),
        lambda c: random.Random(c.randrange(1000)),
    )
    return _several(chance, makers, 2, 6)


def names(chance):
    """Members of enumerations, and functions and classes, which are pickled by their names."""
    things = (
        len,
        sorted,
        max,
        dict,
        collections.Counter,
        operator.add,
        copyreg.__newobj__,
        str.upper,
        Exception,
    )
    makers = (
        lambda c: c.choice(list(http.HTTPStatus)),
        lambda c: c.choice(list(signal.Signals)),
        lambda c: c.choice(list(socket.AddressFamily)),
        lambda c: re.I | re.M if c.random() < 0.5 else re.X,
        lambda c: functools.partial(c.choice((int, round, pow)), c.randrange(9)),
        lambda c: operator.itemgetter(*range(c.randrange(1, 4))),
        lambda c: operator.attrgetter(word(c)),
        lambda c: operator.methodcaller("split", word(c)),
        lambda c: c.choice(things),
        lambda c: enum.Enum,
    )
    return _several(chance, makers, 3, 20)


def _mail(chance):
    mail = email.message.EmailMessage()
    mail["Subject"], mail["To"] = " ".join(_words(chance)), f"{word(chance)}@example.org"
    mail.set_content("\n".join(_words(chance, 40)))
    return mail


def _tree(chance):
    root = ElementTree.Element(word(chance), {word(chance): word(chance)})
    for name in _words(chance):
        ElementTree.SubElement(root, name).text = word(chance)
    return root


def _cookies(chance):
    return http.cookies.SimpleCookie({name: word(chance) for name in _words(chance, 5)})


def messages(chance):
    """Mail, cookies, addresses of pages, and trees of XML."""
    address = f"https://example.org/{word(chance)}?{word(chance)}={word(chance)}#{word(chance)}"
    makers = (
        _mail,
        _tree,
        _cookies,
        lambda c: urllib.parse.urlsplit(address),
        lambda c: urllib.parse.urlparse(address),
    )
    return _several(chance, makers, 2, 5)


ANY = (dates, numbers, collected, records, recursive, objects, names, messages)


def _any(chance):
    return chance.choice(ANY)(chance)


def several(chance):
    """Several pickles in a file."""
    return b"".join(pickle.dumps(_any(chance), chance.randrange(2, 6)) for _ in range(chance.randrange(2, 7)))


def old(chance):
    """Pickles of the first protocols."""
    # other objects came later, and cannot be written so
    value = chance.choice((dates, numbers, collected, records, recursive))(chance)
    return pickle.dumps([value, {"date": _time(chance)}, _error(chance)], chance.randrange(2))


def optimized(chance):
    """Pickles without what they do not need."""
    return pickletools.optimize(pickle.dumps([_any(chance), _any(chance)], chance.randrange(2, 6)))


def large(chance):
    """Tables of tens or hundreds of kilobytes."""
    rows = [
        (number, word(chance), chance.random(), chance.randbytes(chance.randrange(60)))
        for number in range(chance.randrange(200, 2500))
    ]
    return {"rows": rows, "names": {row[1]: row[0] for row in rows}}


def failing(chance):
    """Pickles that cannot be loaded, as users meet them."""
    data = pickle.dumps(_any(chance), chance.randrange(2, 6))
    lost = b"c" + f"{word(chance)}_models\n{word(chance).title()}\n".encode() + b")\x81."
    moved = b"ccollections\n" + word(chance).encode() + b"\n)\x81."
    ways = (
        data[: len(data) * chance.randrange(3, 9) // 10],
        lost,
        moved,
        b"\x80\x04" + lost,
        b"\x80\x09" + data[2:],
        b"cdatetime\ndate\n(K\x01K\x02tR.",
        b"cdecimal\nDecimal\n(X\x03\x00\x00\x00a,btR.",
        b"<html>" + " ".join(_words(chance)).encode(),
        data + word(chance).encode(),
        b"",
    )
    return chance.choice(ways)


# what makes values, and what makes content of files
VALUES = {maker.__name__: maker for maker in (*ANY, large)}
FILES = {maker.__name__: maker for maker in (several, old, optimized, failing)}
