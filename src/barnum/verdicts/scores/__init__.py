"""What conformal prediction can go by, by name. A new score is a file here, and a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnum.errors import EvaluationError
from barnum.registry import Registry

if TYPE_CHECKING:
    from barnum.verdicts.scores.interface import Score

SCORES: Registry[type[Score]] = Registry(
    "score",
    {
        "novelty": "barnum.verdicts.scores.novelty:Novelty",
        "surprisal": "barnum.verdicts.scores.surprisal:Surprisal",
        "adjusted": "barnum.verdicts.scores.adjusted:Adjusted",
        "combined": "barnum.verdicts.scores.combined:Combined",
    },
)
# where none is asked for, and that of saved classifiers which name none
DEFAULT = "novelty"


def by_name(name: str) -> type[Score]:
    """The score of that name.

    Raises:
        EvaluationError: there is none.
    """
    if name not in SCORES:
        raise EvaluationError(f"no score is called {name[:60]!r}: use {', '.join(SCORES.names)}")
    return SCORES[name]
