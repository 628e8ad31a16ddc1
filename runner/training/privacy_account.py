"""The account of what a private run spends, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.privacy.accounting.step_epsilon import Spending

if TYPE_CHECKING:
    from runner.planning.plan import Plan


def open_account(plan: Plan) -> Spending | None:
    """The account of a private run; None for an ordinary one, which does not load an accountant."""
    privacy = plan.semantic.privacy
    if privacy is None:
        return None

    return Spending(
        privacy.accountant,
        sample_rate=privacy.sample_rate,
        # noise that anyone can compute protects as none does
        noise_multiplier=privacy.noise_multiplier if privacy.unsafe_noise_seed is None else 0.0,
        delta=privacy.delta,
        steps=plan.semantic.steps,
    )
