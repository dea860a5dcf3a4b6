"""A radar: shapes around a centre, a direction for each of the things that they have shares of."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 1200, 900  # pixels
_DPI = 100
# more would run into each other
_LABELS = 32
_LEGEND = 16
_LETTERS = 48
_AXIS_LETTERS = 32
# colours repeat after ten shapes
_STYLES = ("-", "--", ":", "-.")


def draw_radar(title: str, axes: Sequence[str], shapes: Sequence[tuple[str, NDArray[np.float64]]]) -> bytes:
    """A PNG of WIDTH × HEIGHT pixels.

    ``axes`` names the d directions, from the top clockwise; of many only some are written. ``shapes`` are
    pairs of a name and its values f64[d], which are drawn as distances from the centre. There may be none.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / _DPI, HEIGHT / _DPI), dpi=_DPI)
    FigureCanvasAgg(figure)
    plot: Any = figure.add_axes((0.18, 0.1, 0.44, 0.76), projection="polar")
    plot.set_theta_zero_location("N")
    plot.set_theta_direction(-1)
    figure.suptitle(_plain(title, 120), x=0.02, y=0.98, ha="left", parse_math=False)
    angle = np.linspace(0, 2 * np.pi, len(axes), endpoint=False)
    written = range(0, len(axes), max(1, -(-len(axes) // _LABELS)))
    plot.set_xticks(angle[list(written)])
    plot.set_xticklabels([_plain(axes[i], _AXIS_LETTERS) for i in written], fontsize=8, parse_math=False)
    for text, at in zip(plot.get_xticklabels(), angle[list(written)], strict=True):
        # beside the circle, not across it
        side = np.sin(at)
        text.set_ha("center" if abs(side) < 0.1 else "left" if side > 0 else "right")
    plot.tick_params(axis="x", pad=2)
    for number, (name, values) in enumerate(shapes):
        colour, style = colormaps["tab10"](number % 10), _STYLES[number // 10 % len(_STYLES)]
        around = np.append(angle, angle[:1]), np.append(values, values[:1])
        # a name that begins with an underscore would be left out of the legend
        plot.plot(*around, color=colour, linestyle=style, linewidth=1.5, label=" " + _plain(name))
        plot.fill(*around, color=colour, alpha=0.12)
    plot.set_ylim(0, max((float(values.max(initial=0)) for _, values in shapes), default=0) * 1.05 or 1)
    plot.tick_params(axis="y", labelsize=7)
    _legend(plot, len(shapes))
    data = io.BytesIO()
    # without the name of the program that made it, equal pictures are equal files
    figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()


def _legend(plot: Any, count: int) -> None:
    handles, names = plot.get_legend_handles_labels()
    if count > _LEGEND:
        names = [*names[: _LEGEND - 1], f" … and {count - _LEGEND + 1} more"]
        handles = handles[:_LEGEND]
    if not count:
        plot.text(0, 0, "no clusters", ha="center", va="center")
        return
    legend = plot.legend(
        handles, names, loc="upper left", bbox_to_anchor=(1.42, 1.08), fontsize=9, frameon=False
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _plain(text: str, letters: int = _LETTERS) -> str:
    """At most so many letters, begin and end; the font has no others than these, and control characters are
    none."""
    plain = "".join(c if " " <= c <= "~" or c in "→…ε×" else "?" for c in text)
    return plain if len(plain) <= letters else f"{plain[: letters // 2]}…{plain[1 - letters // 2 :]}"
