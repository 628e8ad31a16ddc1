"""What a run leaves at its end: ``run.json``, with what came of it, and the files beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from runner.config.schema import PrivacyConfig
from runner.planning.plan import Plan
from runner.records.predictions import Predictions, write_predictions
from runner.records.run_file import FINISHED, Energy, Memory, PrivacySpent, RunRecord, Throughput, write_run
from runner.statement.write import state_privacy
from runner.training.state import FitResult


def final_record(record: RunRecord, plan: Plan, outcome: FitResult, begun: float) -> RunRecord:
    """``record`` of a run of ``plan`` that was under way, ended as ``outcome`` says.

    ``begun`` is what the monotonic clock said when its time began to count.
    """
    privacy = plan.semantic.privacy
    spent = None
    if privacy is not None and outcome.epsilon is not None:
        spent = PrivacySpent(
            epsilon=outcome.epsilon,
            delta=privacy.delta,
            noise_multiplier=privacy.noise_multiplier,
            max_grad_norm=privacy.max_grad_norm,
            sample_rate=privacy.sample_rate,
            steps=outcome.steps,
            accountant=privacy.accountant,
            adjacency=privacy.adjacency,
            sampling=privacy.sampling,
        )
    return record.end(
        outcome.status,
        begun=begun,
        metrics=outcome.metrics,
        throughput=Throughput(samples_per_second=outcome.samples_per_second, compile_seconds=outcome.compile_seconds),
        memory=Memory(peak_bytes=outcome.peak_bytes),
        energy=Energy.of(outcome.joules),
        step_time=outcome.step_time,
        notes=(*record.notes, *outcome.notes),
        privacy=spent,
        steps=outcome.steps,
        epochs=outcome.epochs,
        skipped_steps=outcome.skipped_steps,
        zeroed_examples=outcome.zeroed_examples,
        out_of_memory=tuple(vars(halving) for halving in outcome.halvings),
    )


def write_end(
    run_dir: Path,
    record: RunRecord,
    privacy: PrivacyConfig,
    sweep_dir: Path | None,
    predictions: Mapping[str, Predictions] | None = None,
) -> None:
    """Write what a run leaves at its end, ``run.json`` last: a run that it calls finished is not started again.

    Args:
        run_dir: its folder.
        record: what ``run.json`` is to say.
        privacy: as it was asked for.
        sweep_dir: folder of the sweep that it is a cell of.
        predictions: what it answered, by split; kept of a finished run.

    Raises:
        RunError: a file cannot be written.
    """
    try:
        if predictions and record.status in FINISHED:
            write_predictions(run_dir, record.plan["identity"], predictions)
        state_privacy(run_dir, record, privacy, sweep_dir)
    finally:
        write_run(run_dir, record)
