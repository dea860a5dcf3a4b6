"""Predictions of the causal network, a row at a time: the formula, and what it does not depend on."""

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from barnum._causal import Scorer
from barnum.models.networks.causal import Causal
from barnum.models.networks.causal_config import NEVER, CausalConfig
from barnum.sequences import FURTHER, LEVELS

ROOT = Path(__file__).parents[2]
TARGETS = 30


def network_of(draw, sites, units, ranks, lengths, spread=1.0):
    """A network with made-up numbers, and how many targets each site has."""
    config = CausalConfig(
        sites=sites, targets=TARGETS, units=units, ranks=ranks, lengths=[1 << i for i in range(lengths)]
    )
    network, width = Causal(config), draw.integers(2, 2 * ranks, sites).astype(np.int32)
    share = draw.random((sites, ranks)) + 1e-3
    share[np.arange(ranks) >= width[:, None]] = 0
    with np.errstate(divide="ignore"):
        prior = np.log(share / share.sum(1, keepdims=True))
    scale = {"site.weight": 0.5, "previous.weight": 0.5, "gate.weight": 1.0, "out.weight": 0.2 * spread}
    made = {
        name: np.maximum(prior, NEVER)
        if name == "prior"
        else draw.normal(0, scale.get(name, spread), t.shape)
        for name, t in network.state_dict().items()
    }
    network.load_state_dict(
        {name: torch.from_numpy(array.astype(np.float32)) for name, array in made.items()}
    )
    return network, width


def scorer_of(network, width):
    tables = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    wide = {name: tables[f"{name}.weight"] for name in ("site", "previous", "gate")}
    flat = {name: tables[f"{name}.weight"].ravel() for name in ("sure", "further_sure", "strength")}
    return Scorer(
        **wide,
        **flat,
        out_weight=tables["out.weight"],
        out_bias=tables["out.bias"],
        prior=tables["prior"],
        width=width,
    )


def rows_of(draw, network, width, size, asked=2):
    """Transfers from made-up histories, as contexts would tell of them."""
    config = network.config
    lengths = len(config.lengths)
    site = draw.integers(0, config.sites, size).astype(np.int32)
    wide = np.minimum(width[site], config.ranks)[:, None]
    reach = draw.integers(0, lengths + 1, size)
    longest = np.minimum(draw.integers(0, lengths + 1, size), reach)
    known = np.arange(lengths) < longest[:, None]
    rank = draw.integers(0, 1 << 20, (size, lengths)) % wide
    first = rank[np.arange(size), np.maximum(longest - 1, 0)][:, None]
    # other ranks than the first, and none where the site has no more
    further_level = draw.integers(0, LEVELS, (size, FURTHER)) * (longest > 0)[:, None]
    further_level[:, 1] *= (wide[:, 0] > 2) & (further_level[:, 0] > 0)
    return {
        "site": site,
        "previous": draw.integers(0, TARGETS + 2, size).astype(np.int32),
        "rank": rank.astype(np.uint8),
        "level": np.where(known, draw.integers(1, LEVELS, (size, lengths)), 0).astype(np.uint8),
        "further": ((first + 1 + np.arange(FURTHER)) % wide).astype(np.uint8),
        "further_level": further_level.astype(np.uint8),
        "reach": reach.astype(np.uint8),
        "asked": (draw.integers(0, 1 << 20, (size, asked)) % wide).astype(np.uint8),
    }


def some(rows, chosen):
    return {name: np.ascontiguousarray(column[chosen]) for name, column in rows.items()}


def assert_same(found, expected):
    assert [array.tobytes() for array in found] == [array.tobytes() for array in expected]


@given(
    seed=st.integers(0, 1 << 30),
    units=st.sampled_from([1, 4, 15, 16, 17, 128]),
    ranks=st.sampled_from([2, 3, 16, 33, 256]),
    lengths=st.integers(1, 16),
    spread=st.sampled_from([0.1, 1.0, 6.0]),
)
@settings(max_examples=40, deadline=None)
def test_probabilities_are_those_of_the_network_that_was_trained(seed, units, ranks, lengths, spread):
    draw = np.random.default_rng(seed)
    network, width = network_of(draw, 7, units, ranks, lengths, spread)
    rows = rows_of(draw, network, width, 50)
    likeliest, best, log_p = scorer_of(network, width).score(**rows)
    with torch.inference_mode():
        *seen, asked = (torch.from_numpy(column.astype(np.int64)) for column in rows.values())
        expected = torch.log_softmax(network.double()(*seen), dim=1)
    np.testing.assert_allclose(log_p, expected.gather(1, asked), rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(best, expected.amax(1), rtol=2e-5, atol=2e-5)
    at_likeliest = expected.gather(1, torch.from_numpy(likeliest.astype(np.int64))[:, None])[:, 0]
    np.testing.assert_allclose(at_likeliest, expected.amax(1), rtol=2e-5, atol=2e-5)
    assert (likeliest < width[rows["site"]]).all()


@given(seed=st.integers(0, 1 << 30), units=st.sampled_from([3, 16, 128]), ranks=st.sampled_from([4, 40]))
@settings(max_examples=20, deadline=None)
def test_a_row_is_the_same_to_the_last_bit_whatever_stands_beside_it(seed, units, ranks):
    draw = np.random.default_rng(seed)
    network, width = network_of(draw, 9, units, ranks, 5)
    scorer, rows = scorer_of(network, width), rows_of(draw, network, width, 300)
    whole = scorer.score(**rows)
    for size in (1, 7, 64, 299):
        parts = [scorer.score(**some(rows, slice(at, at + size))) for at in range(0, 300, size)]
        assert_same([np.concatenate(column) for column in zip(*parts, strict=True)], whole)
    shuffled = draw.permutation(300)
    assert_same(scorer.score(**some(rows, shuffled)), [column[shuffled] for column in whole])


def test_threads_share_a_scorer():
    draw = np.random.default_rng(1)
    network, width = network_of(draw, 50, 128, 32, 16)
    scorer, rows = scorer_of(network, width), rows_of(draw, network, width, 4000)
    whole = scorer.score(**rows)
    with ThreadPoolExecutor(8) as pool:
        parts = list(
            pool.map(lambda at: scorer.score(**some(rows, slice(at, at + 100))), range(0, 4000, 100))
        )
    assert_same([np.concatenate(column) for column in zip(*parts, strict=True)], whole)


@pytest.fixture(scope="module")
def options():
    """How the extension is compiled."""
    said = (ROOT / "CMakeLists.txt").read_text()
    return re.search(r"target_compile_options\(_causal PRIVATE (.*)\)", said)[1].split()


def test_vectors_of_all_widths_give_the_same_bits(tmp_path, options):
    told = []
    for name, chosen in (("widest", []), ("baseline", ["-DWIDEST_VECTORS="])):
        program = str(tmp_path / name)
        words = ["g++", "-std=c++20", *options, *chosen, f"-I{ROOT / 'native'}", "-o", program]
        subprocess.run([*words, str(ROOT / "tests/programs/causal_scorer.cpp")], check=True)
        told.append(subprocess.run([program], capture_output=True, check=True).stdout)
    assert len(set(told[0].splitlines())) > 1000
    assert told[0] == told[1]


# --- what does not fit ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    draw = np.random.default_rng(2)
    network, width = network_of(draw, 3, 8, 4, 2)
    return network, width, rows_of(draw, network, width, 5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("site", 3),
        ("site", -1),
        ("previous", TARGETS + 2),
        ("previous", -1),
        ("level", LEVELS),
        ("further_level", 255),
    ],
)
def test_rows_that_name_what_is_not_there_are_refused(small, name, value):
    network, width, rows = small
    changed = rows[name].copy()
    changed[-1] = value
    with pytest.raises(IndexError, match="does not have"):
        scorer_of(network, width).score(**(rows | {name: changed}))


def test_ranks_that_a_site_does_not_have_are_impossible(small):
    network, width, rows = small
    least = np.flatnonzero(width == width.min())
    assert width.min() < 250
    alone = {name: np.repeat(column[:1], 2, axis=0) for name, column in rows.items()}
    alone["site"][:] = least[0]
    for name in ("rank", "further", "asked"):
        alone[name][:] = 250
    _, best, log_p = scorer_of(network, width).score(**alone)
    assert np.isneginf(log_p).all()
    assert np.isfinite(best).all()


@pytest.mark.parametrize("name", ["previous", "rank", "level", "further", "further_level", "reach", "asked"])
def test_rows_of_other_sizes_are_refused(small, name):
    network, width, rows = small
    with pytest.raises(ValueError, match="sizes"):
        scorer_of(network, width).score(**(rows | {name: rows[name][:-1]}))


def test_tables_of_other_sizes_are_refused(small):
    network, width, _ = small
    with pytest.raises(ValueError, match="sizes"):
        scorer_of(network, width[:-1])
    with pytest.raises(ValueError, match="without targets"):
        scorer_of(network, np.zeros_like(width))


def test_no_rows(small):
    network, width, rows = small
    likeliest, best, log_p = scorer_of(network, width).score(**some(rows, slice(0, 0)))
    assert (likeliest.shape, best.shape, log_p.shape) == ((0,), (0,), (0, 2))
