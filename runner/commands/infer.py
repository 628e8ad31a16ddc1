"""``python -m runner infer run=DIR [key=value ...]``, also called ``ml-inference``: a finished run put to use.

Evaluates the run's model on the run's own test or validation split, or predicts the images in a folder.  Exit codes: 0
done, 1 it failed, 2 the request was wrong; a wrong key or value is answered before torch is imported.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence

from runner.commands.parser import Parser
from runner.environment.address_space import require_room_for_torch
from runner.errors import ExitCode
from runner.inference.request import InferenceRequest, in_place_of, keys, read_request
from runner.inference.results_folder import refuse_existing


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (null: that of the process) and return the exit code."""
    return _parser().run(argv, _main)


def _main(args: argparse.Namespace) -> int:
    request = read_request(args.words, checkpoint_path=args.checkpoint_path, compare=args.compare)
    return _run(request, compare=args.compare)


def _parser() -> Parser:
    parser = Parser(
        "infer",
        about="Evaluate the model of a finished run, or predict images with it.",
        failed="it failed",
        keys=dict(keys()),
        meaning=in_place_of,
    )
    parser.add_argument("words", nargs="*", metavar="key=value", help="see below; run=DIR is needed")
    parser.add_argument("--checkpoint_path", metavar="DIR/checkpoints/best", help="the same as run=DIR checkpoint=best")
    parser.add_argument("--compare", action="store_true", help="run every strategy and print the table")
    return parser


def _run(request: InferenceRequest, *, compare: bool) -> int:
    folder = request.compare_folder if compare else request.folder
    refuse_existing(folder, overwrite=request.overwrite)
    require_room_for_torch()
    # Not before the request has been checked: this imports torch.
    from runner.inference import evaluation, strategy_comparison

    with _speaking():
        results = strategy_comparison.compare_strategies(request) if compare else evaluation.infer(request)
    for note in results.notes:
        print(f"note: {note}", file=sys.stderr)
    print(results)
    print(f"Files: {folder}")
    return ExitCode.DONE


@contextlib.contextmanager
def _speaking() -> Iterator[None]:
    """Let the data tell on standard error how decoding goes on, and what it leaves out."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    speaker = logging.getLogger("runner")
    level = speaker.level
    speaker.addHandler(handler)
    speaker.setLevel(logging.INFO)
    try:
        yield
    finally:
        speaker.removeHandler(handler)
        speaker.setLevel(level)
