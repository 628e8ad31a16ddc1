"""Where the loop stands, as the console shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.records.progress import PRECISION_MARKS, Progress

if TYPE_CHECKING:
    from runner.planning.plan import Plan
    from runner.training.state import LoopState


def loop_progress(
    plan: Plan,
    state: LoopState,
    *,
    step: int,
    first: int,
    loss: float | None,
    accuracy: float | None,
    lr: float | None,
    rate: float | None,
) -> Progress:
    """The progress after update ``step``, from 0.

    Args:
        plan: of the run.
        state: of the loop.
        step: the update that was made last.
        first: the first update of this session.
        loss: mean training loss in nats per example; None where there is none yet.
        accuracy: share in [0, 1] of the training examples.
        lr: learning rate of that update.
        rate: training examples a second.
    """
    steps, privacy = plan.semantic.steps, plan.semantic.privacy
    per_step = state.seconds / max(step - first, 1)
    return Progress(
        step=step + 1,
        steps=steps,
        epoch=plan.epoch_of(step),
        epochs=plan.epoch_of(steps - 1),
        loss=loss,
        accuracy=accuracy,
        val_loss=state.val_loss,
        val_accuracy=state.val_accuracy,
        lr=lr,
        precision=PRECISION_MARKS[plan.semantic.precision.dtype],
        samples_per_second=rate,
        seconds_left=per_step * (steps - step - 1),
        epsilon=state.epsilon,
        delta=None if privacy is None else privacy.delta,
    )
