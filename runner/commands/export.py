"""``python -m runner export run=DIR format=onnx|torch_export``: the model of a run as one file, checked on real images.

Exit codes: 0 done, 1 the model cannot be exported or the file gives other answers, 2 the request was wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from runner.commands.parser import Parser
from runner.config.words.expand_user import expand_user
from runner.config.words.instead import Instead
from runner.config.words.override_lines import warn_repeated
from runner.config.words.shell_quoting import shell_line
from runner.environment.address_space import require_room_for_torch
from runner.errors import ExitCode, RequestError, nearest
from runner.inference.request import BEST, refuse_path
from runner.inference.results_folder import refuse_existing

FORMATS = ("onnx", "torch_export")
KEYS = {
    "run": "folder of the run",
    "format": "onnx (runs in onnxruntime and many others) or torch_export (torch.export, runs in PyTorch)",
    "checkpoint": "best (default), last, or a folder's name in checkpoints/",
    "data_root": "folder in which the run's own data are now, if they have moved",
    "images": "folder of images to check the file with; the run's own data unless it is given",
    "output": "folder of the results; DIR/export/FORMAT unless it is given, FORMAT_last of checkpoint=last",
    "overwrite": "true replaces results that are there already",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (null: that of the process) and return the exit code."""
    return _parser().run(argv, lambda args: _export(_read(args.words)))


def _parser() -> Parser:
    parser = Parser(
        "export",
        about="Write the model of a finished run, with its preprocessing, as one file, and check it.",
        failed="the model cannot be exported, or the file gives other answers",
        keys=KEYS,
        meaning=_in_place_of,
    )
    parser.add_argument("words", nargs="*", metavar="key=value", help="see below; run=DIR and format=... are needed")
    return parser


def _in_place_of(word: str, value: str | None) -> Instead | None:
    """What to type for the flag ``word``; None where it is no key with dashes."""
    key = word.replace("-", "_")
    return Instead((shell_line(f"{key}={'VALUE' if value is None else value}"),)) if key in KEYS else None


def _read(words: Sequence[str]) -> dict[str, str]:
    warn_repeated(words)
    given = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in KEYS:
            raise RequestError(key, value or "a bare word", f"one of {', '.join(KEYS)}", nearest=nearest(key, KEYS))
        if not value:
            raise RequestError(key, "nothing", "a value")
        given[key] = value
    for key in ("run", "format"):
        if key not in given:
            raise RequestError(key, "nothing", f"{key}={'DIR' if key == 'run' else '|'.join(FORMATS)}")
    refuse_path(given.get("checkpoint", BEST))
    for key, choices in (("format", FORMATS), ("overwrite", ("true", "false"))):
        if given.get(key, choices[0]) not in choices:
            raise RequestError(key, given[key], " or ".join(choices), nearest=nearest(given[key], choices))
    return given


def _folder(given: Mapping[str, str]) -> Path:
    """Where the results go."""
    if "output" in given:
        return Path(expand_user(given["output"]))
    form, checkpoint = given["format"], given.get("checkpoint", BEST)
    return Path(expand_user(given["run"])) / "export" / (form if checkpoint == BEST else f"{form}_{checkpoint}")


def _export(given: dict[str, str]) -> int:
    run, form = Path(expand_user(given["run"])), given["format"]
    checkpoint, output = given.get("checkpoint", BEST), _folder(given)
    if "output" not in given and output.parent.is_symlink():
        raise RequestError("run", f"{output.parent} (a link)", "output=FOLDER: nothing is written behind it")
    images, root = (Path(expand_user(given[key])) if key in given else None for key in ("images", "data_root"))
    for key, folder in (("images", images), ("data_root", root)):
        if folder is not None and not folder.is_dir():
            raise RequestError(
                key, f"{folder} ({'not a' if folder.exists() else 'no such'} folder)", "a folder that holds images"
            )
    if images is not None and root is not None:
        raise RequestError("data_root", root, "nothing besides images, which stand in the data's place")
    overwrite = given.get("overwrite") == "true"
    refuse_existing(output, overwrite=overwrite)
    require_room_for_torch()
    # Not before the request has been checked: this imports torch.
    from runner.inference import exporting, finished_run

    found = finished_run.open_run(run, checkpoint).with_data_in(root)
    check = exporting.export(found, form, output, images=images, overwrite=overwrite)
    path = output / exporting.SUFFIXES[form]
    print(f"{found.plan.name}: {path.name}, {path.stat().st_size / 2**20:.2f} MiB")
    few = f" (of {exporting.CHECKED:,} asked)" if check.images < exporting.CHECKED else ""
    print(f"  checked on {check.images:,} real images{few}: the same classes, probabilities within")
    print(f"  {check.largest_difference:.1e} of the model's in float32 (allowed {exporting.TOLERANCE:g})")
    if found.privacy is not None:
        print(f"  privacy: {found.privacy}")
    if (dtype := found.plan.semantic.precision.dtype) != "float32":
        print(f"note: the run computes in {dtype}, the file in float32, so some answers differ", file=sys.stderr)
    if found.unfinished is not None:
        print(f"note: {found.unfinished}", file=sys.stderr)
    print(f"Files: {output}")
    return ExitCode.DONE
