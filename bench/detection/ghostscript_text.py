"""Texts and pages that documents for Ghostscript are filled with, drawn at random."""

from __future__ import annotations

import random

_WORDS = """
    account address amount annual answer april article balance board bottle bridge budget building
    calendar capital carpet chapter choice city client colour column committee contract corner cost
    country course customer date delivery department detail district document door driver edition
    effect energy engine estimate evening factory field figure floor forest garden harbour history
    hotel index insurance invoice journey kitchen label ladder language letter library machine manager
    margin market material meeting message method minute mirror model morning museum nature notice
    number office order paper parcel payment period picture plan platform price printer profit project
    quarter question railway reason receipt record region repair report result river sample season
    section service signal station street summary supply surface system table ticket total tower
    traffic tunnel value version village volume weather window winter
""".split()  # noqa: SIM905
FONTS = ("Times-Roman", "Times-Bold", "Times-Italic", "Helvetica", "Helvetica-Bold", "Courier")


def sentence(chance: random.Random, least: int = 5, most: int = 11) -> str:
    """Some words and numbers, with a capital and a full stop."""
    words = [chance.choice(_WORDS) for _ in range(chance.randrange(least, most))]
    words.insert(chance.randrange(1, len(words)), str(chance.randrange(1, 5000)))
    return " ".join(words).capitalize() + "."


def title(chance: random.Random) -> str:
    """Two or three words."""
    return " ".join(chance.choice(_WORDS) for _ in range(chance.randrange(2, 4))).title()


def heading(chance: random.Random) -> str:
    """The first lines of a PostScript document."""
    return f"%!PS-Adobe-3.0\n%%Title: {title(chance)}\n%%EndComments\n"


def page_of_postscript(chance: random.Random, shown: bool = True) -> str:
    """A page of text and simple drawings, in PostScript."""
    lines = [f"/{chance.choice(FONTS)} {chance.choice((9, 10, 11, 12))} selectfont"]
    for i in range(chance.randrange(3, 12)):
        lines.append(f"72 {740 - 16 * i} moveto ({sentence(chance)}) show")
    for _ in range(chance.randrange(5)):
        x, y, size = chance.randrange(60, 400), chance.randrange(60, 400), chance.randrange(20, 120)
        lines.append(
            chance.choice(
                (
                    f"0.{chance.randrange(10)} setgray {x} {y} {size} {size // 2} rectfill 0 setgray",
                    f"newpath {x} {y} {size} 0 {chance.randrange(90, 361)} arc stroke",
                    f"newpath {x} {y} moveto {size} {size} rlineto 2 setlinewidth stroke",
                    f"gsave {x} {y} translate {size} rotate 0 0 50 20 rectstroke grestore",
                )
            )
        )
    return "\n".join(lines) + ("\nshowpage\n" if shown else "\n")


def page_of_pdf(chance: random.Random, font: str = "F1") -> str:
    """The operators of a page of text and simple drawings, in PDF."""
    size = chance.choice((9, 10, 11, 12))
    lines = [f"BT /{font} {size} Tf {size + 4} TL 60 740 Td"]
    lines += [f"({sentence(chance)}) Tj T*" for _ in range(chance.randrange(3, 12))]
    lines.append("ET")
    for _ in range(chance.randrange(5)):
        x, y, wide = chance.randrange(60, 400), chance.randrange(60, 400), chance.randrange(20, 120)
        lines.append(
            chance.choice(
                (
                    f"0.{chance.randrange(10)} g {x} {y} {wide} {wide // 2} re f 0 g",
                    f"{x} {y} m {x + wide} {y + 40} l 2 w S",
                    f"q 0 0.{chance.randrange(10)} 1 RG {x} {y} {wide} 20 re S Q",
                )
            )
        )
    return "\n".join(lines) + "\n"
