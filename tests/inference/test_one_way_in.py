"""A path and the picture opened from it are read in one way, whatever the file is."""

import numpy as np
import pytest
import torch
from PIL import Image, TiffImagePlugin

from runner.data.decoding.pixels import Reading
from runner.errors import RequestError
from runner.inference import preprocessing
from runner.inference.preprocessing import to_pixels

RNG = np.random.default_rng(0)
COLOURS = Image.fromarray(RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8))
GREY = COLOURS.convert("L")
DEEP = Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257)
TWELVE = Image.fromarray(np.asarray(GREY).astype(np.uint16) * 16)


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return {"exif": exif}


def see_through(mode):
    image = COLOURS.convert(mode)
    image.putalpha(Image.fromarray(RNG.integers(0, 256, (40, 60), dtype=np.uint8)))
    return image


def largest(value):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[281] = value
    return {"tiffinfo": info}


FILES = {
    "plain.png": (COLOURS, {}),
    "grey.png": (GREY, {}),
    "turned.jpg": (COLOURS, turned()),
    "turned.png": (COLOURS, turned()),
    "turned.tif": (COLOURS, turned()),
    "large.jpg": (COLOURS.resize((600, 400)), {}),
    "cmyk.jpg": (COLOURS.convert("CMYK"), {}),
    "cmyk.tif": (COLOURS.convert("CMYK"), {}),
    "alpha.png": (see_through("RGB"), {}),
    "alpha.webp": (see_through("RGB"), {"lossless": True}),
    "alpha.tif": (see_through("RGB"), {}),
    "la.png": (see_through("L"), {}),
    "palette.png": (COLOURS.quantize(9), {}),
    "palette.gif": (COLOURS.quantize(9), {"transparency": 3}),
    "palette_alpha.png": (COLOURS.quantize(9), {"transparency": bytes(range(0, 255, 30))}),
    "one_bit.png": (COLOURS.convert("1"), {}),
    "one_bit.tif": (COLOURS.convert("1"), {}),
    "deep.png": (DEEP, {}),
    "deep.tif": (DEEP, {}),
    "stated.tif": (TWELVE, largest(4095)),
    "lab.tif": (Image.merge("LAB", COLOURS.split()), {}),
    "pages.tif": (COLOURS, {"save_all": True, "append_images": [COLOURS.rotate(180)]}),
    "moving.gif": (COLOURS.quantize(9), {"save_all": True, "append_images": [COLOURS.rotate(180).quantize(9)]}),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", FILES)
def test_a_picture_is_read_as_its_file(name, channels, tmp_path):
    image, how = FILES[name]
    image.save(tmp_path / name, **how)
    form = {"size": 16, "channels": channels}
    wanted = to_pixels(tmp_path / name, **form)
    with Image.open(tmp_path / name) as opened:
        size = opened.size
        for _ in range(2):  # the picture is left as it was
            assert torch.equal(to_pixels(opened, **form), wanted)
        assert opened.size == size
        opened.load()
        # the file is decoded at a fraction of its size, which pixels that are there are not
        assert torch.equal(to_pixels(opened, **form), wanted) or name == "large.jpg"
    if name.startswith("turned"):
        assert not torch.equal(wanted, to_pixels(image, **form))


def test_a_picture_of_a_range_is_read_by_that_of_the_run(tmp_path):
    TWELVE.save(tmp_path / "twelve.png")
    form = {"size": 16, "channels": 1}
    asked = {"reading": Reading(channels=1, value_range=(0.0, 4080.0))}
    with Image.open(tmp_path / "twelve.png") as opened:
        for image in (tmp_path / "twelve.png", opened, TWELVE):
            assert torch.equal(to_pixels(image, **form, **asked), to_pixels(GREY, **form))
            with pytest.raises(RequestError, match=r"unsigned 16-bit values from \d+ to \d+\), expected a run with"):
                to_pixels(image, **form)


def test_bands_are_read_from_pictures_and_arrays(tmp_path):
    image = see_through("RGB")
    image.save(tmp_path / "bands.png")
    form = {"size": 40, "channels": 4}
    wanted = to_pixels(np.asarray(image), **form)
    with Image.open(tmp_path / "bands.png") as opened:
        for given in (image, tmp_path / "bands.png", opened):
            assert torch.equal(to_pixels(given, **form), wanted)
    with pytest.raises(RequestError, match="3 bands where"):
        to_pixels(COLOURS, **form)
    with pytest.raises(RequestError, match="with C 4"):
        to_pixels(np.asarray(COLOURS), **form)


def test_the_next_page_that_somebody_chose_is_the_picture(tmp_path):
    image, how = FILES["pages.tif"]
    image.save(tmp_path / "pages.tif", **how)
    with Image.open(tmp_path / "pages.tif") as opened:
        opened.seek(1)
        assert torch.equal(to_pixels(opened, size=16, channels=3), to_pixels(image.rotate(180), size=16, channels=3))


def test_by_fitting_alone_rotation_and_transparency_are_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(preprocessing, "read_picture", lambda image, **how: image)
    for name in ("turned.jpg", "alpha.png"):
        image, how = FILES[name]
        image.save(tmp_path / name, **how)
        with Image.open(tmp_path / name) as opened:
            found = to_pixels(opened, size=16, channels=3)
        assert not torch.equal(found, to_pixels(tmp_path / name, size=16, channels=3))
