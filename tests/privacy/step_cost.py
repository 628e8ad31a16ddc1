"""What a private step costs: its time beside that of an ordinary step, and the peak memory of each way to gradients.

    python -m tests.privacy.step_cost                      # small_cnn and resnet18, 1 and 2 threads: ten minutes
    python -m tests.privacy.step_cost --models small_cnn --threads 1 --seconds 20

Both steps are whole updates of the same model with the same optimizer, precision and (expected) batch: data, forward,
backward, release, optimizer.  They are timed in one process, in blocks of A B B A, so that drifts of the machine fall
on both; the ratio of each quartet is one figure, and their median comes with a bootstrap interval.  The control times
the ordinary step against a second copy of itself in the same way: it must come out at 1.  Memory is the peak of a
process of its own for each way, less what that process held before its first step.
"""

import argparse
import json
import multiprocessing
import random
import statistics
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MODELS = {"small_cnn": 64, "resnet18": 32}
"""Model -> examples per step, at 32 x 32 x 3 and ten classes."""
WAYS = ("ghost", "functional", "hooks")
_RESAMPLES = 2000


def build(model, batch, trainer, threads, *, grad_sample="auto", secure_noise=True):
    """The parts of a run of ``model``; group normalisation for every trainer, so that all train the same network."""
    import torch

    from runner.config.compose import Composer
    from runner.config.load import load_config
    from runner.data.open import open_data
    from runner.planning.build import build_plan
    from runner.planning.device import detect_device
    from runner.training.distributed.world import SingleProcess
    from runner.training.parts import build_parts

    private = [f"privacy.grad_sample={grad_sample}", f"privacy.secure_noise={secure_noise}"] if trainer == "dp" else []
    composer = Composer(caller=ROOT)
    composed = composer.compose(
        [
            "data=synthetic", "data.val_fraction=0", "data.test_fraction=0", f"data.batch_size={batch}",
            f"model={model}", "model.norm=group", f"trainer={trainer}", "trainer.steps=1000", "hardware=cpu",
            f"hardware.threads={threads}", "tracker=none", *private,
        ]
    )  # fmt: skip
    config = load_config(composed, composer.option_defaults(composed))
    torch.set_num_threads(threads)
    data = open_data(config.data)
    plan = build_plan(config, data, detect_device(config.hardware), processes=1)
    return build_parts(plan, data, SingleProcess(torch.device("cpu")))


def opacus_stepper(model, batch, threads):
    """A step as Opacus' documentation has it: its hooks, its optimizer, batches of a fixed size that are at hand."""
    import torch
    from opacus import PrivacyEngine

    parts = build(model, batch, "standard", threads)
    network = parts.model.to(memory_format=torch.contiguous_format)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    images, labels = parts.feed.batch(torch.arange(batch), None)
    data = torch.utils.data.TensorDataset(images.contiguous(), labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network, optimizer, _ = PrivacyEngine().make_private(
            module=network, optimizer=optimizer, data_loader=torch.utils.data.DataLoader(data, batch_size=batch),
            noise_multiplier=1.0, max_grad_norm=1.0, poisson_sampling=False,
        )  # fmt: skip

    def step():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()

    return step


def stepper(parts):
    """A function that does the next update of ``parts``."""
    from runner.training.step import TrainStep

    step, count = TrainStep(parts), iter(range(10**9))
    return lambda: step.run(next(count))


def seconds_of(step, count):
    """Seconds per call of ``count`` calls."""
    begun = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - begun) / count


def paired(ordinary, other, seconds, count):
    """Times of quartets A B B A for about ``seconds``: pairs (A, B) of seconds per step."""
    found = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found) < 5:
        a, b = seconds_of(ordinary, count), seconds_of(other, count)
        b, a = b + seconds_of(other, count), a + seconds_of(ordinary, count)
        found.append((a / 2, b / 2))
    return found


def median_and_interval(values):
    """The median and its 95 % bootstrap interval."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    return statistics.median(values), medians[int(0.025 * _RESAMPLES)], medians[int(0.975 * _RESAMPLES) - 1]


def time_model(model, batch, threads, seconds, ways):
    """A line of figures for each way: the ratio to the ordinary step, and the control."""
    base = stepper(build(model, batch, "standard", threads))
    steps = {"ordinary again": stepper(build(model, batch, "standard", threads))}
    chosen = None
    for way in ways:
        if way == "opacus":
            steps[way] = opacus_stepper(model, batch, threads)
            continue
        parts = build(model, batch, "dp", threads, grad_sample=way)
        performance = parts.plan.performance
        if way == "auto":
            chosen = f"{performance.grad_sample}: {performance.grad_sample_reason}"
        steps[way] = stepper(parts)
    for step in (base, *steps.values()):
        seconds_of(step, 3)
    count = max(1, round(0.1 / seconds_of(base, 3)))
    lines = []
    for name, step in steps.items():
        found = paired(base, step, seconds, count)
        ratio, low, high = median_and_interval([b / a for a, b in found])
        lines.append({
            "model": model, "batch": batch, "threads": threads, "step": name, "ratio": ratio, "low": low, "high": high,
            "ordinary_ms": 1e3 * statistics.median(a for a, _ in found),
            "step_ms": 1e3 * statistics.median(b for _, b in found), "quartets": len(found), "steps_a_block": count,
            "chosen": chosen if name == "auto" else None,
        })  # fmt: skip
    return lines


def measure_memory(model, batch, way):
    """Bytes that three steps hold at most beyond what was held before them; ``way`` None is the ordinary step."""
    import torch

    from runner.records.environment import peak_memory_bytes, reset_peak_memory

    parts = build(model, batch, "standard" if way is None else "dp", 1, grad_sample=way or "auto")
    step, device = stepper(parts), torch.device("cpu")
    reset_peak_memory(device)
    before = peak_memory_bytes(device)
    seconds_of(step, 3)
    return {"model": model, "batch": batch, "way": way or "ordinary", "peak": peak_memory_bytes(device),
            "beyond": peak_memory_bytes(device) - before}  # fmt: skip


def alone(function, *arguments):
    """``function(*arguments)`` in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def main():
    """Print the figures; with ``--json`` also write them."""
    parser = argparse.ArgumentParser(prog="python -m tests.privacy.step_cost", description=__doc__)
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS), metavar="NAME")
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--ways", nargs="*", default=["auto"], choices=("auto", *WAYS, "opacus"), metavar="WAY")
    parser.add_argument("--seconds", type=float, default=40.0, help="of quartets for each figure")
    parser.add_argument("--memory", action="store_true", help="measure peak memory instead of time")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    arguments = parser.parse_args()
    found = []
    print(", ".join(f"{name} {version(name)}" for name in ("torch", "opacus")))
    for model in arguments.models:
        batch = MODELS[model]
        if arguments.memory:
            for way in (None, *WAYS):
                figure = alone(measure_memory, model, batch, way)
                found.append(figure)
                print(f"{model} batch {batch} {figure['way']:10} {figure['beyond'] / 2**20:7.0f} MiB", flush=True)
            continue
        for threads in arguments.threads:
            for line in alone(time_model, model, batch, threads, arguments.seconds, arguments.ways):
                found.append(line)
                print(
                    f"{model} batch {batch}, {threads} threads, {line['step']:14} {line['ratio']:.3f}"
                    f" [{line['low']:.3f}, {line['high']:.3f}]  {line['ordinary_ms']:.2f} -> {line['step_ms']:.2f} ms,"
                    f" {line['quartets']} quartets of {line['steps_a_block']} steps"
                    + (f" ({line['chosen']})" if line["chosen"] else ""),
                    flush=True,
                )
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
