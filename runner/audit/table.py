"""An audit as a text page, 80 columns wide."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from runner.audit.audit_result import UNSEEN
from runner.config.words.pluralize import pluralize
from runner.data import augment
from runner.privacy.accounting.privacy_text import delta_text, epsilon_text, lower_bound_text

if TYPE_CHECKING:
    from runner.audit.audit_result import Audit

WIDTH = 80
_COLUMNS = (31, 12, 22, 6, 4)
"""Widths: what, claimed, found, p, verdict."""


def render(audit: Audit) -> str:
    """What was attacked and by whom, what passed, and what such an audit cannot see."""
    found = audit.guesses
    bound = audit.lower_bound <= audit.claimed
    rows = [
        *((check.name, check.claimed, check.measured, f"{check.p_value:.2g}" if check.by_chance else "", check.passed)
          for check in audit.checks),
        (f"epsilon of {pluralize(audit.steps, 'update')}", f"<= {epsilon_text(audit.claimed)}",
         f">= {lower_bound_text(audit.lower_bound)} at {audit.confidence:.0%}", "", bound),
    ]  # fmt: skip
    lines = [
        *_attacked(audit),
        "",
        _row("", "claimed", "found", "p", ""),
        "-" * WIDTH,
        *(_row(*row[:4], "pass" if row[4] else "FAIL") for row in rows),
        "-" * WIDTH,
        *_wrapped(
            f"{found.right} of {found.made} guesses right; nothing above epsilon"
            f" {lower_bound_text(audit.measurable)} can be measured"
        ),
    ]
    if audit.claimed > audit.measurable:
        lines += _wrapped("note: the claim lies above what can be measured, so the lower bound cannot contradict it")
    for note in (*audit.plan.notes, *audit.notes):
        lines += _wrapped(f"note: {note}")
    lines += _wrapped(f"not seen: {'; '.join(UNSEEN)}")
    if audit.failures:
        return "\n".join([*lines, *_wrapped("FAILED: " + ", ".join(audit.failures))])
    if not audit.private:
        none = "nothing is claimed: no check has failed, but with privacy.unsafe_noise_seed no epsilon holds"
        return "\n".join([*lines, *_wrapped(none)])
    return "\n".join([*lines, "passed: nothing contradicts the claim"])


def _attacked(audit: Audit) -> list[str]:
    semantic, performance = audit.plan.semantic, audit.plan.performance
    privacy = semantic.privacy
    assert privacy is not None
    augmented = "augmented" if _augments(audit) else "as they are"
    what = (
        f"which of {audit.guesses.canaries:,} canaries are present"
        if audit.attacked == "canaries"
        else f"{pluralize(audit.guesses.canaries, 'image')} of its own, a coin each in {pluralize(audit.runs, 'run')}"
    )
    return [
        *_wrapped(
            f"attacked: {audit.plan.name}, {pluralize(audit.runs, 'run')} of {pluralize(audit.steps, 'update')} in"
            f" {pluralize(performance.processes, 'process')}, {semantic.precision.dtype}, gradients by"
            f" {performance.grad_sample}; {semantic.data.examples:,} images, {augmented}"
        ),
        *_wrapped(
            f"claimed: epsilon {epsilon_text(privacy.epsilon)} for {pluralize(semantic.steps, 'update')} at delta"
            f" {delta_text(privacy.delta)} ({privacy.accountant}); q {privacy.sample_rate:.4g}, sigma"
            f" {privacy.noise_multiplier:.4g}, C {privacy.max_grad_norm:g}"
        ),
        *_wrapped(
            f"attacker: knows the seed, the weights, all other images and every released gradient; wants to know {what}"
        ),
    ]


def _augments(audit: Audit) -> bool:
    return augment.is_on(audit.plan.semantic.data.augment)


def _row(*cells: str) -> str:
    return " ".join(cell.ljust(width) for cell, width in zip(cells, _COLUMNS, strict=True)).rstrip()


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ")
