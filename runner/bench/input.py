"""Input throughput of the runner and of ``ImageFolder`` with ``DataLoader``, in images per CPU-second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from runner.bench.jpeg_files import PHOTO, bytes_per_file, write_photos, write_small
from runner.bench.paired_benchmark import Contender, Result, run_paired
from runner.bench.paired_ratios import paired_ratio
from runner.bench.section import Bar, Section
from runner.bench.settings import Settings
from runner.bench.task import Task

_FILES = Contender(name="ImageFolder + DataLoader", module="read_files")
_AGAIN = Contender(name="ImageFolder + DataLoader again", module="read_files")
_TUNED = Contender(name="the same, tuned", module="read_files", options=("tuned",))
_RUNNER = Contender(name="runner", module="read_cache")

_SOURCE = ("data=image_folder", "data.val_fraction=0", "data.test_fraction=0", "data.cache=disk", "hardware=cpu")
_SMALL = Task(
    name="small",
    about="32 px, crop of 4 padded pixels and flip, batch 128",
    overrides=(*_SOURCE, "data.image_size=32", "data.augment.crop_padding=4", "data.augment.flip=true"),
    batch=128,
    block=16,
)
_PHOTOS = Task(
    name="photos",
    about="photos, random-resized-crop to 224 px and flip, batch 16",
    overrides=(*_SOURCE, "data.image_size=224", "data.augment.random_resized_crop=true", "data.augment.flip=true"),
    batch=16,
    block=8,
)


def measure(settings: Settings) -> Iterator[Section]:
    """Two sections: small pictures, and photos.

    Raises:
        RequestError: ``settings.images`` does not hold enough pictures.
    """
    work = Path(settings.work)
    small, photos = work / "small", work / "photos"
    write_small(small, _SMALL.proof_steps * _SMALL.batch, images=settings.images)
    write_photos(photos, _PHOTOS.proof_steps * _PHOTOS.batch, small=small)
    made_of = "made-up pictures" if settings.images is None else f"pictures of `--images {settings.images.name}`"
    width, height = PHOTO
    for task, folder, files in (
        (_SMALL, small, made_of),
        (
            _PHOTOS,
            photos,
            f"{made_of}, enlarged to {width} x {height} pixels under noise, so that they decode like photos",
        ),
    ):
        yield _section(task, folder, files, settings)


def _section(task: Task, folder: Path, files: str, settings: Settings) -> Section:
    results = run_paired(
        replace(task, overrides=(*task.overrides, f"data.root={folder}")),
        folder,
        (_FILES, _AGAIN, _TUNED, _RUNNER),
        settings,
    )
    rates = {result.contender.name: [task.batch / seconds for seconds in result.cpu_seconds] for result in results}
    fair = [result for result in results if result.same]
    floor = paired_ratio(rates[_AGAIN.name], rates[_FILES.name])
    return Section(
        name=f"input_{task.name}",
        title=f"Input: {task.about}",
        about=f"JPEG files: {files}; {bytes_per_file(folder) / 1e3:.1f} kB each, in the page cache.  Without random"
        f" changes all gave the same batches, to rounding, over {_SMALL.proof_steps} of them; then images per second of"
        " CPU time, with the same kinds of random changes, no worker processes, and the cache of the runner built."
        "  *Tuned*: decoded by torchvision, transforms v2 on 8-bit tensors.",
        columns=("input", "images per CPU-second", f"over {_FILES.name}", "images per second", "peak MiB"),
        rows=tuple(_row(result, results[0], rates, task) for result in results),
        samples=tuple(
            {
                "section": f"input_{task.name}",
                "contender": result.contender.name,
                "round": index,
                "images_per_cpu_second": rate,
            }
            for result in fair
            for index, rate in enumerate(rates[result.contender.name])
        ),
        bars=tuple(
            Bar(
                label=result.contender.name,
                ratio=paired_ratio(rates[result.contender.name], rates[_FILES.name]),
                ours=result.contender is _RUNNER,
            )
            for result in fair
            if result.contender in (_TUNED, _RUNNER)
        ),
        axis=f"images per CPU-second over {_FILES.name} (95 % interval)",
        notes=(f"Noise floor: the same input against itself gave {floor}.",),
    )


def _row(result: Result, first: Result, rates: Mapping[str, Sequence[float]], task: Task) -> tuple[str, ...]:
    name = result.contender.name
    if not result.same:
        return (name, "not the same batches: no time taken", "", "", "")
    return (
        name,
        f"{_middle(rates[name]):,.0f}",
        "1" if result is first else str(paired_ratio(rates[name], rates[first.contender.name])),
        f"{task.batch / _middle(result.seconds):,.0f}",
        f"{max(result.peak_bytes) / 2**20:,.0f}",
    )


def _middle(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
