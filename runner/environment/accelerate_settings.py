"""Settings of ``accelerate launch`` (flags or configuration file), read from the environment.

Each setting is one of three: used, as if it had been typed; refused; or named in the run's notes as not used.  What is
typed for the run, or swept, has the last word.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from runner.errors import RequestError

if TYPE_CHECKING:
    from runner.config.schema import RunConfig

_PRECISIONS = {"fp16": "float16", "bf16": "bfloat16"}
_TRUE = ("1", "true", "yes", "on")
_SHARDED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DEEPSPEED",
    "ACCELERATE_USE_MEGATRON_LM": "MEGATRON_LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
    "ACCELERATE_USE_SAGEMAKER": "SageMaker",
}
_SUPPORTED = {
    "ACCELERATE_MIXED_PRECISION",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
    "ACCELERATE_DYNAMO_BACKEND",
    "ACCELERATE_USE_CPU",
    *_SHARDED,
    # about what accelerate itself says
    "ACCELERATE_LOG_LEVEL",
    "ACCELERATE_ENABLE_RICH",
}
_AS_IF_UNSET = ("", "0", "no", "none", "false", "default")


def accelerate_overrides(environment: Mapping[str, str], given_keys: Collection[str]) -> list[str]:
    """The settings that are used, as overrides; those on whose keys, or groups, somebody else decides are left out.

    ``given_keys`` are the keys that were typed or are swept.

    Raises:
        RequestError: a setting that is no request for one of the trainers here.
    """
    for variable, kind in _SHARDED.items():
        if environment.get(variable, "").lower() in _TRUE:
            raise RequestError(
                variable,
                f"{environment[variable]} (accelerate's distributed_type: {kind})",
                "distributed_type MULTI_GPU, MULTI_CPU or NO: here each process holds the whole model",
            )
    asked = {
        "precision": _precision(environment),
        "trainer.accumulation_steps": _accumulation(environment),
        "hardware.compile": _compiled(environment),
        "hardware.device": "cpu" if environment.get("ACCELERATE_USE_CPU", "").lower() in _TRUE else None,
    }
    _refuse_missing_processes(environment, given_keys)
    return [f"{key}={value}" for key, value in asked.items() if value is not None and not _is_given(key, given_keys)]


def accelerate_notes(environment: Mapping[str, str], config: RunConfig) -> list[str]:
    """What ``accelerate launch`` was told and the run of ``config`` does, or does not do, in a line each."""
    notes = []

    def tell(setting: str, key: str, *, used: bool, instead: object) -> None:
        said = f"{key} is as accelerate's {setting} asks" if used else f"accelerate's {setting} is not used: {key} is"
        notes.append(said if used else f"{said} {instead}")

    if (precision := _precision(environment)) is not None:
        dtype = config.precision.amp_dtype
        tell(f"mixed_precision={precision}", "precision", used=dtype == _PRECISIONS[precision], instead=dtype)
    if (steps := _accumulation(environment)) is not None:
        own, whole = config.trainer.accumulation_steps, config.trainer.effective_batch_size
        instead = own or (1 if whole is None else f"made by trainer.effective_batch_size={whole}")
        setting = f"gradient_accumulation_steps={steps}"
        tell(setting, "trainer.accumulation_steps", used=own == steps, instead=instead)
    if _compiled(environment) is not None:
        tell("dynamo_backend=inductor", "hardware.compile", used=config.hardware.compile, instead="false")
    if environment.get("ACCELERATE_USE_CPU", "").lower() in _TRUE and config.hardware.device != "cpu":
        tell("use_cpu=true", "hardware.device", used=False, instead=config.hardware.device)
    unused = {
        name: value
        for name, value in sorted(environment.items())
        if name.startswith("ACCELERATE_") and name not in _SUPPORTED and value.lower() not in _AS_IF_UNSET
    }
    if unused:
        named = ", ".join(f"{name}={value}" for name, value in unused.items())
        notes.append(f"settings of accelerate that are not used: {named}")
    return notes


_EXCLUSIVE = {"trainer.accumulation_steps": "trainer.effective_batch_size", "hardware.device": "hardware"}
"""What else decides on a key."""


def _is_given(key: str, given_keys: Collection[str]) -> bool:
    return any(name in (key, _EXCLUSIVE.get(key)) or name.startswith(f"{key}.") for name in given_keys)


def _precision(environment: Mapping[str, str]) -> str | None:
    asked = environment.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if asked in _AS_IF_UNSET:
        return None
    if asked not in _PRECISIONS:
        raise RequestError("ACCELERATE_MIXED_PRECISION", asked, "no, fp16 or bf16")
    return asked


def _accumulation(environment: Mapping[str, str]) -> int | None:
    asked = environment.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if not asked.isdecimal() or int(asked) < 1:
        raise RequestError("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", asked, "a whole number of at least 1")
    return None if asked == "1" else int(asked)


def _compiled(environment: Mapping[str, str]) -> str | None:
    asked = environment.get("ACCELERATE_DYNAMO_BACKEND", "no").lower()
    if asked in _AS_IF_UNSET:
        return None
    if asked != "inductor":
        raise RequestError("ACCELERATE_DYNAMO_BACKEND", asked, "no or inductor, which hardware.compile=true stands for")
    return "true"


def _refuse_missing_processes(environment: Mapping[str, str], given_keys: Collection[str]) -> None:
    """On a CPU, accelerate starts one process where it was told of several, unless mpirun starts the others."""
    by_launcher = "ACCELERATE_MIXED_PRECISION" in environment and "MASTER_PORT" in environment
    if by_launcher and "WORLD_SIZE" not in environment and "hardware.processes" not in given_keys:
        raise RequestError(
            "hardware.processes",
            "nothing, under accelerate launch with a num_processes above 1, of which it started one",
            "hardware.processes=2, say, which starts them itself, =1 for this one alone, or torchrun",
        )
