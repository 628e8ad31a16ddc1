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
from runner.training.losses import cross_entropy
from runner.training.precision.precision import Precision, ScaledFloat16

CPU = torch.device("cpu")
UPDATES, ROUNDS = 400, 31
PROCESSES = 9


def cpu_seconds(work, who=resource.RUSAGE_SELF):
    """User and system time of ``work``."""
    before = resource.getrusage(who)
    work()
    after = resource.getrusage(who)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def updates(precision, optimizer=torch.optim.SGD, fused=False):
    """The updates of a tiny network, as the loop does them."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    images, labels = torch.randn(64, 64), torch.randint(0, 10, (64,))
    loss = cross_entropy(0.0, reduction="sum")
    rule = MeanRule(model, loss=loss, precision=precision, world=SingleProcess(CPU), clip_norm=None)
    stepping, parameters = optimizer(model.parameters(), lr=1e-3, fused=fused), list(model.parameters())

    def work():
        for step in range(UPDATES):
            rule.begin(64.0)
            rule.add(images, labels)
            rule.release(step)
            precision.step(stepping, parameters, step)

    return work


def fixed_features():
    """Updates of a linear model on fixed random features, whose directions are a buffer of 8 MB."""
    torch.manual_seed(0)
    model = linear_hog(in_channels=1, num_classes=10, image_size=28, fourier_features=4096)
    images, labels = torch.rand(64, 1, 28, 28), torch.randint(0, 10, (64,))
    loss, precision = cross_entropy(0.0, reduction="sum"), Precision(CPU)
    rule = MeanRule(model, loss=loss, precision=precision, world=SingleProcess(CPU), clip_norm=None)
    optimizer, parameters = torch.optim.SGD(model.parameters(), lr=1e-3), list(model.parameters())
    before = BufferSnapshot(model)

    def work():
        for step in range(UPDATES // 20):
            before.take()
            rule.begin(64.0)
            rule.add(images, labels)
            rule.release(step)
            precision.step(optimizer, parameters, step)

    return work


def switched(name, on):
    """The switch of one module of ``runner/internals``."""
    module = importlib.import_module(name)
    module.plain_torch = lambda: on


def compare(title, name, work):
    """Microseconds an update, the public way over the measured one."""
    for on in (False, True):
        switched(name, on)
        work()
    times = {"A": [], "B": [], "A again": []}
    for number in range(ROUNDS):
        order = ["A", "B", "A again"] if number % 2 else ["A again", "B", "A"]
        for which in order:
            switched(name, which == "B")
            times[which].append(cpu_seconds(work) / UPDATES * 1e6)
    switched(name, False)
    ours, public, again = (statistics.median(times[which]) for which in ("A", "B", "A again"))
    print(
        f"{title}: {ours:.1f} us, public {public:.1f} us"
        f" ({public / ours - 1:+.1%}; A against A {again / ours - 1:+.1%})"
    )


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
    """Milliseconds of a process."""
    times = {"A": [], "B": [], "A again": []}
    for number in range(PROCESSES):
        order = ["A", "B", "A again"] if number % 2 else ["A again", "B", "A"]
        for which in order:
            switch = f"m.plain_torch = lambda: {which == 'B'}"
            code = "\n".join(["import torch", f"from runner.internals import {name} as m", switch, *lines])
            command = [sys.executable, "-c", code]
            took = cpu_seconds(lambda command=command: subprocess.run(command, check=True), resource.RUSAGE_CHILDREN)
            times[which].append(took * 1e3)
    ours, public, again = (statistics.median(times[which]) for which in ("A", "B", "A again"))
    print(
        f"{name}, start: {ours:.0f} ms, public {public:.0f} ms"
        f" ({public - ours:+.0f} ms; A against A {again - ours:+.0f} ms)"
    )


def main():
    """Print a line a detour."""
    torch.set_num_threads(1)
    float16 = {"growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000, "max_skipped_in_a_row": 50}
    compare("backward, update", "runner.internals.backward", updates(Precision(CPU)))
    compare("optimizer_step, update", "runner.internals.optimizer_step", updates(Precision(CPU)))
    compare("loss_scale, float32 update", "runner.internals.loss_scale", updates(Precision(CPU)))
    scaled = ScaledFloat16(CPU, init_scale=2.0**15, **float16)
    compare("loss_scale, float16 update", "runner.internals.loss_scale", updates(scaled))
    for on in (True, False):  # the choice is made with the copies
        switched("runner.training.gradients.buffer_snapshot", on)
        name = "every buffer copied" if on else "changed buffers copied"
        work = fixed_features()
        work()
        taken = statistics.median(cpu_seconds(work) for _ in range(ROUNDS)) / (UPDATES // 20) * 1e6
        print(f"versions, {name}: {taken:.0f} us an update")
    for name, lines in STARTS.items():
        compare_starts(name, lines)


if __name__ == "__main__":
    main()
