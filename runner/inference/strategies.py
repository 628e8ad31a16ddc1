"""The ways to run a trained model: the run's own arithmetic, 16 bits, several processes, small weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save as save_tensors

from runner.config.schema import AmpDtype, PrecisionConfig
from runner.errors import RequestError
from runner.inference.in_place_activations import activate_in_place
from runner.inference.quantize import load_quantized, quantize, save_quantized
from runner.models.memory_format import format_for
from runner.planning.build import choose_precision
from runner.training.precision.precision import Precision, build_precision

if TYPE_CHECKING:
    from runner.inference.finished_run import FinishedRun
    from runner.inference.request import InferenceRequest
    from runner.planning.device import Device


@dataclass(frozen=True, kw_only=True)
class PreparedModel:
    """A model, ready to run on its device."""

    model: torch.nn.Module
    precision: Precision
    dtype: str
    """Of the products in the forward pass."""
    model_bytes: int
    """Of the weights in a file of this form."""
    details: dict[str, Any]
    """What else a reader should know."""
    notes: tuple[str, ...] = ()


def prepare(
    run: FinishedRun, request: InferenceRequest, device: Device, place: torch.device, files: Path
) -> PreparedModel:
    """Build the model of ``run`` as ``request.inference`` wants it, on ``place``.

    Args:
        run: With its weights.
        request: The strategy and its settings.
        device: What the hardware can do.
        place: The device of this process.
        files: Existing folder for weights in another form.

    Raises:
        RequestError: the strategy does not go with the model, the device, or what is installed.
    """
    own = run.plan.semantic.precision
    if request.inference == "quantized":
        return _quantized(run, request.bits, place, files)
    details: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    if request.inference == "mixed_precision":
        asked: AmpDtype = "auto16" if request.dtype == "auto" else request.dtype
        chosen = choose_precision(PrecisionConfig(amp_dtype=asked), device)
        details["reason"] = chosen.reason
        if asked not in ("auto16", chosen.dtype):
            notes = (f"dtype={asked} falls back to {chosen.dtype}: {chosen.reason}",)
    else:
        chosen = own
    precision = build_precision(chosen, place, private=False)
    model = activate_in_place(run.build_model(precision.parameter_dtype)).to(place)
    return PreparedModel(
        model=model.to(memory_format=format_for(model, channels_last=run.plan.performance.channels_last)),
        precision=precision,
        dtype=chosen.dtype,
        model_bytes=run.weights_file.stat().st_size,
        details=details,
        notes=notes,
    )


def _quantized(run: FinishedRun, bits: int, place: torch.device, files: Path) -> PreparedModel:
    if place.type == "mps":
        raise RequestError("device", "mps with inference=quantized", "cpu or cuda")
    model = run.build_model(torch.float32)
    whole = len(save_tensors(model.state_dict()))
    done = quantize(model, bits)
    path = files / f"model_int{bits}.safetensors"
    size = save_quantized(model, path)
    # What is measured is what the file holds.
    model = run.build_model(torch.float32)
    load_quantized(model, path)
    return PreparedModel(
        model=model.to(place),  # integer weights know no memory format: that of the images decides
        precision=Precision(place),
        dtype="float32",
        model_bytes=size,
        details={**asdict(done), "file": path.name, "float32_bytes": whole, "size_ratio": size / whole},
    )
