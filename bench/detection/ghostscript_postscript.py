"""PostScript documents with errors, careless or old ones, as many are in life, and harmless all the same."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from bench_document import Document
from ghostscript_text import heading, page_of_postscript, sentence, title

# documents of each kind
EACH = 4
_MISSING = ("Frutiger-Light", "Garamond", "MyriadPro-Regular", "Univers-55", "Optima-Bold", "Verdana-Italic")
# as printer drivers install it, so that errors reach the user
_HANDLER = """errordict /handleerror { $error begin newerror { /newerror false def
(%%[ Error: ) print errorname 60 string cvs print (; OffendingCommand: ) print
/command load 60 string cvs print ( ]%%) = flush } if end } put
"""


def _whole(chance: random.Random, *parts: str, end: str = "%%EOF\n") -> bytes:
    """A document: its heading, a page, and parts."""
    return f"{heading(chance)}{page_of_postscript(chance)}{''.join(parts)}{end}".encode("latin-1")


def _undefined(chance: random.Random) -> bytes:
    name = chance.choice(
        ("PageSetup", "bdef", "@beginspecial", "Adobe_Illustrator_AI5", "pr_SetupPage", "LH", "FMBEGIN")
    )
    return _whole(chance, f"{name}\n", page_of_postscript(chance))


def _wrong_operands(chance: random.Random) -> bytes:
    line = chance.choice(("[1 2 3] 7 get", "(a) 1 add", "3 array 0 10 getinterval", "-1 string", "1 0 div", "pop pop pop",
                          "end end end", "newpath currentpoint", "/x 3 put", "(abc) cvi", "9 9 moveto 5 show"))  # fmt: skip
    return _whole(chance, page_of_postscript(chance, shown=False), f"{line}\nshowpage\n")


def _caught(chance: random.Random) -> bytes:
    lines = [
        "1 0 div",
        "[1] 4 get",
        "no-such-name",
        "(x) 1 add",
        "-2 string",
        "/Nothing /NoCategory findresource",
    ]
    tries = "".join(
        f"{{ {line} }} stopped {{ (Warning: {title(chance)}: ) print $error /errorname get = flush "
        "$error /newerror false put clear } if\n" for line in chance.sample(lines, 3)
    )  # fmt: skip
    return _whole(chance, tries, page_of_postscript(chance))


def _handled(chance: random.Random) -> bytes:
    line = chance.choice(("no-such-operator", "[1 2] 5 get", "(a) (b) add", "1 0 div"))
    return _whole(chance, _HANDLER, page_of_postscript(chance, shown=False), f"{line}\nshowpage\n")


def _not_shown(chance: random.Random) -> bytes:
    left = " ".join(str(chance.randrange(99)) for _ in range(chance.randrange(3, 30)))
    said = "count 0 gt { (%%[ Warning: ) print count 9 string cvs print ( left on the stack ]%%) = } if\n"
    return _whole(chance, f"{left}\n", page_of_postscript(chance, shown=False), said)


def _comments_wrong(chance: random.Random) -> bytes:
    wrong = [
        "%%BoundingBox: 612 792 0 0", "%%Pages: -3", "%%Page: many few", "%%DocumentFonts: (atend", "%%EndProlog",
        "%%BeginSetup", "%%Orientation: Sideways", "%%BeginDocument: figure.eps", "%%PageTrailer", "%%EOF",
    ]  # fmt: skip
    lines = "".join(f"{line}\n" for line in chance.sample(wrong, 5))
    need = f"%%IncludeResource: font {chance.choice(_MISSING)}\n/{chance.choice(_MISSING)} 12 selectfont\n"
    return _whole(chance, lines, need, page_of_postscript(chance), lines)


def _preview(chance: random.Random) -> bytes:
    """EPS with a binary heading and a picture for those who cannot draw it; with a font that nobody has."""
    drawn = _whole(
        chance, f"/{chance.choice(_MISSING)} 14 selectfont 72 72 moveto ({title(chance)}) show showpage\n"
    )
    drawn = drawn.replace(b"%!PS-Adobe-3.0", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 612 792", 1)
    picture = b"II*\0\x08\0\0\0" + chance.randbytes(chance.randrange(100, 900))
    places = struct.pack("<6IH", 30, len(drawn), 0, 0, 30 + len(drawn), len(picture), 0xFFFF)
    return b"\xc5\xd0\xd3\xc6" + places + drawn + picture


def _font_missing(chance: random.Random) -> bytes:
    lines = "".join(
        f"/{name} findfont {chance.randrange(8, 30)} scalefont setfont 72 {90 + 30 * i} moveto ({sentence(chance)}) show\n"
        for i, name in enumerate(chance.sample(_MISSING, chance.randrange(1, 4)))
    )
    return _whole(chance, lines, "showpage\n", page_of_postscript(chance))


def _old_operators(chance: random.Random) -> bytes:
    lines = ["statusdict begin a4 end", "initmatrix initclip", "statusdict begin 1 setjobtimeout end",
             "userdict /note known { note } if", "statusdict /setduplexmode known not { stop } if"]  # fmt: skip
    gone = chance.choice(("letterR", "setsccbatch", "11x17tray", "statusdict begin true setdefaulttimeouts end", "a4tray",
                          "legal-R", "setscbatch"))  # fmt: skip
    taken = chance.sample(lines, 2)
    return _whole(
        chance, "\n".join(taken) + "\n", page_of_postscript(chance), f"{gone}\n", page_of_postscript(chance)
    )


def _device_unsuited(chance: random.Random) -> bytes:
    want = chance.choice(
        ("/PageSize [-5 10]", "/PageSize (A4)", "/PageSize [0 0]", "/Install 7", "/PageSize 9")
    )
    return _whole(
        chance, f"<< {want} /Duplex true /MediaType (Thick) >> setpagedevice\n", page_of_postscript(chance)
    )


def _image_short(chance: random.Random) -> bytes:
    wide = chance.randrange(8, 40)
    data = bytes((i * 5 + i // wide) % 256 for i in range(int(wide * wide * chance.uniform(0.1, 0.9)))).hex()
    lines = "\n".join(data[i : i + 70] for i in range(0, len(data), 70))
    code = f"gsave 90 90 translate 200 200 scale /line {wide} string def\n"
    code += "/data currentfile 0 (%%EndData) /SubFileDecode filter def\n"
    code += f"{wide} {wide} 8 [{wide} 0 0 {wide} 0 0]\n{{ data line readhexstring not\n"
    code += "{ (%%[ Warning: image data end early ]%%) = flush } if } image\n"
    code += f"{lines}\n%%EndData\ngrestore showpage\n"
    return _whole(chance, code, page_of_postscript(chance))


def _image_long(chance: random.Random) -> bytes:
    wide = chance.randrange(8, 40)
    data = bytes((i * 5 + i // wide) % 256 for i in range(int(wide * wide * chance.uniform(1.2, 3)))).hex()
    lines = "\n".join(data[i : i + 70] for i in range(0, len(data), 70))
    code = f"gsave 90 90 translate 200 200 scale /line {wide} string def\n{wide} {wide} 8 [{wide} 0 0 {wide} 0 0]\n"
    code += f"{{ currentfile line readhexstring pop }} image\n{lines}\ngrestore showpage\n"
    return _whole(chance, code, page_of_postscript(chance))


def _restored_wrongly(chance: random.Random) -> bytes:
    line = chance.choice(("/s save def /t save def s restore t restore", "save /kept 9 string def kept exch restore",
                          "grestoreall restore", "save [1 2 3] exch restore"))  # fmt: skip
    return _whole(
        chance, page_of_postscript(chance, shown=False), f"{line}\nshowpage\n", page_of_postscript(chance)
    )


def _asking(chance: random.Random) -> bytes:
    code = f"({title(chance)}? ) print flush (%stdin) (r) file 80 string readline\n"
    code += "{ 72 60 moveto show } { pop (Warning: no answer, going on without it) = flush } ifelse\n"
    return _whole(chance, code, page_of_postscript(chance))


def _file_missing(chance: random.Random) -> bytes:
    name = f"{title(chance).lower().replace(' ', '-')}.{chance.choice(('eps', 'pro', 'ps'))}"
    return _whole(chance, f"gsave 72 72 translate ({name}) run grestore\n", page_of_postscript(chance))


def _printer_commands(chance: random.Random) -> bytes:
    before = b"\x1b%-12345X@PJL SET RESOLUTION=600\r\n@PJL ENTER LANGUAGE=POSTSCRIPT\r\n"
    junk = chance.choice((b"\x1b&l0O\n", b"\x04\x04PCL\n"))
    return before + _whole(chance, page_of_postscript(chance)) + b"\x1b%-12345X\n" + junk


def _cut_short(chance: random.Random) -> bytes:
    made = _whole(chance, page_of_postscript(chance), page_of_postscript(chance))
    inside = made.index(b"(", int(len(made) * chance.uniform(0.3, 0.9)) - 100)
    return made[: inside + 4]


def _brackets_wrong(chance: random.Random) -> bytes:
    line = chance.choice(
        (
            "}",
            "/p { 1 2 add def",
            ">>",
            "<< /a 1 /b >> pop",
            "<4x> pop",
            "[ 1 2 > pop",
            "1 2 ]",
            "/p { ( } def",
        )
    )
    return _whole(chance, page_of_postscript(chance, shown=False), f"{line}\nshowpage\n")


def _limits(chance: random.Random) -> bytes:
    line = chance.choice(("99999999 array pop", "/f { f 1 } def f", "{ 1 } loop", "{ gsave 1 dict begin } loop",
                          "99999 dict begin 70000 string"))  # fmt: skip
    return _whole(chance, page_of_postscript(chance, shown=False), f"{line}\nshowpage\n")


def _driver_talk(chance: random.Random) -> bytes:
    lines = [
        f"(%%[ Warning: {chance.choice(_MISSING)} not found, using Font Courier ]%%) = flush",
        f"(%%[ Page: {chance.randrange(1, 9)} ]%%) = flush",
        "(%%[ status: busy; source: file ]%%) = flush",
        f"(%%[ Error: {title(chance)}: no such tray ]%%) = flush",
    ]
    return _whole(chance, "\n".join(chance.sample(lines, 3)) + "\n", page_of_postscript(chance))


MAKERS: dict[str, Callable[[random.Random], bytes]] = {
    name.removeprefix("_").replace("_", "-"): make
    for name, make in list(globals().items())
    if callable(make) and getattr(make, "__module__", "") == __name__ and name != "_whole"
}


def documents() -> list[Document]:
    """Documents of each kind; always the same."""
    return [
        Document(f"ps-{kind}-{n}.ps", f"ps-{kind}", make(random.Random(f"{kind} {n}")))
        for kind, make in MAKERS.items()
        for n in range(EACH)
    ]
