"""The files of the input part: as many as asked, of the size asked, like photos where they stand for photos."""

import numpy as np
import pytest
from PIL import Image

from runner.bench.jpeg_files import PHOTO, SMALL, bytes_per_file, write_photos, write_small
from runner.errors import RequestError


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "small"
    write_small(folder, 10, images=None)
    return folder


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_made_up_pictures_differ_and_have_the_size(small):
    found = [read(path) for path in small.rglob("*.jpg")]
    assert [pixels.shape for pixels in found] == [(SMALL, SMALL, 3)] * 10
    assert len({pixels.tobytes() for pixels in found}) == 10


def test_photos_are_large_and_as_long_as_photos(small, tmp_path):
    write_photos(tmp_path / "photos", 2, small=small)
    assert {read(path).shape for path in tmp_path.rglob("*.jpg")} == {(*reversed(PHOTO), 3)}
    assert 0.3 < bytes_per_file(tmp_path) / (PHOTO[0] * PHOTO[1]) < 0.8


def test_own_pictures_are_copied_from_every_folder_and_too_few_are_refused(small, tmp_path):
    write_small(tmp_path / "own", 4, images=small)
    first_of_each = [sorted(folder.iterdir())[0].read_bytes() for folder in sorted(small.iterdir())]
    assert {path.read_bytes() for path in (tmp_path / "own").rglob("*.jpg")} == set(first_of_each)
    with pytest.raises(RequestError, match=r"--images: got .*, expected a folder with 11 JPEG files"):
        write_small(tmp_path / "more", 11, images=small)
