"""What inference must show, measured: ``python -m tests.inference.campaign speed|quality RUN ... [--images FOLDER]``.

``speed`` holds the product's pass against others, in turns, with one thread for the model (``--threads``), and prints
the ratio of the rounds, also in seconds of the processor, which other work on the machine touches less:

- *hand-written*: all in memory, normalised beforehand, in the memory format that is faster for the model, batches as
  slices of it, loss and accuracy added up; once more with the class and the probability of each image, as the product
  gives them; and in the pieces in which the product's batches go through the model;
- *ImageFolder + DataLoader*: the loop of most tutorials over the same files, with 0 and with 2 workers and in those
  pieces; it decodes every file in every pass.  Against it the product starts from the files as well: it lists them and
  takes their decoded pixels from its cache; and, once, with nothing in its cache.

These run in a process of their own, as their authors would run them.  The model alone is what no loop can beat.

``quality`` runs every strategy and both exports, and prints how accuracy, size and probabilities differ.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from runner.data.feed import Feed
from runner.inference.evaluation import infer
from runner.inference.exporting import export
from runner.inference.finished_run import open_run
from runner.inference.image_sources import open_folder, open_split
from runner.inference.in_place_activations import activate_in_place
from runner.inference.measure import predict
from runner.inference.request import read_request
from runner.models.memory_format import format_for
from runner.training.distributed.world import SingleProcess
from runner.training.eval_chunks import eval_chunk_size
from runner.training.precision.precision import build_precision
from runner.training.torch_settings import torch_settings

CPU = torch.device("cpu")
ROUNDS = 7
TURN = 0.05
"""Seconds: passes in memory are repeated until a turn takes so long."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "quality"])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--images", type=Path, help="class folders (default: the run's test images, written as PNG)")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--threads", type=int, default=1, help="of the model, in speed")
    args = parser.parse_args()
    for folder in args.runs:
        with tempfile.TemporaryDirectory() as scratch:
            if args.what == "quality":
                quality(folder, Path(scratch))
                continue
            images = args.images or write_files(open_run(folder), Path(scratch) / "files")
            speed(folder, images, args.rounds, args.threads)


def write_files(run, root):
    """The run's test images in class folders."""
    subject = open_split(run, "test")
    for position, (row, label) in enumerate(zip(subject.images.rows, subject.images.labels, strict=True)):
        folder = root / subject.data.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = subject.images.images[row]
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(folder / f"{position:05}.png")
    return root


def speed(folder, images, rounds, threads):
    run = open_run(folder)
    precision = build_precision(run.plan.semantic.precision, CPU, private=False)
    model = activate_in_place(run.build_model(precision.parameter_dtype))
    layout = format_for(model, channels_last=True)
    model = model.to(memory_format=layout)
    batch = run.plan.performance.eval_batch_size
    subject = open_folder(run, images)
    count = len(subject.images)
    feed = feed_of(subject, layout)
    performance = dataclasses.replace(run.plan.performance, threads=threads)
    with torch_settings(dataclasses.replace(run.plan, performance=performance)):
        pixels, _ = feed.span(0, count)
        with torch.inference_mode():
            piece = min(batch, count, eval_chunk_size(model, pixels[:batch], precision))
        ours = {
            PRODUCT: timed(lambda: product(model, subject, feed, batch, precision)),
            ALONE: timed(lambda: model_alone(model, pixels, piece)),
            CACHED: timed(lambda: product_from_files(run, images, model, layout, batch, precision)),
        }
        with beside(folder, images, batch, piece, threads) as theirs:
            contestants = ours | theirs
            accuracies = {name: contest(1)[0] for name, contest in contestants.items()}  # warm, and do they agree?
            passes = max(1, round(TURN / contestants[PRODUCT](1)[1]))
            # what is short needs more rounds
            in_memory = [name for name in contestants if name not in LOADERS and name != CACHED]
            seconds = in_turns({name: contestants[name] for name in in_memory}, 5 * rounds, passes)
            seconds |= in_turns({name: contestants[name] for name in (CACHED, *LOADERS)}, rounds)
        cold = cold_seconds(run, images, model, layout, batch, precision)
    print(f"\n{run.plan.name}: {count:,} images, batches of {batch} in pieces of {piece}, {layout}, {threads} threads")
    for name, times in seconds.items():
        rate = count / statistics.median(wall for wall, _ in times)
        print(f"  {name:<36} {rate:>10,.0f} images/s   accuracy {accuracies[name]:.4f}")
    print(f"  {'product, from files, nothing cached':<36} {count / cold:>10,.0f} images/s   (once)")
    for other in in_memory:
        if other != PRODUCT:
            compare(PRODUCT, other, seconds, 0)
            compare(PRODUCT, other, seconds, 1)
    for loader in LOADERS:  # what its workers do is not counted in seconds of the processor
        compare(CACHED, loader, seconds, 0)
    fastest = min(LOADERS, key=lambda name: sorted(seconds[name])[rounds // 2])
    compare(ALONE, fastest, {ALONE: seconds[ALONE][:rounds], fastest: seconds[fastest]}, 0)


PRODUCT, CACHED, ALONE = "product, in memory", "product, from files (cached)", "the model alone"
LOADERS = ("ImageFolder + DataLoader, 0 workers", "ImageFolder + DataLoader, 2 workers", "0 workers, product's pieces")


def compare(ours, theirs, seconds, clock):
    ratios = [b[clock] / a[clock] for a, b in zip(seconds[ours], seconds[theirs], strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    unit = ("wall time", "processor time")[clock]
    print(f"  {ours} / {theirs}: x{median:.3f} in {unit}, {len(ratios)} rounds (middle half {low:.3f} to {high:.3f})")


def in_turns(contestants, rounds, passes=1):
    """(wall seconds, processor seconds) of a pass of each, round by round, each going first in every other one."""
    seconds = {name: [] for name in contestants}
    for number in range(rounds):
        for name in contestants if number % 2 else reversed(contestants):
            seconds[name].append(contestants[name](passes)[1:])
    return seconds


def timed(contest):
    """The contest as a function of how many passes to (accuracy, wall seconds, processor seconds) of one."""

    def run(passes):
        start, worked = time.perf_counter(), time.process_time()
        for _ in range(passes):
            accuracy = contest()
        return accuracy, (time.perf_counter() - start) / passes, (time.process_time() - worked) / passes

    return run


@contextlib.contextmanager
def beside(folder, images, batch, piece, threads):
    """The loops of others, each to be started by a call, in a process that holds nothing of the product but the model.

    The product changes how its process keeps freed memory, which would help them too.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, folder, images, batch, piece, threads))
    process.start()

    def ask(name, passes):
        here.send((name, passes))
        return here.recv()

    try:
        yield {name: functools.partial(ask, name) for name in here.recv()}
    finally:
        here.send(None)
        process.join()


def serve(pipe, folder, images, batch, piece, threads):
    torch.set_num_threads(threads)
    run = open_run(folder)
    model = run.build_model(torch.float32)
    layout = format_for(model, channels_last=True)
    model = model.to(memory_format=layout)
    files = image_folder(run, images)
    pixels = torch.stack([image for image, _ in files]).to(memory_format=layout)
    labels = torch.tensor(files.targets)
    contestants = {
        "the model alone, there": timed(lambda: model_alone(model, pixels, piece)),
        "hand-written": timed(lambda: hand_written(model, pixels, labels, batch)),
        "hand-written, the same answers": timed(lambda: hand_written_answers(model, pixels, labels, batch)),
        "hand-written, product's pieces": timed(lambda: hand_written(model, pixels, labels, piece)),
        LOADERS[0]: timed(lambda: tutorial(model, files, layout, batch, workers=0)),
        LOADERS[1]: timed(lambda: tutorial(model, files, layout, batch, workers=2)),
        LOADERS[2]: timed(lambda: tutorial(model, files, layout, piece, workers=0)),
    }
    pipe.send(list(contestants))
    while (asked := pipe.recv()) is not None:
        name, passes = asked
        pipe.send(contestants[name](passes))


def feed_of(subject, layout):
    channels_last = layout == torch.channels_last
    return Feed(
        subject.images, subject.data, device=CPU, dtype=torch.float32, channels_last=channels_last, augment=None
    )


def product(model, subject, feed, batch, precision):
    world, labels = SingleProcess(CPU), subject.images.labels
    found = predict(
        model, feed, len(labels), batch_size=batch, precision=precision, world=world, progress=lambda done: None
    )
    return np.count_nonzero(found.predicted == labels) / len(labels)


def product_from_files(run, images, model, layout, batch, precision):
    subject = open_folder(run, images)
    return product(model, subject, feed_of(subject, layout), batch, precision)


def cold_seconds(run, images, model, layout, batch, precision):
    with tempfile.TemporaryDirectory() as cache:
        run.config.data.cache_dir = cache
        start = time.perf_counter()
        product_from_files(run, images, model, layout, batch, precision)
        return time.perf_counter() - start


def model_alone(model, pixels, batch):
    """What no loop around it can beat."""
    with torch.inference_mode():
        for start in range(0, len(pixels), batch):
            model(pixels[start : start + batch])
    return float("nan")


def hand_written(model, pixels, labels, batch):
    loss, right = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(labels), batch):
            logits = model(pixels[start : start + batch])
            truth = labels[start : start + batch]
            loss += torch.nn.functional.cross_entropy(logits, truth, reduction="sum")
            right += (logits.argmax(1) == truth).sum()
    return float(right) / len(labels)


def hand_written_answers(model, pixels, labels, batch):
    loss, found = 0.0, []
    with torch.inference_mode():
        for start in range(0, len(labels), batch):
            logits = model(pixels[start : start + batch])
            loss += torch.nn.functional.cross_entropy(logits, labels[start : start + batch], reduction="sum")
            found.append(logits.softmax(1).max(1))
    classes = torch.cat([each.indices for each in found])
    _confidences = torch.cat([each.values for each in found])
    return float((classes == labels).sum()) / len(labels)


def image_folder(run, images):
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    data = run.plan.semantic.data
    steps = [transforms.ToTensor(), transforms.Normalize(data.mean, data.std)]
    grey = [transforms.Grayscale()] if data.channels == 1 else []
    return ImageFolder(images, transforms.Compose([*grey, *steps]))


def tutorial(model, files, layout, batch, *, workers):
    from torch.utils.data import DataLoader

    forks = "fork" if workers else None  # as in a program that was started, and not spawned
    right = total = 0
    with torch.inference_mode():
        for pixels, labels in DataLoader(files, batch_size=batch, num_workers=workers, multiprocessing_context=forks):
            right += (model(pixels.to(memory_format=layout)).argmax(1) == labels).sum()
            total += len(labels)
    return float(right) / total


STRATEGIES = {
    "standard": [],
    "bfloat16": ["inference=mixed_precision", "dtype=bfloat16"],
    "float16": ["inference=mixed_precision", "dtype=float16"],
    "2 processes": ["inference=accelerate"],
    "int8": ["inference=quantized", "bits=8"],
    "int4": ["inference=quantized", "bits=4"],
}


def quality(folder, scratch):
    found = {}
    for number, (name, words) in enumerate(STRATEGIES.items()):
        # an odd batch, so that neither it nor the processes divide the images; equal threads, so that bits can be equal
        words = [*words, "batch_size=137", "threads=1", f"output={scratch}/{number}"]
        infer(read_request([f"run={folder}", *words]))
        found[name] = json.loads((scratch / str(number) / "inference.json").read_text())
    run, whole = open_run(folder), found["standard"]
    print(f"\n{run.plan.name}: {whole['images']:,} test images, the run itself {whole['run_test_accuracy']:.4%}")
    for name, one in found.items():
        metrics, speed = one["metrics"], one["speed"]
        change = 100 * (metrics["accuracy"] - whole["metrics"]["accuracy"])
        print(
            f"  {name:<12} accuracy {metrics['accuracy']:.4%} ({change:+.3f} pp)  loss {metrics['loss']:.6f}"
            f"  ECE {metrics['calibration_error']:.4f}  {speed['images_per_second']:>8,.0f} images/s"
            f"  p50 {speed['latency_p50_ms']:.2f} ms  weights {one['model_bytes'] / 1000:,.1f} kB"
            f" (x{one['model_bytes'] / whole['model_bytes']:.3f})"
        )
    same = found["2 processes"]["metrics"] == whole["metrics"]
    lines = [(scratch / number / "predictions.csv").read_text() for number in ("0", "3")]
    print(
        f"  2 processes: metrics {'equal' if same else 'DIFFER'}, files {'equal' if lines[0] == lines[1] else 'DIFFER'}"
    )
    for form in ("onnx", "torch_export"):
        check = export(run, form, scratch / form, images=None)
        print(
            f"  {form:<12} {check.images:,} images, {check.other_classes} other classes,"
            f" probabilities within {check.largest_difference:.1e}"
        )


if __name__ == "__main__":
    main()
