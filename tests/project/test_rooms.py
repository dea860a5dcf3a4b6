"""Which module of barnum imports which: there are no circles, and no room looks up to one above it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "barnum"

# from the ground up; a room may import those of lower floors, and itself
FLOORS = (
    ("errors", "texts", "files", "registry", "extras", "progress", "processes"),
    ("samples", "evaluations"),
    ("recording", "paths", "verdicts"),
    ("calls", "evidence", "sequences", "sources"),
    ("models", "pictures", "digests"),
    ("learning", "detector", "report", "exporting"),
    ("api", "cli"),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# imports against the order that are still there, module → module
REMAINING: set[tuple[str, str]] = set()


def modules() -> dict[str, Path]:
    """Every Python module by name."""
    found = {}
    for file in sorted(SOURCE.rglob("*.py")):
        parts = ("barnum", *file.relative_to(SOURCE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports(name: str, known: dict[str, Path], inside: bool) -> Iterator[str]:
    """What a module imports of barnum when it is imported itself or, ``inside``, when its functions run.
    Imports for types alone are left out."""
    package = name if known[name].name == "__init__.py" else name.rpartition(".")[0]

    def walk(nodes: list[ast.stmt], in_function: bool) -> Iterator[str]:
        for node in nodes:
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                yield from walk(node.orelse, in_function)
                continue
            if in_function == inside:
                if isinstance(node, ast.Import):
                    yield from (alias.name for alias in node.names)
                elif isinstance(node, ast.ImportFrom):
                    base = node.module or ""
                    if node.level:
                        above = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
                        base = f"{above}.{base}" if base else above
                    for alias in node.names:
                        whole = f"{base}.{alias.name}"
                        yield whole if whole in known else base
            deeper = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for field in ("body", "orelse", "finalbody"):
                yield from walk(getattr(node, field, []), deeper)
            for handler in [*getattr(node, "handlers", []), *getattr(node, "cases", [])]:
                yield from walk(handler.body, deeper)

    tree = ast.parse(known[name].read_text())
    for target in walk(tree.body, False):
        if target == "barnum" or target.startswith("barnum."):
            yield target


def graph(inside: bool) -> dict[str, set[str]]:
    """Module → modules that it imports."""
    known = modules()
    return {name: {each for each in imports(name, known, inside) if each in known} - {name} for name in known}


def above(name: str) -> Iterator[str]:
    """The packages that a module lies in."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def with_packages(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same, and the packages above each imported module, which are imported with it."""
    whole = {}
    for name, targets in edges.items():
        around = {name, *above(name)}
        whole[name] = targets | {each for target in targets for each in above(target)} - around
    return whole


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Modules that import each other, directly or not: the strongly connected components of more than one
    module (R. Tarjan, Depth-First Search and Linear Graph Algorithms, 1972)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        number[name] = lowest[name] = len(number)
        stack.append(name)
        for target in sorted(edges[name]):
            if target not in number:
                visit(target)
            if target in stack:
                lowest[name] = min(lowest[name], lowest[target])
        if lowest[name] == number[name]:
            circle = stack[stack.index(name) :]
            del stack[-len(circle) :]
            if len(circle) > 1:
                found.append(sorted(circle))

    for name in sorted(edges):
        if name not in number:
            visit(name)
    return found


def room(name: str) -> str | None:
    """The room of a module; None for the package itself, which is the door to all of them."""
    return name.split(".")[1] if "." in name else None


def climbs(edges: dict[str, set[str]]) -> set[tuple[str, str]]:
    """Imports of a room that is not on a lower floor. Those of the ground floor may import each other."""
    found = set()
    for name, targets in edges.items():
        for target in targets:
            one, other = room(name), room(target)
            if one is None or other is None or one == other:
                continue
            if FLOOR[one] < FLOOR[other] or FLOOR[one] == FLOOR[other] > 0:
                found.add((name, target))
    return found


def test_every_room_has_a_floor():
    assert {room(name) for name in modules()} - {None} <= FLOOR.keys()


def test_no_modules_import_each_other():
    assert circles(with_packages(graph(inside=False))) == []


def test_no_room_looks_up():
    edges = graph(inside=False)
    for name, targets in graph(inside=True).items():
        edges[name] |= targets
    found = climbs(edges)
    assert sorted(found - REMAINING) == []
    # one that is gone is not to come back
    assert sorted(REMAINING - found) == []


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A package of another shape."""

    def write(**files: str) -> None:
        for name, text in {"__init__": "", **files}.items():
            file = tmp_path.joinpath(*name.split("__of__")[::-1]).with_suffix(".py")
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)

    monkeypatch.setattr(f"{__name__}.SOURCE", tmp_path)
    return write


def test_a_circle_is_found(small):
    small(
        files="from barnum import errors",
        errors="import typing\nif typing.TYPE_CHECKING:\n    import barnum.files\n",
        texts="def f():\n    from barnum import registry",
        registry="from barnum.texts import f",
    )
    assert circles(with_packages(graph(inside=False))) == []
    small(errors="try:\n    from barnum.texts import f\nexcept ImportError:\n    from barnum.files import g")
    assert circles(with_packages(graph(inside=False))) == [["barnum.errors", "barnum.files"]]


def test_a_circle_through_a_package_is_found(small):
    small(
        __init____of__samples="from barnum.samples.one import x",
        one__of__samples="from barnum.paths import two",
        __init____of__paths="",
        two__of__paths="import barnum.samples.one",
    )
    assert circles(with_packages(graph(inside=False))) == [
        ["barnum.paths.two", "barnum.samples", "barnum.samples.one"]
    ]


def test_a_climb_is_found(small):
    small(
        __init____of__samples="def f():\n    import barnum.cli.main",
        __init____of__cli="from barnum import samples, paths",
        main__of__cli="from . import x\nfrom .. import paths",
        __init____of__paths="import barnum.verdicts\nfrom barnum import __version__, samples",
        __init____of__verdicts="",
    )
    assert climbs(graph(inside=True)) == {("barnum.samples", "barnum.cli.main")}
    assert climbs(graph(inside=False)) == {("barnum.paths", "barnum.verdicts")}
