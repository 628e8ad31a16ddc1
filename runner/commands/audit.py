"""``python -m runner audit [--guesses N] [--confidence P] [run=DIR | key=value ...]``.

Attacks a recipe of canaries, with what is typed changed; or, where a line names ``run``, ``data``, ``trainer`` or
``experiment``, that recipe on its own data.  Exit codes: 0 nothing contradicts the claimed epsilon, 1 something does,
or none is claimed because of ``privacy.unsafe_noise_seed``, 2 the request was wrong.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from runner.audit.request import AuditRequest, read_request
from runner.commands.parser import Parser
from runner.config.words.override_lines import warn_repeated
from runner.config.words.unknown_flag import in_place_of
from runner.environment.address_space import require_room_for_torch
from runner.errors import ExitCode
from runner.records.json_values import write_json
from runner.records.run_file import utc_now

if TYPE_CHECKING:
    from runner.audit.audit_result import Audit

GUESSES = 200
"""Guesses of an audit by canaries that names no number: fixed beforehand, because the best of several is no bound."""
CONFIDENCE = 0.95
AUDIT_FILE = "audit.json"
FAILURES = "failures.log"
"""Tracebacks of the processes of an audit of several."""


def main(argv: Sequence[str] | None = None) -> int:
    """Audit what ``argv`` (null: that of the process) asks for; prints a table and leaves ``audit.json``."""
    return _parser().run(argv, _main)


def _main(args: argparse.Namespace) -> int:
    warn_repeated(args.overrides)
    return _audit(read_request(args.overrides), guesses=args.guesses, confidence=args.confidence)


def _parser() -> Parser:
    parser = Parser(
        "audit",
        about="Attack the private trainer, on canaries or by a recipe of your own, and judge its epsilon.",
        failed="something contradicts the claimed epsilon, or none is claimed",
        meaning=in_place_of,
    )
    parser.add_argument(
        "--guesses",
        type=int,
        metavar="N",
        help=f"examples that the attacker calls ({GUESSES} canaries, or half of a recipe's)",
    )
    parser.add_argument(
        "--confidence", type=float, metavar="P", default=CONFIDENCE, help="of the lower bound (%(default)s)"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="run=DIR, or as for python -m runner: privacy.epsilon=1"
    )
    return parser


def _audit(asked: AuditRequest, *, guesses: int | None, confidence: float) -> int:
    require_room_for_torch()
    # Not before the request has been checked: this imports torch.
    from runner.audit.table import render
    from runner.records.environment import describe_environment

    started = utc_now()
    audit = _attack(asked, guesses=guesses, confidence=confidence)
    asked.folder.mkdir(parents=True, exist_ok=True)
    record = {**audit.as_dict(), "started": started, "finished": utc_now(), "environment": describe_environment()}
    write_json(asked.folder / AUDIT_FILE, record)
    print(render(audit))
    print(f"record: {asked.folder / AUDIT_FILE}")
    return ExitCode.DONE if audit.passed else ExitCode.FAILED


def _attack(asked: AuditRequest, *, guesses: int | None, confidence: float) -> Audit:
    if asked.canaries:
        from runner.audit.canary_audit import run_audit

        return run_audit(asked.config, guesses=GUESSES if guesses is None else guesses, confidence=confidence)
    from runner.audit.config_audit import ConfigAuditRequest, audit_config

    request = ConfigAuditRequest(
        config=asked.config, run=asked.run, identity=asked.identity, guesses=guesses, confidence=confidence
    )
    return audit_config(request, failures=asked.folder / FAILURES)
