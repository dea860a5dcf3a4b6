"""Names of what a clustering is about: of the BBIDs of blocks, of pages of code, of calls, of classes.

A BBID is the Adler-32 of a module's path (upper 32 bits) and an offset in the module (lower 32). The token of
a call looks the same, but stands for a name as a whole. A number below 2³² is a class, which lies in no
module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from barnum.texts import printable

if TYPE_CHECKING:
    from barnum.report.symbols import Symbols
    from barnum.verdicts.clusters import By

MODULE_BITS = 32
PAGE_BITS = 12
_OFFSETS = (1 << MODULE_BITS) - 1


class Names:
    """Names of blocks, for text (printable) and for documents (as they are).

    Args:
        names: paths of modules by hash, names of calls by token.
        functions: functions of modules, by hash.
    """

    def __init__(self, names: Mapping[int, str], functions: Mapping[int, Symbols]) -> None:
        self._names = names
        self._functions = functions
        # hashes of modules are shorter than tokens of calls; a page of tokens holds one call
        self._calls = {token >> PAGE_BITS: name for token, name in names.items() if token >> MODULE_BITS}

    def block(self, bbid: int) -> str:
        """A block as text: ``libc.so.6+0x1234 (open+0x4)``, a call, or a class."""
        module, offset = bbid >> MODULE_BITS, bbid & _OFFSETS
        if not module:
            return f"class {bbid}"
        if bbid in self._names:
            return printable(self._names[bbid])
        function = self._function(module, offset)
        within = f" ({printable(function[0])}+0x{function[1]:x})" if function else ""
        return f"{self._module(module)}+0x{offset:x}{within}"

    def page(self, page: int) -> str:
        """A page (BBID >> 12) as text."""
        if page in self._calls:
            return printable(self._calls[page])
        bbid = page << PAGE_BITS
        return f"{self._module(bbid >> MODULE_BITS)}+0x{bbid & _OFFSETS:x}"

    def block_fields(self, bbid: int) -> dict[str, Any]:
        """A block as fields of a document."""
        module, offset = bbid >> MODULE_BITS, bbid & _OFFSETS
        if not module:
            return {"class": bbid}
        if bbid in self._names:
            return {"bbid": bbid, "module": self._names[bbid], "module_hash": module, "offset": None}
        fields = {
            "bbid": bbid,
            "module": self._names.get(module),
            "module_hash": module,
            "offset": offset,
        }
        function = self._function(module, offset)
        if function is not None:
            fields |= {"function": function[0], "function_offset": function[1]}
        return fields

    def key_fields(self, key: int, by: By) -> dict[str, Any]:
        """What a column of :class:`~barnum.verdicts.clusters.Points` stands for, a class or a page, as fields
        of a document."""
        if by == "predicted":
            return {"class": key}
        bbid = key << PAGE_BITS
        module = bbid >> MODULE_BITS
        if key in self._calls:
            return {"module": self._calls[key], "module_hash": module, "offset": None}
        return {"module": self._names.get(module), "module_hash": module, "offset": bbid & _OFFSETS}

    def _function(self, module: int, offset: int) -> tuple[str, int] | None:
        symbols = self._functions.get(module)
        return symbols.find(offset) if symbols else None

    def _module(self, module: int) -> str:
        path = self._names.get(module)
        # the last part says which; a path of Windows has no slashes
        return printable(path.replace("\\", "/").rsplit("/", 1)[-1]) if path else f"module {module:08x}"
