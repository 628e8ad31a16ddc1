"""The cost of larger work: more images, more epochs, and the disk space that they take."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from runner.bench.paired_benchmark import Contender, Result, run_paired
from runner.bench.section import Section, paired_section
from runner.bench.settings import Settings
from runner.bench.task import Task, configure, prepare
from runner.data.open import open_data
from runner.errors import RunError

_MANY = 60_000
_EPOCHS = 50
TASK = Task(
    name="growth",
    about="small_cnn, 16 px, batch 32",
    overrides=("data.image_size=16", "model=small_cnn", "trainer.log_every=32"),
    batch=32,
    block=32,
)
_FEW = TASK.batch * TASK.block
_FIRST = Contender(name=f"{_FEW:,} images", module="through_runner")
_AGAIN = Contender(name=f"{_FEW:,} images again", module="through_runner")
_LATE = Contender(name=f"{_FEW:,} images, {_EPOCHS} epochs later", module="through_runner", warm_up=1 + _EPOCHS)
_SIZES = {f"{size:,} images": size for size in (8_000, _MANY)}
_MORE = tuple(
    Contender(name=name, module="through_runner", options=(f"data.num_train={size}",), tolerance=None)
    for name, size in _SIZES.items()
)


def measure(settings: Settings) -> Iterator[Section]:
    """Two sections: time and memory in a running process, and files."""
    prepared = Path(settings.work) / "growth.pt"
    prepare(TASK, prepared)
    results = run_paired(TASK, prepared, (_FIRST, _AGAIN, _LATE, *_MORE), settings)
    yield paired_section(
        results,
        name="growth",
        title=f"More images, more epochs: {TASK.about}",
        about=f"Blocks of {TASK.block} updates, which are an epoch of {_FEW:,} images.  What grows with the images are"
        f" the images themselves: {_per_image(results):,.0f} bytes of memory each, from 8,000 to {_MANY:,}, for 768"
        " pixels with the copies that are made on the way in.",
        ours=_LATE.name,
        control=_AGAIN.name,
    )
    yield _files(Path(settings.work))


def _per_image(results: list[Result]) -> float:
    (fewer, small), (more, large) = _SIZES.items()
    peak = {result.contender.name: max(result.peak_bytes) for result in results}
    return (peak[more] - peak[fewer]) / (large - small)


def _files(work: Path) -> Section:
    samples: list[dict[str, Any]] = []
    for epochs in (1, 10, 100):
        size = _record_bytes(work / f"records-{epochs}", epochs)
        samples.append({"what": "metrics.jsonl", "count": epochs, "bytes": size, "seconds": None})
    for images in (250, 1_000, 4_000):
        size, seconds = _cache(work / f"cache-{images}", images)
        samples.append({"what": "cache with its index", "count": images, "bytes": size, "seconds": seconds})
    units = {"metrics.jsonl": "epochs", "cache with its index": "images of 16 px"}
    rows = []
    for before, sample in zip([None, *samples], samples, strict=False):
        more = ""
        if before is not None and before["what"] == sample["what"]:
            more = f"{(sample['bytes'] - before['bytes']) / (sample['count'] - before['count']):,.0f}"
        each = "" if sample["seconds"] is None else f"{1e3 * sample['seconds'] / sample['count']:.2f} ms"
        label = f"{sample['what']}, {sample['count']:,} {units[sample['what']]}"
        rows.append((label, f"{sample['bytes']:,}", more, each))
    return Section(
        name="files",
        title="Files as work grows",
        about="Records of a run with one record an epoch; the cache of a folder of PNG files.  One measurement each.",
        columns=("what", "bytes", "bytes more for each one more", "time to build, for each"),
        rows=tuple(rows),
        samples=tuple({"section": "files", **sample} for sample in samples),
    )


def _record_bytes(folder: Path, epochs: int) -> int:
    command = [
        *(sys.executable, "-m", "runner", "data=synthetic", "data.num_train=64", "data.image_size=8", "model=linear"),
        *("data.batch_size=16", f"trainer.epochs={epochs}", "trainer.log_every=1000", "hardware=cpu", "tracker=none"),
        f"hydra.run.dir={folder}",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise RunError(f"a run of {epochs} epochs ended with exit code {ended.returncode}: {ended.stderr.strip()}")
    return (folder / "metrics.jsonl").stat().st_size


def _cache(folder: Path, images: int) -> tuple[int, float]:
    """Bytes of the cache of so many images, and the seconds to make it."""
    rng = np.random.default_rng(0)
    for label in range(2):
        (folder / "images" / str(label)).mkdir(parents=True)
    for index in range(images):
        pixels = rng.integers(0, 256, size=(16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / str(index % 2) / f"{index:06}.png")
    cache = folder / "cache"
    config = configure(
        (
            *("data=image_folder", f"data.root={folder / 'images'}", "data.image_size=16", "data.cache=disk"),
            *(f"data.cache_dir={cache}", "model=linear", "tracker=none"),
        )
    )
    began = time.perf_counter()
    open_data(config.data)
    seconds = time.perf_counter() - began
    return sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()), seconds
