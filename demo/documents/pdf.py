"""PDF written by hand: drawings, images, fonts, forms and annotations, whole or damaged."""

from __future__ import annotations

from collections.abc import Callable

from . import encode, texts
from .troff import LICENCES


class Writer:
    """Collects numbered objects and writes them as a PDF file."""

    def __init__(self, version: str = "1.4") -> None:
        self._version = version
        self._objects: list[bytes] = [b"", b""]  # the catalogue and the page tree come last
        self._pages: list[int] = []

    def add(self, body: str | bytes) -> str:
        """Add an object; returns a reference to it."""
        self._objects.append(body.encode() if isinstance(body, str) else body)
        return f"{len(self._objects)} 0 R"

    def stream(self, data: str | bytes, entries: str = "", compress: bool = False) -> str:
        """Add a stream; returns a reference to it."""
        data = data.encode() if isinstance(data, str) else data
        if compress:
            data, entries = encode.flate(data), entries + " /Filter /FlateDecode"
        head = f"<< /Length {len(data)} {entries} >>\nstream\n".encode()
        return self.add(head + data + b"\nendstream")

    def page(self, content: str | bytes, resources: str, entries: str = "", compress: bool = True) -> None:
        """Add a page."""
        drawn = self.stream(content, compress=compress)
        body = f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {drawn}"
        self._pages.append(int(self.add(f"{body} /Resources << {resources} >> {entries} >>").split()[0]))

    def write(self, catalogue: str = "", damaged: str = "") -> bytes:
        """The file; damaged is "" or what a careless tool did to it: offsets, cut or lengths."""
        kids = " ".join(f"{number} 0 R" for number in self._pages)
        self._objects[0] = f"<< /Type /Catalog /Pages 2 0 R {catalogue} >>".encode()
        self._objects[1] = f"<< /Type /Pages /Kids [{kids}] /Count {len(self._pages)} >>".encode()
        out = bytearray(f"%PDF-{self._version}\n%\xe2\xe3\xcf\xd3\n".encode("latin-1"))
        offsets = []
        for number, body in enumerate(self._objects, 1):
            offsets.append(len(out))
            out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
        start = len(out)
        shift = 17 if damaged == "offsets" else 0
        out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(offsets) + 1)
        out += b"".join(b"%010d 00000 n \n" % (offset + shift) for offset in offsets)
        out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
            len(offsets) + 1,
            start + shift,
        )
        return bytes(out[:start] if damaged == "cut" else out)


def _font(writer: Writer, base: str, more: str = "") -> str:
    return writer.add(f"<< /Type /Font /Subtype /Type1 /BaseFont /{base} {more} >>")


def _strokes(writer: Writer) -> str:
    """A font drawn by the document itself: each letter is the strokes that the bits of its code stand for."""
    bars = ("80 80 m 480 80 l", "80 400 m 480 400 l", "80 720 m 480 720 l", "80 80 m 80 400 l", "480 80 m 480 400 l",
            "80 400 m 80 720 l", "480 400 m 480 720 l")  # fmt: skip
    glyphs = []
    for code in range(32, 127):
        drawn = " ".join(bar for bit, bar in enumerate(bars) if (code * 3 % 128) >> bit & 1 and code > 32)
        glyphs.append(f"/g{code} {writer.stream(f'560 0 0 0 560 800 d1 60 w {drawn} S')}")
    names = " ".join(f"/g{code}" for code in range(32, 127))
    return writer.add(
        "<< /Type /Font /Subtype /Type3 /FontBBox [0 0 560 800] /FontMatrix [0.001 0 0 0.001 0 0] /FirstChar 32 "
        f"/LastChar 126 /Widths [{'560 ' * 95}] /Encoding << /Differences [32 {names}] >> /CharProcs << {' '.join(glyphs)} >> "
        "/Resources << >> >>"
    )


def _lines(n: int, top: int, size: int, count: int) -> str:
    """Operators that show a paragraph in font F1."""
    text = " ".join(texts.prose(LICENCES[n % len(LICENCES)], n, 3))
    shown = "".join(
        f"{texts.postscript_string(line)} Tj T*\n" for line in texts.wrapped(text, 800 // size)[:count]
    )
    return f"BT /F1 {size} Tf {size + 3} TL 60 {top} Td\n{shown}ET\n"


def graphics(n: int) -> bytes:
    """Paths, clips, transparency, blend modes, soft masks, shadings, patterns, form XObjects."""
    writer = Writer("1.6")
    ramp = writer.add("<< /FunctionType 2 /Domain [0 1] /C0 [1 0.2 0] /C1 [0 0.3 1] /N 1.5 >>")
    typed = writer.stream(
        "{ dup mul exch 0.5 mul exch 2 copy add 2 div }",
        "/FunctionType 4 /Domain [0 1 0 1] /Range [0 1 0 1 0 1]",
    )
    shade = f"/ColorSpace /DeviceRGB /Function {ramp}"
    axial = writer.add(f"<< /ShadingType 2 {shade} /Coords [0 0 200 {20 * n}] /Extend [true true] >>")
    radial = writer.add(f"<< /ShadingType 3 {shade} /Coords [100 80 10 120 80 80] /Extend [false true] >>")
    free = writer.add(
        f"<< /ShadingType 1 /ColorSpace /DeviceRGB /Matrix [150 0 0 150 0 0] /Function {typed} >>"
    )
    tile = writer.stream(
        "0.8 0.2 0.2 rg 0 0 8 8 re f 0.2 0.2 0.8 rg 8 8 6 6 re f",
        f"/PatternType 1 /PaintType 1 /TilingType 1 /BBox [0 0 16 16] /XStep {16 + n} /YStep 16 /Resources << >>",
    )
    group = "/Group << /S /Transparency /CS /DeviceRGB /I true >>"
    form = writer.stream(
        "0 0.5 0 rg 0 0 100 60 re f /G gs 1 1 0 rg 30 20 100 60 re f",
        f"/Type /XObject /Subtype /Form /BBox [0 0 140 90] {group} /Resources << /ExtGState << /G << /ca 0.5 >> >> >>",
    )
    mask = writer.stream(
        "0.7 g 0 0 300 300 re f 0 g 40 40 100 100 re f",
        f"/Type /XObject /Subtype /Form /BBox [0 0 300 300] {group}",
    )
    modes = ("Multiply", "Screen", "Overlay", "Darken", "ColorDodge", "Difference", "Luminosity", "Hue")
    states = " ".join(f"/B{i} << /BM /{modes[(n + i) % 8]} /ca 0.{4 + i} /CA 0.8 >>" for i in range(4))
    content = _lines(n, 740, 9, 6) + "q 60 450 200 160 re W n 1 0 0 1 60 450 cm /Axial sh Q\n"
    content += "q 1 0 0 1 300 450 cm 0 0 220 160 re W n /Radial sh Q\nq 1 0 0 1 60 270 cm /Free sh Q\n"
    content += "/Pattern cs /Tile scn 250 270 120 150 re f\n"
    content += "".join(
        f"q /B{i} gs 0.{3 + i} 0.5 0.9 rg {400 + 30 * i} {280 + 20 * i} 80 80 re f Q\n" for i in range(4)
    )
    content += "q 1 0 0 1 60 150 cm /Form Do 0.7 0.7 -0.7 0.7 250 0 cm /Form Do Q\n"
    content += "q /Soft gs 0.9 0.1 0.5 rg 0 0 300 300 re f Q 2 J 1 j 3 w [6 2] 0 d 350 100 m 400 200 450 0 500 100 c S\n"
    content += "0 0 0 1 k 350 60 m 400 60 l 375 90 l h B* 0.5 G 1 i 420 60 40 30 re s\n"
    resources = (
        f"/Font << /F1 {_strokes(writer)} >> /Shading << /Axial {axial} /Radial {radial} /Free {free} >> "
    )
    resources += f"/Pattern << /Tile {tile} >> /XObject << /Form {form} >> "
    resources += f"/ExtGState << {states} /Soft << /SMask << /S /Luminosity /G {mask} >> >> >>"
    writer.page(content, resources, group)
    return writer.write()


def images(n: int, jpeg: bytes) -> bytes:
    """Images by every filter, masks, palettes, predictors, inline images; jpeg is one of 64 x 64 in colour."""
    writer = Writer("1.5")
    gray, colour = encode.picture(32, 32, 1, n), encode.picture(32, 32, 3, n)
    one = encode.bitmap(48, 48, n)

    def image(data: bytes, size: int, space: str, bits: int, more: str) -> str:
        head = f"/Type /XObject /Subtype /Image /Width {size} /Height {size} /BitsPerComponent {bits}"
        return writer.stream(data, f"{head} {space and '/ColorSpace ' + space} {more}")

    soft = image(encode.flate(gray), 32, "/DeviceGray", 8, "/Filter /FlateDecode")
    made = [
        image(encode.flate(encode.predicted(colour, 96)), 32, "/DeviceRGB", 8, f"/SMask {soft} /Filter /FlateDecode "
              "/DecodeParms << /Predictor 12 /Colors 3 /Columns 32 >>"),
        image(encode.lzw(gray), 32, "/DeviceGray", 8, "/Filter /LZWDecode /Interpolate true"),
        image(encode.ascii85(encode.run_length(gray)), 32, "/DeviceGray", 8, "/Filter [/ASCII85Decode /RunLengthDecode]"),
        image(jpeg, 64, "/DeviceRGB", 8, "/Filter /DCTDecode"),
        image(encode.asciihex(one), 48, "[/Indexed /DeviceRGB 1 <FFCC0000%02X99>]" % (40 * n % 256), 1, "/Filter /ASCIIHexDecode"),
        image(encode.flate(one), 48, "", 1, "/ImageMask true /Filter /FlateDecode"),
        image(encode.flate(colour), 32, "/DeviceRGB", 8,
              "/Filter /FlateDecode /Mask [0 90 0 90 0 90]"),
        image(encode.flate(gray), 32, "[/Separation /Spot /DeviceCMYK << /FunctionType 2 /Domain [0 1] /C0 [0 0 0 0] "
              "/C1 [0.2 0.9 0 0.1] /N 1 >>]", 8, "/Filter /FlateDecode /Decode [1 0]"),
        image(encode.flate(colour[: 24 * 24 * 4]), 24, "/DeviceCMYK", 8, "/Filter /FlateDecode"),
    ]  # fmt: skip
    content = bytearray(_lines(n, 740, 9, 5).encode() + b"0.2 0.4 0.1 rg\n")
    for i in range(len(made)):
        content += b"q 150 0 0 130 %d %d cm /I%d Do Q\n" % (60 + 170 * (i % 3), 520 - 150 * (i // 3), i)
    inline = encode.ascii85(encode.picture(16, 16, 1, n))
    content += b"q 100 0 0 80 60 100 cm BI /W 16 /H 16 /CS /G /BPC 8 /F /A85 ID\n%s\nEI Q\n" % inline
    names = " ".join(f"/I{i} {reference}" for i, reference in enumerate(made))
    writer.page(bytes(content), f"/Font << /F1 {_strokes(writer)} >> /XObject << {names} >>")
    return writer.write()


_BASE14 = (
    "Helvetica", "Helvetica-Bold", "Helvetica-Oblique", "Times-Roman", "Times-BoldItalic", "Courier", "Courier-Bold",
    "Symbol", "ZapfDingbats", "Arial", "TimesNewRoman,Italic", "Nowhere-Sans",
)  # fmt: skip


def fonts(n: int) -> bytes:
    """The base fonts, encodings with differences, Type 3; text states."""
    writer = Writer("1.3")
    names = [_BASE14[(n * 4 + i) % len(_BASE14)] for i in range(1)]
    encoding = "/Encoding << /BaseEncoding /WinAnsiEncoding /Differences [65 /Aacute /germandbls /Lslash] >>"
    references = [
        _font(writer, name, encoding if n % 2 and "Symbol" not in name else "")
        for i, name in enumerate(names)
    ]
    square = writer.stream("800 0 0 0 700 700 d1 0 0 700 700 re f")
    ring = writer.stream("800 0 d0 0.8 0.3 0 RG 60 w 100 100 500 500 re S")
    shapes = writer.add(
        "<< /Type /Font /Subtype /Type3 /FontBBox [0 0 800 800] /FontMatrix [0.001 0 0 0.001 0 0] /FirstChar 97 /LastChar 98 "
        f"/Widths [800 800] /Encoding << /Differences [97 /square /ring] >> /CharProcs << /square {square} /ring {ring} >> >>"
    )
    content = "BT 20 TL 60 740 Td\n"
    for i, name in enumerate(names):
        content += f"/F{i + 1} {14 + i % 3} Tf ({name} ABC) Tj T*\n"
    content += f"/F1 12 Tf {n} Tr 2 Tc 5 Tw 110 Tz (spread out) Tj 0 Tc 0 Tw 100 Tz 0 Tr T*\n"
    content += "[(k) 120 (e) -80 (r) 50 (n)] TJ 5 Ts (raised) Tj 0 Ts (next) ' 2 1 (and next) \" T*\n"
    content += f"/Shapes {20 + n} Tf (abab) Tj T* 1 0 0.3 1 60 400 Tm /F1 20 Tf (slanted) Tj ET\n"
    content += "q BT /F1 80 Tf 7 Tr 60 280 Td (CLIP) Tj ET 0.4 0.6 0.9 rg 60 280 300 40 re f Q\n" + _lines(
        n, 240, 8, 12
    )
    all_fonts = " ".join(f"/F{i + 1} {reference}" for i, reference in enumerate(references))
    writer.page(content, f"/Font << {all_fonts} /Shapes {shapes} >>", compress=n % 2 == 0)
    return writer.write()


def forms(n: int) -> bytes:
    """Pages with form fields, annotations of several kinds, links, outlines, labels, optional content."""
    writer = Writer("1.5")
    font = _strokes(writer)
    look = writer.stream(
        "0.9 g 0 0 120 20 re f BT /F1 10 Tf 0 g 4 6 Td (filled in) Tj ET",
        f"/Type /XObject /Subtype /Form /BBox [0 0 120 20] /Resources << /Font << /F1 {font} >> >>",
    )
    layer = writer.add("<< /Type /OCG /Name (layer) >>")
    every = []
    for page in range(2):
        fields = [
            f"/Subtype /Widget /FT /Tx /T (text{page}) /V (filled in) /DA (/F1 10 Tf 0 g) /AP << /N {look} >> /Rect [60 600 180 620]",
            f"/Subtype /Widget /FT /Btn /T (check{page}) /AS /Yes /AP << /N << /Yes {look} /Off {look} >> >> /Rect [200 600 220 620]",
            "/Subtype /Link /Border [0 0 2] /A << /S /URI /URI (http://localhost/) >> /Rect [60 500 160 520]",
            "/Subtype /Text /Contents (a note) /Name /Note /Rect [300 600 320 620]",
            "/Subtype /Highlight /C [1 1 0] /QuadPoints [60 560 200 560 60 545 200 545] /Rect [60 545 200 560]",
            f"/Subtype /Square /C [{page} 0 0] /IC [0.9 0.9 1] /BS << /W {n} >> /Rect [300 500 380 560]",
            "/Subtype /Line /L [400 500 480 560] /LE [/OpenArrow /Circle] /C [0 0.5 0] /Rect [395 495 485 565]",
            f"/Subtype /Ink /InkList [[60 450 90 470 120 440 150 {450 + n}]] /C [0 0 1] /Rect [55 435 155 475]",
            "/Subtype /Circle /C [0 0 1] /BS << /W 2 /S /D /D [3 2] >> /Rect [300 440 400 470]",
            f"/Subtype /Stamp /AP << /N {look} >> /Rect [420 430 540 460]",
        ]
        references = [writer.add(f"<< /Type /Annot /F 4 {field} >>") for field in fields[: 6 + 2 * n]]
        every += references[:2]
        content = (
            _lines(n + page, 400, 9, 6)
            + "/OC /L BDC 0.8 g 60 640 200 20 re f EMC\n/Span << /Lang (en) >> BDC EMC\n"
        )
        annotations = f"/Annots [{' '.join(references)}] /Rotate {90 * (n % 2 * page)}"
        writer.page(content, f"/Font << /F1 {font} >> /Properties << /L {layer} >>", annotations)
    outline = writer.add("<< /Title (only entry) /Dest [0 /Fit] >>")
    outlines = writer.add(f"<< /Type /Outlines /First {outline} /Last {outline} /Count 1 >>")
    catalogue = (
        f"/Outlines {outlines} /AcroForm << /Fields [{' '.join(every)}] /DR << /Font << /F1 {font} >> >> >> "
    )
    catalogue += (
        f"/OCProperties << /OCGs [{layer}] /D << /ON [{layer}] >> >> /PageLabels << /Nums [0 << /S /r >>] >>"
    )
    return writer.write(catalogue)


def damaged(n: int) -> bytes:
    """A text whose cross-reference table is wrong or missing, so that the reader has to search."""
    writer = Writer("1.4")
    font = _strokes(writer)
    for page in range(2):
        writer.page(_lines(n + page, 740, 10, 12), f"/Font << /F1 {font} >>", compress=page == 0)
    return writer.write(damaged=("offsets", "cut")[n % 2])


MAKERS: dict[str, Callable[[int], bytes]] = {
    "graphics": graphics,
    "fonts": fonts,
    "forms": forms,
    "damaged": damaged,
}
