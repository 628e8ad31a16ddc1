"""``python -m runner.audit [--guesses N] [--confidence P] [key=value ...]``.

Exit codes: 0 nothing contradicts the claimed epsilon, 1 something does, 2 the request was wrong.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from runner.config import rules
from runner.config.compose import Composer
from runner.config.errors import ExitCode, RequestError, answer
from runner.config.groups import RECIPES
from runner.config.typed_lines import tell_repeated

if TYPE_CHECKING:
    from runner.audit.run import Audit
    from runner.config.schema import RunConfig

GUESSES = 200
"""Guesses of an audit that names no number: fixed beforehand, because the best of several would be no bound."""
CONFIDENCE = 0.95
AUDIT_FILE = "audit.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Audit what ``argv`` (null: that of the process) asks for; prints a table and leaves ``audit.json``."""
    return answer(lambda: _main(_parse(argv)))


def _main(args: argparse.Namespace) -> int:
    tell_repeated(args.overrides)
    config, folder = _compose(args.overrides)
    return _audit(config, folder, guesses=args.guesses, confidence=args.confidence)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RequestError("command line", message, "--guesses N, --confidence P and key=value")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(
        prog="python -m runner.audit",
        description="Train the private trainer on canaries, and hold what an attacker finds against its epsilon.",
        allow_abbrev=False,
    )
    parser.add_argument("--guesses", type=int, default=GUESSES, help="canaries that the attacker calls (%(default)s)")
    parser.add_argument("--confidence", type=float, default=CONFIDENCE, help="of the lower bound (%(default)s)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for python -m runner: privacy.epsilon=1")
    return parser.parse_intermixed_args(argv)


def _compose(overrides: Sequence[str]) -> tuple[RunConfig, Path]:
    """The checked configuration, and the folder of the run."""
    from runner.training.trainers import DPTrainer

    for line in overrides:
        key, _, value = line.partition("=")
        if key.lstrip("+") in RECIPES:
            raise RequestError(key, value, "nothing: the audit is a recipe of its own")
    composer = Composer(caller=Path.cwd())
    composed = composer.compose(["experiment=audit", *overrides])
    config = composer.load(composed)
    rules.check(config)
    if config.trainer.name == "dp":
        DPTrainer.check(config)
    return config, Path(composed.hydra.runtime.output_dir)


def _audit(config: RunConfig, folder: Path, *, guesses: int, confidence: float) -> int:
    # Not before the request has been checked: this imports torch.
    from runner.audit.run import run_audit
    from runner.records.environment import describe_environment
    from runner.records.json_values import write_json
    from runner.records.run_file import utc_now

    started = utc_now()
    audit = run_audit(config, guesses=guesses, confidence=confidence)
    folder.mkdir(parents=True, exist_ok=True)
    record = {**audit.as_dict(), "started": started, "finished": utc_now(), "environment": describe_environment()}
    write_json(folder / AUDIT_FILE, record)
    print(render(audit))
    print(f"record: {folder / AUDIT_FILE}")
    return ExitCode.FAILED if audit.failures else ExitCode.DONE


def render(audit: Audit) -> str:
    """The audit as a table for people."""
    found = audit.guesses
    rows = [
        ("", "claimed", "found", "p", ""),
        (
            "epsilon",
            f"<= {audit.claimed:.3f}",
            f">= {audit.lower_bound:.3f} at {audit.confidence:.0%} ({found.right} of {found.made} guesses right)",
            "",
            _word(audit.lower_bound <= audit.claimed),
        ),
        *(
            (check.name, check.claimed, check.measured, f"{check.p_value:.2g}", _word(check.passed))
            for check in audit.checks
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-" * max(map(len, lines)))
    privacy = audit.plan.semantic.privacy
    assert privacy is not None
    steps = audit.plan.semantic.steps
    lines.append(
        f"delta {audit.delta:g} ({privacy.accountant}), q {privacy.sample_rate:.4g}, {steps} steps,"
        f" {found.canaries} canaries; nothing above epsilon {audit.measurable:.2f} can be measured"
    )
    if audit.claimed > audit.measurable:
        lines.append("note: the claim lies above what can be measured, so the lower bound cannot contradict it")
    lines.extend(f"note: {note}" for note in audit.plan.notes)
    lines.append("FAILED: " + ", ".join(audit.failures) if audit.failures else "passed: nothing contradicts the claim")
    return "\n".join(lines)


def _word(passed: bool) -> str:
    return "pass" if passed else "FAIL"
