"""The causal network's predictions, a row at a time; see native/causal and models/causal.py."""

import numpy as np
from numpy.typing import NDArray

_F32 = NDArray[np.float32]
_U8 = NDArray[np.uint8]
_I32 = NDArray[np.int32]

class Scorer:
    """Of the tables of a network: M sites, T targets, U units, R ranks, K lengths of contexts.

    ``site`` and ``gate`` [M, U], ``previous`` [T + 2, U], ``out_weight`` [R, U], ``out_bias`` [R], ``sure``
    [2 (K + 1) LEVELS], ``further_sure`` [FURTHER (K + 1) LEVELS], ``strength`` [K LEVELS], ``prior`` [M, R],
    all f32, and ``width`` i32[M], how many targets each site has. Most are held, not copied.

    Raises ValueError where sizes do not fit together.
    """

    def __init__(
        self,
        site: _F32,
        previous: _F32,
        gate: _F32,
        out_weight: _F32,
        out_bias: _F32,
        sure: _F32,
        further_sure: _F32,
        strength: _F32,
        prior: _F32,
        width: _I32,
    ) -> None: ...
    def score(
        self,
        site: _I32,
        previous: _I32,
        rank: _U8,
        level: _U8,
        further: _U8,
        further_level: _U8,
        reach: _U8,
        asked: _U8,
    ) -> tuple[_U8, _F32, _F32]:
        """Of n rows: u8[n] the likeliest rank, f32[n] its log probability, and f32[n, A] those of the ranks
        ``asked`` u8[n, A] (-inf where a site has fewer). Other arguments are those of Causal.forward.

        A row's result depends on the row alone, to the last bit. Threads may share a scorer.

        Raises ValueError where sizes do not fit together, IndexError where a row names what the network
        does not have.
        """
