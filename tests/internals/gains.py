"""What the detours of ``runner/internals`` gain: ``python -m tests.internals.gains``, four minutes.

CPU seconds of the user, A B A B in one order and the other, medians; A against A shows what is noise.  Run it on a
machine that does nothing else, with ``OMP_NUM_THREADS=1``.
"""

import importlib
import resource
import statistics
import subprocess
import sys

import torch

from runner.models.oriented_gradients import linear_hog
from runner.training.distributed.world import SingleProcess
from runner.training.gradients.buffer_snapshot import BufferSnapshot
from runner.training.gradients.mean_rule import MeanRule
from runner.training.precision.precision import Precision, ScaledFloat16
from tests.tasks.plain_task import plain_task

CPU = torch.device("cpu")
UPDATES, ROUNDS = 400, 31
PROCESSES = 5


def cpu_seconds(work, who=resource.RUSAGE_SELF):
    """User and system time of ``work``."""
    before = resource.getrusage(who)
    work()
    after = resource.getrusage(who)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def updates(model, images, precision):
    """The updates of a network, as the loop does them."""
    labels = torch.randint(0, 10, (len(images),))
    rule = MeanRule(model, task=plain_task(), precision=precision, world=SingleProcess(CPU), clip_norm=None)
    optimizer, parameters = torch.optim.SGD(model.parameters(), lr=1e-3), list(model.parameters())
    before = BufferSnapshot(model)

    def work(count):
        for step in range(count):
            before.take()
            rule.begin(float(len(images)))
            rule.add(images, labels)
            rule.release(step)
            precision.step(optimizer, parameters, step)

    return work


def tiny(precision):
    """Updates of a network of 64, 32 and 10 units, with batches of 64."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    return updates(model, torch.randn(64, 64), precision)


def fixed_features():
    """Updates of a linear model on fixed random features, whose directions are a buffer of 8 MB."""
    torch.manual_seed(0)
    model = linear_hog(in_channels=1, num_classes=10, image_size=28, fourier_features=4096)
    return updates(model, torch.rand(64, 1, 28, 28), Precision(CPU))


def switch(name, on):
    """Set the switch of one module alone."""
    importlib.import_module(name).plain_torch = lambda: on


def compare(title, ours, public, *, rounds):
    """Print the medians of two callables that give CPU seconds, and of the first against itself."""
    times = {"A": [], "B": [], "A again": []}
    for number in range(rounds):
        order = ["A", "B", "A again"] if number % 2 else ["A again", "B", "A"]
        for which in order:
            times[which].append((public if which == "B" else ours)())
    first, second, again = (statistics.median(times[which]) * 1e6 for which in ("A", "B", "A again"))
    print(
        f"{title}: {first:.0f} us, public {second:.0f} us"
        f" ({second - first:+.0f} us, {second / first - 1:+.1%}; A against A {again / first - 1:+.1%})",
        flush=True,
    )


def compare_updates(title, name, make, count=UPDATES):
    """An update with the switch of the module ``name`` off, and on."""

    def timed(on):
        switch(name, on)
        work = make()
        work(count)

        def once():
            switch(name, on)
            return cpu_seconds(lambda: work(count)) / count

        return once

    compare(title, timed(False), timed(True), rounds=ROUNDS)
    switch(name, False)


STARTS = {
    "without_compiler": (
        "m.leave_compiler_out()",
        "torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1).zero_grad()",
    ),
    "backward": ("m.lean_backward(torch.ones((), requires_grad=True) * 2, torch.ones(()))",),
    "functional_grad": ("with m.compiler_left_out(): torch.func.grad(lambda x: x * x)(torch.ones(()))",),
    "counting": (
        "class Seen(m.Operations):",
        "    def __torch_dispatch__(self, func, types, args=(), kwargs=None): return func(*args, **(kwargs or {}))",
        "with Seen(): torch.ones(2) + 1",
    ),
    "interpreter_exit": ("m.leave_process(0)",),
}


def compare_starts(name, lines):
    """A process with the switch of one module off, and on."""

    def timed(on):
        code = ["import torch", f"from runner.internals import {name} as m", f"m.plain_torch = lambda: {on}", *lines]
        command = [sys.executable, "-c", "\n".join(code)]
        return lambda: cpu_seconds(lambda: subprocess.run(command, check=True), resource.RUSAGE_CHILDREN)

    compare(f"{name}, start", timed(False), timed(True), rounds=PROCESSES)


def main():
    """Print a line a detour."""
    torch.set_num_threads(1)
    scale = {"init_scale": 2.0**15, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000}
    compare_updates("backward, update", "runner.internals.backward", lambda: tiny(Precision(CPU)))
    compare_updates("optimizer_step, update", "runner.internals.optimizer_step", lambda: tiny(Precision(CPU)))
    compare_updates("loss_scale, float32 update", "runner.internals.loss_scale", lambda: tiny(Precision(CPU)))
    compare_updates(
        "loss_scale, float16 update",
        "runner.internals.loss_scale",
        lambda: tiny(ScaledFloat16(CPU, **scale, max_skipped_in_a_row=50)),
    )
    compare_updates("versions, update", "runner.training.gradients.buffer_snapshot", fixed_features, count=20)
    for name, lines in STARTS.items():
        compare_starts(name, lines)


if __name__ == "__main__":
    main()
