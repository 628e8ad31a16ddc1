"""The optimizer of a run: any torch optimizer class, its parameter groups and its fused kernels."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from runner.config.schema import OptimizerConfig
from runner.config.untrusted.target_arguments import target_arguments
from runner.config.untrusted.targets import locate
from runner.config.words.unknown_option import unknown_option
from runner.errors import RequestError
from runner.internals.without_compiler import leave_compiler_out
from runner.optim.modes import begin_training, lacking_mode

_OURS = ("params", "lr", "weight_decay", "fused", "foreach")
_FUSED_DEVICES = ("cpu", "cuda")
_FUSED_DTYPES = (torch.float32, torch.float64)


def build_optimizer(config: OptimizerConfig, model: nn.Module, *, fused: bool | None) -> torch.optim.Optimizer:
    """Build the optimizer of the parameters of ``model`` that require gradients.

    There are two groups: weights decay, while biases and the scales and shifts of normalisation, which are the
    parameters of one dimension, do not unless ``decay_norm_and_bias``.  ``fused`` None takes fused kernels where the
    class has them for the device and type of the parameters, True insists on them.

    Raises:
        RequestError: for a class or option that there is not, a value that the class refuses, or fused kernels that
            there are not.
    """
    among = vars(torch.optim) if config.target.startswith("torch.optim.") else ()
    optimizer_class: Callable[..., torch.optim.Optimizer] = locate("optimizer", config.target, among=among)
    arguments = target_arguments(optimizer_class)
    accepted = arguments.named
    names = [name for name in accepted if name not in _OURS]
    for option, value in config.options.items():
        if option not in names and (option in _OURS or not arguments.takes_others):
            raise unknown_option(
                f"optimizer.{option}", value, names, f" for optimizer={config.name}", target=config.target
            )
        usual = accepted[option].default if option in accepted else None
        if isinstance(usual, tuple) and isinstance(value, list | tuple) and len(value) != len(usual):
            raise RequestError(f"optimizer.{option}", value, f"{len(usual)} numbers for optimizer={config.name}")
    parameters = [p for p in model.parameters() if p.requires_grad]
    use_fused = _use_fused(config.name, "fused" in accepted, parameters, fused)
    options = {**config.options, **({"fused": True} if use_fused else {})}
    if "weight_decay" in accepted:
        groups = _groups(parameters, config)
        options["weight_decay"] = config.weight_decay
    elif config.weight_decay:
        raise RequestError("optimizer.weight_decay", config.weight_decay, f"0: {config.name} has no weight decay")
    else:
        groups = [{"params": parameters}]
    leave_compiler_out()
    try:
        optimizer = optimizer_class(groups, lr=config.lr, **options)
    except (TypeError, ValueError) as error:
        key, value = _refused(str(error), {"lr": config.lr, "weight_decay": config.weight_decay, **config.options})
        raise RequestError(key, value, f"a value that {config.name} takes ({error})") from error
    for name, parameter in inspect.signature(optimizer.step).parameters.items():
        if parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            raise RequestError(
                "optimizer._target_",
                f"{config.target}, whose step needs a {name}",
                "an optimizer that takes one gradient an update: none that calls the loss again, as LBFGS does",
            )
    if (lacking := lacking_mode(optimizer)) is not None:
        has = "train" if lacking == "eval" else "eval"
        got = f"{config.target}, which has {has}() and no {lacking}()"
        raise RequestError("optimizer._target_", got, "an optimizer with both, which turn its weights, or with neither")
    begin_training(optimizer)
    return optimizer


def _groups(parameters: Sequence[nn.Parameter], config: OptimizerConfig) -> list[dict[str, Any]]:
    """The decayed parameters, with the optimizer's own coefficient, and the spared ones: a kernel call a step each."""
    if config.weight_decay == 0:
        return [{"params": list(parameters)}]
    spared = [] if config.decay_norm_and_bias else [p for p in parameters if p.ndim <= 1]
    ids = {id(p) for p in spared}
    decayed = [p for p in parameters if id(p) not in ids]
    groups: list[dict[str, Any]] = [
        {"params": decayed},
        {"params": spared, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _use_fused(name: str, has_kernels: bool, parameters: Sequence[nn.Parameter], wanted: bool | None) -> bool:
    if wanted is False:
        return False
    usable = all(p.device.type in _FUSED_DEVICES and p.dtype in _FUSED_DTYPES for p in parameters)
    if wanted and not has_kernels:
        raise RequestError("hardware.fused_optimizer", True, f"null or false: {name} has no fused kernels")
    if wanted and not usable:
        raise RequestError(
            "hardware.fused_optimizer", True, f"null or false: fused kernels need {' or '.join(_FUSED_DEVICES)}"
        )
    return has_kernels and usable


def _refused(message: str, given: dict[str, Any]) -> tuple[str, Any]:
    """The key that a constructor's complaint is about; the whole optimizer when it does not say."""
    words = message.lower().replace("_", " ")
    aliases = {"lr": "learning rate", "betas": "beta", "eps": "epsilon"}
    for option, value in given.items():
        if any(alias in words for alias in (option.replace("_", " "), aliases.get(option, option))):
            return f"optimizer.{option}", value
    return "optimizer", str(given)
