"""``run.json`` of a run that ended by itself: what it was, with what came of it."""

from __future__ import annotations

from runner.planning.plan import Plan
from runner.records.run_file import Memory, PrivacySpent, RunRecord, Throughput
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
        step_time=outcome.step_time,
        notes=(*record.notes, *outcome.notes),
        privacy=spent,
        steps=outcome.steps,
        epochs=outcome.epochs,
        skipped_steps=outcome.skipped_steps,
        zeroed_examples=outcome.zeroed_examples,
        out_of_memory=tuple(vars(halving) for halving in outcome.halvings),
    )
