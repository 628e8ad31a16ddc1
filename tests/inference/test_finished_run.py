"""A run's folder is read as it was written, and refused when its parts are damaged, foreign or hostile."""

import json
import shutil

import pytest
import torch

from runner.errors import RequestError, RunError
from runner.inference.finished_run import open_run
from runner.planning.plan import identity_of
from runner.planning.restore import restore_plan
from runner.records.run_file import RunRecord, read_run, write_run


@pytest.fixture
def copied(digits_run, tmp_path):
    return shutil.copytree(digits_run, tmp_path / "copy", symlinks=True)


def refusal(folder, checkpoint="best"):
    with pytest.raises(RequestError) as caught:
        open_run(folder, checkpoint)
    return str(caught.value)


def test_a_plan_read_back_is_the_plan(digits_run):
    stated = read_run(digits_run).plan
    plan = restore_plan(stated)
    assert json.loads(json.dumps(plan.as_dict())) == stated
    assert plan.classes == tuple("0123456789")


def test_a_plan_of_an_earlier_version_has_the_defaults_of_fields_that_came_later(digits_run):
    stated = read_run(digits_run).plan
    del stated["semantic"]["data"]["augment"]["hue"]
    del stated["performance"]["lr_reason"]
    del stated["performance"]["batch_source"]
    with pytest.raises(RunError, match="has been changed"):
        restore_plan(stated)
    stated["identity"] = identity_of(stated["semantic"])  # as that version computed it
    plan = restore_plan(stated)
    assert plan.semantic.data.augment.hue == 0.0
    assert plan.performance.lr_reason is None
    assert plan.performance.batch_source == "request"
    stated["semantic"]["data"]["augment"]["blur"] = 1.0
    stated["identity"] = identity_of(stated["semantic"])
    with pytest.raises(RunError, match="blur"):
        restore_plan(stated)


def test_the_model_is_the_one_that_was_saved(digits_run):
    run = open_run(digits_run)
    model = run.build_model(torch.float32)
    assert not model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, run.weights[name])
    assert open_run(digits_run, "last").step >= run.step


def test_the_folder_of_a_sweep_names_a_run_in_it(copied):
    assert f"did you mean {copied}?" in refusal(copied.parent)


def test_a_checkpoint_that_is_not_there(copied):
    assert "checkpoint: got first, expected one of best, last, step_" in refusal(copied, "first")


def test_a_damaged_checkpoint(copied):
    weights = (copied / "checkpoints" / "best").resolve() / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "model.safetensors is damaged" in refusal(copied)


def test_a_checkpoint_of_another_run(copied, private_run):
    shutil.rmtree(copied / "checkpoints")
    shutil.copytree(private_run / "checkpoints", copied / "checkpoints", symlinks=True)
    assert "(saved by another run)" in refusal(copied)


def test_a_run_that_was_interrupted_before_it_began(tmp_path):
    write_run(tmp_path, RunRecord(name="early", status="running").end("interrupted"))
    assert refusal(tmp_path) == f"run: got {tmp_path} (interrupted before it began), expected a run with a checkpoint"


def test_a_record_that_was_changed(copied):
    record = json.loads((copied / "run.json").read_text())
    record["plan"]["semantic"]["data"]["mean"] = [0.5]
    (copied / "run.json").write_text(json.dumps(record))
    assert "the plan has been changed since it was written" in refusal(copied)


def test_files_of_two_runs(copied, private_run):
    shutil.copy(private_run / ".hydra" / "config.yaml", copied / ".hydra" / "config.yaml")
    assert "name different models" in refusal(copied)


def test_a_configuration_that_wants_to_run_code(copied):
    config = copied / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace("runner.data.digits.load_digits", "os.system"))
    assert "data._target_: got os.system, expected an import path under runner" in refusal(copied)


def test_a_folder_without_configuration(copied):
    shutil.rmtree(copied / ".hydra")
    assert ".hydra/config.yaml" in refusal(copied)
