"""PostScript of the project's own: the programs in ``harmless/`` with other numbers and words, and pages
whose images, procedures and prologues are encoded.
"""

from __future__ import annotations

import re
from pathlib import Path

from . import encode, texts
from .troff import LICENCES

HARMLESS = Path(__file__).parent.parent / "harmless"


def variant(name: str, n: int) -> bytes:
    """The program ``harmless/<name>.ps`` with ``variant`` n and words of a licence."""
    text = (HARMLESS / f"{name}.ps").read_text("ascii")
    if name == "strings":
        chosen = [part[:120] for part in texts.prose(LICENCES[n % len(LICENCES)], n, 2)]
    else:
        count = 12 if name == "barcodes" else 6
        chosen = texts.words(LICENCES[n % len(LICENCES)], 13 * n, count)
    if name == "barcodes":
        chosen = [word.upper()[:9] for word in chosen]
    array = "\n  ".join(texts.postscript_string(word) for word in chosen)
    text = re.sub(r"^/variant \d+ def", f"/variant {n} def", text, flags=re.M)
    text = re.sub(r"^/words \[.*?\] def", lambda _: f"/words [{array}] def", text, flags=re.M | re.S)
    return text.encode()


def images(n: int, jpeg: bytes) -> bytes:
    """Images through every decoding filter; jpeg is a colour JPEG of 64 x 64."""
    out = [f"%!PS-Adobe-3.0\n%%Title: images {n}\n%%LanguageLevel: 3\n%%EndComments\n/line 96 string def\n"]
    plain = encode.picture(32, 32, 1, n)
    colour = encode.picture(24, 24, 3, n)
    coded = [
        ("ASCII85Decode", encode.ascii85(plain)),
        ("ASCIIHexDecode", encode.asciihex(plain)),
        ("ASCII85Decode filter /FlateDecode", encode.ascii85(encode.flate(plain))),
        ("ASCII85Decode filter /LZWDecode", encode.ascii85(encode.lzw(plain))),
        ("ASCIIHexDecode filter /RunLengthDecode", encode.asciihex(encode.run_length(plain))),
    ]
    for i, (filters, data) in enumerate(coded[n % 2 :]):
        out.append(f"gsave {72 + 170 * (i % 3)} {600 - 160 * (i // 3)} translate 150 140 scale\n")
        out.append("32 32 8 [32 0 0 -32 0 32]\n")
        out.append(f"currentfile /{filters} filter image\n{data.decode()}\ngrestore\n")
    out.append("gsave 72 270 translate 150 140 scale /DeviceRGB setcolorspace\n")
    out.append("<< /ImageType 1 /Width 24 /Height 24 /BitsPerComponent 8 /Decode [0 1 0 1 0 1]\n")
    out.append(f"/ImageMatrix [24 0 0 -24 0 24] /Interpolate {'true' if n % 2 else 'false'}\n")
    out.append("/DataSource currentfile /ASCII85Decode filter << /Predictor 15 /Colors 3 /Columns 24 >>\n")
    out.append("/FlateDecode filter >> image\n")
    out.append(encode.ascii85(encode.flate(encode.predicted(colour, 72))).decode() + "\ngrestore\n")
    out.append("gsave 242 270 translate 150 140 scale 0.6 0.1 0.2 setrgbcolor\n")
    out.append(
        "48 48 true [48 0 0 -48 0 48] { currentfile line 0 6 getinterval readhexstring pop } bind imagemask\n"
    )
    out.append(encode.bitmap(48, 48, n).hex() + "\ngrestore\n")
    out.append("gsave 412 270 translate 150 140 scale 64 64 8 [64 0 0 -64 0 64]\n")
    out.append("currentfile /ASCII85Decode filter /DCTDecode filter false 3 colorimage\n")
    out.append(encode.ascii85(jpeg).decode() + "\ngrestore\n")
    out.append(
        "gsave 72 100 translate 150 140 scale [/Indexed /DeviceRGB 15 {15 div dup 1 exch sub 0.5} ] setcolorspace\n"
    )
    out.append(
        "<< /ImageType 1 /Width 48 /Height 48 /BitsPerComponent 1 /Decode [0 15] /ImageMatrix [48 0 0 48 0 0]\n"
    )
    out.append("/DataSource currentfile /ASCIIHexDecode filter >> image\n")
    out.append(encode.asciihex(encode.bitmap(48, 48, n + 3)).decode() + "\ngrestore\n")
    out.append(
        "gsave 242 100 translate 150 140 scale\n/s 576 string def currentfile s readhexstring pop pop\n"
    )
    out.append(colour[:576].hex() + "\n16 12 8 [16 0 0 12 0 0] s false 3 colorimage grestore\n")
    out.append("gsave 412 100 translate 150 140 scale\n")
    out.append(
        "currentfile /ASCIIHexDecode filter << /Intent 0 /AsyncRead false >> /ReusableStreamDecode filter\n"
    )
    out.append(encode.asciihex(plain).decode() + "\n/data exch def\n")
    out.append(
        "2 { data 0 setfileposition 32 32 8 [32 0 0 32 0 0] data image 0.5 0.5 scale } repeat grestore\nshowpage\n"
    )
    return "".join(out).encode()


# what stands between the name of a filter and its data: `name data` pairs, applied from the left
_WRAPPERS = (
    ("/ASCII85Decode filter", lambda data: encode.ascii85(data)),
    ("/ASCIIHexDecode filter", lambda data: encode.asciihex(data)),
    ("/ASCII85Decode filter /FlateDecode filter", lambda data: encode.ascii85(encode.flate(data))),
    ("/ASCII85Decode filter /LZWDecode filter", lambda data: encode.ascii85(encode.lzw(data))),
    ("/ASCIIHexDecode filter /RunLengthDecode filter", lambda data: encode.asciihex(encode.run_length(data))),
)


def wrapped(program: bytes, n: int) -> bytes:
    """PostScript that runs the program out of a filter on the file it stands in."""
    kind = n % (len(_WRAPPERS) + 2)
    if kind == len(_WRAPPERS):
        return (
            b"currentfile eexec\n"
            + encode.eexec(b"userdict begin\n" + program + b"\nend mark currentfile closefile\n")
            + (b"\n" + (b"0" * 64 + b"\n") * 8 + b"cleartomark\n")
        )
    if kind == len(_WRAPPERS) + 1:
        return b"currentfile 0 (%%EndOfThis) /SubFileDecode filter cvx exec\n" + program + b"\n%%EndOfThis\n"
    filters, encoder = _WRAPPERS[kind]
    return f"currentfile {filters} cvx exec\n".encode() + encoder(program) + b"\n"


def decoded(n: int) -> bytes:
    """A page whose prologue and drawing come out of decoding filters, as of a printer driver that saves bytes."""
    names = [texts.postscript_string(word) for word in texts.words(LICENCES[n % len(LICENCES)], 17 * n, 8)]
    prologue = "/box { gsave translate 0 0 90 60 rectstroke 10 25 moveto show grestore } bind def\n"
    prologue += "/grid { /k 0 def { k 4 mod 120 mul 60 add k 4 idiv 80 mul 300 add box /k k 1 add def } forall } bind def\n"
    drawing = f"/Helvetica {9 + n % 4} selectfont\n[{' '.join(names)}] grid\n"
    drawing += f"0.5 setgray {n + 3} {{ 300 150 60 0 360 arc stroke 0.9 dup scale }} repeat\n"
    out = b"%!PS-Adobe-3.0\n%%EndComments\n" + wrapped(prologue.encode(), n) + b"gsave\n"
    out += wrapped(drawing.encode(), n + 3) + b"grestore\n"
    text = texts.prose(LICENCES[n % len(LICENCES)], n, 1)[0]
    lines = "".join(
        f"60 {250 - 11 * i} moveto {texts.postscript_string(line)} show\n"
        for i, line in enumerate(texts.wrapped(text, 90)[:12])
    )
    out += b"/Times-Roman 10 selectfont\n" + wrapped(lines.encode(), n + 5)
    return out + b"showpage\n%%EOF\n"


def marked(n: int) -> bytes:
    """PostScript with pdfmark: for a distiller links, outlines, notes; nothing to others but work undone."""
    out = [b"%!PS-Adobe-3.0\n/pdfmark where { pop } { userdict /pdfmark /cleartomark load put } ifelse\n"]
    out.append(b"[ /Title (Marked) /Author (The project) /Subject (links) /DOCINFO pdfmark\n")
    out.append(b"[ /PageMode /UseOutlines /DOCVIEW pdfmark\n")
    for page in range(1, 3):
        text = texts.prose(LICENCES[(n + page) % len(LICENCES)], n, 1)[0]
        name = texts.postscript_string(" ".join(text.split()[:4])).encode()
        out.append(b"/Times-Bold 16 selectfont 72 720 moveto %s show\n" % name)
        out.append(b"[ /Page %d /Title %s /Count 0 /OUT pdfmark\n" % (page, name))
        out.append(b"[ /Dest /page%d /Page %d /View [/XYZ 0 792 null] /DEST pdfmark\n" % (page, page))
        out.append(b"/Times-Roman 10 selectfont\n")
        for i, line in enumerate(texts.wrapped(text, 85)[:8]):
            out.append(b"72 %d moveto %s show\n" % (690 - 13 * i, texts.postscript_string(line).encode()))
        out.append(
            b"[ /Rect [72 300 200 320] /Border [0 0 1] /Color [0 0 1] /Dest /page%d\n" % (page % 2 + 1)
        )
        out.append(b"/Subtype /Link /ANN pdfmark\n72 305 moveto (another page) show\n")
        out.append(b"[ /Rect [300 300 400 400] /Border [0 0 0] /Page 1 /Subtype /Link /ANN pdfmark\n")
        out.append(b"[ /Rect [72 200 200 220] /Action << /Subtype /URI /URI (http://localhost/) >>\n")
        out.append(b"/Subtype /Link /ANN pdfmark\nshowpage\n")
    return b"".join(out)
