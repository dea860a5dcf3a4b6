"""``barnum eval2png`` as a user meets it."""

import gzip
import hashlib
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_evaluations_files import columns, header

from barnum import evaluations
from barnum.evaluations import parquet
from barnum.pictures.pixels import DARKEST, draw, surprisal_colours
from learning import barnum, unchanged

WHITE = (255, 255, 255)


def plain(rows, width, colour=None):
    """The manual's picture: rows of red, green, blue; the last one filled up with white."""
    pixels = []
    for correct, actual in rows:
        text = str(actual).encode()
        if colour == "md5":
            pixels.append(tuple(hashlib.md5(text).digest()[:3]))
        elif colour == "adler32":
            number = zlib.adler32(text)
            pixels.append((number >> 8 & 255, number >> 16 & 255, number >> 24 & 255))
        else:
            pixels.append(WHITE if correct else (0, 0, 0))
    pixels += [WHITE] * (-len(pixels) % width)
    return [pixels[begin : begin + width] for begin in range(0, len(pixels), width)]


def write(folder, count, seed=0, format="parquet", calibration=True, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    fields = {} if calibration else {"calibration": None}
    file = folder / evaluations.file_name("benign", "aa", format)
    made = columns(count, seed, **changes)
    with evaluations.writer_for(format, file, header(**fields)) as writer:
        writer.write(made)
    return file, list(zip(made["correct"].tolist(), made["actual"].tolist(), strict=True))


def seen(file):
    """Size of a picture, and its rows of pixels."""
    with Image.open(file) as picture:
        assert picture.format == "PNG"
        picture.load()
        pixels = np.asarray(picture.convert("RGB"))
    return [[tuple(pixel) for pixel in line] for line in pixels.tolist()]


@pytest.mark.parametrize("format", evaluations.FORMATS)
@pytest.mark.parametrize("colour", [None, "md5", "adler32"])
def test_a_pixel_a_prediction(tmp_path, format, colour):
    file, rows = write(tmp_path, 1000, format=format)
    words = ["-c", colour] if colour else []
    ended = barnum("eval2png", "-w", 37, *words, file, tmp_path / "out.png")
    assert ended.code == 0
    assert ended.err == ""
    assert "1,000 predictions, 37 × 28 pixels" in ended.out
    assert seen(tmp_path / "out.png") == plain(rows, 37, colour)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 80), st.integers(1, 20), st.sampled_from([None, "md5", "adler32"]), st.integers(1, 30))
def test_parts_of_any_size(tmp_path_factory, count, width, colour, rows):
    """Few targets, many of them again and again; parts end within rows."""
    few = np.array([0, 7, 1023, 1 << 40, (1 << 64) - 1], np.uint64)
    targets = np.random.default_rng(count).choice(few, count)
    file, expected = write(tmp_path_factory.mktemp("parts"), count, count, actual=targets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "_ROWS", rows)
        opened = evaluations.open_evaluation(file)
        picture, shown = draw(opened, width, colour)
        opened.close()
    assert shown == count
    out = file.with_name("out.png")
    out.write_bytes(picture)
    assert seen(out) == plain(expected, width, colour)


def test_rows_are_4096_pixels(tmp_path):
    file, rows = write(tmp_path, 5000)
    barnum("eval2png", file, tmp_path / "out.png")
    assert seen(tmp_path / "out.png") == plain(rows, 4096)
    barnum("eval2png", "-w", 65535, file, tmp_path / "wide.png")
    assert seen(tmp_path / "wide.png") == plain(rows, 65535)


@pytest.mark.parametrize("calibration", [True, False])
def test_surprisal_darkens_evenly(tmp_path, calibration):
    nats = np.concatenate([np.linspace(0, DARKEST, 256), [DARKEST + 1, 1e30, np.inf]]).astype(np.float32)
    file, _ = write(tmp_path, len(nats), calibration=calibration, surprisal=nats)
    assert barnum("eval2png", "-c", "surprisal", "-w", len(nats), file, tmp_path / "out.png").code == 0
    (line,) = seen(tmp_path / "out.png")
    assert line[0] == WHITE
    assert line[256:] == [line[255]] * 3
    assert line[:256] == [tuple(colour) for colour in surprisal_colours().tolist()]
    assert len(set(line)) == 256
    # lightness as the eye has it, CIE 1976
    colour = np.array(line[:256]) / 255
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    lightness = 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16
    assert lightness[255] < 12
    assert (np.diff(lightness[::8]) < 0).all()
    steps = -np.diff(lightness[::32])
    assert steps.max() < 2 * steps.min()


def test_what_is_there_is_kept(tmp_path):
    file, _ = write(tmp_path / "eval", 50)
    output = tmp_path / "out.png"
    output.write_text("mine")
    with unchanged(tmp_path):
        refused = barnum("eval2png", file, output)
    assert refused.code == 16
    assert "--force" in refused.error
    assert barnum("eval2png", "-f", file, output).code == 0
    assert seen(output)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["eval", "out.png"]


def test_options_that_make_no_sense(tmp_path):
    file, _ = write(tmp_path / "eval", 50)
    output = tmp_path / "out.png"
    for width in ("0", "-4", "65536", "99999999999", "wide"):
        assert width in barnum("eval2png", "-w", width, file, output).usage
    assert "sha256" in barnum("eval2png", "-c", "sha256", file, output).usage
    assert "nowhere" in barnum("eval2png", tmp_path / "nowhere", output).usage
    assert "directory" in barnum("eval2png", "-f", file, tmp_path).usage
    assert not output.exists()


def test_input_that_is_wrong(tmp_path):
    output = tmp_path / "out.png"

    def refused(file, *words, code=19, to=output):
        with unchanged(tmp_path):
            ended = barnum("eval2png", *words, file, to)
        assert ended.code == code, ended.err
        assert not output.exists()
        return ended.error

    for format in evaluations.FORMATS:
        file, _ = write(tmp_path / f"empty-{format}", 0, format=format)
        for colour in ([], ["-c", "md5"]):
            assert "no prediction" in refused(file, *colour)
    file, _ = write(tmp_path / "gz", 50, format="gz")
    assert "surprisal" in refused(file, "-c", "surprisal")
    for wrong in (np.nan, -1.0):
        nats = np.full(50, 1.0, np.float32)
        nats[20] = wrong
        file, _ = write(tmp_path / "wrong", 50, surprisal=nats)
        assert "surprisal" in refused(file, "-c", "surprisal")

    file, _ = write(tmp_path / "good", 50_000)
    assert "no such folder" in refused(file, code=17, to=tmp_path / "missing" / "out.png")
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    assert str(file) in refused(file)
    damaged = bytearray(data)
    damaged[60:200] = bytes(140)
    file.write_bytes(damaged)
    assert str(file) in refused(file)
    other = file.with_name("trace.parquet")
    other.write_bytes(data)
    assert "LABEL-SAMPLE" in refused(other)
    file.write_bytes(b"")
    assert "empty" in refused(file)

    file, _ = write(tmp_path / "lines", 50, format="gz")
    file.write_bytes(gzip.compress(b"1,2,0.5,3\n1,2,zero,3\n"))
    assert "line 2" in refused(file)
