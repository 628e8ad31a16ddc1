"""TIFFs and deep PNGs: every band and value is kept, scaled by what the file or the user states, or refused by name."""

import io
import struct
import zlib

import numpy as np
import pytest
from image_files import encode
from PIL import Image, TiffImagePlugin

from runner.config.schema import DataConfig
from runner.data.decoding import bit_depth, decode, tiff
from runner.data.decoding.bit_depth import NoRangeError, Stated, left_justified, to_bytes
from runner.data.decoding.decode import fit, read_image, strict_decoding
from runner.data.decoding.pixels import BadImageError, Reading
from runner.data.open import open_data
from runner.errors import RequestError

tifffile = pytest.importorskip("tifffile", reason="an extra that is not installed")

RNG = np.random.default_rng(0)
LEVELS = RNG.integers(0, 256, (6, 6), dtype=np.uint8)
LEVELS[0, :3] = 0, 255, 128
COLOURS = RNG.integers(0, 256, (6, 6, 5), dtype=np.uint8)


def pixels(raw, *, channels=1, **asked):
    with strict_decoding():
        return fit(
            read_image(raw, shortest=None, reading=Reading(channels=channels, **asked)), size=None, channels=channels
        )


def written(values, **how):
    file = io.BytesIO()
    tifffile.imwrite(file, values, **how)
    return file.getvalue()


def by_pillow(image, **tags):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for number, value in tags.items():
        info[int(number[1:])] = value
    return encode(image, "TIFF", tiffinfo=info)


def twelve(values=LEVELS):
    """``values`` spread over 12 bits, which scaled back are ``values``."""
    return ((values.astype(np.uint32) * 4095 + 127) // 255).astype(np.uint16)


# Bands


@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}, {"compression": "lzw"}, {"planarconfig": "separate"}])
@pytest.mark.parametrize("bands", [2, 4, 5])
def test_bands_are_kept_as_they_are(how, bands):
    stored = COLOURS[..., :bands]
    values = np.moveaxis(stored, 2, 0) if "planarconfig" in how else stored
    raw = written(np.ascontiguousarray(values), photometric="minisblack", **{"planarconfig": "contig"} | how)
    assert np.array_equal(pixels(raw, channels=bands), stored)
    with pytest.raises(BadImageError, match=f"{bands} bands"):
        pixels(raw, channels=3)
    with pytest.raises(BadImageError, match=rf"{bands} bands where data.channels=7"):
        pixels(raw, channels=7)


def test_a_fourth_band_is_no_transparency_unless_it_is_said_to_be():
    near_infrared = written(COLOURS[..., :4], photometric="rgb", extrasamples=["unspecified"])
    with pytest.raises(
        BadImageError, match=r"4 bands, of which data.channels=3 would drop some: data.channels=4 keeps"
    ):
        pixels(near_infrared, channels=3)
    assert np.array_equal(pixels(near_infrared, channels=4), COLOURS[..., :4])
    opaque = COLOURS[..., :4].copy()
    opaque[..., 3] = 255
    alpha = written(opaque, photometric="rgb", extrasamples=["unassalpha"])
    assert np.array_equal(pixels(alpha, channels=3), opaque[..., :3])
    # Pillow takes what is not stated for transparency too
    unstated = by_pillow(Image.fromarray(COLOURS[..., :4]))
    tags = tiff.tags_of(Image.open(io.BytesIO(unstated)))
    assert tags.alpha
    assert not tags.dropped


def test_without_the_check_of_bands_a_fourth_one_is_dropped(monkeypatch):
    raw = written(COLOURS[..., :4], photometric="rgb", extrasamples=["unspecified"])
    monkeypatch.setattr(decode, "_refuse_dropped", lambda *args: None)
    assert np.array_equal(pixels(raw, channels=3), COLOURS[..., :3])


def test_pages_of_a_stack_are_its_bands():
    raw = written(np.moveaxis(COLOURS, 2, 0), photometric="minisblack")
    assert np.array_equal(pixels(raw, channels=5), COLOURS)
    with pytest.raises(BadImageError, match=r"1 band where data.channels=4"):
        pixels(raw, channels=4)


def test_bands_of_other_formats():
    see_through = Image.fromarray(COLOURS[..., :4])
    assert np.array_equal(pixels(encode(see_through), channels=4), COLOURS[..., :4])
    assert np.array_equal(pixels(encode(see_through.convert("LA")), channels=2), np.asarray(see_through.convert("LA")))
    with pytest.raises(BadImageError, match=r"3 bands where data.channels=4"):
        pixels(encode(see_through.convert("RGB")), channels=4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_bands_are_turned_as_colours_are(orientation):
    image = Image.fromarray(COLOURS[:4, :, :3])
    raw = by_pillow(image, t274=orientation)
    assert np.array_equal(fit(_own(raw), size=None, channels=3), pixels(raw, channels=3))


def _own(raw):
    return decode._from_samples(tiff.read_samples(raw, bands=None, max_pixels=1000), Reading())


# Depth


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (by_pillow(Image.fromarray(twelve()), t281=4095), "MaxSampleValue"),
        (written(twelve(), extratags=[(281, "H", 1, 4095, True)]), "MaxSampleValue"),
        (written(twelve().astype(np.int16), extratags=[(340, "h", 1, 0, True), (341, "h", 1, 4095, True)]), "signed"),
        (
            written(
                (twelve() / 4095).astype(np.float32), extratags=[(340, "f", 1, 0.0, True), (341, "f", 1, 1.0, True)]
            ),
            "floats",
        ),
        (written(LEVELS.astype(np.uint32), extratags=[(341, "I", 1, 255, True)]), "32 bits of 0 to 255"),
        (written(LEVELS.astype(np.uint16) * 257), "16 bits"),
        (written(65535 - LEVELS.astype(np.uint16) * 257, photometric="miniswhite"), "16 bits, 0 is white"),
        (encode(Image.fromarray(LEVELS.astype(np.uint16) * 257)), "PNG of 16 bits"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_values_are_scaled_by_what_the_file_states(raw, why):
    del why
    assert np.array_equal(pixels(raw)[..., 0], LEVELS)


@pytest.mark.parametrize(
    ("values", "held", "asked"),
    [
        (twelve(), "unsigned 16-bit values from 0 to 4095", "[0,4095]"),
        (LEVELS.astype(np.uint32), "unsigned 32-bit values from 0 to 255", "[0,255]"),
        (LEVELS.astype(np.int32), "signed 32-bit values from 0 to 255", "[0,255]"),
        (
            LEVELS.astype(np.uint32) + np.uint32(2**32 - 256),
            "unsigned 32-bit values from 4.29497e+09",
            "[0,4294967295]",
        ),
        (LEVELS.astype(np.int16) - 100, "signed 16-bit values from -100 to 155", "[-100,155]"),
        (LEVELS.astype(np.int8), "signed 8-bit values from -128 to 125", "[-128,125]"),
        (LEVELS.astype(np.float32) / 255, "floating-point 32-bit values from 0 to 1", "[0,1]"),
        (LEVELS.astype(np.float64), "floating-point 64-bit values from 0 to 255", "[0,255]"),
        (LEVELS.astype(np.float16), "floating-point 16-bit values from 0 to 255", "[0,255]"),
        (COLOURS[..., :3].astype(np.uint16) * 16, "unsigned 16-bit values from", "[0,4095]"),
        (COLOURS.astype(np.float32), "floating-point 32-bit values from", "[0,255]"),
    ],
    ids=lambda value: str(value.dtype) if isinstance(value, np.ndarray) else "",
)
def test_values_of_no_known_range_are_refused_and_then_scaled_as_asked(values, held, asked):
    bands = values.shape[2] if values.ndim == 3 else 1
    raw = written(
        values, photometric="rgb" if bands == 3 else "minisblack", **({} if bands == 1 else {"planarconfig": "contig"})
    )
    with pytest.raises(NoRangeError, match=held.replace("+", r"\+")) as refused:
        pixels(raw, channels=bands)
    assert refused.value.asked == asked
    low, high = float(values.min()), float(values.max())
    found = pixels(raw, channels=bands, value_range=(low, high))
    exact = (values.astype(np.float64) - low) * (255 / (high - low))
    assert np.array_equal(found, np.rint(exact).astype(np.uint8).reshape(found.shape))
    # a window cuts off what is beyond it
    middle = (low + high) / 2
    assert (pixels(raw, channels=bands, value_range=(low, middle)).reshape(values.shape)[values >= middle] == 255).all()


def test_a_largest_value_that_one_image_happens_to_have_is_no_range():
    dark = by_pillow(Image.fromarray(twelve()), t281=int(twelve().max()) - 0)
    assert pixels(dark).max() == 255  # 4095: a depth of 12 bits
    with pytest.raises(NoRangeError, match="to 3877, which the file states as its largest"):
        pixels(by_pillow(Image.fromarray(np.minimum(twelve(), 3877)), t281=3877))
    with pytest.raises(NoRangeError, match="beyond the 0 to 1023 that the file states"):
        pixels(by_pillow(Image.fromarray(twelve()), t281=1023))


def test_a_dark_picture_stays_dark_when_it_is_said_to_be():
    dark = encode(Image.fromarray(LEVELS.astype(np.uint16)))
    with pytest.raises(NoRangeError, match="from 0 to 255"):
        pixels(dark)
    assert pixels(dark, value_range=(0.0, 65535.0)).max() == 1
    assert pixels(encode(Image.new("I;16", (4, 4)))).max() == 0


def test_values_that_are_not_finite_are_unreadable():
    with pytest.raises(BadImageError, match="not finite"):
        pixels(written(np.full((4, 4), np.nan, np.float32)), value_range=(0.0, 1.0))


def test_without_the_range_twelve_bits_come_out_all_but_black(monkeypatch):
    monkeypatch.setattr(bit_depth, "UNSTATED_BELOW", 0)
    assert pixels(written(twelve())).max() == 16


# PNG


def deep_png(values, *, bits=None):
    """A PNG of 16 bits, its samples as they are; ``bits`` is what sBIT says of each."""
    height, width, bands = values.shape

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[bands]
    significant = chunk(b"sBIT", bytes([bits] * bands)) if bits else b""
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + significant
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("bands", [1, 3])
def test_what_sbit_says_of_a_deep_png(bands):
    levels = np.repeat(LEVELS[..., None], bands, axis=2)
    samples = twelve(levels)
    spread = (samples << 4) | (samples >> 8)
    for values in (samples, spread, samples << 4):
        found = pixels(deep_png(values, bits=12), channels=bands)
        assert np.abs(found.astype(int) - levels).max() <= (0 if values is samples else 1)
    with pytest.raises(NoRangeError, match="unsigned 16-bit values from 0 to 4095"):
        pixels(deep_png(samples), channels=bands)
    assert np.array_equal(pixels(deep_png(samples), channels=bands, value_range=(0.0, 4095.0)), levels)
    assert left_justified(spread, 12)
    assert not left_justified(samples, 12)


def test_deep_colours_over_all_bits_are_as_they_were():
    values = RNG.integers(0, 65536, (6, 6, 3), dtype=np.uint16)
    values[0, 0] = 65535
    assert np.array_equal(pixels(deep_png(values), channels=3), values >> 8)
    see_through = np.concatenate([twelve(COLOURS[..., :3]), np.full((6, 6, 1), 65535, np.uint16)], axis=2)
    found = pixels(deep_png(see_through), channels=3, value_range=(0.0, 4095.0))
    assert np.array_equal(found, COLOURS[..., :3])


def test_bytes_keep_every_bit_whatever_is_asked():
    for image in (Image.fromarray(LEVELS), Image.fromarray(COLOURS[..., :3])):
        for form in ("TIFF", "PNG"):
            channels = len(image.getbands())
            found = pixels(encode(image, form), channels=channels, value_range=(0.0, 100.0))
            assert np.array_equal(found.squeeze(), np.asarray(image))
    values = np.asarray(Image.fromarray(LEVELS))
    assert to_bytes(values, Stated(), (0.0, 10.0)) is values
    assert np.array_equal(pixels(encode(Image.fromarray(LEVELS > 99), "TIFF"))[..., 0], (LEVELS > 99) * np.uint8(255))
    # the largest value that an ordinary file notes of itself is not looked at
    assert np.array_equal(pixels(by_pillow(Image.fromarray(LEVELS // 2), t281=127))[..., 0], LEVELS // 2)


# Folders


def folder(root, raw, *, suffix="tif"):
    for label in ("a", "b"):
        (root / label).mkdir(parents=True)
        for number in range(3):
            (root / label / f"{number}.{suffix}").write_bytes(raw)
    return root


def ask(root, **keys):
    source = "runner.data.image_folder.load_image_folder"
    fixed = {"target": source, "name": "x", "root": str(root), "cache_dir": str(root.parent / "cache"), "channels": 3}
    return open_data(DataConfig(**fixed | {"val_fraction": 0.0, "test_fraction": 0.0, "cache": "disk"} | keys))


@pytest.mark.parametrize("cache", ["disk", "memory"])
def test_a_folder_of_five_bands(tmp_path, cache):
    root = folder(tmp_path / "bands", written(COLOURS, photometric="minisblack", planarconfig="contig"))
    data = ask(root, channels=5, cache=cache)
    assert data.channels == 5
    assert len(data.mean) == len(data.std) == 5
    assert np.array_equal(data.train.pixels(np.array([0]))[0], COLOURS)
    with pytest.raises(RequestError, match=r"a/0.tif \(cannot be decoded: 5 bands"):
        ask(root)


def test_a_folder_of_twelve_bits_asks_for_its_range_even_where_bad_files_are_skipped(tmp_path):
    root = folder(tmp_path / "deep", encode(Image.fromarray(twelve())), suffix="png")
    for keys in ({}, {"on_bad_file": "skip"}, {"cache": "off"}):
        with pytest.raises(RequestError) as refused:
            ask(root, **keys)
        assert str(refused.value) == (
            "data.value_range: got null with a/0.png (unsigned 16-bit values from 0 to 4095), expected the values of"
            " black and white, such as [0,4095]"
        )
    data = ask(root, value_range=[0, 4095])
    assert np.array_equal(data.train.images[0][..., 0], LEVELS)
    assert data.fingerprint != ask(root, value_range=[0, 65535]).fingerprint
    # what one file asks for may leave nothing of others
    white = ask(root, value_range=[-2, -1])
    count = sum(1 for name in root.rglob("*.png"))
    (said,) = [note for note in white.notes if "value_range" in note]
    assert said.startswith("files whose values all lie beyond data.value_range, which makes them one colour: ")
    assert f"{count}, for example a/0.png" in said
    assert not [note for note in data.notes if "value_range" in note]


def test_pages_that_are_left_out_are_told_also_from_the_cache(tmp_path):
    picture = Image.fromarray(LEVELS)
    raw = encode(picture, "TIFF", save_all=True, append_images=[picture])
    root = folder(tmp_path / "pages", raw)
    for _ in range(2):
        assert "files of several pages, of which the first is used: 6, for example a/0.tif" in ask(root).notes
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as out:
        out.write(LEVELS)
        out.write(LEVELS[::2, ::2], subfiletype=1)
    assert not [note for note in ask(folder(tmp_path / "pyramid", file.getvalue())).notes if "pages" in note]


# What Pillow alone reads otherwise


def deep(values):
    return np.rint(values.astype(float) * 257).astype(np.uint16)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (written(deep(LEVELS), photometric="minisblack", byteorder=">"), "big-endian"),
        (written(LEVELS // 4, photometric="minisblack", bitspersample=6), "6 bits packed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_grey_in_other_words_of_the_same_values(raw, why):
    found = pixels(raw)[..., 0]
    expected = np.rint((LEVELS // 4) * (255 / 63)) if "packed" in why else LEVELS
    np.testing.assert_array_equal(found, expected)


def test_deep_colours_in_planes_are_not_their_bytes():
    stored = deep(COLOURS[..., :3])
    raw = written(np.moveaxis(stored, 2, 0).copy(), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(pixels(raw, channels=3), COLOURS[..., :3])
    with Image.open(io.BytesIO(raw)) as image:  # the negative control: what Pillow makes of it
        assert np.abs(np.asarray(image).astype(int) - COLOURS[..., :3]).max() > 100
        with strict_decoding(), pytest.raises(BadImageError, match="16-bit colours, of which Pillow has lost some"):
            decode.read_picture(image, shortest=None)


def test_complex_numbers_and_volumes_are_refused_by_name():
    with pytest.raises(BadImageError, match="complex numbers"):
        pixels(written(LEVELS.astype(np.complex64), photometric="minisblack"))
    volume = written(np.stack([np.resize(LEVELS, (16, 16))] * 16), volumetric=True, tile=(16, 16, 16))
    with pytest.raises(BadImageError, match="a volume of 16 pictures"):
        pixels(volume)


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_white_of_a_deep_jpeg2000_in_colours_stays_white(bits):
    imagecodecs = pytest.importorskip("imagecodecs")
    colours = COLOURS[..., :3].copy()
    colours[0] = 255
    stored = np.rint(colours * ((2**bits - 1) / 255)).astype(np.uint16)
    raw = imagecodecs.jpeg2k_encode(stored, level=0, bitspersample=bits)
    np.testing.assert_array_equal(pixels(raw, channels=3), colours)
    with Image.open(io.BytesIO(raw)) as image:  # the negative control: Pillow turns white to black
        assert (np.asarray(image)[0] == 0).all()


def test_fifteen_stated_bits_of_colour_are_scaled():
    stored = np.rint(COLOURS[..., :3] * (32767 / 255)).astype(np.uint16)
    np.testing.assert_array_equal(pixels(deep_png(stored, bits=15), channels=3), COLOURS[..., :3])


def test_the_transparent_value_of_a_deep_grey_png_is_white():
    raw = encode(Image.fromarray(deep(LEVELS)))
    chunk = struct.pack(">I", 2) + b"tRNS\0\0" + struct.pack(">I", zlib.crc32(b"tRNS\0\0"))
    found = pixels(raw[:33] + chunk + raw[33:])[..., 0]
    np.testing.assert_array_equal(found, np.where(LEVELS == 0, 255, LEVELS))


def test_a_loaded_picture_of_sixteen_bits_keeps_its_formats_range():
    raw = b"P5 6 6 4095\n" + twelve().astype(">u2").tobytes()
    with Image.open(io.BytesIO(raw)) as image, strict_decoding():
        image.load()
        found = fit(decode.read_picture(image, shortest=None), size=None, channels=1)[..., 0]
    np.testing.assert_array_equal(found, LEVELS)
