"""What training runs bring that is new when each is left out: the rates behind novelty and surprisal.

Everything here is leave-one-out counting over *units*: training runs, or stretches of them where the runs are few.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from barnum.errors import ModelError
from barnum.sequences.edges import Edges
from barnum.sequences.vocabulary import Vocabulary

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

# a site that at least this share of the units executed is settled
_SETTLED = 0.98
_CLASSES = 64  # of units that executed a site; the last is "settled"
_WIDTHS = 32  # of known targets
LEVELS = 24  # 1, 2, 4, … new transfers of a kind


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates of new transfers in left-out units; ``units`` i64[1] is their number N.

    ``escape`` f64[64, 32]: chance that a further unit shows a new target at a site, by class of the number of units
    that executed it and of its number of known targets. ``share`` f64[64, 32]: the share of transfers from such a
    site that go to a new target. ``unseen`` f64[1]: among those, the share whose target no other unit reached at all.
    ``kind`` i64[c, 2]: kinds of new transfers, ascending (module of site << 32 | module of target, flags: 1 site
    known, 2 target known). ``kind_units`` i64[c, 24]: number of units that bring at least 2^j of a kind.
    """

    units: I64
    escape: F64
    share: F64
    unseen: F64
    kind: I64
    kind_units: I64

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All arrays by name, for a checkpoint."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.generic]]) -> Rates:
        """The reverse of arrays().

        Raises:
            ModelError: arrays are missing or do not fit together.
        """
        kinds = len(arrays.get("kind", ()))
        expected: dict[str, tuple[type, tuple[int, ...]]] = {
            "units": (np.int64, (1,)),
            "escape": (np.float64, (_CLASSES, _WIDTHS)),
            "share": (np.float64, (_CLASSES, _WIDTHS)),
            "unseen": (np.float64, (1,)),
            "kind": (np.int64, (kinds, 2)),
            "kind_units": (np.int64, (kinds, LEVELS)),
        }
        for name, (dtype, shape) in expected.items():
            array = arrays.get(name)
            if array is None or array.dtype != dtype or array.shape != shape:
                raise ModelError(f"the weights hold no usable rates: {name} is missing or of another shape")
        made = cls(**{name: arrays[name] for name in expected})  # type: ignore[arg-type]
        for rates in (made.escape, made.share, made.unseen):
            if not bool(((rates > 0) & (rates <= 1)).all()):
                raise ModelError("the weights hold rates that are no probabilities")
        if int(made.units[0]) < 1:
            raise ModelError("the weights hold rates of no training run")
        return made

    def cell(self, executed: I64, targets: I64) -> tuple[I64, I64]:
        """Row and column in escape and share of sites that ``executed`` units executed, with ``targets`` known."""
        return _class_of(executed, int(self.units[0])), _width_of(targets)


@dataclass(frozen=True, slots=True)
class Rows:
    """The distinct transfers of several units in one vocabulary's numbers, a row a (unit, edge)."""

    unit: I64
    site: I64
    target: I64
    edge: I64
    count: I64

    @classmethod
    def of(cls, vocabulary: Vocabulary, units: list[Edges]) -> Rows:
        """Rows of units that the vocabulary was learnt from."""
        site = np.searchsorted(vocabulary.site, np.concatenate([unit.site for unit in units]))
        target = np.searchsorted(vocabulary.target, np.concatenate([unit.target for unit in units]))
        keys = vocabulary.edge_site.astype(np.int64) * len(vocabulary.target) + vocabulary.edge_target
        order = np.argsort(keys)
        edge = order[np.searchsorted(keys[order], site * len(vocabulary.target) + target)]
        unit = np.repeat(np.arange(len(units)), [len(each) for each in units])
        return cls(unit, site, target, edge, np.concatenate([each.count for each in units]))

    def chosen(self, keep: Bool) -> Rows:
        """The rows of some units: bool[units]."""
        rows = keep[self.unit]
        return Rows(self.unit[rows], self.site[rows], self.target[rows], self.edge[rows], self.count[rows])


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What some of the units know: in how many of them each site, target and edge occurs, targets a site, rates."""

    site_units: I64
    site_targets: I64
    target_units: I64
    edge_units: I64
    rates: Rates

    @classmethod
    def fit(cls, vocabulary: Vocabulary, rows: Rows, units: int) -> Knowledge:
        """Count over rows of ``units`` units."""
        sites, targets = len(vocabulary.site), len(vocabulary.target)
        most = int(rows.unit.max(initial=0)) + 1
        edge_units = np.bincount(rows.edge, minlength=len(vocabulary.edge_target))
        pairs = np.unique(rows.site * most + rows.unit)  # (site, unit): one trial each
        site_units = np.bincount(pairs // most, minlength=sites)
        reached = np.unique(rows.target * most + rows.unit)
        target_units = np.bincount(reached // most, minlength=targets)
        site_targets = np.bincount(vocabulary.edge_site[edge_units > 0], minlength=sites)

        # left out, a unit brings as new what it alone has
        own = edge_units[rows.edge] == 1
        own_pairs, brought = np.unique(rows.site[own] * most + rows.unit[own], return_counts=True)
        new = np.zeros(len(pairs), np.int64)
        new[np.searchsorted(pairs, own_pairs)] = brought
        trial = pairs // most
        others = site_units[trial] - 1
        judged = others > 0
        cell = (_class_of(others, units - 1) * _WIDTHS + _width_of(site_targets[trial] - new))[judged]
        size = _CLASSES * _WIDTHS
        trials = np.bincount(cell, minlength=size)
        events = np.bincount(cell[new[judged] > 0], minlength=size)

        # the same by transfers; a new target counts once, however often the unit goes there
        visits = np.zeros(len(pairs))
        row_pair = np.searchsorted(pairs, rows.site * most + rows.unit)
        np.add.at(visits, row_pair, rows.count)
        all_visits = np.bincount(cell, visits[judged], minlength=size)
        new_edges = np.bincount(cell, new[judged], minlength=size)
        unseen = own & (target_units[rows.target] == 1)
        rates = Rates(
            units=np.array([units], np.int64),
            escape=_rates(events, trials),
            share=_rates(new_edges, all_visits),
            unseen=np.array([(unseen.sum() + 0.5) / (own.sum() + 1)]),
            **_kinds(vocabulary, rows, own, site_units, target_units),
        )
        return cls(site_units, site_targets, target_units, edge_units, rates)


def _rates(events: NDArray[np.generic], trials: NDArray[np.generic]) -> F64:
    """f64[64, 32]: chance of the event in each cell; cells with few trials lean on all cells of as many targets.

    (events + 1/2) / (trials + 1/(2m)), where m is the chance in the column, got from the whole in the same way.
    """
    happened = events.astype(np.float64).reshape(_CLASSES, _WIDTHS)
    tried = trials.astype(np.float64).reshape(_CLASSES, _WIDTHS)
    overall = (happened.sum() + 0.5) / (tried.sum() + 1)
    column = (happened.sum(axis=0) + 0.5) / (tried.sum(axis=0) + 0.5 / overall)
    rates: F64 = (happened + 0.5) / (tried + 0.5 / np.minimum(column, 1))
    return np.minimum(rates, 1)


def _kinds(
    vocabulary: Vocabulary, rows: Rows, own: Bool, site_units: I64, target_units: I64
) -> dict[str, I64]:
    site, target, unit = rows.site[own], rows.target[own], rows.unit[own]
    flags = (site_units[site] > 1) + 2 * (target_units[target] > 1).astype(np.int64)
    pair = module_pair(vocabulary.site[site], vocabulary.target[target])
    (
        kind,
        of,
    ) = np.unique(np.stack([pair, flags], axis=1), axis=0, return_inverse=True)
    most = int(unit.max(initial=0)) + 1
    found, brought = np.unique(of.reshape(-1) * most + unit, return_counts=True)
    level = np.minimum(np.log2(brought).astype(np.int64), LEVELS - 1)
    at = np.zeros((len(kind), LEVELS), np.int64)
    np.add.at(at, (found // most, level), 1)
    # at least 2^j: everything from the level up
    return {"kind": kind.reshape(-1, 2), "kind_units": at[:, ::-1].cumsum(axis=1)[:, ::-1].copy()}


def module_pair(site: NDArray[np.uint64], target: NDArray[np.uint64]) -> I64:
    """i64[n]: the module (hash of its path) of the site << 32 | that of the target, as a signed number."""
    upper = np.uint64(0xFFFFFFFF00000000)
    joined: NDArray[np.uint64] = (site & upper) | (target >> np.uint64(32))
    return joined.view(np.int64)


def _class_of(executed: I64, units: int) -> I64:
    """Class of sites by how many of the units executed them: 0 none, then three a doubling, the last settled."""
    fine = 1 + (3 * np.log2(np.maximum(executed, 1))).astype(np.int64)
    settled = executed >= max(_SETTLED * units, 1)
    return np.where(executed == 0, 0, np.where(settled, _CLASSES - 1, np.minimum(fine, _CLASSES - 2)))


def _width_of(targets: I64) -> I64:
    """Class of sites by their known targets: 0, 1, 2, 3, then one a doubling."""
    wide = 2 + np.log2(np.maximum(targets, 1)).astype(np.int64)
    return np.minimum(np.where(targets < 4, targets, wide), _WIDTHS - 1)
