"""A plan of the default task has the identity that it had before there was another."""

import dataclasses
import json

from runner.config.identity import identity_fields, identity_of
from runner.planning.plan import TaskPlan
from runner.planning.restore import restore_plan


def test_the_default_task_is_no_part_of_the_identity(plan_of):
    semantic = dataclasses.asdict(plan_of().semantic)
    earlier = {key: value for key, value in semantic.items() if key != "task"}
    assert semantic["task"] == dataclasses.asdict(TaskPlan())
    assert identity_of(semantic) == identity_of(earlier)


def test_another_task_is_another_run(plan_of):
    semantic = dataclasses.asdict(plan_of().semantic)
    other = semantic | {"task": semantic["task"] | {"target": "mine.Rank"}}
    assert identity_of(other) != identity_of(semantic)
    assert identity_fields(other)["task"] == {"target": "mine.Rank"}


def test_a_task_survives_the_record_of_a_run(plan_of):
    plan = plan_of()
    restored = restore_plan(json.loads(json.dumps(plan.as_dict())))
    assert restored.semantic.task == plan.semantic.task
    assert restored.identity == plan.identity
