"""Rules of the house that a linter does not know."""

import ast
from pathlib import Path

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file())

_LONGEST_FILE = 450
_LONGEST_FUNCTION = 80
# what is longer, and why it stays so
_EXEMPT = {
    "scripts/comparison/steps.py: _steps_of_traces": "a list of commands, one after the other",
    "scripts/comparison/steps.py: _judging": "a list of commands, one after the other",
}


def _python(*folders):
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def _lengths():
    """Lines of each file and function, by name."""
    for file in _python("src", "bench", "demo", "scripts"):
        text, name = file.read_text(), str(file.relative_to(ROOT))
        yield name, len(text.splitlines()), _LONGEST_FILE
        for part in ast.walk(ast.parse(text)):
            if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
                # without decorators: the options of a command are a list
                yield f"{name}: {part.name}", part.end_lineno - part.lineno + 1, _LONGEST_FUNCTION


def test_files_and_functions_are_short():
    over = {name: lines for name, lines, longest in _lengths() if lines > longest}
    new = [f"{name}: {lines} lines" for name, lines in over.items() if name not in _EXEMPT]
    assert not new, "cut these, or say in _EXEMPT why they stay whole:\n" + "\n".join(new)
    assert not _EXEMPT.keys() - over.keys(), "these are short enough now: take them out of _EXEMPT"


def _imports(file):
    for part in ast.walk(ast.parse(file.read_text())):
        if isinstance(part, ast.Import):
            yield from (name.name for name in part.names)
        elif isinstance(part, ast.ImportFrom):
            yield part.module


def test_only_the_command_line_knows_the_command_line():
    rooms = ("calls", "evaluations", "paths", "pictures", "report", "samples", "sequences", "verdicts")
    files = list(_python(*(f"src/barnum/{room}" for room in rooms)))
    assert len(files) > 50
    for file in files:
        for module in _imports(file):
            assert module.partition(".")[0] not in ("click", "rich"), f"{file} imports {module}"
            assert not module.startswith("barnum.cli"), f"{file} imports {module}"
