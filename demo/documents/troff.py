"""Sources for groff: letters, reports, tables, equations, drawings and manual pages."""

from __future__ import annotations

from collections.abc import Callable

from . import texts

LICENCES = ("GPL-3", "LGPL-2.1", "Apache-2.0", "GFDL-1.3", "MPL-2.0", "Artistic")


def _plain(text: str) -> str:
    """Text that troff sets as it is, not as a request."""
    text = text.replace("\\", "\\e")
    return "\\&" + text if text.startswith((".", "'")) else text


def _title(text: str, count: int) -> str:
    """The first words of a text, to stand between quotes in a request."""
    return " ".join(text.split()[:count]).replace("\\", "").replace('"', "")


def _prose(n: int, count: int) -> list[str]:
    return [_plain(text[:420]) for text in texts.prose(LICENCES[n % len(LICENCES)], 5 * n, count)]


def report(n: int) -> tuple[list[str], str]:
    """A report in the ms macros: title, abstract, headings, lists, footnotes, keeps, two columns."""
    title, abstract, *body = _prose(n, 5)
    out = [".TL", title[:60], ".AU", "A. Writer", ".AI", "The Office", ".AB", abstract, ".AE"]
    if n % 2:
        out += [".2C"]
    for i, text in enumerate(body):
        out += [".NH" if i % 2 else ".SH", " ".join(text.split()[:4]), ".PP", text]
        if i % 3 == 0:
            out += [".FS", text[:80], ".FE", f".IP {i}.", text[:150], ".IP \\(bu 3", text[60:200]]
        if i % 3 == 1:
            out += [".QP", text[:200], ".RS", ".LP", f"\\fB{text[:20]}\\fP \\fI{text[20:60]}\\fP", ".RE"]
        if i % 3 == 2:
            out += [".KS", ".DS C", *texts.wrapped(text[:120], 40), ".DE", ".KE", f".BX {text.split()[0]}"]
    return ["-ms"], "\n".join(out) + "\n"


def letter(n: int) -> tuple[list[str], str]:
    """A letter in the mm macros: lists of each kind, displays, a table of contents."""
    body = _prose(n + 2, 4)
    out = [".nr Pt 1", f".PH \"'left {n}'centre'right'\""]
    for i, text in enumerate(body):
        out += [f'.H {1 + i % 2} "{_title(text, 3)}"', ".P", text]
        kind = (".BL", ".AL", ".DL", ".AL a")[i % 4]
        out += [kind, ".LI", text[:90], ".LI", text[90:180] or text, ".LE"]
    out += [".DS", *texts.wrapped(body[0], 60)[:5], ".DE", ".TC"]
    return ["-mm"], "\n".join(out) + "\n"


def essay(n: int) -> tuple[list[str], str]:
    """An essay in the me macros: sections, indexes, floats, quotations, several sizes of type."""
    body = _prose(n + 4, 5)
    out = [".ce", f"\\s+4An essay, {n}\\s0", ".sp 2"]
    for i, text in enumerate(body):
        out += [f'.sh {1 + i % 3} "{_title(text, 3)}"', ".pp" if i % 2 else ".lp", text]
        if i % 3 == 0:
            out += [".(q", text[:150], ".)q", ".np", text[:100], ".np", text[100:170] or text]
        if i % 3 == 1:
            out += [
                ".(f",
                text[:100],
                ".)f",
                f".sz {8 + n % 3}",
                _plain(text[:120]),
                ".sz 10",
                ".bu",
                text[:60],
            ]
        if i % 3 == 2:
            out += [
                ".(c",
                *texts.wrapped(text[:100], 30),
                ".)c",
                f".u {text.split()[0]}",
                f".b {text.split()[1]}",
            ]
    return ["-me"], "\n".join(out) + "\n"


def table(n: int) -> tuple[list[str], str]:
    """Tables of the machine's packages, boxed in several ways."""
    rows = texts.packages()[5 * n :] + texts.packages()[: 5 * n]
    styles = ("allbox", "box center", "doublebox", "center")
    out = [".TL", "Packages of this machine"]
    for k in range(2):
        out += [
            ".TS",
            f"{styles[(n + k) % len(styles)]} tab(@);",
            "cB cB cB cB" if k else "cB s s s",
            "l l n lx.",
        ]
        out += ["Name@Version@KiB@What it is" if k else "What is installed"]
        if not k:
            out += ["_"]
        for name, version, size, text in rows[7 * k : 7 * k + 7]:
            out += [f"{name}@{version[:14]}@{size}@T{{\n{_plain(text[:60])}\nT}}"]
        out += [".TE", ".PP", _prose(n, 1)[0]]
    return ["-t", "-ms"], "\n".join(out) + "\n"


_EQUATIONS = (
    "x sub 1,2 = {- b +- sqrt { b sup 2 - 4 a c }} over { 2 a }",
    "sum from { i = 0 } to inf { x sup i } over { i ! } = e sup x",
    "int from 0 to { 2 pi } sin sup 2 theta d theta = pi",
    "left [ matrix { ccol { a above c } ccol { b above d } } right ] left ( pile { x above y } right )",
    "lim from { n -> inf } left ( 1 + 1 over n right ) sup n = e",
    "prod from { p prime } 1 over { 1 - p sup { - s } } = zeta ( s )",
    "f ( x ) = left { lpile { x above { - x } } ~~ lpile { roman if ~ x >= 0 above roman otherwise }",
    "grad times bold E = - { partial bold B } over { partial t }",
    "x dot + y dotdot + z hat + u bar + v vec + w tilde",
    "H ( p ) = - sum from i p sub i log sub 2 p sub i",
)


def equations(n: int) -> tuple[list[str], str]:
    """Mathematics, displayed and in the line."""
    out = [".EQ", "delim $$", ".EN", ".TL", "Formulas"]
    for i, text in enumerate(_prose(n + 1, 4)):
        out += [".PP", text[:160], f"where $alpha sub {i} != {{ beta sup {n} }} over gamma$ holds:"]
        out += [f".EQ ({i + 1})", _EQUATIONS[(3 * n + i) % len(_EQUATIONS)], ".EN"]
    return ["-e", "-ms"], "\n".join(out) + "\n"


def drawing(n: int) -> tuple[list[str], str]:
    """Diagrams in pic: boxes, circles, arrows, splines, loops, macros."""
    names = texts.words(LICENCES[n % len(LICENCES)], 31 * n, 8)
    boxes = "\n".join(
        f'box "{name}" wid 0.8 {"dashed" if i % 2 else ""}; arrow 0.3' for i, name in enumerate(names[:4])
    )
    out = [
        ".TL", "Drawings", ".LP",
        ".PS", boxes, f'circle "{names[4]}"', ".PE", ".PP", _prose(n, 1)[0],
        ".PS 4", "define tree { line from $1 to $2; circle rad 0.08 at $2 fill 0.5 }",
        f"for i = 1 to {6 + n} do {{ tree((0,0), (cos(i*0.6)*1.5, sin(i*0.6))) }}",
        "spline from (0,-1.5) right 1 then up 0.5 right 1 then down 1 right 1 ->",
        f'ellipse at (2,-2) "{names[5]}" ht 0.6 wid 1.2; arc -> from (2.6,-2) to (3.2,-1.4)',
        "move to (0,-2); for i = 0 to 20 do { line from (i/10, -3) to (i/10, -3 + sqrt(i)/3) }",
        f'box at (3.2,-2.6) wid 1 ht 0.5 rad 0.1 "{names[6]}" "{names[7]}" dotted', ".PE",
        ".PP", _prose(n + 3, 1)[0], f"\\D'c 20p'\\D'e 30p 10p'\\D'~ 10p 10p 10p -10p 20p {n}p'\\D'P 10p 0 0 10p'",
        "\\Z'\\m[blue]colour\\m[] over'\\h'5p'\\v'-5p'\\s16\\(*S\\s0\\v'5p' \\(co \\(rg \\(12 \\(-> \\(ff",
    ]  # fmt: skip
    return ["-p", "-ms"], "\n".join(out) + "\n"


def manual(n: int) -> tuple[list[str], str]:
    """A manual page for a program of the name of a package."""
    name, version, _, what = texts.packages()[3 * n]
    body = [text[:150] for text in _prose(n + 1, 7)]
    out = [f'.TH {name.upper()} 1 "" "{version}"', ".SH NAME", f"{name} \\- {_plain(what)}", ".SH SYNOPSIS"]
    out += [f".B {name}", "[\\fIoptions\\fR] \\fIfile\\fR ...", ".SH DESCRIPTION", body[0], ".SH OPTIONS"]
    for option, text in zip(("\\-a", "\\-b, \\-\\-both", "\\-c \\fIn\\fR"), body[1:4], strict=True):
        out += [".TP", f".B {option}", text[:260], ".RS", ".IP \\(bu 2", text[:80], ".RE"]
    out += [
        ".SH EXAMPLES",
        ".nf",
        *(_plain(line) for line in texts.source("this", 0, 12).splitlines()),
        ".fi",
    ]
    for heading, text in zip(("FILES", "NOTES", "BUGS"), body[4:], strict=True):
        out += [f".SH {heading}", text, f".SS More on {heading.lower()}", text[:200]]
    return ["-man"], "\n".join(out) + "\n"


MAKERS: dict[str, Callable[[int], tuple[list[str], str]]] = {
    "report": report,
    "letter": letter,
    "essay": essay,
    "table": table,
    "equations": equations,
    "drawing": drawing,
    "manual": manual,
}
