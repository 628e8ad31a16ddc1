"""What the comparison is worth: a resume that leaves one thing out must end differently.

Each function changes ``Loop.resume`` in a forked run; the product has no such options.
"""

import copy
import shutil

from runner.training import loop as loop_module
from runner.training.gradients import step_rng
from tests.faults import forked_runs
from tests.faults.final_state import differences, final_state
from tests.faults.recipes import COMMON, RECIPES


def nothing():
    """The resume as it is: must end alike."""


def order_of_examples():
    """The order starts anew."""
    _after_resume(lambda loop, step: _shift(loop._parts.sampler, "rows", step))


def augmentation():
    """The random changes to images start anew."""

    def change(loop, step):
        draw = step_rng.augment.draw
        step_rng.augment.draw = lambda config, seed, now, n: draw(config, seed, now - step, n)

    _after_resume(change)


def private_draws():
    """The crops and masks of a private run start anew."""

    def change(loop, step):
        kept = loop._parts.draws
        images, layers = kept.images, kept.layers
        kept.images = lambda now, rows, **share: images(now - step, rows, **share)
        kept.layers = lambda now, rows: layers(now - step, rows)

    _after_resume(change)


def dropout():
    """Dropout draws from a generator that nobody restores."""

    def change(loop, step):
        step_rng.seed_layers = lambda seed, device: None

    _after_resume(change)


def momentum():
    """The optimizer starts empty."""
    _without("optimizer")


def loss_scale():
    """The float16 scale and its counters start at their first values."""
    _without("precision")


def plateau():
    """The schedule forgets what it has seen."""
    _without("schedule")


def loop_state():
    """Best value, patience, last figures and the sums of the epoch are forgotten."""

    def change(loop, step):
        loop._loop_state = loop_module.LoopState()

    _after_resume(change)


def accountant():
    """The privacy spent before the kill is not counted."""
    _after_resume(lambda loop, step: _shift(loop._spending, "epsilon_after", step, least=1))


def noise():
    """The noise stream starts anew."""
    _after_resume(lambda loop, step: _shift(loop._parts.rule, "release", step))


CONTROLS = {
    "standard": (nothing, order_of_examples, augmentation, dropout, momentum, plateau),
    "mixed_precision fp16": (nothing, loss_scale, momentum, loop_state),
    "dp": (nothing, order_of_examples, private_draws, noise, momentum, loop_state, accountant),
}


def check_controls(name, folder, *, whole, operations):
    """Name of each control of a recipe -> number of differences that its resume made.

    ``whole`` is the folder of a run of the recipe that nobody killed, ``operations`` the number of those on its files.
    """
    config = forked_runs.configure((*COMMON, *RECIPES[name]))
    expected = final_state(whole)
    killed = folder / "killed"
    late = operations * 3 // 4
    assert forked_runs.wait(forked_runs.start(config, killed, forked_runs.at_file_operation(late))) < 0
    found = {}
    for control in CONTROLS[name]:
        run_dir = folder / control.__name__
        shutil.copytree(killed, run_dir, symlinks=True)
        forked_runs.finish(config, run_dir, control)
        found[control.__name__] = len(differences(final_state(run_dir), expected))
    return found


def _after_resume(change):
    resume = loop_module.Loop.resume

    def resume_and_change(self, checkpoint):
        resume(self, checkpoint)
        change(self, checkpoint.step)

    loop_module.Loop.resume = resume_and_change


def _without(part):
    """Put the state that ``part`` had before the resume back."""
    resume = loop_module.Loop.resume

    def resume_without(self, checkpoint):
        fresh = copy.deepcopy(getattr(self._parts, part).state_dict())
        resume(self, checkpoint)
        getattr(self._parts, part).load_state_dict(fresh)

    loop_module.Loop.resume = resume_without


def _shift(owner, method, step, least=0):
    """Let ``owner.method`` count its steps from the resumed one."""
    original = getattr(owner, method)
    object.__setattr__(owner, method, lambda now: original(max(least, now - step)))
