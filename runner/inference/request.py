"""The request of ``python -m runner infer``, checked before torch is imported."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from runner.config.rules.choices import Choices, choices_of
from runner.config.rules.ranges import AT_LEAST_1, Range
from runner.config.schema import DeviceKind
from runner.config.words.expand_user import expand_user
from runner.config.words.instead import Instead
from runner.config.words.override_lines import warn_repeated
from runner.config.words.reference import documented
from runner.config.words.shell_quoting import shell_line
from runner.errors import RequestError, as_typed, nearest

BEST = "best"
"""The checkpoint that is taken where none is named, and that no folder's name tells of."""

HeldOut = Literal["test", "val"]
"""Images that a run kept out of its training."""


@dataclass(frozen=True, kw_only=True)
class InferenceRequest:
    """One evaluation or prediction with the model of a finished run."""

    run: Path
    """Folder of the run."""
    checkpoint: str = BEST
    """``best``, ``last``, or the name of a folder in the run's ``checkpoints/``."""
    inference: Literal["standard", "mixed_precision", "accelerate", "quantized"] = "standard"
    """How it is computed; ``standard`` is the run's own arithmetic."""
    split: HeldOut = "test"
    """Which of the run's own splits."""
    data_root: Path | None = None
    """Folder in which the run's own data are now; null takes the run's ``data.root``."""
    images: Path | None = None
    """Folder of images to predict instead of a split; in folders named like the model's classes they are scored."""
    dtype: Literal["auto", "bfloat16", "float16"] = "auto"
    """``inference=mixed_precision``: the type of the arithmetic; ``auto`` is what suits the device."""
    bits: Literal[8, 4] = 8
    """``inference=quantized``: bits a weight."""
    processes: int = 2
    """``inference=accelerate``: processes on this machine."""
    batch_size: int | None = None
    """Images at a time in each process; null takes the run's ``data.eval_batch_size``."""
    device: DeviceKind = "auto"
    """What computes; ``auto`` takes a GPU where there is one, and else the CPU."""
    threads: int | None = None
    """CPU threads of each process; null takes the run's, shared among the processes."""
    output: Path | None = None
    """Folder of the results; null makes ``inference/NAME`` in the run's folder."""
    overwrite: bool = False
    """Replace results that are there already."""
    ledger_dir: str | None = None
    """Folder of the privacy ledger that knows the run; null takes the run's ``privacy.ledger_dir``."""

    @property
    def name(self) -> str:
        """Name of the results' folder: how, by which weights, and on what."""
        how = {"mixed_precision": f"mixed_precision_{self.dtype}", "quantized": f"quantized_int{self.bits}"}
        return f"{how.get(self.inference, self.inference)}_{self._weights_and_what}"

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return self.run / "inference" / self.name if self.output is None else self.output

    @property
    def compare_folder(self) -> Path:
        """Where the results of all strategies go."""
        return self.run / "inference" / f"compare_{self._weights_and_what}" if self.output is None else self.output

    @property
    def _weights_and_what(self) -> str:
        what = self.split if self.images is None else self.images.absolute().name
        if self.images is not None and what in get_args(HeldOut):
            what = f"images_{what}"  # the run's own split has that name
        return what if self.checkpoint == BEST else f"{self.checkpoint}_{what}"


_RULES: dict[str, Choices | Range] = {
    **choices_of(InferenceRequest),
    "processes": Range(1, 1024),
    "batch_size": AT_LEAST_1,
    "threads": Range(1, 1024),
}
_BELONGS = {"dtype": "mixed_precision", "bits": "quantized", "processes": "accelerate"}
"""Keys that mean something with one strategy alone."""

_ELSEWHERE = {
    "run": "model model_path checkpoint_dir run_dir weights ckpt ckpt_path model_dir checkpoint_file",
    "inference": "strategy mode method inference_strategy",
    "dtype": "precision precision_type amp_dtype torch_dtype data_type",
    "bits": "num_bits quantization_bits quantize quantization",
    "images": "data_dir data image_dir input input_dir source image_folder img_dir folder input_path",
    "processes": "num_processes nproc nprocs world_size num_gpus gpus",
    "batch_size": "batch bs eval_batch_size",
    "device": "gpu cuda accelerator",
    "threads": "num_threads",
    "output": "output_dir out out_dir save_dir output_path results_dir",
    "overwrite": "force exist_ok",
}
"""Key -> what it is called elsewhere."""


def read_request(
    lines: Sequence[str], *, checkpoint_path: str | None = None, compare: bool = False
) -> InferenceRequest:
    """The request that the words ``key=value`` make.

    Args:
        lines: What was typed.
        checkpoint_path: ``DIR/checkpoints/NAME``, another way to say ``run=DIR checkpoint=NAME``.
        compare: Whether every strategy will be run, so that keys of each of them count.

    Raises:
        RequestError: a key that does not exist, a value that it cannot take, or keys that do not go together.
    """
    warn_repeated(lines)
    given = dict(_split(line) for line in lines)
    if checkpoint_path is not None:
        given = _from_checkpoint(Path(expand_user(checkpoint_path)), given) | given
    hints = get_type_hints(InferenceRequest)
    values: dict[str, Any] = {}
    for key, text in given.items():
        if key not in hints:
            raise RequestError(key, text, f"one of {', '.join(hints)}", nearest=_usual(key) or nearest(key, hints))
        values[key] = _convert(key, text, hints[key])
        if key in _RULES and values[key] is not None:
            _RULES[key].check(key, values[key])
    if "run" not in values:
        raise RequestError("run", "nothing", "run=DIR, the folder of a finished run")
    request = InferenceRequest(**values)
    _check(request, set(given), compare=compare)
    return request


def in_place_of(word: str, value: str | None) -> Instead | None:
    """What to type for the flag ``word`` of another tool with ``value``; None where nobody knows."""
    name = word.replace("-", "_")
    key = name if name in get_type_hints(InferenceRequest) else _usual(name)
    return None if key is None else Instead((shell_line(f"{key}={'VALUE' if value is None else value}"),))


def _usual(word: str) -> str | None:
    return next((key for key, words in _ELSEWHERE.items() if word in words.split()), None)


def refuse_path(checkpoint: str) -> None:
    """Take the name of a checkpoint, which also becomes part of a folder's, and nothing that leads elsewhere.

    Raises:
        RequestError: it is a path.
    """
    if Path(checkpoint).name != checkpoint:
        raise RequestError("checkpoint", checkpoint, "best, last, or the name of a folder in checkpoints/")


def keys() -> list[tuple[str, str]]:
    """(key=default, what it means) of every key, for the help: the fields' own docstrings."""
    texts = {name: text.replace("`", "") for name, text in documented(InferenceRequest).items()}
    defaults = {one.name: one.default for one in dataclasses.fields(InferenceRequest)}
    return [
        (f"{name}={'DIR' if defaults[name] is dataclasses.MISSING else as_typed(defaults[name])}", text)
        for name, text in texts.items()
    ]


def _split(line: str) -> tuple[str, str]:
    key, equals, text = line.partition("=")
    if not equals:
        raise RequestError(line, "a bare word", "key=value, such as run=outputs/DATE/TIME")
    return key, text


def _convert(key: str, text: str, kind: Any) -> Any:
    if text == "null" and type(None) in getattr(kind, "__args__", ()):
        return None
    if not text:
        raise RequestError(key, "nothing", "a value")
    plain = next(k for k in getattr(kind, "__args__", (kind,)) if k is not type(None))
    plain = plain if isinstance(plain, type) else type(plain)  # of a Literal the values themselves stand there
    if plain is bool:
        if text not in ("true", "false"):
            raise RequestError(key, text, "true or false")
        return text == "true"
    if plain is int:
        try:
            return int(text)
        except ValueError:
            raise RequestError(key, text, "a whole number") from None
    return Path(expand_user(text)) if plain is Path else text


def _from_checkpoint(path: Path, given: dict[str, str]) -> dict[str, str]:
    for key in ("run", "checkpoint"):
        if key in given:
            raise RequestError(key, given[key], "nothing besides --checkpoint_path, which says both")
    # as typed: best and last are links, and where they lead is not what was asked for
    path = path.absolute()
    if path.parent.name != "checkpoints":
        raise RequestError("--checkpoint_path", path, "DIR/checkpoints/best, with DIR the folder of a run")
    return {"run": str(path.parent.parent), "checkpoint": path.name}


def _check(request: InferenceRequest, given: set[str], *, compare: bool) -> None:
    if compare and "inference" in given:
        raise RequestError("inference", request.inference, "nothing besides --compare, which runs every strategy")
    for key, strategy in _BELONGS.items():
        if key in given and (compare or request.inference != strategy):
            got = f"{getattr(request, key)} with {'--compare' if compare else f'inference={request.inference}'}"
            raise RequestError(key, got, f"inference={strategy}, or no {key}")
    if request.images is not None and "split" in given:
        raise RequestError("split", request.split, "nothing besides images, which stand in its place")
    if request.images is not None and request.data_root is not None:
        raise RequestError("data_root", request.data_root, "nothing besides images, which stand in the data's place")
    refuse_path(request.checkpoint)
    if not request.run.is_dir():
        raise RequestError("run", f"{request.run} (no such folder)", "the folder of a finished run")
    if request.output is None and (request.run / "inference").is_symlink():
        raise RequestError(
            "run", f"{request.run / 'inference'} (a link)", "output=FOLDER: nothing is written behind it"
        )
    for key, folder in (("images", request.images), ("data_root", request.data_root)):
        if folder is not None and not folder.is_dir():
            raise RequestError(
                key, f"{folder} ({'not a' if folder.exists() else 'no such'} folder)", "a folder that holds images"
            )
