import io

import numpy as np
import pytest
from image_files import RED, encode, noise
from PIL import Image

from runner.data.decoding.decode import fit, fit_array, read_image, strict_decoding
from runner.data.decoding.pixels import BadImageError, Reading


def pixels(raw, *, size=None, channels=3):
    with strict_decoding():
        return fit(read_image(raw, shortest=size), size=size, channels=channels)


def test_plain_images_keep_every_bit():
    image = noise((7, 5))
    assert np.array_equal(pixels(encode(image)), np.asarray(image))
    grey = noise((7, 5), mode="L")
    assert np.array_equal(pixels(encode(grey), channels=1)[..., 0], np.asarray(grey))
    assert np.array_equal(pixels(encode(grey)), np.repeat(np.asarray(grey)[..., None], 3, axis=2))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation):
    upright = np.zeros((4, 6, 3), np.uint8)
    upright[0, 0] = 255  # the corner that must end up on top left
    undo = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright), 7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = encode(Image.fromarray(np.ascontiguousarray(undo[orientation])), exif=exif)
    assert np.array_equal(pixels(raw), upright)


def test_transparency_is_laid_on_white():
    half = Image.new("RGBA", (4, 4), (*RED, 0))
    half.putpixel((0, 0), (*RED, 255))
    half.putpixel((1, 0), (0, 0, 0, 128))
    got = pixels(encode(half))
    assert got[0, 0].tolist() == list(RED)
    assert got[0, 1].tolist() == pytest.approx([127] * 3, abs=1)
    assert (got[1:] == 255).all()
    grey = pixels(encode(Image.merge("LA", (Image.new("L", (2, 2), 10), Image.new("L", (2, 2), 0)))))
    assert (grey == 255).all()


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_palettes_with_and_without_transparency(format):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, *RED, 0, 255, 0])
    image.putpixel((0, 0), 2)
    assert pixels(encode(image, format))[1, 1].tolist() == list(RED)
    see_through = pixels(encode(image, format, transparency=2))
    assert see_through[0, 0].tolist() == [255, 255, 255]
    assert see_through[1, 1].tolist() == list(RED)


def test_sixteen_bit_grey_is_scaled_and_not_clipped():
    values = np.array([[0, 200, 128 * 257, 65535]], dtype=np.uint16)
    assert pixels(encode(Image.fromarray(values)), channels=1)[0, :, 0].tolist() == [0, 1, 128, 255]
    assert pixels(encode(Image.fromarray(values), "TIFF"))[0, :, 2].tolist() == [0, 1, 128, 255]


def test_bilevel_and_cmyk():
    bits = Image.fromarray(np.eye(8, dtype=np.uint8) * 255).convert("1")
    assert np.array_equal(pixels(encode(bits), channels=1)[..., 0], np.eye(8) * 255)
    cyan = pixels(encode(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG", quality=95))
    assert cyan[4, 4].tolist() == pytest.approx([0, 255, 255], abs=6)


def test_the_first_frame_of_an_animation_counts():
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, (0, 255, 0))]
    raw = encode(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert pixels(raw)[0, 0].tolist() == list(RED)
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    assert pixels(buffer.getvalue())[0, 0].tolist() == list(RED)


def test_the_centre_square_is_cut_and_resized_with_antialiasing():
    photo = noise((64, 32))
    reference = np.asarray(photo.resize((16, 8), Image.Resampling.BILINEAR))[:, 4:12]
    assert np.array_equal(pixels(encode(photo), size=8), reference)
    # One-pixel stripes average to grey; picking pixels would give black or white.
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    shrunk = pixels(encode(Image.fromarray(stripes)), size=8)
    assert np.abs(shrunk.astype(int) - 128).max() < 20
    uneven = noise((21, 16))
    assert np.array_equal(pixels(encode(uneven), size=16), np.asarray(uneven)[:, 2:18])


def test_a_reduced_jpeg_looks_like_the_whole_one_resized():
    y, x = np.mgrid[0:800, 0:1000]
    photo = np.stack([128 + 100 * np.sin(x / 90), 128 + 100 * np.cos(y / 70), (x + y) / 8], axis=2).astype(np.uint8)
    raw = encode(Image.fromarray(photo), "JPEG", quality=95)
    whole = fit(Image.open(io.BytesIO(raw)), size=64, channels=3).astype(int)
    reduced = read_image(raw, shortest=64)
    assert reduced.size == (250, 200)
    assert np.abs(fit(reduced, size=64, channels=3) - whole).max() <= 4


def jpeg():
    return encode(noise((64, 64)), "JPEG")


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "the file is empty"),
        (b"these are words and not an image", "none of the formats JPEG, PNG"),
        (jpeg()[: len(jpeg()) // 2], "truncated"),
        (encode(noise())[:60], "truncated|broken|not enough"),
        (encode(noise())[:40] + b"\0" * 200, "."),
    ],
    ids=["empty", "text", "half a jpeg", "start of a png", "png of zeros"],
)
def test_a_bad_file_says_why_in_one_line(raw, why):
    with pytest.raises(BadImageError, match=why) as caught:
        pixels(raw)
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)


def test_a_decompression_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    assert pixels(encode(noise((14, 14)))).shape == (14, 14, 3)
    with pytest.raises(BadImageError, match="more than 89 million pixels"):
        pixels(encode(noise((16, 16))))  # Pillow only warns up to twice the limit
    with pytest.raises(BadImageError, match="more than 89 million pixels"):
        pixels(encode(noise((30, 30))))


def test_the_limit_of_pixels_has_a_key(monkeypatch):
    raw = encode(noise((16, 16)))
    with pytest.raises(BadImageError, match=r"more than 255 pixels, the limit of data\.max_pixels"):
        read_image(raw, shortest=None, reading=Reading(max_pixels=255))
    assert read_image(raw, shortest=None, reading=Reading(max_pixels=256)).size == (16, 16)
    # Pillow's own guard, one for the process, gives way to a larger limit alone
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with pytest.raises(BadImageError, match=r"data\.max_pixels"):
        read_image(raw, shortest=None)
    assert Image.MAX_IMAGE_PIXELS == 200
    assert read_image(raw, shortest=None, reading=Reading(max_pixels=10**9)).size == (16, 16)
    assert Image.MAX_IMAGE_PIXELS == 10**9


def test_arrays_change_size_and_channels():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
    assert fit_array(images, size=None, channels=None) is images
    assert fit_array(images, size=8, channels=1) is images
    assert fit_array(images, size=16, channels=3).shape == (3, 16, 16, 3)
    assert np.array_equal(fit_array(images, size=None, channels=3), np.repeat(images, 3, axis=3))
