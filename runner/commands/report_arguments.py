"""What ``python -m runner report`` and ``python -m runner compare`` are asked on the command line."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from runner.commands.parser import Parser
from runner.config.schema import ComparisonConfig
from runner.config.words.expand_user import expand_user
from runner.report.cells import SweepResults
from runner.report.question import checked, configured

_QUESTION = ("by", "metric", "margin", "confidence", "reference")


def question_parser(command: str, *, about: str) -> Parser:
    """The parser of ``command``, which is asked about the sweep in a folder."""
    parser = Parser(command, about=about, failed="a file of the sweep is damaged or cannot be written")
    parser.add_argument(
        "dir", type=lambda path: Path(expand_user(path)), metavar="DIR", help="folder of a sweep, or of a single run"
    )
    parser.add_argument("--by", metavar="KEY[,KEY]", help="keys that make the recipes (default: what varies)")
    parser.add_argument("--metric", help="test_accuracy, val_accuracy, test_loss, val_loss or train_loss")
    parser.add_argument("--margin", type=float, help="largest difference that counts as none: pp, or nats of a loss")
    parser.add_argument("--confidence", type=float, help="of each interval (0.95)")
    parser.add_argument("--reference", metavar="VALUE", help="recipe that the others are held against (the first)")
    return parser


def question_of(args: argparse.Namespace, sweep: SweepResults) -> ComparisonConfig:
    """The question of the sweep's own configuration, with what the flags change.

    Raises:
        RequestError: a value is out of its range.
    """
    given = {key: getattr(args, key) for key in _QUESTION if getattr(args, key) is not None}
    if "by" in given:
        given["by"] = given["by"].split(",")
    return checked(dataclasses.replace(configured(sweep), **given))
