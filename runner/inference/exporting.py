"""A model with its preprocessing as one file that runs without this project, checked before it appears.

The file takes uint8 pixels [b, H, W, C], any b > 0, and gives probabilities float32 [b, K].  It computes in float32:
autocast and integer weights are not exported.
"""

from __future__ import annotations

import dataclasses
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from runner.errors import RequestError, RunError
from runner.inference.image_sources import open_folder, open_own_data
from runner.inference.preprocessing import Normalise
from runner.inference.results_folder import results_folder
from runner.records.environment import describe_environment
from runner.records.json_values import write_json
from runner.records.plugins_used import plugins_used
from runner.records.run_file import read_run, utc_now
from runner.statement.facts import Books, Facts, gather
from runner.statement.write import STATEMENT_FILE, render, write_statement

if TYPE_CHECKING:
    from runner.data.images import ImageSet
    from runner.inference.finished_run import FinishedRun

CHECKED = 1000
"""Images on which the file is held against the model."""
TOLERANCE = 1e-4
"""Largest difference of a probability."""
EXPORT_FILE = "export.json"
SUFFIXES = {"onnx": "model.onnx", "torch_export": "model.pt2"}


@dataclass(frozen=True, kw_only=True)
class ExportCheck:
    """The file against the model that it was made from."""

    images: int
    other_classes: int
    """Images of which the two name different classes."""
    largest_difference: float
    """Of a probability."""
    passed: bool


class Exported(nn.Module):
    """Pixels in, probabilities out."""

    def __init__(self, normalise: nn.Module, model: nn.Module) -> None:
        super().__init__()
        self.normalise = normalise
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 [b, H, W, C] to float32 [b, K]."""
        return self.model(self.normalise(pixels)).softmax(1)


def export(run: FinishedRun, form: str, output: Path, *, images: Path | None, overwrite: bool = False) -> ExportCheck:
    """Write the model of ``run`` into the folder ``output``, if it says there what it says here.

    Args:
        run: With its weights.
        form: ``onnx`` or ``torch_export``.
        output: Folder that appears, whole.
        images: Folder whose images check the file; None takes the run's own data.
        overwrite: Replace ``output`` where it is there already.

    Raises:
        RequestError: what the form needs is not installed, there are no images, or ``output`` is there already or
            being made.
        RunError: the model cannot be exported, or the file gives other answers; then nothing is left.
    """
    make = {"onnx": _export_onnx, "torch_export": _export_torch}[form]
    data, facts = run.plan.semantic.data, _statement(run)
    notes = {} if facts is None else {STATEMENT_FILE: render(facts)}
    whole = Exported(Normalise(data.mean, data.std, torch.float32), run.build_model(torch.float32)).eval()
    with results_folder(output, overwrite=overwrite) as files:
        pixels = _real_pixels(run, images)
        path = files / SUFFIXES[form]
        try:
            # blank, because a file may keep the example that it was traced with: no image of the data is to go with it
            with _quiet_exporters():
                predict = make(whole, torch.zeros_like(pixels[:2]), path, notes)
        except (RequestError, RunError):
            raise
        except Exception as error:
            if _was_interrupted(error):
                raise KeyboardInterrupt from error
            # The exporters answer a model that they cannot follow with any exception there is; the first line says why.
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise RunError(f"{run.plan.semantic.model.name} cannot be exported as {form}: {reason}") from error
        check = _compare(whole, predict, pixels)
        if not check.passed:
            raise RunError(
                f"the exported file gives other answers: {check.other_classes} other classes in {check.images} images,"
                f" probabilities up to {check.largest_difference:.1e} apart (allowed {TOLERANCE:g})"
            )
        if facts is not None:
            write_statement(files, facts)
        write_json(files / EXPORT_FILE, _record(run, form, path, check))
    return check


def _statement(run: FinishedRun) -> Facts | None:
    """What the privacy statement of ``run`` says by now; None for a run without privacy."""
    privacy = run.config.privacy
    drawn = privacy.selection == "random_stopping"
    return gather(run.folder, read_run(run.folder), Books(), ledger_dir=privacy.ledger_dir, drawn=drawn)


def _real_pixels(run: FinishedRun, folder: Path | None) -> Tensor:
    """Up to 1,000 images, uint8 [n, H, W, C]: the test, validation and training splits in this order, or a folder's.

    Of a private run the test split alone: how far two files differ on the others is not covered by its epsilon.
    """
    if folder is not None:
        sets: list[ImageSet | None] = [open_folder(run, folder).images]
    else:
        data = open_own_data(run)
        sets = [data.test] if run.privacy is not None else [data.test, data.val, data.train]
        if all(images is None for images in sets):
            raise RequestError("images", "nothing for a private run without test images", "images=FOLDER with others")
    size = run.plan.semantic.data.image_size
    found: list[Tensor] = []
    for images in sets:
        room = CHECKED - sum(map(len, found))
        if images is not None and room:
            margin = (images.images.shape[1] - size) // 2
            pixels = images.pixels(np.arange(min(room, len(images))))
            found.append(torch.from_numpy(pixels[:, margin : margin + size, margin : margin + size]))
    return torch.cat(found).contiguous()


def _compare(model: nn.Module, predict: Callable[[Tensor], Tensor], pixels: Tensor) -> ExportCheck:
    other, largest = 0, 0.0
    with torch.inference_mode():
        # batches of unequal sizes, one of a single image, because the file promises any
        for part in pixels.split([1, *_sizes(len(pixels) - 1)]):
            ours, theirs = model(part), predict(part)
            other += int((ours.argmax(1) != theirs.argmax(1)).sum())
            largest = max(largest, (ours - theirs).abs().max().item())
    passed = other == 0 and largest <= TOLERANCE
    return ExportCheck(images=len(pixels), other_classes=other, largest_difference=largest, passed=passed)


def _sizes(count: int, size: int = 128) -> list[int]:
    return [min(size, count - start) for start in range(0, count, size)]


def _export_torch(model: nn.Module, example: Tensor, path: Path, notes: dict[str, Any]) -> Callable[[Tensor], Tensor]:
    program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    file = io.BytesIO()  # torch ends the process where a disk is full
    torch.export.save(program, file, extra_files=notes)
    try:
        path.write_bytes(file.getvalue())
    except OSError as error:
        raise RunError(f"{path.name} cannot be written ({error.strerror})") from error
    return torch.export.load(path).module()


def _export_onnx(model: nn.Module, example: Tensor, path: Path, notes: dict[str, Any]) -> Callable[[Tensor], Tensor]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401, torch asks for it late and in many words
    except ImportError as error:
        raise RequestError("format", f"onnx without {error.name}", "pip install 'recipe-runner[export]'") from error
    program = torch.onnx.export(
        model,
        (example,),
        input_names=["pixels"],
        output_names=["probabilities"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(notes)
    program.save(path, external_data=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda pixels: torch.from_numpy(session.run(None, {"pixels": pixels.numpy()})[0])


@contextmanager
def _quiet_exporters() -> Iterator[None]:
    """Without what torch 2.11 says of its own exporters."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given buffer is not writable", category=UserWarning)
        warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning)
        yield


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether ``error`` stands for a Ctrl-C, which exporters take for a failure of theirs."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _record(run: FinishedRun, form: str, path: Path, check: ExportCheck) -> dict[str, Any]:
    data = run.plan.semantic.data
    return {
        "format": form,
        "file": path.name,
        "bytes": path.stat().st_size,
        "input": {
            "name": "pixels",
            "type": "uint8",
            "shape": ["batch", data.image_size, data.image_size, data.channels],
        },
        "output": {"name": "probabilities", "type": "float32", "shape": ["batch", data.num_classes]},
        "classes": run.plan.classes,
        "run": run.folder.absolute().name,
        "name": run.plan.name,
        "identity": run.identity,
        "step": run.step,
        "privacy": run.privacy,
        "check": {**dataclasses.asdict(check), "against": "the model in float32", "tolerance": TOLERANCE},
        "environment": describe_environment() | {"plugins": plugins_used(run.config)},
        "written": utc_now(),
    }
