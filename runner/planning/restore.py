"""A plan read back from ``run.json``, for programs that go on from a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.config.choice import ChosenBy
from runner.config.identity import identity_of
from runner.config.schema import AugmentConfig, ModelConfig, OptimizerConfig, SchedulerConfig
from runner.config.untrusted.typed_values import check_types
from runner.errors import RunError
from runner.planning.plan import (
    DataPlan,
    PerformancePlan,
    Plan,
    PrecisionPlan,
    PrivacyPlan,
    SemanticPlan,
    SplitPlan,
    TaskPlan,
)


def restore_plan(stated: Mapping[str, Any]) -> Plan:
    """The plan that ``Plan.as_dict`` gave ``stated``, in this version or in an earlier one.

    Fields that did not exist yet have their defaults, so that ``identity`` of the restored plan may be another than the
    stated one, by which the run is known.

    Raises:
        RunError: it is not such a plan, or its semantic part is not the one that its identity was computed of.
    """
    try:
        plan = _restore(stated)
        check_types(plan)
        unchanged = identity_of(stated["semantic"]) == stated["identity"]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise RunError(f"the plan is not one that this version or an earlier one wrote ({error})") from error
    if not unchanged:
        raise RunError("the plan has been changed since it was written")
    return plan


def performance_of(stated: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the performance part of a stated plan, with what earlier versions left to be concluded."""
    performance = dict(stated["performance"])
    # there, a size was measured where a reason stands for it
    measured: ChosenBy = "request" if performance.get("batch_reason") is None else "measurement"
    return {"batch_source": measured} | performance


def _restore_task(stated: Mapping[str, Any]) -> TaskPlan:
    """Lists of JSON as the tuples that they were; empty where there was no choice yet."""
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in stated.items()}
    return TaskPlan(**fields)


def _restore(stated: Mapping[str, Any]) -> Plan:
    semantic = dict(stated["semantic"])
    data = dict(semantic["data"])
    data |= {"mean": tuple(data["mean"]), "std": tuple(data["std"]), "augment": AugmentConfig(**data["augment"])}
    privacy = semantic["privacy"]
    semantic |= {
        "data": DataPlan(**data),
        "model": ModelConfig(**semantic["model"]),
        "optimizer": OptimizerConfig(**semantic["optimizer"]),
        "scheduler": SchedulerConfig(**semantic["scheduler"]),
        "precision": PrecisionPlan(**semantic["precision"]),
        "task": _restore_task(semantic.get("task", {})),
        "privacy": None if privacy is None else PrivacyPlan(**privacy),
    }
    return Plan(
        name=stated["name"],
        trainer=stated["trainer"],
        classes=tuple(stated["classes"]),
        semantic=SemanticPlan(**semantic),
        performance=PerformancePlan(**performance_of(stated)),
        notes=tuple(stated["notes"]),
        splits=tuple(SplitPlan(**split) for split in stated.get("splits", ())),
    )
