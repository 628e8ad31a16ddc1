"""How a forecast is put together, and what is warned of."""

import dataclasses
import json
import shlex
import threading
import warnings
from types import SimpleNamespace

import pytest
import torch

from runner.data.open import open_data
from runner.errors import RequestError
from runner.forecast.assess import assess
from runner.forecast.describe import describe
from runner.forecast.forecast import forecast
from runner.forecast.operation_counts import measure_model
from runner.forecast.warnings import find_warnings
from runner.models.build import build_network
from runner.planning.build import build_plan
from runner.planning.device import Device, describe_absent_device, detect_device
from runner.planning.native_types import of_capability, of_processor
from runner.privacy.ledger.ledger import contents_of


@pytest.mark.parametrize("name", ["mlp", "small_cnn", "linear_hog"])
def test_operations_are_those_that_torch_counts(configure, name):
    from torch.utils.flop_counter import FlopCounterMode

    model = build_network(configure(f"model={name}").model, channels=1, num_classes=10, image_size=16, norm="batch")
    size = measure_model(model, image_shape=(1, 16, 16))
    images = torch.zeros(3, 1, 16, 16)
    with FlopCounterMode(display=False) as counter:
        model(images).sum().backward()
    assert size.flops == counter.get_total_flops() / 3
    assert size.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert size.kernels > 3


def test_an_estimate_for_two_processes_ends_what_kept_the_other_core_busy(assessed):
    before = set(threading.enumerate())
    found = assessed("trainer=accelerate", "hardware.processes=2", "data.batch_size=32")
    assert found.plan.performance.processes == 2
    assert set(threading.enumerate()) <= before
    assert found.forecast.seconds.expected > 0


def test_a_private_run_keeps_books(assessed, tmp_path):
    place = f"privacy.ledger_dir={tmp_path / 'ledger'}"
    books = assessed("trainer=dp", place).costs.accounts
    assert min(books.epoch, books.final, books.line) > 0
    assert books.seconds(epochs=1, evaluations=0) == books.final
    assert books.seconds(epochs=3, evaluations=2) == books.set_up + 2 * books.epoch + 2 * books.line + books.final
    public = ("privacy.validation=public", "data=synthetic", "data.num_val=32", "data.image_size=8")
    assert assessed("trainer=dp", *public, place).costs.accounts.line == 0
    assert not (tmp_path / "ledger").exists()


def test_a_broken_ledger_is_refused_by_the_plan_too(assessed, tmp_path, configure):
    contents = contents_of(open_data(configure("data.limit=200").data).origin)
    (tmp_path / f"{contents}.jsonl").write_text("not a line\n")
    with pytest.raises(RequestError, match=r"privacy\.ledger_dir"):
        assessed("trainer=dp", f"privacy.ledger_dir={tmp_path}")


def test_more_epochs_and_a_price(assessed, configure):
    short, long = (assessed(f"trainer.epochs={epochs}") for epochs in (2, 20))
    assert short.forecast.price is None
    assert long.plan.semantic.steps == 10 * short.plan.semantic.steps
    data = open_data(configure("data.limit=200").data)
    times = [forecast(plan, data, short.costs, price_per_hour=36) for plan in (short.plan, long.plan)]
    assert times[1].parts.training == pytest.approx(10 * times[0].parts.training)
    assert times[1].parts.evaluation == pytest.approx(10 * times[0].parts.evaluation)
    assert times[1].price.expected == pytest.approx(times[1].seconds.expected / 100)
    assert times[1].seconds.low < times[1].seconds.expected < times[1].seconds.high


OLD_GPU = Device(
    kind="cuda",
    name="GTX 1080",
    native=of_capability(6, 1, bf16=False),
    count=1,
    memory_bytes=8 * 2**30,
)
SMALL_GPU = dataclasses.replace(OLD_GPU, name="tiny", native=of_capability(7, 0, bf16=False), memory_bytes=2**20)
CPU = dataclasses.replace(OLD_GPU, kind="cpu", name="a CPU", memory_bytes=2**40)
SMALL_CPU = dataclasses.replace(CPU, memory_bytes=2**20)
LIMITED = dataclasses.replace(SMALL_CPU, memory_limited=True)


@pytest.mark.parametrize(
    ("overrides", "device", "key", "what"),
    [
        (["data.batch_size=512"], CPU, "data.batch_size", "larger than the training data"),
        (["model=resnet18", "data.batch_size=4"], CPU, "data.batch_size", "tiny micro-batches"),
        (["model=resnet18", "data.batch_size=66"], CPU, "data.batch_size", "last micro-batch"),
        (["trainer=dp", "privacy.epsilon=0.1"], CPU, "data.batch_size", "the noise is larger"),
        (["trainer=dp", "privacy.delta=0.004"], CPU, "privacy.delta", "one example in ten"),
        (["trainer=dp", "privacy.unsafe_noise_seed=1"], CPU, "privacy.unsafe_noise_seed", "not be private"),
        (["precision=fp16"], OLD_GPU, "precision", "no tensor cores"),
        (["precision=bf16"], CPU, "precision", "no native bfloat16"),
        (["data.eval_batch_size=1"], SMALL_GPU, "data.batch_size", "memory will not suffice"),
        (["data.batch_size=1"], SMALL_GPU, "data.eval_batch_size", "memory will not suffice"),
        (["hardware.threads=1000"], CPU, "hardware.threads", "more than the cores"),
    ],
)
def test_trouble_is_named(configure, assessed, costs, overrides, device, key, what):
    config = configure("hardware=cpu", "hardware.threads=1", "data.limit=200", "model=linear", *overrides)
    data = open_data(config.data)
    plan = build_plan(config, data, CPU, processes=1)
    batch_norm = config.model.name == "resnet18"
    known = dataclasses.replace(costs, model=dataclasses.replace(costs.model, batch_norm=batch_norm))
    if device.kind == "cuda":  # whose memory holds no libraries
        known = dataclasses.replace(known, baseline_bytes=0)
    found = find_warnings(
        plan, data, device, known, forecast(plan, data, known, price_per_hour=None), paired_seconds=None
    )
    (named,) = [warning for warning in found if what in warning.what]
    assert named.key == key
    assert named.evidence
    assert named.cure


AUTO = ["data.batch_size=auto", "trainer.effective_batch_size=64"]


@pytest.mark.parametrize(
    ("overrides", "device", "libraries", "key", "what", "cure"),
    [
        (
            [],
            LIMITED,
            2**21,
            "hardware.memory_limit",
            "no batch is small enough for the memory; a run of a",
            "more mem",
        ),
        (AUTO, LIMITED, 2**21, "hardware.memory_limit", "no batch is small enough for the memory", "more mem"),
        ([], SMALL_CPU, 2**21, "model", "no batch is small enough for the memory", "more memory"),
        ([], SMALL_CPU, 2**20 - 1, "model", "no batch is small enough for the memory", "or a smaller model"),
        (["data.eval_batch_size=1"], LIMITED, 0, "data.batch_size", "more memory than the limit", AUTO[0]),
        (["data.eval_batch_size=1"], SMALL_CPU, 0, "data.batch_size", "batches will be halved", "in proportion"),
        (AUTO, LIMITED, 0, None, None, None),
    ],
)
def test_little_memory_of_a_cpu_is_told_by_what_helps(configure, costs, overrides, device, libraries, key, what, cure):
    config = configure("hardware=cpu", "hardware.threads=1", "data.limit=200", "model=linear", *overrides)
    data = open_data(config.data)
    plan = build_plan(config, data, CPU, processes=1)
    known = dataclasses.replace(costs, baseline_bytes=libraries)
    foreseen = forecast(plan, data, known, price_per_hour=None)
    found = find_warnings(plan, data, device, known, foreseen, paired_seconds=None)
    assert [each.key for each in found] == [key] * (key is not None)
    for warning in found:
        assert what in warning.what
        # a limit that nobody keeps to is no comfort
        assert ("a run of a fixed batch takes what it needs" in warning.what) == (
            device is LIMITED and overrides is not AUTO
        )
        assert cure in warning.cure


def test_a_limit_is_told_from_a_device_of_that_size(configure):
    memory = detect_device(configure("hardware=cpu").hardware).memory_bytes
    for limit, limited in ((memory, False), (memory - 1, True)):
        device = detect_device(configure("hardware=cpu", f"hardware.memory_limit={limit}").hardware)
        assert (device.memory_bytes, device.memory_limited) == (limit, limited)


@pytest.mark.parametrize(("model", "cure"), [("mlp_hog", "linear_hog"), ("small_cnn", "mlp_hog")])
def test_a_model_is_not_advised_to_be_what_it_is(configure, assessed, costs, model, cure):
    config = configure("hardware=cpu", "data.limit=200", f"model={model}", "trainer=dp", "privacy.epsilon=0.1")
    data = open_data(config.data)
    plan = build_plan(config, data, CPU, processes=1)
    found = find_warnings(plan, data, CPU, costs, forecast(plan, data, costs, price_per_hour=None), paired_seconds=None)
    (noise,) = [warning for warning in found if "noise is larger" in warning.what]
    assert f"model={cure}" in noise.cure
    assert f"model={model}" not in noise.cure


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
@pytest.mark.parametrize(("gpu", "dtype"), [("v100", "float16"), ("h100", "bfloat16")])
def test_a_gpu_that_is_not_here_is_planned_for_by_its_facts(configure, gpu, dtype):
    config = configure(
        f"hardware={gpu}",
        "precision=bf16",
        "hardware.price_per_hour=4",
        "data.limit=200",
        "model=linear",
        "tracker=none",
    )
    found = assess(config, probe=True)
    assert not found.device.here
    assert found.plan.semantic.precision.dtype == dtype
    assert found.forecast.method == "elsewhere"
    assert found.forecast.price is None
    lines = "\n".join(describe(found))
    assert "not here, and of its machine nothing is known" in lines
    assert "not known on NVIDIA" in lines
    assert "core" not in lines
    assert "thread" not in lines
    asked = {"float16": "NVIDIA V100 has no native bfloat16", "bfloat16": "what hardware=h100 chooses"}
    assert found.plan.semantic.precision.reason == asked[dtype]
    with pytest.raises(RequestError, match=r"hardware\.processes: got null, expected how many GPUs"):
        describe_absent_device(dataclasses.replace(config.hardware, processes=None))
    with pytest.raises(RequestError, match="no CUDA device"):
        detect_device(config.hardware)


@pytest.fixture
def costs(assessed):
    return assessed().costs


def test_a_good_plan_has_no_trouble(assessed):
    assert assessed().warnings == ()


@pytest.mark.parametrize(("bf16", "warning"), [(0.9, []), (1.1, ["precision"])])
def test_sixteen_bits_that_gain_nothing_are_named_by_measurement(configure, costs, bf16, warning):
    config = configure("hardware=cpu", "hardware.threads=1", "data.limit=200", "model=linear", "precision=bf16")
    data = open_data(config.data)
    device = dataclasses.replace(CPU, native=of_processor({"amx_bf16"}))
    plan = build_plan(config, data, device, processes=1)
    found = find_warnings(
        plan,
        data,
        device,
        costs,
        forecast(plan, data, costs, price_per_hour=None),
        paired_seconds={"float32": 1.0, "bfloat16": bf16},
    )
    assert [each.key for each in found] == warning


def test_updates_in_two_precisions_are_timed_in_turns(assessed):
    from runner.forecast.paired_timing import step_seconds_in

    found = step_seconds_in(assessed().plan, ("float32", "bfloat16"))
    assert found.keys() == {"float32", "bfloat16"}
    assert min(found.values()) > 0


@pytest.mark.parametrize(
    ("overrides", "words"),
    [([], "precision=fp32"), (["trainer=dp", "privacy.epsilon=3"], "trainer=dp")],
    ids=["ordinary", "private"],
)
def test_advice_is_a_command_that_can_be_typed(configure, composer, overrides, words):
    from runner.forecast.advice import advise, describe_advice

    typed = ["tracker=none", "hardware=cpu", "data.limit=200", "model=linear", *overrides]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        advice = advise(configure(*typed), typed, probe=False)
    assert [decision.question for decision in advice.decisions] == [
        "Is privacy needed?",
        "Are there several GPUs?",
        "Is bfloat16 native?",
        "Is memory short?",
    ]
    assert all(decision.reason for decision in advice.decisions)
    program, *arguments = shlex.split(advice.command)[2:]
    assert program == "runner"
    assert words in arguments
    composer.compose(arguments)
    assert describe_advice(advice)[-1] == advice.command


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_advice_for_a_gpu_that_is_not_here_is_by_its_facts(configure):
    from runner.forecast.advice import advise

    typed = ["tracker=none", "hardware=v100", "data.limit=200", "model=linear"]
    advice = advise(configure(*typed), typed, probe=True)
    assert advice.command == shlex.join(["python", "-m", "runner", *typed, "trainer=mixed_precision", "precision=fp16"])
    assert advice.decisions[1].answer == "not known from here"
    assert "type trainer=accelerate hardware=multi_gpu there" in advice.decisions[1].reason
    assert "of 15,259 MiB" in advice.decisions[3].reason


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_several_gpus_leave_a_private_run_its_trainer(configure, composer):
    from runner.forecast.advice import advise

    typed = ["tracker=none", "hardware=h100", "data.limit=200", "model=linear", "trainer=dp"]
    reason = advise(configure(*typed), typed, probe=False).decisions[1].reason
    assert reason == "with several NVIDIA H100, type hardware=multi_gpu there"
    composer.compose([word for word in typed if word != "hardware=h100"] + ["hardware=multi_gpu"])


def test_advice_with_a_probe_is_what_precision_auto_stands_for(configure, tmp_path):
    """The choice that is kept decides; one that is swapped is another answer, with the format that goes with it."""
    from runner.forecast.advice import advise

    typed = ["tracker=none", "hardware=cpu", "hardware.threads=1", "data.limit=60", "model=linear", "trainer.steps=2"]

    def advised():
        return advise(configure(*typed), typed, probe=True).decisions[2]

    first = advised()
    (path,) = (tmp_path / "cache/recipe-runner/choices").glob("*.json")
    kept = json.loads(path.read_text())
    assert first.reason == kept["choice"]["reason"]
    other = {"float32": "bfloat16", "bfloat16": "float32"}[kept["choice"]["dtype"]]
    path.write_text(json.dumps(kept | {"choice": {"dtype": other, "channels_last": False, "reason": "swapped"}}))
    word = {"float32": "precision=fp32", "bfloat16": "precision=bf16"}[other]
    assert advised().words == (word, "hardware.channels_last=false")
    # and a plan with a probe is one of what the run will take
    found = assess(configure(*typed, "precision=auto"), probe=True)
    assert found.plan.semantic.precision.dtype == other
    assert "format     contiguous: measured with the precision" in describe(found)


def test_advice_for_little_memory_is_a_recipe_that_fits(configure):
    """A run that may measure finds the number itself; where nothing is measured, a number by the estimate fits."""
    from runner.forecast.advice import _smaller_batches

    typed = [
        *("tracker=none", "hardware=cpu", "hardware.threads=1", "data=synthetic", "data.image_size=32"),
        *("data.num_train=4000", "model=resnet18", "trainer.accumulation_steps=2"),
    ]
    data = open_data(configure(*typed).data)

    def found(*batches):
        return assess(configure(*typed[:-1], *batches), probe=False)

    before = found("data.batch_size=1024", typed[-1])
    libraries, peak = before.costs.baseline_bytes, before.forecast.peak_bytes.expected
    memory = libraries + (peak - libraries) / 20

    def smaller(memory, *more):
        return _smaller_batches(configure(*typed, *more), before, data, memory)

    words, cost = smaller(memory, "deterministic=true")
    assert [word.partition("=")[0] for word in words] == [
        "data.batch_size",
        "trainer.accumulation_steps",
        "data.eval_batch_size",
    ]
    after = found(*words)
    assert after.plan.semantic.logical_batch == 2048
    # the process itself may have grown since
    grown = max(0, after.costs.baseline_bytes - libraries)
    assert after.forecast.peak_bytes.expected < memory + grown
    assert "BatchNorm" not in cost
    assert "model.norm=group" in smaller(libraries + (peak - libraries) / 40)[1]
    # what is foreseen to be too little for one example is no proof
    assert smaller(libraries, "deterministic=true")[0][0] == "data.batch_size=1"
    words, cost = smaller(memory)
    assert words == ("data.batch_size=auto", "trainer.effective_batch_size=2048", "trainer.accumulation_steps=null")
    assert "the run measures" in cost
    assert configure(*typed[:-1], *words).data.batch_size == "auto"


@pytest.mark.parametrize(
    ("limit", "answer", "words", "reason"),
    [
        ("1TB", "no", (), " of "),
        ("1MiB", "yes", (), "which smaller batches do not change"),
        (None, "yes", ("data.batch_size=auto", "trainer.effective_batch_size=4096"), "the run measures"),
    ],
    ids=["enough", "less than the libraries", "enough for some"],
)
def test_nothing_helps_only_where_libraries_and_weights_are_too_much(configure, limit, answer, words, reason):
    from runner.forecast.advice import advise

    typed = ["tracker=none", "hardware=cpu", "hardware.threads=1", "data=synthetic", "data.num_train=4096"]
    typed += ["model=small_cnn", "data.batch_size=4096"]
    if limit is None:
        found = assess(configure(*typed), probe=False)
        limit = int(found.costs.held_bytes + found.forecast.peak_bytes.expected) // 2
    memory = advise(configure(*typed, f"hardware.memory_limit={limit}"), typed, probe=False).decisions[3]
    assert (memory.answer, memory.words) == (answer, words)
    assert reason in memory.reason


def test_cells_of_several_kinds_are_told_apart_by_what_differs(configure):
    from runner.forecast.sweep_forecast import _values_of

    cells = [configure("data.batch_size=32", f"seed={seed}", f"optimizer.lr={seed}") for seed in (1, 2)]
    varied = {"data.batch_size", "seed", "optimizer.lr", "optimizer.momentum", "model"}
    assert _values_of(cells, varied) == ("data.batch_size=32", "optimizer.momentum=0.9")


def test_one_disturbed_round_does_not_spoil_an_estimate(monkeypatch):
    """Each round takes its seconds by a clock that stands still otherwise; the first is not timed."""
    from runner.forecast import machine_speed

    now = [0.0]
    monkeypatch.setattr(machine_speed, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def median(*rounds):
        left = iter(rounds)

        def work():
            now[0] += next(left)

        return machine_speed._median(work, torch.device("cpu"))

    assert median(0.01, 5.0, 0.01) == pytest.approx(0.01)
    assert median(0.01, 0.02, 5.0, 0.02) == pytest.approx(0.02)
    assert median(5.0, 0.03, 0.02) == pytest.approx(0.02)
