"""Starting weights from a safetensors file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from safetensors.torch import load_file
from torch import Tensor, nn

from runner.config.weights_of_run import weights_file
from runner.errors import RequestError, nearest

PRETRAINED = "DEFAULT"
"""The value of ``model.weights`` that asks a library for its own pretrained weights."""


def read_weights(path: str) -> dict[str, Tensor]:
    """Read the tensors of the safetensors file at ``path``, or of the best checkpoint of the run in that folder.

    Raises:
        RequestError: when there is no such file or it holds something else.
    """
    file = weights_file(path)
    if not file.is_file():
        raise RequestError(
            "model.weights",
            path,
            f"null, {PRETRAINED}, an existing safetensors file, or the folder of a run that saved",
            nearest=nearest(path.upper(), [PRETRAINED]),
        )
    try:
        return load_file(file)
    except Exception as error:  # the library answers crafted headers with any
        reason = " ".join(str(error).split())[:200]
        raise RequestError("model.weights", path, f"a readable safetensors file ({reason})") from error


def load_weights(
    model: nn.Module, state: Mapping[str, Tensor], *, num_classes: int, source: str, tell: Callable[[str], None]
) -> None:
    """Put ``state`` into ``model``; the head keeps its new weights where ``state`` has another number of classes.

    Args:
        model: network whose last layer has ``num_classes`` outputs.
        state: tensors by the names of ``model.state_dict()``.
        num_classes: outputs of the model's head.
        source: where ``state`` was read, for messages.
        tell: takes what was left out.

    Raises:
        RequestError: when anything but the head is missing, foreign, or of another shape.
    """
    own = model.state_dict()
    kept = _foreign_head(model, own, state, num_classes)
    if kept:
        left = " and ".join(f"{name} {list(state[name].shape)}" for name in kept)
        tell(new_head(source, state[kept[0]].shape[0], num_classes, left))
    missing = [key for key in own if key not in state]
    foreign = [key for key in state if key not in own]
    unlike = [key for key in own if key in state and key not in kept and own[key].shape != state[key].shape]
    problems = [
        f"{what} {', '.join(keys[:3])}{f' and {len(keys) - 3} more' if len(keys) > 3 else ''}"
        for what, keys in (("it lacks", missing), ("it has foreign", foreign), ("other shapes at", unlike))
        if keys
    ]
    if problems:
        raise RequestError("model.weights", source, f"the weights of this very model ({'; '.join(problems)})")
    model.load_state_dict({key: own[key] if key in kept else value for key, value in state.items()})


def new_head(source: str, classes: int, num_classes: int, left: str) -> str:
    """What to tell of weights of ``classes`` classes whose head, the tensors ``left``, does not fit the data."""
    return (
        f"model.weights: {source} has {classes} classes and the data {num_classes}: {left} left out, the head starts"
        " from new weights"
    )


def head_name(model: nn.Module, num_classes: int) -> str | None:
    """Name of the layer that gives the logits: the last linear layer or convolution with ``num_classes`` outputs."""
    heads = [
        name
        for name, module in model.named_modules()
        if (isinstance(module, nn.Linear) and module.out_features == num_classes)
        or (isinstance(module, nn.Conv2d) and module.out_channels == num_classes)
    ]
    return heads[-1] if heads else None


def _foreign_head(
    model: nn.Module, own: Mapping[str, Tensor], state: Mapping[str, Tensor], num_classes: int
) -> list[str]:
    """Names of the head's tensors when ``state`` differs there, and only there, in the number of classes."""
    head = head_name(model, num_classes)
    names = [name for name in (f"{head}.weight", f"{head}.bias") if name in own]
    in_both = bool(names) and all(name in state for name in names)
    if not in_both or any(own[n].shape[1:] != state[n].shape[1:] for n in names):
        return []
    return names if state[names[0]].shape[0] != num_classes else []
