"""Several processes by any launcher: which place each has, and what accelerate's settings make of the request."""

import os

import pytest

from runner.environment.accelerate_settings import accelerate_notes, accelerate_overrides
from runner.environment.launchers import adopt_launch, is_first, launched, local_processes
from runner.errors import RequestError
from runner.processes.command_end import run_single_process_command

OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1", "PMIX_NAMESPACE": "prterun-n1-77@1",
}  # fmt: skip
INTEL_MPI = {"PMI_SIZE": "2", "PMI_RANK": "1", "MPI_LOCALNRANKS": "2", "MPI_LOCALRANKID": "1"}
SRUN = {
    "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "3,1",
    "SLURM_NODEID": "1", "SLURM_JOB_ID": "12", "SLURM_STEP_ID": "0", "MASTER_ADDR": "n1",
}  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        (OPEN_MPI, ("1", "2", "1", "2", "127.0.0.1")),
        (INTEL_MPI, ("1", "2", "1", "2", "127.0.0.1")),
        ({"MV2_COMM_WORLD_SIZE": "2", "MV2_COMM_WORLD_RANK": "0"}, ("0", "2", "0", "2", "127.0.0.1")),
        (SRUN, ("3", "4", "0", "1", "n1")),
        (SRUN | {"SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_LOCALID": "1"}, ("3", "4", "1", "2", "n1")),
    ],
)
def test_a_place_among_the_processes(environment, place):
    environment = dict(environment)
    adopt_launch(environment)
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
    assert tuple(environment[name] for name in names) == place
    assert launched(environment)
    assert is_first(environment) == (place[0] == "0")
    assert 20_000 <= int(environment["MASTER_PORT"]) < 30_000


def test_what_numbers_the_processes_does_not_part_them():
    ports = set()
    for rank in "01":
        environment = INTEL_MPI | {"PMI_RANK": rank, "PMI_ID": rank}
        adopt_launch(environment)
        ports.add(environment["MASTER_PORT"])
    assert len(ports) == 1


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"},
        # a batch script of Slurm: one process, whatever its job may start
        {"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_ID": "12"},
        {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
        # torchrun, which srun started on each node, has the last word
        {"WORLD_SIZE": "1", "RANK": "0", **SRUN},
    ],
)
def test_one_process_is_one(environment):
    found = dict(environment)
    adopt_launch(found)
    assert found == environment
    assert is_first(found)


def test_two_launches_meet_at_places_of_their_own():
    ports = set()
    for job in ("prterun-n1-77@1", "prterun-n1-78@1"):
        environment = OPEN_MPI | {"PMIX_NAMESPACE": job}
        adopt_launch(environment)
        ports.add(environment["MASTER_PORT"])
    assert len(ports) == 2


def test_several_machines_without_an_address_are_refused(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RequestError, match="MASTER_ADDR: got nothing, for 4 processes of srun on several machines"):
        adopt_launch({key: value for key, value in SRUN.items() if key != "MASTER_ADDR"} | {"SLURM_STEP_NODELIST": "n"})


def test_cores_are_shared_by_the_processes_of_a_machine(monkeypatch, configure):
    assert local_processes(8, {"LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "8"}) == 2
    assert local_processes(2, {}) == 2
    from runner.data.open import open_data
    from runner.planning import build
    from runner.planning.device import detect_device

    monkeypatch.setattr(build, "available_cores", lambda: 8)
    config = configure("trainer=accelerate", "data.limit=32", "hardware=cpu")
    data, device = open_data(config.data), detect_device(config.hardware)
    for local, threads in ((None, 2), ("4", 2), ("1", 8)):
        if local is not None:
            monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
        assert build.build_plan(config, data, device, processes=4).performance.threads == threads


@pytest.mark.parametrize(
    ("environment", "settled", "lines"),
    [
        ({"ACCELERATE_MIXED_PRECISION": "no"}, (), []),
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, ("model", "trainer.epochs"), ["precision=bf16"]),
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, ("precision",), []),
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, ("precision.amp_dtype",), []),
        ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}, ("trainer",), ["trainer.accumulation_steps=4"]),
        ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}, ("trainer.effective_batch_size",), []),
        ({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, (), ["hardware.compile=true"]),
        ({"ACCELERATE_DYNAMO_BACKEND": "NO", "ACCELERATE_DYNAMO_MODE": "default"}, (), []),
        ({"ACCELERATE_USE_CPU": "True"}, (), ["hardware.device=cpu"]),
        ({"ACCELERATE_USE_CPU": "True"}, ("hardware",), []),
        ({"ACCELERATE_MIXED_PRECISION": "no", "MASTER_PORT": "1"}, ("hardware.processes",), []),
        ({"ACCELERATE_MIXED_PRECISION": "no", "MASTER_PORT": "1", "WORLD_SIZE": "2"}, (), []),
    ],
)
def test_settings_of_accelerate_that_are_used(environment, settled, lines):
    assert accelerate_overrides(environment, settled) == lines


@pytest.mark.parametrize(
    ("environment", "refusal"),
    [
        ({"ACCELERATE_MIXED_PRECISION": "fp8"}, "ACCELERATE_MIXED_PRECISION: got fp8, expected no, fp16 or bf16"),
        ({"ACCELERATE_USE_FSDP": "true"}, "ACCELERATE_USE_FSDP: got true (accelerate's distributed_type: FSDP), "),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "ACCELERATE_USE_DEEPSPEED: got true "),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "ACCELERATE_USE_MEGATRON_LM: got true "),
        ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, "ACCELERATE_USE_PARALLELISM_CONFIG: got true "),
        ({"ACCELERATE_DYNAMO_BACKEND": "CUDAGRAPHS"}, "ACCELERATE_DYNAMO_BACKEND: got cudagraphs, expected no or "),
        ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "auto"}, "ACCELERATE_GRADIENT_ACCUMULATION_STEPS: got auto, "),
        ({"ACCELERATE_MIXED_PRECISION": "no", "MASTER_PORT": "29500"}, "hardware.processes: got nothing, under "),
    ],
)
def test_settings_of_accelerate_that_are_refused(environment, refusal):
    with pytest.raises(RequestError) as error:
        accelerate_overrides(environment, ())
    assert str(error.value).startswith(refusal)


def test_what_accelerate_was_told_is_said_of_the_run(configure):
    told = {"ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "2"}
    assert accelerate_notes(told, configure("precision=bf16", "trainer.accumulation_steps=2")) == [
        "precision is as accelerate's mixed_precision=bf16 asks",
        "trainer.accumulation_steps is as accelerate's gradient_accumulation_steps=2 asks",
    ]
    assert accelerate_notes(
        told | {"ACCELERATE_DYNAMO_MODE": "max-autotune", "ACCELERATE_LOG_LEVEL": "info"}, configure()
    ) == [
        "accelerate's mixed_precision=bf16 is not used: precision is float32",
        "accelerate's gradient_accumulation_steps=2 is not used: trainer.accumulation_steps is 1",
        "settings of accelerate that are not used: ACCELERATE_DYNAMO_MODE=max-autotune",
    ]
    assert accelerate_notes({"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "NO"}, configure()) == []


RUN = ("tracker=none", "data.limit=32", "model=mlp", "trainer.epochs=1", "hardware=cpu", "hydra.run.dir=run")


def test_the_precision_of_accelerate_is_the_runs(command, tmp_path, monkeypatch):
    import json

    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    code, _, err = command(*RUN)
    assert code == 0, err
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["plan"]["semantic"]["precision"]["dtype"] == "bfloat16"
    assert "precision is as accelerate's mixed_precision=bf16 asks" in record["notes"]
    assert "- precision=bf16" in (tmp_path / "run" / ".hydra" / "overrides.yaml").read_text()


def test_the_precisions_of_a_question_stay_its_own(composer, monkeypatch):
    from runner.api.composed_request import accelerate_request

    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert accelerate_request(composer, ["model=mlp", "seed=0,1"]) == ["precision=bf16"]
    assert accelerate_request(composer, ["sweep=precision"]) == []
    assert accelerate_request(composer, ["precision=fp32,fp16"]) == []


@pytest.mark.parametrize(("rank", "acts"), [("0", 1), ("1", 0)])
def test_a_command_of_one_process_is_done_by_the_first_alone(monkeypatch, capsys, rank, acts):
    place = {"RANK": rank, "WORLD_SIZE": "2", "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": "2"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    seen = []
    assert run_single_process_command(lambda: seen.append("WORLD_SIZE" in os.environ) or 0) == 0
    assert seen == [False] * acts
    assert capsys.readouterr().err.count("note: this command works in one process; 1 more") == acts
