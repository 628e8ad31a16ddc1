"""The ledger knows images by what they are: names, order and folders change nothing, and shared images are seen."""

import hashlib
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from runner.commands.ledger import main
from runner.data.image_sketch import KEPT, Sketch, shared, sketch_of
from runner.data.open import open_data
from runner.privacy.ledger.ledger import Ledger, contents_of, find_ledgers
from runner.privacy.ledger.overlap import related
from tests.privacy.test_ledger import RUN

RECIPE = ("trainer=dp", "data=image_folder", "data.image_size=8", "data.batch_size=8", "data.val_fraction=0",
          "data.test_fraction=0", "model=linear", "trainer.steps=2", "privacy.noise_multiplier=2",
          "privacy.grad_sample=functional")  # fmt: skip


@pytest.fixture
def images(tmp_path):
    """Two classes of twelve images."""
    root, draw = tmp_path / "images", np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (root / name).mkdir(parents=True)
        for number in range(12):
            pixels = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


def another_name(root):
    (root / "cats" / "3.png").rename(root / "cats" / "zebra.png")


def another_class(root):
    (root / "cats").rename(root / "animals")


def swapped_labels(root):
    (root / "cats" / "1.png").rename(root / "dogs" / "new.png")


def split_folders(root):
    for name in ("cats", "dogs"):
        (root / "train").mkdir(exist_ok=True)
        (root / name).rename(root / "train" / name)
        (root / "test" / name).mkdir(parents=True)
        (root / "train" / name / "5.png").rename(root / "test" / name / "5.png")


@pytest.mark.parametrize("change", [another_name, another_class, swapped_labels, split_folders])
def test_names_order_and_folders_begin_no_other_account(train, images, change, tmp_path):
    train(*RECIPE, f"data.root={images}")
    moved = shutil.copytree(images, tmp_path / "elsewhere")
    change(moved)
    train(*RECIPE, f"data.root={moved}")
    (ledger,) = find_ledgers(tmp_path / "data" / "recipe-runner" / "ledger")
    assert len(ledger.entries()) == 2


def test_the_hash_of_before_did(configure, images, tmp_path):
    moved = shutil.copytree(images, tmp_path / "elsewhere")
    another_name(moved)
    here, there = (open_data(configure("data=image_folder", f"data.root={root}").data) for root in (images, moved))
    assert here.origin != there.origin
    assert here.contents == there.contents


def test_one_image_more_is_another_ledger_that_is_summed_with_the_first(train, images, tmp_path, capsys):
    train(*RECIPE, f"data.root={images}")
    more = shutil.copytree(images, tmp_path / "more")
    Image.new("RGB", (8, 8)).save(more / "cats" / "black.png")
    train(*RECIPE, f"data.root={more}")
    folder = tmp_path / "data" / "recipe-runner" / "ledger"
    first, second = find_ledgers(folder)
    assert related(first, [first, second]) == [(second, 24)]
    capsys.readouterr()
    assert main(["--dir", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("has about 24 images in common with image_folder") == 2
    alone = [
        float(value) for value in re.findall(r"publishing private run|publishing 1 private run: ε=([\d.]+)", shown)
    ]
    together = [float(value) for value in re.findall(r"all private runs on any of these data: ε=([\d.]+)", shown)]
    assert len(together) == 2
    assert min(together) > max(alone)


def test_a_ledger_of_an_earlier_version_is_found_by_the_name_it_had(train, configure, images, tmp_path, capsys):
    folder = tmp_path / "data" / "recipe-runner" / "ledger"
    origin = open_data(configure("data=image_folder", f"data.root={images}").data).origin
    Ledger(folder, contents_of(origin)).begin(RUN)
    train(*RECIPE, f"data.root={images}")
    ledgers = find_ledgers(folder)
    (ledger,) = (one for one in ledgers if one.contents != origin)
    assert [(other.contents, images) for other, images in related(ledger, ledgers)] == [(origin, None)]
    capsys.readouterr()
    assert main(["--dir", str(folder)]) == 0
    assert "has all images, under the name of an earlier version, in common with digits" in capsys.readouterr().out


def digests(start, stop):
    return [hashlib.sha256(str(number).encode()).digest() for number in range(start, stop)]


@pytest.mark.parametrize(
    ("one", "other"),
    [((0, 1000), (999, 3000)), ((0, 30_000), (15_000, 45_000)), ((0, 30_000), (29_000, 30_000)), ((0, 9), (9, 20_000))],
)
def test_common_images_are_counted_within_four_deviations(one, other):
    first, second = sketch_of(digests(*one)), sketch_of(digests(*other))
    both = max(0, min(one[1], other[1]) - max(one[0], other[0]))
    exact = max(first.images, second.images) < KEPT
    # of a sample of KEPT hashes of the larger set, as many are common as by a binomial draw
    share = both / max(first.images, second.images)
    deviation = 0 if exact else max(first.images, second.images) * (share * (1 - share) / KEPT) ** 0.5
    assert abs(shared(first, second) - both) <= 4 * deviation
    assert shared(first, second) == shared(second, first)
    assert Sketch.from_plain(first.as_plain()) == first


def test_identities_do_not_depend_on_how_the_ledger_knows_the_data(configure):
    from runner.config.identity import identity_fields
    from runner.planning.build import build_plan
    from runner.planning.device import detect_device

    config = configure("data.limit=60")
    plan = build_plan(config, open_data(config.data), detect_device(config.hardware), processes=1)
    assert "contents" not in identity_fields(plan.as_dict()["semantic"])["data"]
