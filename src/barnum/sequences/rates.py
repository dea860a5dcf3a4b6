"""How often training runs bring something new when they are left out: the rates behind novelty and surprisal.

All rates come from leave-one-out counts over *units*: training runs, or stretches of them where runs are few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from barnum._sequences import places_of
from barnum.errors import ModelError
from barnum.sequences.edges import Edges, Entries
from barnum.sequences.vocabulary import Vocabulary

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

# a site is settled if at least this share of the units executed it, and it has at most so many known targets
_SETTLED = 0.98
_FEW_TARGETS = 3
_CLASSES = 64  # classes of numbers of units that executed a site; the last is "settled"
_WIDTHS = 32  # classes of numbers of known targets


@dataclass(frozen=True, slots=True)
class NewKinds:
    """In how many of ``units`` units, left out, something new of each kind comes; for the other fields see
    Rates."""

    units: int
    kind: I64
    kind_units: I64
    way: I64
    way_units: I64


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates of new transfers in units that are left out.

    Attributes:
        units: i64[1], the number of units.
        share: f64[64, 32], the share of transfers from a site that go to a new target for the first time, by
            class of the number of units that executed the site, and class of its number of known targets.
        unseen: f64[1], among new transfers the share whose target no other unit reached at all.
        kind: i64[c, 2], kinds of new transfers, ascending: module_pair() and flags_of().
        kind_units: i64[c], in how many units, left out, a transfer of the kind is new.
        way: i64[w, 2], ways into the kernel, ascending: flags of a new transfer, and token of the block by
            which the kernel was entered soon after.
        way_units: i64[w], in how many units, left out, a new transfer led that way.
    """

    units: I64
    share: F64
    unseen: F64
    kind: I64
    kind_units: I64
    way: I64
    way_units: I64

    @property
    def new_kinds(self) -> NewKinds:
        """What the novelty of a transfer takes."""
        return NewKinds(int(self.units[0]), self.kind, self.kind_units, self.way, self.way_units)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All arrays by name, for a checkpoint."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.generic]]) -> Rates:
        """The reverse of arrays().

        Raises:
            ModelError: arrays are missing or do not fit together.
        """
        table = arrays.get("kind")
        kinds = len(table) if table is not None and table.ndim else 0
        table = arrays.get("way")
        ways = len(table) if table is not None and table.ndim else 0
        expected: dict[str, tuple[type, tuple[int, ...]]] = {
            "units": (np.int64, (1,)),
            "share": (np.float64, (_CLASSES, _WIDTHS)),
            "unseen": (np.float64, (1,)),
            "kind": (np.int64, (kinds, 2)),
            "kind_units": (np.int64, (kinds,)),
            "way": (np.int64, (ways, 2)),
            "way_units": (np.int64, (ways,)),
        }
        for name, (dtype, shape) in expected.items():
            array = arrays.get(name)
            if array is None or array.dtype != dtype or array.shape != shape:
                raise ModelError(f"the weights hold no usable rates: {name} is missing or of another shape")
        rates = cls(**{name: arrays[name] for name in expected})  # type: ignore[arg-type]
        for shares in (rates.share, rates.unseen):
            if not bool(((shares > 0) & (shares <= 1)).all()):
                raise ModelError("the weights hold rates that are no probabilities")
        if int(rates.units[0]) < 1:
            raise ModelError("the weights hold rates of no training run")
        for units in (rates.kind_units, rates.way_units):
            if not bool(((units >= 0) & (units <= rates.units[0])).all()):
                raise ModelError("the weights hold rates of more training runs than there were")
        return rates

    def cell(self, executed: I64, targets: I64) -> tuple[I64, I64]:
        """Row i64[n] and column i64[n] in ``share`` of n sites, from the number of units that ``executed``
        each and the number of its known ``targets``."""
        return _class_of(executed, int(self.units[0])), _width_of(targets)


_WAYS = ("way_unit", "way_edge", "entry")


@dataclass(frozen=True, slots=True)
class Rows:
    """The distinct transfers of several units in the numbers of one vocabulary: a row for each (unit, edge).

    Sorted by unit, then site. ``new_site`` and ``new_target`` bool[rows] are set in the first row of each
    (unit, site) and of each (unit, target). Ways into the kernel have rows of their own: ``way_unit``,
    ``way_edge`` and ``entry`` (a token) i64[ways].
    """

    unit: I64
    site: I64
    target: I64
    edge: I64
    kind: I64
    count: I64
    new_site: Bool
    new_target: Bool
    way_unit: I64
    way_edge: I64
    entry: I64

    @classmethod
    def of(cls, vocabulary: Vocabulary, units: Sequence[Edges], entries: Sequence[Entries]) -> Rows:
        """Rows of units from which the vocabulary was learnt, and of their ways into the kernel."""
        keys = vocabulary.edge_site.astype(np.int64) * len(vocabulary.target) + vocabulary.edge_target
        order = np.argsort(keys)
        keys = keys[order]

        def numbers_of(parts: Sequence[Edges] | Sequence[Entries]) -> tuple[I64, I64, I64]:
            site = places_of(vocabulary.site, np.concatenate([part.site for part in parts]))
            target = places_of(vocabulary.target, np.concatenate([part.target for part in parts]))
            key = site * len(vocabulary.target) + target
            return site, target, order[places_of(keys.view(np.uint64), key.view(np.uint64))]

        site, target, edge = numbers_of(units)
        way_edge = numbers_of(entries)[2]
        unit = np.repeat(np.arange(len(units)), [len(each) for each in units])
        new_target = np.zeros(len(unit), np.bool_)
        by_target = np.lexsort((target, unit))
        new_target[by_target] = _changes(unit[by_target] * len(vocabulary.target) + target[by_target])
        return cls(
            unit=unit,
            site=site,
            target=target,
            edge=edge,
            kind=np.concatenate([each.kind for each in units]).astype(np.int64),
            count=np.concatenate([each.count for each in units]),
            new_site=_changes(unit * len(vocabulary.site) + site),
            new_target=new_target,
            way_unit=np.repeat(np.arange(len(entries)), [len(each) for each in entries]),
            way_edge=way_edge,
            entry=np.concatenate([each.entry for each in entries]).view(np.int64),
        )

    def chosen(self, keep: Bool) -> Rows:
        """The rows of the units for which ``keep`` bool[units] is set."""
        rows, ways = keep[self.unit], keep[self.way_unit]
        return Rows(
            *(getattr(self, field.name)[ways if field.name in _WAYS else rows] for field in fields(self))
        )


def _changes(values: I64) -> Bool:
    """bool[n]: whether each value differs from the one before."""
    new = np.ones(len(values), np.bool_)
    new[1:] = values[1:] != values[:-1]
    return new


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What some of the units know.

    Attributes:
        site_units: i64[S], how many of the units executed each site.
        site_targets: i64[S], how many targets of each site they know.
        target_units: i64[T], how many of them reached each target.
        edge_units: i64[E], how many of them took each edge.
        rates: rates from leaving each of them out.
    """

    site_units: I64
    site_targets: I64
    target_units: I64
    edge_units: I64
    rates: Rates

    @classmethod
    def fit(cls, vocabulary: Vocabulary, rows: Rows, units: int) -> Knowledge:
        """Count over the rows of ``units`` units."""
        sites, targets = len(vocabulary.site), len(vocabulary.target)
        begin = np.flatnonzero(rows.new_site)  # of each (unit, site), which is one trial
        trial = rows.site[begin]
        edge_units = np.bincount(rows.edge, minlength=len(vocabulary.edge_target))
        site_units = np.bincount(trial, minlength=sites)
        target_units = np.bincount(rows.target[rows.new_target], minlength=targets)
        site_targets = np.bincount(vocabulary.edge_site[edge_units > 0], minlength=sites)

        # a unit that is left out brings as new what it alone has
        own = edge_units[rows.edge] == 1
        new = np.add.reduceat(own.astype(np.int64), begin)
        others = site_units[trial] - 1
        judged = others > 0
        classes, widths = _class_of(others, units - 1), _width_of(site_targets[trial] - new)
        cell = (classes * _WIDTHS + widths)[judged]
        size = _CLASSES * _WIDTHS
        # a new target counts once, however often the unit goes there; all transfers are visits
        visits = np.add.reduceat(rows.count, begin)
        all_visits = np.bincount(cell, visits[judged], minlength=size)
        new_edges = np.bincount(cell, new[judged], minlength=size)
        trial_of = (np.cumsum(rows.new_site) - 1)[own]
        flags = flags_of(
            others[trial_of],
            (site_targets[trial] - new)[trial_of],
            target_units[rows.target[own]] > 1,
            rows.kind[own],
            units - 1,
        )
        pair = module_pair(vocabulary.site[rows.site[own]], vocabulary.target[rows.target[own]])
        kind, kind_units = distinct_kinds(pair, flags, rows.unit[own])
        # an edge that is new when its unit is left out is in no other unit, so each edge has one value
        flags_of_edge = np.full(len(edge_units), -1)
        flags_of_edge[rows.edge[own]] = flags
        led = flags_of_edge[rows.way_edge] >= 0
        way, way_units = distinct_kinds(
            flags_of_edge[rows.way_edge[led]], rows.entry[led], rows.way_unit[led]
        )
        unseen = own & (target_units[rows.target] == 1)
        rates = Rates(
            units=np.array([units], np.int64),
            share=_rates(new_edges, all_visits),
            unseen=np.array([(unseen.sum() + 0.5) / (own.sum() + 1)]),
            kind=kind,
            kind_units=kind_units,
            way=way,
            way_units=way_units,
        )
        return cls(site_units, site_targets, target_units, edge_units, rates)


def _rates(events: NDArray[np.generic], trials: NDArray[np.generic]) -> F64:
    """f64[64, 32]: the rate of the event in each cell.

    (events + 1/2) / (trials + 1/(2m)), where m is the rate in the column: cells with few trials rely on all
    cells with as many targets. m is estimated in the same way, from the rate in the whole table.
    """
    happened = events.astype(np.float64).reshape(_CLASSES, _WIDTHS)
    tried = trials.astype(np.float64).reshape(_CLASSES, _WIDTHS)
    overall = (happened.sum() + 0.5) / (tried.sum() + 1)
    column = (happened.sum(axis=0) + 0.5) / (tried.sum(axis=0) + 0.5 / overall)
    rates: F64 = (happened + 0.5) / (tried + 0.5 / np.minimum(column, 1))
    return np.minimum(rates, 1)


def distinct_kinds(pair: I64, flags: I64, unit: I64) -> tuple[I64, I64]:
    """Distinct (pair, flags) i64[c, 2], ascending, and in how many units each occurs i64[c]; of n rows with
    ``pair``, ``flags`` and ``unit`` i64[n]."""
    order = np.lexsort((unit, flags, pair))
    pair, flags, unit = pair[order], flags[order], unit[order]
    new_kind = _changes(pair) | _changes(flags)
    begin = new_kind | _changes(unit)  # of each (kind, unit)
    kind = np.stack([pair[new_kind], flags[new_kind]], axis=1)
    return kind, np.bincount((np.cumsum(new_kind) - 1)[begin], minlength=len(kind))


def flags_of(executed: I64, targets: I64, target_known: Bool, kind: I64, units: int) -> I64:
    """i64[n]: the part of the kinds of n new transfers that does not depend on modules.

    It is 6 × ``kind`` of the site's instruction, + 3 if the target is known, + 2 if the site is settled or
    1 if it is known but not settled. ``executed`` i64[n] of ``units`` units executed the site, and
    ``targets`` i64[n] of its targets are known.
    """
    settled = (executed >= max(_SETTLED * units, 1)) & (targets <= _FEW_TARGETS)
    state = np.where(executed == 0, 0, np.where(settled, 2, 1))
    flags: I64 = kind * 6 + target_known * 3 + state
    return flags


def module_pair(site: NDArray[np.uint64], target: NDArray[np.uint64]) -> I64:
    """i64[n]: the hash of the path of the site's module << 32 | that of the target's, as a signed number."""
    upper = np.uint64(0xFFFFFFFF00000000)
    joined: NDArray[np.uint64] = (site & upper) | (target >> np.uint64(32))
    return joined.view(np.int64)


def _class_of(executed: I64, units: int) -> I64:
    """Class of sites by the number of units that executed them: 0 for none, then three classes for each
    doubling; the last one for (nearly) all units."""
    fine = 1 + (3 * np.log2(np.maximum(executed, 1))).astype(np.int64)
    settled = executed >= max(_SETTLED * units, 1)
    return np.where(executed == 0, 0, np.where(settled, _CLASSES - 1, np.minimum(fine, _CLASSES - 2)))


def _width_of(targets: I64) -> I64:
    """Class of sites by the number of their known targets: 0, 1, 2, 3, then one class for each doubling."""
    wide = 2 + np.log2(np.maximum(targets, 1)).astype(np.int64)
    return np.minimum(np.where(targets < 4, targets, wide), _WIDTHS - 1)
