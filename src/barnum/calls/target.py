"""All names of the file that was sent to a sandbox, and which processes have one of them.

A sandbox seldom runs a file under the name with which it was sent: it names it by its hash, or adds the
extension of its type (``sample`` becomes ``sample.exe``), and Windows has a short name for each long one.
"""

from __future__ import annotations

import re

from barnum.calls.found import Found, last_part, plain_path

# no file system holds a longer name
_LONGEST = 260
# a report names its file a few times; each name is searched for in every command line
_NAMES = 16
_HASHES = 8
# a shorter name that only the report gives (a temporary one) could match anywhere
_SHORTEST = 4
_HASH = re.compile(r"[0-9a-f]{32,128}")
_LENGTHS_OF_HASHES = (32, 40, 64)
# 8 digits are enough to identify a hash
_DIGITS = re.compile(r"(?<![0-9a-z])[0-9a-f]{8,128}(?![0-9a-z])")
# beside letters and digits, these before a name make it the end of a longer one; behind it, nothing that goes
# on may follow, but an extension may have been added
_BEFORE = "_-.~"
_BEHIND = re.compile(r"(?:\.\w{1,5})?(?![\w~.-])")
_ADDED = re.compile(r"\.\w{1,5}")
# occurrences of a name that are looked at in one text, which may repeat it very often
_PLACES = 64
# characters of command lines × names to search for; a text can be made up in which each costs 30 ns
_SEARCHED = 1 << 26
# characters that short names of Windows cannot have
_DROPPED = re.compile(r"[ .]")
_REPLACED = re.compile(r"[+,;=\[\]]")
# Windows numbers short names up to 4, and makes them in another way after that
_COUNTED = "1234"


class Target:
    """Names and hashes of the file; upper and lower case are equal.

    Attributes:
        unsearched: number of command lines that were not searched, as that would take too long.
    """

    def __init__(self) -> None:
        self.unsearched = 0
        self._named = 0
        self._searched = 0
        self._paths: set[str] = set()
        self._forms: set[str] = set()
        self._hashes: set[str] = set()

    @property
    def known(self) -> bool:
        """Whether there is anything to search for."""
        return bool(self._forms or self._hashes)

    def add(self, path: str, sure: bool = False) -> None:
        """Add a name or a path of the file. Unless ``sure``, very short ones and more than 16 are ignored."""
        name = last_part(path[-2 * _LONGEST :])
        small = name.lower()
        if not small.strip() or len(small) > _LONGEST:
            return
        if not sure:
            if len(small) < _SHORTEST or self._named == _NAMES:
                return
            self._named += 1
        self._forms |= {small, *_in_octal(name), *_short(small)}
        stem = small.partition(".")[0]
        if len(stem) in _LENGTHS_OF_HASHES:
            self.add_hash(stem)

    def add_path(self, path: str) -> None:
        """Add a path of the file, which tells it from other files of the same name."""
        if len(self._paths) < _NAMES:
            self._paths.add(plain_path(path))

    def add_hash(self, digits: str) -> None:
        """Add its MD5, SHA-1, SHA-256 or the like, in hexadecimal digits; anything else is ignored."""
        digits = digits[: _LONGEST + 1].lower()
        if len(self._hashes) < _HASHES and _HASH.fullmatch(digits):
            self._hashes.add(digits)

    def is_program(self, found: Found) -> bool:
        """Whether a process runs the file itself."""
        return any(map(self._is_file, {found.name.lower(), last_part(found.path).lower()}))

    def is_at_path(self, found: Found) -> bool:
        """Whether its program is at a path of the file."""
        return bool(found.path) and plain_path(found.path) in self._paths

    def is_named(self, found: Found) -> bool:
        """Whether its command line holds a name or a hash of the file; False if it is not searched."""
        text = found.command_line.lower()
        if not text:
            return False
        cost = len(text) * (len(self._forms) + len(self._hashes))
        if self._searched + cost > _SEARCHED:
            self.unsearched += 1
            return False
        self._searched += cost
        if any(self._stands_in(form, text) for form in self._forms):
            return True
        return bool(self._hashes) and any(map(self._is_hash, _DIGITS.findall(text)))

    def _is_file(self, name: str) -> bool:
        if not 0 < len(name) <= _LONGEST:
            return False
        for form in self._forms:
            if name == form or (name.startswith(form) and _ADDED.fullmatch(name, len(form))):
                return True
        stem = name.partition(".")[0]
        return _DIGITS.fullmatch(stem) is not None and self._is_hash(stem)

    def _is_hash(self, digits: str) -> bool:
        return any(digest.startswith(digits) for digest in self._hashes)

    @staticmethod
    def _stands_in(name: str, text: str) -> bool:
        """Whether a text holds a name that is not the end or the beginning of another one."""
        place = -1
        for _ in range(_PLACES):
            place = text.find(name, place + 1)
            if place < 0:
                return False
            before = text[place - 1 : place]
            if not (before.isalnum() or (before and before in _BEFORE)) and _BEHIND.match(
                text, place + len(name)
            ):
                return True
        return False


def _in_octal(name: str) -> set[str]:
    """A name that is not ASCII as DRAKVUF writes it in command lines: its other bytes in octal digits."""
    if name.isascii():
        return set()
    names = set()
    for text in (name, name.lower()):
        data = text.encode("utf-8", errors="surrogatepass")
        names.add("".join(chr(byte) if byte < 128 else f"\\{byte:03o}" for byte in data).lower())
    return names


def _short(name: str) -> set[str]:
    """The short names that Windows may give to a file, such as ``invoic~1.doc``; none if it needs none."""
    stem, _, extension = name.rpartition(".") if "." in name else (name, "", "")
    base = _REPLACED.sub("_", _DROPPED.sub("", stem))
    if (base, extension[:3]) == (stem, extension) and len(base) <= 8:
        return set()
    ending = f".{extension[:3]}" if extension else ""
    return {f"{base[:6]}~{number}{ending}" for number in _COUNTED} if base else set()
