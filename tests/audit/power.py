"""How small a fault the audit sees: ``python -m tests.audit.power [--repeats 10]`` from the root of the checkout.

A row for each kind of fault, as Markdown: how many of the repetitions failed the audit at each size, and the smallest
size that fails nine of ten.  Faults of noise and batches are those of an audit of the default recipe, as to tensors,
steps, examples and rate, judged by the audit's own checks at its level, on numbers that are drawn here; faults of the
clipped sum are planted in that recipe and trained.
"""

import argparse
import math
import sys
import time
from pathlib import Path

import numpy as np

from tests.audit.campaign import configuration
from tests.audit.faults import Centred, model_changed, moved_further, planted

SHAPES = {
    "0.weight": 288, "0.bias": 32, "1.weight": 32, "1.bias": 32, "4.weight": 18432, "4.bias": 64, "5.weight": 64,
    "5.bias": 64, "8.bias": 128, "9.weight": 128, "9.bias": 128, "13.weight": 5120, "13.bias": 10,
}  # fmt: skip
"""Of model=small_cnn on data=digits, without its largest tensor, which would only make faults of all noise clearer."""
NAMES = list(SHAPES)
SMALLEST, SMALL, LARGE = NAMES.index("13.bias"), NAMES.index("4.bias"), NAMES.index("4.weight")
TWIN = NAMES.index("5.bias")
STEPS = 240
BATCHES, EXAMPLES, RATE = 1010, 1270, 64 / 1294
BY_CHANCE = 12
"""Checks of an audit that chance has a say in: a p-value counts times their number."""


def noise(random, change):
    """Of all tensors, or for a fault of small tensors, which large ones would not make clearer, of those up to 512."""
    small = change in (in_common, shared) or getattr(change, "tensor", None) is not None
    return [
        random.standard_normal((STEPS, count if count <= 512 or not small else 512), dtype=np.float32)
        for count in SHAPES.values()
    ]


def batches(random, rate=RATE):
    return random.random((BATCHES, EXAMPLES)) < rate


def scaled(tensor, steps=slice(None)):
    def change(found, size, random):
        for index, each in enumerate(found):
            if tensor in (None, index):
                each[steps] *= 1 - size
        return found

    change.tensor = tensor
    return change


def step_again(tensor):
    def change(found, size, random):
        """A step in 1 / size has the noise of the step before."""
        for index, each in enumerate(found):
            if tensor in (None, index):
                for step in range(1, STEPS, max(1, round(1 / size))):
                    each[step] = each[step - 1]
        return found

    change.tensor = tensor
    return change


def shared(found, size, random):
    """Two layers of 64 numbers have noise of correlation ``size``."""
    found[TWIN] = size * found[SMALL] + math.sqrt(1 - size**2) * found[TWIN]
    return found


def echo(found, size, random):
    """The second half of the largest tensor has the correlation ``size`` with the first."""
    half = found[LARGE].shape[1] // 2
    found[LARGE][:, half:] = size * found[LARGE][:, :half] + math.sqrt(1 - size**2) * found[LARGE][:, half:]
    return found


def later(found, size, random):
    """The noise of a step holds a share of that of the step before: correlation ``size``."""
    for each in found:
        each[1:] = math.sqrt(1 - size**2) * each[1:] + size * each[:-1]
    return found


def in_common(found, size, random):
    """A share ``size`` of the variance of a tensor of 64 numbers is one number for all of them."""
    part = random.normal(size=(STEPS, 1))
    found[SMALL] = (math.sqrt(1 - size) * found[SMALL] + math.sqrt(size) * part).astype(np.float32)
    return found


def tails(found, size, random):
    """A share ``size`` of the noise is Laplace's, of the same deviation."""
    for index, each in enumerate(found):
        other = random.laplace(0.0, math.sqrt(0.5), each.shape)
        found[index] = np.where(random.random(each.shape) < size, other, each).astype(np.float32)
    return found


def rate_off(found, size, random):
    return batches(random, RATE * (1 + size))


def fixed_sizes(found, size, random):
    """A share of the batches has the expected number of examples exactly."""
    for step in np.flatnonzero(random.random(BATCHES) < size):
        found[step] = False
        found[step, random.choice(EXAMPLES, round(EXAMPLES * RATE), replace=False)] = True
    return found


def batch_again(found, size, random):
    for step in range(1, BATCHES, max(1, round(1 / size))):
        found[step] = found[step - 1]
    return found


def part_again(found, size, random):
    """Each batch keeps every example of the one before with probability ``size``, and is as large as before."""
    stay = random.random(found.shape) < size
    for step in range(1, BATCHES):
        found[step] = np.where(stay[step], found[step - 1], found[step])
    return found


def turns(found, size, random):
    """Each half of the examples has the rate q (1 + size) and q (1 - size) in turn."""
    even = np.arange(EXAMPLES) % 2 == np.arange(BATCHES)[:, None] % 2
    return random.random(found.shape) < RATE * np.where(even, 1 + size, 1 - size)


def favourite(found, size, random):
    """One example is drawn at ``size`` times the rate."""
    found[:, 700] = random.random(BATCHES) < size * RATE
    return found


def companions(found, size, random):
    """Two examples come together: with probability ``size`` the one does what the other does."""
    found[:, 700] = np.where(random.random(BATCHES) < size, found[:, 3], found[:, 700])
    return found


BY_NOISE = {
    "noise too small": (scaled(None), [0.001, 0.002, 0.003], "{:.2%}"),
    "noise too small in 64 numbers": (scaled(SMALL), [0.02, 0.025, 0.03, 0.04], "{:.1%}"),
    "noise too small in 10 numbers": (scaled(SMALLEST), [0.04, 0.06, 0.08, 0.12], "{:.0%}"),
    "noise too small in 64 numbers of one step": (scaled(SMALL, slice(5, 6)), [0.3, 0.4, 0.5, 0.6], "{:.0%}"),
    "no noise in 10 numbers of one step": (scaled(SMALLEST, slice(5, 6)), [0.8, 0.9, 1.0], "{:.0%}"),
    "steps with the noise of the one before": (step_again(None), [1 / 240, 1 / 60], "{:.1%}"),
    "the same in 64 numbers": (step_again(SMALL), [1 / 240, 1 / 60], "{:.1%}"),
    "the same in 10 numbers": (step_again(SMALLEST), [1 / 240, 1 / 60], "{:.1%}"),
    "correlation with the step before": (later, [0.002, 0.003, 0.005], "{:.1%}"),
    "correlation of two tensors of 64": (shared, [0.03, 0.04, 0.05, 0.07, 0.1], "{:.0%}"),
    "correlation of two halves of a tensor": (echo, [0.003, 0.005, 0.01], "{:.1%}"),
    "variance in common in 64 numbers": (in_common, [0.005, 0.01, 0.015, 0.02], "{:.1%}"),
    "part of the noise of another shape": (tails, [0.1, 0.2, 0.3], "{:.0%}"),
}
BY_BATCHES = {
    "rate too high": (rate_off, [0.01, 0.02, 0.03], "{:.0%}"),
    "batches of a fixed size": (fixed_sizes, [0.2, 0.3, 0.4], "{:.0%}"),
    "batches that are the one before": (batch_again, [1 / 1000, 1 / 100], "{:.1%}"),
    "examples that stay for the next batch": (part_again, [0.003, 0.005, 0.01], "{:.1%}"),
    "halves in turn, rates apart by": (turns, [0.2, 0.3, 0.4], "{:.0%}"),
    "one example drawn more often, times": (favourite, [1.75, 2.0, 2.5], "{:.2f}"),
    "two examples together": (companions, [0.3, 0.4, 0.5], "{:.0%}"),
}
PLANTED = {
    "an example that counts 1 + y": (lambda y: moved_further(1 + y), [1e-4, 3e-4, 1e-3, 3e-3], "{:.2%}"),
    "a layer that mixes, by": (lambda y: model_changed(lambda m: Centred(m, y)), [1e-5, 1e-4, 1e-3], "{:.3%}"),
}


def fails(checks):
    from runner.audit.checks import LEVEL

    return any(BY_CHANCE * check.p_value < LEVEL for check in checks)


def by_noise(change, size, random):
    from runner.audit.released_noise import Noise, noise_checks

    return fails(
        noise_checks(Noise.of([each.astype(np.float64) for each in change(noise(random, change), size, random)]))
    )


def by_batches(change, size, random):
    from runner.audit.inclusions import inclusion_checks

    return fails(inclusion_checks(change(batches(random), size, random), rate=RATE))


def by_training(plant, size, random):
    from runner.audit.config_audit import audit_config
    from tests.audit.configs import request

    config = configuration(
        *("trainer=dp", "privacy.epsilon=3", "privacy.accountant=rdp", "data.augment.crop_padding=1"),
        *("hardware.threads=1", "tracker=none", "privacy.grad_sample=ghost"),
        base=(),
    )
    with planted(plant(size)):
        audit = audit_config(request(config, runs=1, steps=10, targets=2, sums=64), failures=Path("failures.log"))
    return bool(audit.failures)


def row(kind, decide, change, sizes, form, repeats, random):
    start = time.perf_counter()
    seen = [sum(decide(change, size, random) for _ in range(repeats)) for size in sizes]
    smallest = next(
        (form.format(size) for size, count in zip(sizes, seen, strict=True) if count >= 0.9 * repeats), "none of these"
    )
    each = ", ".join(f"{form.format(size)}: {count}" for size, count in zip(sizes, seen, strict=True))
    print(f"| {kind} | {each} | **{smallest}** |", flush=True)
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random = np.random.default_rng(args.seed)
    print(f"| fault | size: seen of {args.repeats} | smallest size seen 9 times in 10 |")
    print("|---|---|---|")
    for decide, kinds, repeats in (
        (by_batches, BY_BATCHES, args.repeats),
        (by_training, PLANTED, 1),
        (by_noise, BY_NOISE, args.repeats),
    ):
        for kind, (change, sizes, form) in kinds.items():
            row(kind, decide, change, sizes, form, repeats, random)


if __name__ == "__main__":
    main()
