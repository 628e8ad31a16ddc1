"""The private steps that the bench compares do the same, and a step that does not gets no time."""

import dataclasses

import pytest

from runner.bench import clipped_sums
from runner.bench.task import TASKS, prepare
from runner.errors import RunError


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    task = dataclasses.replace(TASKS["tiny_mlp"], block=10)
    prepared = tmp_path_factory.mktemp("dp") / "prepared.pt"
    prepare(task, prepared)
    return task, prepared


def test_the_runner_and_opacus_clip_and_sum_alike(given):
    assert "draw each example with the rate 0.1 " in clipped_sums.prove(*given, grad_sample="ghost")


def test_a_rule_that_clips_otherwise_is_refused(given, monkeypatch):
    ours = clipped_sums._through_runner

    def otherwise(model, images, labels, norm, grad_sample):
        return ours(model, images, labels, 0.99 * norm, grad_sample)

    monkeypatch.setattr(clipped_sums, "_through_runner", otherwise)
    with pytest.raises(RunError, match="clipped sums of the runner and of Opacus' hooks differ"):
        clipped_sums.prove(*given, grad_sample="ghost")
