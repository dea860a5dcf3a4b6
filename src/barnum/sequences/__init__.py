"""From paths to numbers a network learns: vocabulary, rates of what is new, contexts, windows."""

from barnum.evaluations.windows import WINDOW
from barnum.sequences.contexts import (
    FURTHER,
    LENGTHS,
    LEVELS,
    LONGEST,
    RESTART,
    History,
    decode_edges,
    encode_edges,
)
from barnum.sequences.edges import REACH, EdgeCounter, Edges, RunEdges, edges_of
from barnum.sequences.kept import check_runs, pack_runs, unpack_runs
from barnum.sequences.novelty import FEW_RUNS, RunNovelty, fit_novelty, units_of
from barnum.sequences.parts import regroup
from barnum.sequences.rates import Rates
from barnum.sequences.selection import Picker, Selection, spread
from barnum.sequences.spool import Spool
from barnum.sequences.tokens import WHOLE, Tokens
from barnum.sequences.vocabulary import Encoded, Encoder, Vocabulary, previous_targets, seen_level

__all__ = [
    "FEW_RUNS",
    "FURTHER",
    "LENGTHS",
    "LEVELS",
    "LONGEST",
    "REACH",
    "RESTART",
    "WHOLE",
    "WINDOW",
    "EdgeCounter",
    "Edges",
    "Encoded",
    "Encoder",
    "History",
    "Picker",
    "Rates",
    "RunEdges",
    "RunNovelty",
    "Selection",
    "Spool",
    "Tokens",
    "Vocabulary",
    "check_runs",
    "decode_edges",
    "edges_of",
    "encode_edges",
    "fit_novelty",
    "pack_runs",
    "previous_targets",
    "regroup",
    "seen_level",
    "spread",
    "units_of",
    "unpack_runs",
]
