"""What the benchmark takes from the demo: its documents, its encoders, its command."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

from bench_document import Document

DEMO = Path(__file__).resolve().parents[2] / "demo"
WARM_UP = DEMO / "warm-up.ps"
# the demo's package is called like a module of here
_PACKAGE = "demo_documents"


def part(name: str) -> ModuleType:
    """A module of the demo's package of documents."""
    if _PACKAGE not in sys.modules:
        folder = DEMO / "documents"
        spec = importlib.util.spec_from_file_location(
            _PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec and spec.loader
        sys.modules[_PACKAGE] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[_PACKAGE])
    return importlib.import_module(f"{_PACKAGE}.{name}")


def ghostscript() -> list[str]:
    """The words of the demo's command, without any file; read, as importing them imports the rest."""
    for line in ast.parse((DEMO / "run.py").read_text()).body:
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "GHOSTSCRIPT":
            return list(ast.literal_eval(line.value))
    raise LookupError(f"{DEMO / 'run.py'} has no GHOSTSCRIPT")


def of_demo(*, harmful: bool) -> list[Document]:
    """The demo's documents of one label; harmless ones get kinds with ``demo-`` in front."""
    wanted = [each for each in part("make").all_documents() if each.benign is not harmful]
    with ThreadPoolExecutor() as pool:
        contents = list(pool.map(lambda each: each.make(), wanted))
    return [
        Document(f"demo-{each.name}", f"demo-{each.kind}", content, harmful)
        for each, content in zip(wanted, contents, strict=True)
    ]


def acts() -> dict[str, str]:
    """The effect of those of the demo's abusive documents that say which file they create."""
    make = part("make")
    told = {path.name: make.act_of(path) for path in sorted(make.ABUSE.glob("*.ps"))}
    return {f"demo-{name}": f"creates {what}" for name, (how, what) in told.items() if how == "creates"}
