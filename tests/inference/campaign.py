"""What inference must show, measured: ``python -m tests.inference.campaign speed|quality RUN ... [--images FOLDER]``.

``speed`` holds the product's pass against two others, in turns in one process with one thread for the model, and
prints the ratio of the rounds, also in seconds of the processor, which other work on the machine touches less:

- *hand-written*: all in memory, normalised beforehand, batches as slices of it, loss and accuracy added up;
- *ImageFolder + DataLoader*: the loop of most tutorials over the same files, with 0 and with 2 workers, the faster of
  which counts.  Against it the product starts from the files as well: with decoded images in its cache, and without.

``quality`` runs every strategy and both exports, and prints how accuracy, size and probabilities differ.
"""

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from runner.data.feed import Feed
from runner.inference.evaluation import infer
from runner.inference.exporting import export
from runner.inference.finished_run import open_run
from runner.inference.images import open_folder, open_split
from runner.inference.measure import answer
from runner.inference.request import read_request
from runner.training.precision import build_precision
from runner.training.torch_settings import torch_settings
from runner.training.world import SingleProcess

CPU = torch.device("cpu")
ROUNDS = 7


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "quality"])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--images", type=Path, help="class folders (default: the run's test images, written as PNG)")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args()
    for folder in args.runs:
        with tempfile.TemporaryDirectory() as scratch:
            if args.what == "quality":
                quality(folder, Path(scratch))
                continue
            run = open_run(folder)
            images = args.images or write_files(run, Path(scratch) / "files")
            speed(run, images, args.rounds)


def write_files(run, root):
    """The run's test images in class folders."""
    subject = open_split(run, "test")
    for position, (row, label) in enumerate(zip(subject.images.rows, subject.images.labels, strict=True)):
        folder = root / subject.data.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = subject.images.images[row]
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(folder / f"{position:05}.png")
    return root


def speed(run, images, rounds):
    precision = build_precision(run.plan.semantic.precision, CPU, private=False)
    model = run.build_model(precision.parameter_dtype).to(memory_format=torch.channels_last)
    batch = run.plan.performance.eval_batch_size
    subject = open_folder(run, images)
    count = len(subject.images)
    feed = feed_of(subject)
    ready = feed.batch(torch.arange(count), None)
    in_memory = {
        "product, in memory": lambda: product(model, feed, count, batch, precision),
        "hand-written": lambda: hand_written(model, *ready, batch),
    }
    from_files = {
        "product, from files (cached)": lambda: product_from_files(run, images, model, batch, precision),
        "ImageFolder + DataLoader, 0 workers": lambda: tutorial(run, images, model, batch, workers=0),
        "ImageFolder + DataLoader, 2 workers": lambda: tutorial(run, images, model, batch, workers=2),
    }
    performance = dataclasses.replace(run.plan.performance, threads=1)
    with torch_settings(dataclasses.replace(run.plan, performance=performance)):
        contestants = in_memory | from_files
        accuracies = {name: contest() for name, contest in contestants.items()}  # warm, and shows that they agree
        # short passes need more rounds
        seconds = in_turns(in_memory, 5 * rounds) | in_turns(from_files, rounds)
        cold = cold_seconds(run, images, model, batch, precision)
    print(f"\n{run.plan.name}: {count:,} images")
    for name, times in seconds.items():
        rate = count / statistics.median(wall for wall, _ in times)
        print(f"  {name:<36} {rate:>10,.0f} images/s   accuracy {accuracies[name]:.4f}")
    print(f"  {'product, from files, nothing cached':<36} {count / cold:>10,.0f} images/s   (once)")
    loader = min((name for name in seconds if "DataLoader" in name), key=lambda name: statistics.median(seconds[name]))
    compare("product, in memory", "hand-written", seconds, 0)
    compare("product, in memory", "hand-written", seconds, 1)
    # not in seconds of the processor: those of the loader's workers are not in this process
    compare("product, from files (cached)", loader, seconds, 0)


def compare(ours, theirs, seconds, clock):
    ratios = [b[clock] / a[clock] for a, b in zip(seconds[ours], seconds[theirs], strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    unit = ("wall time", "processor time")[clock]
    print(f"  {ours} / {theirs}: x{median:.3f} in {unit}, {len(ratios)} rounds (middle half {low:.3f} to {high:.3f})")


def in_turns(contestants, rounds):
    """(wall seconds, processor seconds) of each, round by round, each going first in every other one."""
    seconds = {name: [] for name in contestants}
    for number in range(rounds):
        for name in contestants if number % 2 else reversed(contestants):
            start, worked = time.perf_counter(), time.process_time()
            contestants[name]()
            seconds[name].append((time.perf_counter() - start, time.process_time() - worked))
    return seconds


def feed_of(subject):
    return Feed(subject.images, subject.data, device=CPU, dtype=torch.float32, channels_last=True, augment=None)


def product(model, feed, count, batch, precision):
    found = answer(
        model, feed, count, batch_size=batch, precision=precision, world=SingleProcess(CPU), progress=lambda done: None
    )
    return (found.predicted == found.labels).mean()


def product_from_files(run, images, model, batch, precision):
    subject = open_folder(run, images)
    return product(model, feed_of(subject), len(subject.images), batch, precision)


def cold_seconds(run, images, model, batch, precision):
    with tempfile.TemporaryDirectory() as cache:
        run.config.data.cache_dir = cache
        start = time.perf_counter()
        product_from_files(run, images, model, batch, precision)
        return time.perf_counter() - start


def hand_written(model, pixels, labels, batch):
    loss, right = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(labels), batch):
            logits = model(pixels[start : start + batch])
            truth = labels[start : start + batch]
            loss += torch.nn.functional.cross_entropy(logits, truth, reduction="sum")
            right += (logits.argmax(1) == truth).sum()
    return float(right) / len(labels)


def tutorial(run, images, model, batch, *, workers):
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    data = run.plan.semantic.data
    steps = [transforms.ToTensor(), transforms.Normalize(data.mean, data.std)]
    grey = [transforms.Grayscale()] if data.channels == 1 else []
    loader = DataLoader(ImageFolder(images, transforms.Compose([*grey, *steps])), batch_size=batch, num_workers=workers)
    right = total = 0
    with torch.inference_mode():
        for pixels, labels in loader:
            right += (model(pixels.to(memory_format=torch.channels_last)).argmax(1) == labels).sum()
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
