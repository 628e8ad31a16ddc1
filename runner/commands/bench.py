"""``python -m runner bench [part ...]``: time the runner beside other loops and write ``bench.md``.

Exit codes: 0 measured, 1 a contender died, 2 the request was wrong.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from runner.bench.settings import Settings
from runner.commands.parser import Parser
from runner.errors import ExitCode, RequestError, nearest

PARTS = ("loops", "dp", "tuned", "recipes", "compiled", "half", "input", "sweep", "growth", "startup")
"""Modules of this package with ``measure(settings)``, in the order of the page."""
_WITH_LIGHTNING = ("loops", "tuned", "startup")

MODELS = {
    "cpu": ("resnet18@32x16",),
    "cuda": ("resnet50@224x64", "efficientnet_b0@224x64", "vit_b_16@224x64", "resnet18@32x128"),
}
"""Those whose recipes are compared where ``--models`` names none."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what ``argv`` (null: that of the process) names; all parts if it names none."""
    return _parser().run(argv, lambda args: _measure(_checked(args)))


def _parser() -> Parser:
    parser = Parser("bench", about="Time the runner beside other loops.", failed="a contender died")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)}; all if none is named")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each process (%(default)s)")
    parser.add_argument("--launches", type=int, default=2, help="sets of fresh processes (%(default)s)")
    parser.add_argument("--rounds", type=int, default=10, help="A B B A rounds in each set (%(default)s)")
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="MODEL@SIZExBATCH",
        help="models of the parts tuned, recipes and compiled; on a CPU"
        f" {' '.join(MODELS['cpu'])} if none is named, on a GPU {' '.join(MODELS['cuda'])}",
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu or cuda: where these parts run; auto is CUDA where it is there"
    )
    parser.add_argument(
        "--images", type=Path, help="folder of JPEG files of 32 x 32 pixels for the input part (made up if not given)"
    )
    parser.add_argument("--results", type=Path, default=Path("outputs/bench"), help="folder of the page (%(default)s)")
    return parser


def _checked(args: argparse.Namespace) -> argparse.Namespace:
    """``args``, where they can be measured; raises ``RequestError`` where not."""
    for part in args.parts:
        if part not in PARTS:
            raise RequestError("part", part, f"one of {', '.join(PARTS)}", nearest=nearest(part, PARTS))
    if find_spec("lightning") is None and (
        part := next((p for p in args.parts or PARTS if p in _WITH_LIGHTNING), None)
    ):
        raise RequestError("part", part, "a machine with Lightning, which stands beside: pip install '.[bench]'")
    if args.device not in ("auto", *MODELS):
        raise RequestError("--device", args.device, "auto, cpu or cuda", nearest=nearest(args.device, MODELS))
    for name in ("threads", "launches", "rounds"):
        if getattr(args, name) < 1:
            raise RequestError(f"--{name}", getattr(args, name), "a whole number, at least 1")
    return args


def _measure(args: argparse.Namespace) -> int:
    import torch

    from runner.bench.results import write_results

    found = "cuda" if torch.cuda.is_available() else "cpu"
    if args.device == "cuda" != found:
        raise RequestError("--device", "cuda", "cpu: torch finds no CUDA device here")
    device = found if args.device == "auto" else args.device
    try:
        args.results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=args.results):
            pass
    except OSError as error:
        raise RequestError("--results", args.results, f"a folder that can be written ({error.strerror})") from error
    with tempfile.TemporaryDirectory(prefix="recipe-runner-bench-") as work:
        settings = Settings(
            threads=args.threads,
            launches=args.launches,
            rounds=args.rounds,
            device=device,
            models=args.models or MODELS[device],
            work=work,
            images=args.images,
        )
        sections = []
        for part in args.parts or PARTS:
            for section in importlib.import_module(f"runner.bench.{part}").measure(settings):
                sections.append(section)
                # After every section, so that what was measured is there when a later one fails.
                page = write_results(sections, settings, args.results)
                print(f"{section.title}: done", flush=True)
    print(page.read_text(encoding="utf-8"), end="")
    print(f"page: {page}")
    return ExitCode.DONE
