"""The loop around the step: epochs, evaluation, checkpoints, early stopping, and an orderly end."""

from __future__ import annotations

import logging
import math
import time
from contextlib import closing, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from runner.data.feature_feed import AnyFeed
from runner.errors import RunError
from runner.records.environment import peak_memory_bytes, reset_peak_memory
from runner.records.run_file import FinalMetrics
from runner.records.step_time import StepTime
from runner.training.checkpointing.checkpoint import Checkpoint, load_checkpoint
from runner.training.checkpointing.optimizer_attributes import AttributesBefore, load_optimizer, save_optimizer
from runner.training.checkpointing.plain_state import refuse_unholdable_parts
from runner.training.checkpointing.resume import noise_form
from runner.training.checkpointing.save_schedule import Saving, Snapshot
from runner.training.class_balance import ClassBalance
from runner.training.distributed.agreement import decide_on_main
from runner.training.distributed.same_run import refuse_other_start
from runner.training.energy_account import EnergyAccount
from runner.training.eval_weights import eval_weights, refuse_traces, restore_weights, weights_to_save
from runner.training.evaluate import evaluate, share_buffers
from runner.training.garbage_collection import setup_objects_frozen
from runner.training.kept_predictions import KeptPredictions
from runner.training.loop_progress import LoopProgress
from runner.training.non_finite_gradients import explain_non_finite, refuse_non_finite_weights
from runner.training.parts import Parts
from runner.training.precision.precision import NonFiniteGradient
from runner.training.privacy_account import open_account
from runner.training.profiling.profile import Profile
from runner.training.profiling.slow_input import name_slow_input
from runner.training.running_metrics import StepTotals
from runner.training.state import FitResult, FitStatus, LoopState
from runner.training.step import TrainStep

if TYPE_CHECKING:
    from runner.data.images import ImageData, ImageSet
    from runner.processes.signals import StopRequest
    from runner.records.recorder import Recorder

log = logging.getLogger(__name__)


class Loop:
    """Runs the steps of one plan."""

    def __init__(self, parts: Parts, data: ImageData, recorder: Recorder, run_dir: Path) -> None:
        """``recorder`` is silent in every process but the first."""
        self._parts = parts
        self._plan = parts.plan
        self._world = parts.world
        self._recorder = recorder
        self._checkpoints = run_dir / "checkpoints"
        self._saving = Saving(self._checkpoints, parts.plan, parts.world)
        self._data = data
        self._val = None if data.val is None else self._feed(data.val)
        self._step = TrainStep(parts)
        self._kept = KeptPredictions(parts.plan, data, parts.world.device)
        self._progress = LoopProgress(parts.plan)
        self._loop_state = self._progress.state
        self._spending = open_account(parts.plan)
        self._pruned = False
        self._first = self._zeroed_before = self._untimed = self._told = 0
        self._window = self._begun = time.perf_counter()
        self._run_dir = run_dir

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on where ``checkpoint`` was made, to the same bits as without the interruption."""
        parts, state = self._parts, checkpoint.state
        restore_weights(parts, checkpoint)
        load_optimizer(parts.optimizer, state)
        parts.precision.load_state_dict(state["precision"])
        parts.schedule.load_state_dict(state["schedule"])
        self._loop_state = self._progress.state = LoopState.restored(state["standing"])
        self._begun -= self._loop_state.run_seconds
        self._step.running_metrics.load(state["totals"])
        self._zeroed_before = state["zeroed_examples"]
        self._kept.load_state(state.get("val_classes"))
        parts.sizes.load_state_dict(state["batch_sizes"])
        self._told = len(parts.sizes.halvings)
        self._first = checkpoint.step

    def fit(self, stop: StopRequest) -> FitResult:
        """Train, then test; ``stop`` asks to save and end before that.

        Raises:
            RequestError: the processes would start from different weights.
            RunError: the numbers went wrong; weights and records up to then are on disk.
        """
        plan = self._plan
        steps = plan.semantic.steps
        refuse_other_start(self._world, self._first, self._parts.model)
        self._parts.precision.start_at(self._first)
        done = self._first
        interrupted = False
        reset_peak_memory(self._world.device)
        self._energy = EnergyAccount(self._world, self._loop_state.joules)
        self._restart_clock()
        self._progress.begin(self._first)
        self._recorder.console.train(self._progress.now)
        profile = self._profile()
        before = AttributesBefore(self._parts.optimizer)
        with (
            stop.polled(),
            setup_objects_frozen(),
            closing(self._parts.feed),
            nullcontext() if self._val is None else closing(self._val[0]),
        ):
            for step in range(self._first, self._first if self._out_of_patience() else steps):
                if profile is not None:
                    profile.before(step)
                asked = self._train(step, stop)
                done = self._progress.done = step + 1
                watched = profile is not None and profile.after(step)
                if step == self._first or watched:
                    refuse_unholdable_parts(self._parts, before)
                    # The first step pays for lazy set-up once; the rate that is reported is the one that lasts.
                    self._untimed = self._step.running_metrics.examples
                    self._progress.first_step_done()
                    self._restart_clock()
                epoch_ended = plan.epoch_ends(step)
                if epoch_ended or done % plan.performance.log_every == 0:
                    self._record(step)
                if epoch_ended and self._end_epoch(step):
                    break
                if asked or (self._world.size == 1 and stop.pending is not None):
                    interrupted = done < steps
                    break
            if profile is not None:
                profile.close()
            if interrupted:
                self._save(done)
        return self._finish(done, "interrupted" if interrupted else "pruned" if self._pruned else plan.ends_as(done))

    def _profile(self) -> Profile | None:
        wanted = self._plan.performance.profile and self._world.is_main
        return Profile(self._parts, self._run_dir, first=self._first) if wanted else None

    def _train(self, step: int, stop: StopRequest) -> bool:
        """Do update ``step``; whether the processes have agreed to stop after it."""
        if self._recorder.session is not None:
            # Before the step, so that one that fails half-way counts.
            self._recorder.session.steps = step + 1
        try:
            asked = self._step.run(step, stop=stop.pending is not None)
        except NonFiniteGradient as error:
            self._fail(error)
        self._tell_halvings()
        return asked

    def _read(self, step: int) -> StepTotals:
        """Read what the device has summed up; the only place where the loop waits for it."""
        try:
            self._parts.precision.raise_if_stopped(step)
        except NonFiniteGradient as error:
            self._fail(error)
        totals = self._step.running_metrics.read()
        loop_state = self._loop_state
        loop_state.epoch_loss += totals.loss * totals.examples
        loop_state.epoch_correct += totals.accuracy * totals.examples
        loop_state.epoch_examples += totals.examples
        seconds = time.perf_counter() - self._window
        timed = totals.examples - self._untimed
        self._untimed = 0
        loop_state.seconds += seconds
        loop_state.timed_examples += timed
        if timed:
            self._progress.rate = timed / seconds
        return totals

    def _record(self, step: int) -> None:
        totals = self._read(step)
        self._energy.update()
        plan, parts = self._plan, self._parts
        if parts.rule.zeroed is not None and not math.isfinite(totals.loss):
            refuse_non_finite_weights(parts, step)
        extra: dict[str, Any] = {}
        if self._step.norm is not None:
            extra["grad_norm"] = self._step.norm.item()
        if (scale := parts.precision.loss_scale) is not None:
            extra |= {"loss_scale": scale.item(), "skipped_steps": parts.precision.skipped}
        if totals.examples:
            self._recorder.write(
                "train",
                step=step + 1,
                epoch=plan.epoch_after(step),
                loss=totals.loss,
                accuracy=totals.accuracy,
                lr=self._step.lr,
                **extra,
                samples_per_second=self._progress.rate,
                seconds=self._loop_state.seconds,
            )
            self._progress.loss, self._progress.accuracy = totals.loss, totals.accuracy
        self._progress.lr = self._step.lr
        self._restart_clock()

    def _end_epoch(self, step: int) -> bool:
        """Evaluate and save where that is due; whether early stopping ends the run."""
        plan, loop_state = self._plan, self._loop_state
        done = step + 1
        last = done == plan.semantic.steps
        epoch = plan.epoch_of(step)
        if loop_state.epoch_examples:
            loop_state.train_loss = loop_state.epoch_loss / loop_state.epoch_examples
            loop_state.train_accuracy = loop_state.epoch_correct / loop_state.epoch_examples
        loop_state.epoch_loss, loop_state.epoch_correct, loop_state.epoch_examples = 0.0, 0.0, 0
        if self._spending is not None:
            loop_state.epsilon = self._spending.epsilon_after(done)
        improved = False
        if self._val is not None and (last or epoch % plan.semantic.eval_every == 0):
            improved = self._evaluate(step, self._val)
            hopeless = self._judge(epoch)
            self._pruned = hopeless and not last and not self._out_of_patience()
        stopping = self._pruned or self._out_of_patience()
        if last or stopping or self._saving.is_due(epoch, improved=improved):
            self._save(done)
        elif improved:
            self._save(done, now=False)
        self._recorder.console.epoch(self._progress.at_end_of_epoch(), best=improved)
        self._restart_clock()
        return stopping

    def _judge(self, epoch: int) -> bool:
        """Report the evaluation after ``epoch`` to the search, if there is one; whether it would end the run."""
        pruning, loop_state = self._recorder.pruning, self._loop_state
        hopeless = False
        if pruning is not None:
            assert loop_state.val_loss is not None
            assert loop_state.val_accuracy is not None
            hopeless = pruning.is_hopeless(epoch, val_loss=loop_state.val_loss, val_accuracy=loop_state.val_accuracy)
        return self._world.any(hopeless)

    def _out_of_patience(self) -> bool:
        patience = self._plan.semantic.patience
        return patience is not None and self._loop_state.stale >= patience

    def _evaluate(self, step: int, images: tuple[AnyFeed, int]) -> bool:
        """Evaluate on the validation split; whether the monitored metric improved."""
        plan, loop_state, classes = self._plan, self._loop_state, self._kept.room("val")
        if self._recorder.session is not None:
            self._recorder.session.evaluate()
        with self._progress.waiting("evaluating"), eval_weights(self._parts):
            loss, accuracy = self._measure(images, classes)
        spent = {} if self._spending is None else {"epsilon": loop_state.epsilon}
        self._recorder.write("val", step=step + 1, epoch=plan.epoch_after(step), loss=loss, accuracy=accuracy, **spent)
        higher = plan.semantic.monitor == "val_accuracy"
        value = loop_state.take(loss, accuracy, higher=higher)
        if value is None:
            self._tell(f"the validation loss after step {step + 1} is not finite: nothing is chosen by this evaluation")
        self._parts.schedule.observe(math.nan if value is None else value, "higher" if higher else "lower")
        improved = loop_state.weigh(value, step + 1, higher=higher, min_delta=plan.semantic.min_delta)
        if improved or not loop_state.best_counts(plan):
            self._kept.keep("val", classes)
        return improved

    def _measure(self, images: tuple[AnyFeed, int], classes: torch.Tensor | None) -> tuple[float, float]:
        """Loss and accuracy over a split: its feed and its number of examples; ``classes`` as of ``evaluate``."""
        share_buffers(self._parts.model, self._world)
        figures = evaluate(self._parts, *images, classes=classes)
        self._tell_halvings()
        return figures

    def _save(self, done: int, *, now: bool = True) -> None:
        """Write a checkpoint after ``done`` updates, or hold it back as the best so far."""
        parts, plan = self._parts, self._plan
        refuse_traces(parts)
        totals = self._world.gather(self._step.running_metrics.state())
        zeroed, self._loop_state.joules = self._zeroed(), self._energy.joules()
        if not self._world.is_main:
            return
        weights, raw_weights = weights_to_save(parts)
        self._loop_state.run_seconds = time.perf_counter() - self._begun
        self._loop_state.note_memory(peak_memory_bytes(self._world.device))
        snapshot = Snapshot(
            step=done,
            # Without a choice by validation, the last weights are the best that can be had.
            best=done if plan.semantic.test_checkpoint == "last" else self._loop_state.best_step,
            weights=weights,
            state={
                "raw_weights": raw_weights,
                **save_optimizer(parts.optimizer),
                "precision": parts.precision.state_dict(),
                "schedule": parts.schedule.state_dict(),
                "standing": asdict(self._loop_state),
                "totals": totals,
                "batch_sizes": parts.sizes.state_dict(),
                "records": self._recorder.count,
                "tracker_run_id": self._recorder.tracker_run_id,
                "zeroed_examples": zeroed,
                "val_classes": self._kept.state(),
                "grad_sample": plan.performance.grad_sample,
                "noise_form": noise_form(parts),
                "secret_key": None if parts.key is None else bytes(parts.key),
                "ledger_entry": None if self._recorder.session is None else self._recorder.session.entry,
            },
        )
        if now:
            with self._progress.waiting("saving"):
                self._recorder.sync()
                self._saving.save(snapshot)
        else:
            self._saving.hold(snapshot)

    def _finish(self, done: int, status: FitStatus) -> FitResult:
        plan, loop_state = self._plan, self._loop_state
        refuse_traces(self._parts)
        epochs = done / plan.semantic.steps_per_epoch
        best_wins = loop_state.best_counts(plan)
        test_loss, test_accuracy, balance = None, None, ClassBalance()
        if status not in ("interrupted", "pruned") and self._data.test is not None:
            best_is_gone = best_wins and loop_state.best_step != done
            if best_is_gone:
                self._load_best()
            # what was saved as best is the published weights already
            test = self._feed(self._data.test)
            published = nullcontext() if best_is_gone else eval_weights(self._parts)
            with self._progress.waiting("testing"), published, closing(test[0]):
                classes = self._kept.room("test")
                test_loss, test_accuracy = self._measure(test, classes)
            self._kept.keep("test", classes)
            balance = ClassBalance.of(self._kept.predictions()["test"])
            self._recorder.write("test", step=done, epoch=epochs, loss=test_loss, accuracy=test_accuracy)
        clocks = [clock for clock in self._world.gather(self._parts.clock.read()) if clock is not None]
        timed, zeroed = StepTime.mean(clocks) if clocks else None, self._zeroed()
        stopped = self._out_of_patience() and done < plan.semantic.steps
        return FitResult(
            status=status,
            metrics=FinalMetrics(
                train_loss=loop_state.train_loss,
                val_loss=loop_state.best_val_loss if best_wins else loop_state.val_loss,
                val_accuracy=loop_state.best_val_accuracy if best_wins else loop_state.val_accuracy,
                test_loss=test_loss,
                test_accuracy=test_accuracy,
                **balance.metrics(),
                best_epoch=plan.epoch_of(loop_state.best_step - 1) if best_wins else None,
            ),
            samples_per_second=loop_state.rate,
            compile_seconds=None if self._parts.compiled is None else self._parts.compiled.seconds,
            peak_bytes=loop_state.note_memory(peak_memory_bytes(self._world.device)),
            joules=self._energy.joules(),
            step_time=timed,
            steps=done,
            epochs=epochs,
            skipped_steps=self._parts.precision.skipped,
            zeroed_examples=zeroed,
            epsilon=None if self._spending is None else self._spending.charged(done, status),
            halvings=tuple(self._parts.sizes.halvings),
            predictions=self._kept.predictions(),
            notes=(
                *name_slow_input(self._parts, timed),
                *loop_state.notes(test_loss, left_out=zeroed > 0),
                *balance.notes(),
                *([loop_state.early_stop(plan, done)] if stopped else []),
            ),
        )

    def _load_best(self) -> None:
        weights = decide_on_main(self._world, lambda: load_checkpoint(self._checkpoints / "best").weights)
        self._parts.model.load_state_dict(weights)

    def _fail(self, error: NonFiniteGradient) -> NoReturn:
        raise RunError(explain_non_finite(self._parts, self._data, error.step)) from error

    def _tell_halvings(self) -> None:
        """Say where memory ran out since this was last asked."""
        halvings = self._parts.sizes.halvings
        for halving in halvings[self._told :]:
            self._tell(halving.describe())
        self._told = len(halvings)

    def _tell(self, line: str) -> None:
        if self._world.is_main:
            log.warning(line)
            self._recorder.console.note(line)

    def _feed(self, images: ImageSet) -> tuple[AnyFeed, int]:
        return self._parts.plain_feed(self._data, images), len(images)

    def _zeroed(self) -> int:
        """Examples whose gradient was not finite and which DP left out, over all processes."""
        if self._parts.rule.zeroed is None:
            return 0
        total = self._parts.rule.zeroed.clone()
        self._world.sum_(total)
        return self._zeroed_before + int(total.item())

    def _restart_clock(self) -> None:
        if self._world.device.type == "cuda":
            torch.cuda.synchronize()
        self._window = time.perf_counter()
