"""The page's modules as one script.

A page that is opened from a file can import nothing. So each module becomes a function that returns what it
exports, and its imports become constants in it: names of one module never meet those of another, as where a
browser loads them itself. Of what modules may say a small part is understood, and the rest is refused:

    import { a, b } from "./other.js";
    export function c() …    export class D …    export const e = …
"""

from __future__ import annotations

import re
from collections.abc import Callable

_NAME = r"[A-Za-z_]\w*"
_IMPORT = re.compile(rf'^import \{{((?:\s*{_NAME}\s*,)*(?:\s*{_NAME})?\s*)\}} from "\./(\w+\.js)";$', re.M)
_EXPORT = re.compile(rf"^export (?=(?:function|class|const) ({_NAME})\b)", re.M)
_DECLARED = re.compile(rf"^(?:(?:async )?function\*? ?|class |const |let |var )({_NAME})", re.M)
# what else could be an import or an export, or end the script for HTML
_REFUSED = re.compile(r"^\s*(?:import|export)\b|\bimport\s*[.(]|</script|<!--", re.M | re.I)


def joined(entry: str, read: Callable[[str], str]) -> str:
    """The module ``entry`` and all that it imports as one classic script; ``read`` gives the text of a file.

    Modules stand in the order in which a browser would run them.

    Raises:
        ValueError: a module says something that is not understood, imports what is not exported, or itself.
    """
    exports: dict[str, list[str]] = {}
    parts: list[str] = []

    def add(name: str, importers: tuple[str, ...]) -> None:
        if name in importers:
            raise ValueError(f"{' imports '.join((*importers, name))}: a circle of modules")
        if name in exports:
            return
        text = read(name)
        imports = [(_words(match[1]), match[2]) for match in _IMPORT.finditer(text)]
        for names, other in imports:
            add(other, (*importers, name))
            for missing in set(names).difference(exports[other]):
                raise ValueError(f"{name}: {other} does not export {missing}")
        body = _EXPORT.sub("", _IMPORT.sub(lambda match: "\n" * match[0].count("\n"), text))
        _check(name, body, [imported for names, _ in imports for imported in names])
        exports[name] = [match[1] for match in _EXPORT.finditer(text)]
        parts.append(_as_function(name, imports, body, exports[name]))

    add(entry, ())
    return '"use strict";\n(() => {\n' + "\n".join(parts) + "\n})();\n"


def _words(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _check(name: str, body: str, imported: list[str]) -> None:
    if match := _REFUSED.search(body):
        number = body.count("\n", 0, match.end()) + 1
        line = body.split("\n")[number - 1].strip()
        raise ValueError(f"{name}:{number}: not understood: {line}")
    known: set[str] = set()
    for declared in (*imported, *(match[1] for match in _DECLARED.finditer(body))):
        if declared in known:
            raise ValueError(f"{name}: {declared} is declared twice")
        known.add(declared)


def _as_function(name: str, imports: list[tuple[list[str], str]], body: str, exports: list[str]) -> str:
    """A module as a function, called at once, whose result is named by the module with a ``$`` before it."""
    lines = [f"// {name}", f"const {_result(name)} = (() => {{"]
    lines += [f"const {{ {', '.join(names)} }} = {_result(other)};" for names, other in imports]
    lines += [body.strip("\n"), f"return {{ {', '.join(exports)} }};", "})();"]
    return "\n".join(lines)


def _result(name: str) -> str:
    return "$" + name.removesuffix(".js")
