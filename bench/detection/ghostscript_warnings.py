"""PDF documents that are damaged or careless, as many are in ordinary life, and harmless all the same."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from bench_document import Document
from ghostscript_pdf import Pdf, encrypted
from ghostscript_text import page_of_pdf, sentence, title

# documents of each kind
EACH = 4


def _plain(chance: random.Random, pages: int = 0) -> Pdf:
    """Some ordinary pages."""
    made = Pdf(chance)
    for _ in range(pages or chance.randrange(1, 4)):
        made.page(page_of_pdf(chance))
    return made


def _xref_wrong(chance: random.Random) -> bytes:
    return _plain(chance).write(shift=chance.choice((-40, -9, 3, 17, 120)))


def _xref_missing(chance: random.Random) -> bytes:
    made = _plain(chance).write()
    return made[: made.rindex(b"xref\n0 ")] + chance.choice((b"", b"trailer\n<< /Root 1 0 R >>\n"))


def _length_wrong(chance: random.Random) -> bytes:
    made = Pdf(chance)
    for _ in range(chance.randrange(1, 4)):
        drawn = page_of_pdf(chance)
        made.page(drawn, stream=made.stream(drawn, length=chance.choice((len(drawn) // 3, 99_999))))
    return made.write()


def _length_missing(chance: random.Random) -> bytes:
    made = Pdf(chance)
    for _ in range(chance.randrange(1, 4)):
        drawn = page_of_pdf(chance)
        made.page(drawn, stream=made.add(f"<< >>\nstream\n{drawn}\nendstream"))
    return made.write()


def _endobj_missing(chance: random.Random) -> bytes:
    return _plain(chance).write(after=lambda _: b"" if chance.random() < 0.6 else b"endobj\n")


def _endstream_missing(chance: random.Random) -> bytes:
    made = Pdf(chance)
    drawn = page_of_pdf(chance)
    made.page(drawn, stream=made.add(f"<< /Length {len(drawn)} >>\nstream\n{drawn}\n"))
    return made.write()


def _font_substituted(chance: random.Random) -> bytes:
    made = Pdf(chance)
    name = chance.choice(
        ("MS-Mincho", "STSong-Light", "HeiseiMin-W3", "HYSMyeongJo-Medium", "ArialUnicodeMS")
    )
    descriptor = made.add(f"<< /Type /FontDescriptor /FontName /{name} /Flags {chance.choice((32, 34))} /StemV 80 "
                          "/ItalicAngle 0 /Ascent 800 /Descent -200 /CapHeight 700 /FontBBox [0 -200 1000 800] >>")  # fmt: skip
    system = f"/CIDSystemInfo << /Registry (Adobe) /Ordering ({chance.choice(('Japan1', 'GB1', 'Korea1'))}) /Supplement 2 >>"
    below = made.add(f"<< /Type /Font /Subtype /CIDFontType{chance.choice('02')} /BaseFont /{name} {system} "
                     f"/FontDescriptor {descriptor} /DW {chance.randrange(400, 1000)} >>")  # fmt: skip
    made.font(f"/Subtype /Type0 /BaseFont /{name} /Encoding /Identity-H /DescendantFonts [{below}]")
    made.page(page_of_pdf(chance))
    return made.write()


def _font_broken(chance: random.Random) -> bytes:
    made = Pdf(chance)
    kind, key = chance.choice((("TrueType", "FontFile2"), ("Type1", "FontFile"), ("Type1", "FontFile3")))
    start = {
        "FontFile2": b"\0\1\0\0\0\x0c",
        "FontFile": b"%!PS-AdobeFont-1.0: Broken\n",
        "FontFile3": b"\1\0\4\2",
    }
    more = "/Subtype /Type1C" if key == "FontFile3" else "/Length1 300 /Length2 0 /Length3 0"
    program = made.stream(start[key] + chance.randbytes(chance.randrange(200, 900)), more)
    descriptor = made.add(f"<< /Type /FontDescriptor /FontName /ABCDEF+Broken /Flags 32 /{key} {program} >>")
    made.font(f"/Subtype /{kind} /BaseFont /ABCDEF+Broken /FontDescriptor {descriptor} /FirstChar 32 /LastChar 126 "
              f"/Widths [{'500 ' * 95}]")  # fmt: skip
    made.page(page_of_pdf(chance))
    return made.write()


def _annotation_unknown(chance: random.Random) -> bytes:
    made = Pdf(chance)
    x = chance.randrange(50, 400)
    several = [
        f"/Subtype /Sparkle /Rect [{x} 500 {x + 50} 550]",
        f"/Subtype /Widget /FT /Tx /T (field) /AP << /N 77 0 R >> /Rect [{x} 400 {x + 90} 420]",
        f"/Subtype /Link /Rect [{x} 300] /A << /S /Fly /To ({title(chance)}) >>",
        f"/Subtype /Square /Rect (here) /C [1 0 0 0 0] /Contents ({title(chance)})",
        f"/Subtype /Ink /Rect [{x} 200 {x + 9} 209] /InkList 5",
        f"/Rect [{x} 100 {x + 9} 109] /Contents ({title(chance)})",
    ]
    taken = [several[1], *chance.sample(several, 3)]
    made.page(
        page_of_pdf(chance), f"/Annots [{' '.join(made.add(f'<< /Type /Annot /F 4 {a} >>') for a in taken)}]"
    )
    return made.write()


def _resources_missing(chance: random.Random) -> bytes:
    made = Pdf(chance)
    several = ["/Im7 Do", "/GS9 gs", "/Cs8 cs 0.5 sc", "/Pattern cs /P3 scn 9 9 50 50 re f", "/Sh4 sh",
               "BT /F9 12 Tf 60 60 Td (missing) Tj ET", "/OC /MC0 BDC EMC"]  # fmt: skip
    drawn = page_of_pdf(chance) + "".join(f"q {line} Q\n" for line in chance.sample(several, 4))
    made.page(drawn)
    return made.write()


def _profile_bad(chance: random.Random) -> bytes:
    made = Pdf(chance)
    data = chance.randbytes(chance.randrange(3, 300)) if chance.random() < 0.6 else b""
    profile = made.stream(data, f"/N {chance.choice((1, 3, 4, 5))} /Alternate /DeviceRGB")
    made.page(page_of_pdf(chance) + "/Cs1 cs 0.3 0.5 0.7 sc 90 90 99 99 re f\n",
              resources=f"/ColorSpace << /Cs1 [/ICCBased {profile}] >>")  # fmt: skip
    return made.write()


def _image_short(chance: random.Random) -> bytes:
    made = Pdf(chance)
    wide, high = chance.randrange(8, 60), chance.randrange(8, 60)
    data = bytes((i * 7 + i // wide) % 256 for i in range(int(wide * high * chance.uniform(0.1, 0.9))))
    image = made.stream(data, f"/Type /XObject /Subtype /Image /Width {wide} /Height {high} /BitsPerComponent 8 "
                        "/ColorSpace /DeviceGray", compress=chance.random() < 0.7)  # fmt: skip
    made.page(
        page_of_pdf(chance) + "q 200 0 0 200 90 90 cm /I Do Q\n", resources=f"/XObject << /I {image} >>"
    )
    return made.write()


def _image_long(chance: random.Random) -> bytes:
    made = Pdf(chance)
    wide = chance.randrange(4, 20)
    data = "".join(chance.choice("abcdefgh(<[{ /") for _ in range(wide * wide + chance.randrange(20, 400)))
    drawn = f"q 80 0 0 80 90 90 cm BI /W {wide} /H {wide} /CS /G /BPC 8 ID {data}\nEI Q\n"
    made.page(page_of_pdf(chance) + drawn + page_of_pdf(chance))
    return made.write()


def _image_inline(chance: random.Random) -> bytes:
    made = Pdf(chance)
    data = "".join(chance.choice("0123456789ABCDEF") for _ in range(chance.randrange(10, 300)))
    drawn = f"q 80 0 0 80 90 90 cm BI /W 16 /H 16 /CS /G /BPC 8 /F /AHx ID\n{data}\n{chance.choice(('>', ''))}EI Q\n"
    made.page(page_of_pdf(chance) + drawn)
    return made.write()


def _colour_space_bad(chance: random.Random) -> bytes:
    made = Pdf(chance)
    space = chance.choice(("[/Separation /Spot /DeviceCMYK 99 0 R]", "[/Indexed /DeviceRGB 300 <00>]", "/DeviceXYZ",
                           "[/CalRGB << >>]", "[/Lab << /WhitePoint [0 0 0] >>]", "[/DeviceN [/A /B] /DeviceRGB 7]"))  # fmt: skip
    made.page(page_of_pdf(chance) + f"/Cs1 cs 0.{chance.randrange(10)} sc 90 90 99 99 re f\n",
              resources=f"/ColorSpace << /Cs1 {space} >>")  # fmt: skip
    return made.write()


def _objects_twice(chance: random.Random) -> bytes:
    made = _plain(chance).write(shift=chance.choice((5, -30)))
    again = re.findall(rb"\n(\d+ 0 obj\n.*?\nendobj)\n", made, re.S)
    extra = b"".join(chance.choice(again) + b"\n" for _ in range(3))
    cut = made.rindex(b"xref\n0 ")
    return made[:cut] + extra + made[cut:]


def _junk_around(chance: random.Random) -> bytes:
    before = chance.choice(
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/pdf\r\n\r\n", b"\xef\xbb\xbf\r\n", b"\0" * 20)
    )
    after = chance.randbytes(chance.randrange(40, 2000))
    return before + _plain(chance).write(shift=chance.choice((0, -7))) + after


def _page_count_wrong(chance: random.Random) -> bytes:
    return _plain(chance).write(count=chance.choice((0, -1, 7, 50)))


def _outlines_broken(chance: random.Random) -> bytes:
    made = _plain(chance)
    item = made.add(
        f"<< /Title ({title(chance)}) /Next {made.next(0)} /Dest [9{chance.randrange(9)} 0 R /Fit] >>"
    )
    metadata = made.stream(f"<x:xmpmeta><title>{title(chance)}", "/Type /Metadata /Subtype /XML", length=9)
    catalogue = (
        f"/Outlines << /First {item} /Last 98 0 R >> /Metadata {metadata} /PageMode 3 /AcroForm 97 0 R"
    )
    return made.write(catalogue=catalogue, trailer=f"/Info << /Title ({title(chance)}) /Subject 8 >>")


def _truncated(chance: random.Random) -> bytes:
    made = _plain(chance, 3).write()
    return made[: int(len(made) * chance.uniform(0.3, 0.9))]


def _encrypted(chance: random.Random) -> bytes:
    made = _plain(chance)
    made.page(page_of_pdf(chance) + "Q Q\n" * chance.randrange(1, 4) + "q 9 9 9 9 re f\n")
    return encrypted(made, chance.randbytes(16))


def _page_tree_loop(chance: random.Random) -> bytes:
    made = _plain(chance)
    made.kids.insert(chance.randrange(len(made.kids) + 1), "2 0 R")
    if chance.random() < 0.5:
        made.kids.append(f"{chance.randrange(60, 99)} 0 R")
    return made.write(count=len(made.kids))


def _operators_bad(chance: random.Random) -> bytes:
    made = Pdf(chance)
    several = ["5 w 3 foo", "/x y z", "1 2 re f", "(a) w", "[1 2 Tj", "endstream", "<< /A >> gs", "1 0 0 cm", "BT (x) Tj Tf ET",
               "{ 1 }", "0 0 0 0 0 0 0 0 0 rg", "true setgray", "> 9", "Tw"]  # fmt: skip
    made.page(
        page_of_pdf(chance) + "".join(f"{line}\n" for line in chance.sample(several, 5)) + page_of_pdf(chance)
    )
    return made.write()


def _saves_unbalanced(chance: random.Random) -> bytes:
    made = Pdf(chance)
    for _ in range(chance.randrange(1, 4)):
        extra = chance.choice(("Q\n" * 3, "q 0.5 g\n" * chance.randrange(2, 9), "ET Q EMC\n", "q BT\n"))
        made.page(page_of_pdf(chance) + extra)
    return made.write()


def _numbers_bad(chance: random.Random) -> bytes:
    made = Pdf(chance)
    several = ["--5 w", "1.2.3 w", "5-3 w", "0.0.1 g", "1e3 w", "9999999999999 w", "+-3 w", "12..5 w"]
    made.page(
        "".join(f"{line}\n" for line in chance.sample(several, 4)) + page_of_pdf(chance), "/Rotate 4.5.1"
    )
    return made.write()


def _filter_broken(chance: random.Random) -> bytes:
    made = Pdf(chance)
    for _ in range(chance.randrange(1, 3)):
        drawn = bytearray(made.packed(page_of_pdf(chance).encode()))
        for _ in range(3):
            drawn[chance.randrange(len(drawn) // 3, len(drawn))] ^= chance.randrange(1, 256)
        made.page("", stream=made.stream(bytes(drawn), "/Filter /FlateDecode"))
    return made.write()


def _filter_unknown(chance: random.Random) -> bytes:
    made = Pdf(chance)
    made.page(page_of_pdf(chance))
    made.page(
        "",
        stream=made.stream(
            page_of_pdf(chance), f"/Filter /{chance.choice(('Zip', 'Brotli', 'Deflate'))}Decode"
        ),
    )
    return made.write()


def _form_loop(chance: random.Random) -> bytes:
    made = Pdf(chance)
    itself = made.next(0)
    made.stream(f"0 0 {chance.randrange(9, 90)} 20 re f /Fm Do\n",
                f"/Type /XObject /Subtype /Form /BBox [0 0 99 99] /Resources << /XObject << /Fm {itself} >> >>")  # fmt: skip
    made.page(page_of_pdf(chance) + "q /Fm Do Q\n", resources=f"/XObject << /Fm {itself} >>")
    return made.write()


def _text_misplaced(chance: random.Random) -> bytes:
    made = Pdf(chance)
    extra = f"({sentence(chance)}) Tj ET BT BT /F1 9 Tf 60 60 Td ({title(chance)}) Tj ET ET\n"
    made.page(extra + page_of_pdf(chance) + extra)
    return made.write()


def _media_box_bad(chance: random.Random) -> bytes:
    made = Pdf(chance)
    made.page(
        page_of_pdf(chance),
        media=chance.choice(("[0 0 0 0]", "[0 0 612]", "(A4)", "[612 792 612 792]", "null")),
    )
    made.page(page_of_pdf(chance), f"/CropBox [{chance.randrange(700, 900)} 0 10]", media="[0 0 600]")
    return made.write()


MAKERS: dict[str, Callable[[random.Random], bytes]] = {
    name.removeprefix("_").replace("_", "-"): make
    for name, make in list(globals().items())
    if callable(make) and getattr(make, "__module__", "") == __name__ and name != "_plain"
}


def documents() -> list[Document]:
    """Documents of each kind; always the same."""
    return [
        Document(f"pdf-{kind}-{n}.pdf", f"pdf-{kind}", make(random.Random(f"{kind} {n}")))
        for kind, make in MAKERS.items()
        for n in range(EACH)
    ]
