"""Where the product says that a run leaves the usual way first, and whether that is in what is attacked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from recordings import Run

from barnum.detector.fitted import Fitted
from barnum.digests.signs import signs_of
from barnum.report.checked_windows import NewsOfRun
from barnum.report.symbols import Symbols, functions_of

# of a window, as a page lists them
_LISTED = 100


@dataclass(frozen=True)
class Deviation:
    """A place that is listed first: where the transfer leaves, and where it leads; ``by`` evidence or new
    transfers. Each is a module's name and the name of a function, empty where that is not known."""

    by: str
    left: tuple[str, str]
    reached: tuple[str, str]

    def __str__(self) -> str:
        left, reached = (f"{module}!{name or '?'}" for module, name in (self.left, self.reached))
        return f"{left} -> {reached} ({self.by})"


def first_deviation(fitted: Fitted, run: Run, images: Callable[[str], Path | None]) -> Deviation | None:
    """What is listed first of a run: the evidence that makes it anomalous, else the first new transfer of the
    most novel window; None where nothing is new.

    Args:
        fitted: what was learnt.
        run: the run.
        images: file of a module by its path; None where there is none.
    """
    digest = run.digest
    signs = signs_of(fitted.about.notes, len(fitted.counts), digest)
    alarm = signs.alarm(0.01)
    findings = () if digest.about.evidence is None else digest.about.evidence.findings
    found = next((each for each in findings if alarm is not None and str(each) == alarm.text), None)
    if found is not None:
        return _deviation("evidence", run, found.site, found.target, images)
    news = NewsOfRun(digest, fitted.knowledge.new(digest))
    windows = news.windows(1, news.count)
    if not windows:
        return None
    row = int(news.shown(windows[0], _LISTED).row[0])
    site, target = (int(getattr(digest.taken, name)[row]) for name in ("site", "target"))
    return _deviation("novelty", run, site, target, images)


def _deviation(by: str, run: Run, site: int, target: int, images: Callable[[str], Path | None]) -> Deviation:
    def named(token: int, before: int) -> tuple[str, str]:
        path, offset = run.digest.module_of(token)
        if path is None:
            return "no module", ""
        image = images(path)
        found = None if image is None else _symbols(image).find(max(0, offset - before))
        return Path(path).name, found[0] if found else ""

    # a site is the byte behind the branch
    return Deviation(by, named(site, 1), named(target, 0))


@lru_cache(maxsize=64)
def _symbols(file: Path) -> Symbols:
    content = file.read_bytes()
    return Symbols(functions_of(content, content))


def here(path: str) -> Path | None:
    """The file of a module on this machine, on which it was recorded."""
    file = Path(path)
    return file if file.is_file() else None


def within(deviations: Sequence[Deviation | None], attacked: frozenset[str]) -> int:
    """How many lie in one of the functions: leave it, or lead to it."""
    return sum(each is not None and bool({each.left[1], each.reached[1]} & attacked) for each in deviations)
