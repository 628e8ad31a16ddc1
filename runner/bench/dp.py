"""The private step: the runner's beside its ordinary one, and beside Opacus' own loop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from runner.bench.clipped_sums import prove
from runner.bench.paired_benchmark import Contender, run_paired
from runner.bench.section import Section, paired_section
from runner.bench.settings import Settings
from runner.bench.task import Task, prepare

TASK = Task(
    name="dp",
    about="small_cnn with group normalisation, 32 px, batch 64 expected",
    overrides=("data.image_size=32", "model=small_cnn", "model.norm=group", "hardware.channels_last=false"),
    batch=64,
    block=10,
)
_ORDINARY = Contender(name="runner, not private", module="through_runner")
_AGAIN = Contender(name="runner, not private, again", module="through_runner")
_PRIVATE = Contender(
    name="runner, private",
    module="through_runner",
    options=(
        *("trainer=dp", "privacy.noise_multiplier=1", "privacy.max_grad_norm=1", "privacy.grad_sample=ghost"),
        # An epoch a block, for as long as the accountant can say something about
        *("trainer.epochs=2000", "trainer.save_every=2000"),
    ),
    tolerance=None,
)
_OPACUS = Contender(name="Opacus as shipped (hooks)", module="opacus_loop", tolerance=None)
_GHOST = Contender(name="Opacus tuned (ghost)", module="opacus_loop", options=("ghost",), tolerance=None)


def measure(settings: Settings) -> Iterator[Section]:
    """One section; whole updates, with data, release and optimizer.

    Raises:
        RunError: the private steps do not compute the same on a fixed batch without noise.
    """
    prepared = Path(settings.work) / "dp.pt"
    prepare(TASK, prepared)
    proof = prove(TASK, prepared, grad_sample="ghost")
    results = run_paired(TASK, prepared, (_ORDINARY, _AGAIN, _PRIVATE, _OPACUS, _GHOST), settings)
    yield paired_section(
        results,
        name="dp",
        title=f"The private step: {TASK.about}",
        about=f"{proof}  The runner's noise is ChaCha20 from a secret key, Opacus' is torch's ordinary generator.",
        ours=_PRIVATE.name,
        control=_AGAIN.name,
    )
