"""The runner's loop beside a bare one, and beside what other libraries make of the same task."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from runner.bench.paired_benchmark import Contender, run_paired
from runner.bench.section import Section, paired_section
from runner.bench.settings import Settings
from runner.bench.task import TASKS, prepare

BARE = Contender(name="bare loop", module="bare")
AGAIN = Contender(name="bare loop again", module="bare")
RUNNER = Contender(name="runner", module="through_runner")

_BY_HAND = (BARE, AGAIN, Contender(name="by hand with schedule, metrics, log", module="full"), RUNNER)
_OTHERS = (
    Contender(name="Lightning", module="lightning_loop"),
    Contender(name="Lightning with logging", module="lightning_loop", options=("logging",)),
    Contender(name="Lightning, same input", module="lightning_loop", options=("same_input",)),
    Contender(name="Accelerate", module="accelerate_loop"),
    Contender(name="Accelerate, same input", module="accelerate_loop", options=("same_input",)),
    Contender(name="torchvision's style", module="reference_style"),
    Contender(name="torchvision's style, same input", module="reference_style", options=("same_input",)),
)
_ABOUT = {
    "tiny_mlp": "A model so small that nothing but the loop is measured.",
    "small_cnn": "A small network, where an update takes milliseconds.",
    "resnet18": "A real network, where the loop should not be seen.",
}


def measure(settings: Settings) -> Iterator[Section]:
    """One section a task; the other libraries stand beside the tiny model, where their cost shows."""
    for task in TASKS.values():
        prepared = Path(settings.work) / f"{task.name}.pt"
        prepare(task, prepared)
        contenders = _BY_HAND + (_OTHERS if task.name == "tiny_mlp" else ())
        results = run_paired(task, prepared, contenders, settings)
        yield paired_section(
            results,
            name=f"loop_{task.name}",
            title=f"The loop: {task.about}",
            about=f"{_ABOUT[task.name]} Blocks of {task.block} updates; all contenders start from the same weights, see"
            " the same examples in the same order and gave the same losses over the first 20 updates.",
            ours=RUNNER.name,
            control=AGAIN.name,
        )
