"""What blocks are called where a network sees them."""

import numpy as np
import pytest

from barnum.sequences import WHOLE, Encoder, Tokens, Vocabulary, edges_of, seen_level
from learning import blocks_of, nominal_path, transfers_of

BLOCKS = blocks_of(40, in_libc=10)


def test_a_learnt_name_is_the_blocks_own():
    assert Tokens() == WHOLE
    assert WHOLE.targets(BLOCKS).tolist() == WHOLE.sources(BLOCKS).tolist() == BLOCKS.bbid.tolist()
    # as a source, the byte after its last instruction
    assert WHOLE.sites(BLOCKS).tolist() == [
        int(bbid) + int(length) for bbid, length in zip(BLOCKS.bbid, BLOCKS.length, strict=True)
    ]
    assert len(set(WHOLE.sites(BLOCKS).tolist())) == len(BLOCKS)


def test_names_modulo_a_number_are_the_originals():
    tokens = Tokens(vocabulary="modulo", inputs=100, classes=7)
    bbid = [int(each) for each in BLOCKS.bbid]
    assert tokens.sites(BLOCKS).tolist() == tokens.sources(BLOCKS).tolist() == [each % 100 for each in bbid]
    assert tokens.targets(BLOCKS).tolist() == [each % 7 for each in bbid]
    for array in (tokens.sites(BLOCKS), tokens.targets(BLOCKS)):
        assert array.dtype == np.uint64


def test_modulo_counts_blocks_of_one_name_as_one():
    # 16 bytes apart: modulo 64 every fourth block has the same name
    tokens = Tokens(vocabulary="modulo", inputs=64, classes=32)
    app = blocks_of(40)
    transfers = transfers_of(app, [0, 1, 4, 5, 8, 9, 2, 3])
    run = edges_of([transfers], tokens).whole
    names = [
        (int(app.bbid[s]) % 64, int(app.bbid[t]) % 32)
        for s, t in zip(transfers.source, transfers.target, strict=True)
    ]
    assert list(zip(run.site.tolist(), run.target.tolist(), strict=True)) == sorted(set(names))
    assert run.count.tolist() == [names.count(name) for name in sorted(set(names))]
    assert run.first.tolist() == [names.index(name) for name in sorted(set(names))]


@pytest.mark.parametrize("tokens", [WHOLE, Tokens(vocabulary="modulo", inputs=64, classes=32)])
def test_a_vocabulary_comes_back_from_its_arrays(tokens):
    runs = [transfers_of(BLOCKS, nominal_path(seed, 300)) for seed in range(3)]
    made = Vocabulary.fit([edges_of([run], tokens).whole for run in runs])
    read = Vocabulary.from_arrays(made.arrays())
    assert read.arrays().keys() == made.arrays().keys()
    for name, array in made.arrays().items():
        assert read.arrays()[name].dtype == array.dtype
        assert read.arrays()[name].tolist() == array.tolist()
    # everything that it was learnt from is known to it, under the tokens that it was learnt with
    for run in runs:
        encoded = Encoder(read, tokens).encode(run)
        assert (encoded.edge >= 0).all()
        assert (seen_level(encoded, read) == 2).all()
        assert read.site[encoded.site].tolist() == tokens.sites(BLOCKS)[run.source].tolist()
        assert read.target[encoded.target].tolist() == tokens.targets(BLOCKS)[run.target].tolist()
