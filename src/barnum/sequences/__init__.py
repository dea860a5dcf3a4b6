"""From paths to numbers a network learns: vocabulary, rates of what is new, windows and lanes."""

from barnum.sequences.edges import Edges, RunEdges, edges_of, site_tokens, target_tokens
from barnum.sequences.novelty import WINDOW, RunNovelty, fit_novelty, units_of, worst_window
from barnum.sequences.parts import regroup
from barnum.sequences.rates import Rates
from barnum.sequences.vocabulary import Encoded, Encoder, Vocabulary, seen_level
from barnum.sequences.windows import Lanes, Spread, lay_lanes, previous_targets

__all__ = [
    "WINDOW",
    "Edges",
    "Encoded",
    "Encoder",
    "Lanes",
    "Rates",
    "RunEdges",
    "RunNovelty",
    "Spread",
    "Vocabulary",
    "edges_of",
    "fit_novelty",
    "lay_lanes",
    "previous_targets",
    "regroup",
    "seen_level",
    "site_tokens",
    "target_tokens",
    "units_of",
    "worst_window",
]
