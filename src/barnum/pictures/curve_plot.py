"""The learning curve as a PNG."""

from __future__ import annotations

import io
import itertools
import logging
from collections.abc import Sequence
from typing import Any

from barnum.sequences.curve import Brought


def plot_curve(curve: Sequence[Brought], trained: int, flat: int | None, share: float, length: int) -> bytes:
    """Above how many sequences are known after each trace, below the share of each that was new.

    The first ``trained`` traces are those to learn from. ``flat`` is the index from which on the curve is
    flat, if it is; ``share`` is what that was judged by.
    """
    # what it says where it may not write to the home folder is no concern of ours
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    numbers = range(1, len(curve) + 1)
    figure = Figure(figsize=(8, 6), dpi=120, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(numbers, list(itertools.accumulate(brought.new for brought in curve)), ".-", color="#225588")
    above.set_ylabel(f"sequences of {length} known")
    above.set_ylim(bottom=0)
    above.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    telling = [number for number in numbers if curve[number - 1].distinct]
    below.plot(telling, [curve[number - 1].share for number in telling], ".-", color="#225588")
    below.axhline(share, color="#888888", linestyle=":", label=f"{share:g}")
    below.set_ylim(0, 1)
    below.set_ylabel("share that is new")
    below.set_xlabel("trace")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (above, below):
        if 0 < trained < len(curve):
            axes.axvline(trained + 0.5, color="#888888", linestyle="--", label="held out from here on")
        if flat is not None:
            axes.axvline(flat + 1, color="#bb3322", label=f"flat from trace {flat + 1} on")
    below.legend(loc="upper right")
    content = io.BytesIO()
    canvas.print_png(content, metadata={"Software": None})
    return content.getvalue()
