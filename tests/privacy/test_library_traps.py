"""What the libraries do by themselves where it would break privacy (the control), and that the runner does otherwise.

Each test lets a library's own behaviour through first and sees it go wrong, so that it would also notice a runner which
handed the work over to the library.  docs/privacy.md lists the pitfalls with the tests of each, these and others.
"""

import contextlib
import json
import math

import pytest
import torch
import torch.nn.functional as F
from opacus import PrivacyEngine
from opacus.utils.batch_memory_manager import BatchMemoryManager
from opacus.utils.uniform_sampler import DistributedUniformWithReplacementSampler, UniformWithReplacementSampler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from runner.data.open import open_data
from runner.errors import RequestError, RunError
from runner.planning.build import build_plan
from runner.planning.device import detect_device
from runner.privacy.accounting.accountants import epsilon
from runner.privacy.accounting.step_epsilon import Spending
from runner.privacy.mechanism.key import SecretKey
from runner.privacy.mechanism.noise import NoiseSource
from runner.privacy.mechanism.poisson_sampler import PoissonSampler
from runner.privacy.mechanism.private_rule import PrivateRule
from runner.training.distributed.world import SingleProcess
from runner.training.parts import build_parts
from runner.training.step import TrainStep

# what Opacus says about its generator, its own hooks and its Renyi orders when it is used as its documentation shows
pytestmark = pytest.mark.filterwarnings("ignore:::opacus", "ignore:Secure RNG", "ignore:Full backward hook",
                                        "ignore:Optimal order")  # fmt: skip

DP = ("trainer=dp", "data=synthetic", "data.image_size=8", "data.channels=1", "data.mean=[0.5]", "data.std=[0.25]",
      "data.val_fraction=0", "data.test_fraction=0", "hardware=cpu", "hardware.threads=1", "model=linear")  # fmt: skip
CLIP = 1.0


def linear_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 4))


def examples(count, scale=1.0):
    generator = torch.Generator().manual_seed(1)
    return scale * torch.randn(count, 1, 4, 4, generator=generator), torch.arange(count) % 4


def by_opacus(model, images, labels, *, batch_size, shuffle=False, **settings):
    """Model, optimizer and loader (and criterion for ghost) as Opacus makes them; without noise and at rate 1."""
    defaults = {"noise_multiplier": 0.0, "max_grad_norm": CLIP, "poisson_sampling": False}
    engine = PrivacyEngine(accountant="rdp")
    made = engine.make_private(
        module=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=1.0),
        data_loader=DataLoader(TensorDataset(images, labels), batch_size=batch_size, shuffle=shuffle),
        **(defaults | settings),
    )
    return engine, made


def by_runner(model, *, static_scale=1.0, expected_batch=1.0, sigma=0.0, mode="functional", clip=CLIP):
    return PrivateRule(
        model,
        loss=lambda logits, labels: F.cross_entropy(logits, labels, reduction="none"),
        forward=contextlib.nullcontext,
        world=SingleProcess(torch.device("cpu")),
        noise=NoiseSource(SecretKey.from_unsafe_seed(0), secure=True),
        max_grad_norm=clip,
        noise_multiplier=sigma,
        expected_batch=expected_batch,
        static_scale=static_scale,
        grad_sample=mode,
    )


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).clone()


def gradient(model):
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).clone()


@pytest.fixture
def plan_of(configure):
    def plan_of(*overrides, processes=1):
        config = configure(*DP, *overrides)
        data = open_data(config.data)
        return build_plan(config, data, detect_device(config.hardware), processes=processes), data

    return plan_of


def test_a_loss_scale_is_out_before_clipping():
    images, labels = examples(8)

    def update(scale):
        model = linear_model()
        before = weights(model)
        _, (private, optimizer, _) = by_opacus(model, images, labels, batch_size=8, max_grad_norm=100.0)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        scaler.scale(F.cross_entropy(private(images), labels)).backward()
        scaler.step(optimizer)
        return float((weights(model) - before).norm())

    assert update(65536.0) > 10 * update(1.0), "the control: Opacus clips what GradScaler has scaled, to C each"

    def released(scale, clip):
        model = linear_model()
        rule = by_runner(model, static_scale=scale, clip=clip)
        rule.begin(1.0)
        rule.add(images, labels)
        rule.release(0)
        return gradient(model)

    # where no gradient is clipped, and where each is
    torch.testing.assert_close(released(65536.0, 100.0), released(1.0, 100.0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(released(65536.0, CLIP), released(1.0, CLIP), rtol=1e-5, atol=1e-6)


def test_weights_that_are_not_finite_end_a_private_run(train):
    """Each example is left out by then, and noise alone would go on to a finished run with a splendid loss."""
    with pytest.raises(RunError, match=r"the weights are not finite any more; try a lower optimizer\.lr"):
        train("trainer=dp", "model=small_cnn", "optimizer.lr=1e38", "data.limit=200", "data.batch_size=20",
              "privacy.noise_multiplier=1", "privacy.grad_sample=ghost",
              "trainer.steps=20", "trainer.log_every=5", "hardware.threads=1")  # fmt: skip


def test_an_overflow_is_no_reason_to_skip_a_step(train):
    """The control is GradScaler, whose decision to skip is a function of the data that no noise covers."""
    parameter = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(parameter * torch.tensor([float("inf")])).backward()
    scaler.step(optimizer)
    assert parameter.item() == 1.0, "the control: the step was skipped"

    # every float16 gradient overflows at this scale, so every example is left out and noise alone is released
    run_dir = train(
        "trainer=dp", "precision=fp16", "precision.static_scale=1e30", "model=linear", "data.limit=40",
        "data.batch_size=20", "trainer.steps=6", "privacy.noise_multiplier=1", "privacy.grad_sample=ghost",
        "hardware.threads=1",
    )  # fmt: skip
    run = json.loads((run_dir / "run.json").read_text())
    assert run["zeroed_examples"] > 0
    assert run["metrics"]["train_loss"] is None, "no example has a loss that counts"
    assert any("without a finite gradient were left out" in note for note in run["notes"])
    assert (run["steps"], run["privacy"]["steps"], run["skipped_steps"]) == (6, 6, 0)
    model = linear_model()
    rule = by_runner(model, sigma=1.0)
    rule.begin(1.0)
    rule.add(torch.full((4, 1, 4, 4), float("inf")), torch.zeros(4, dtype=torch.int64))
    rule.release(0)
    assert (gradient(model) != 0).all(), "the noise is never left out"


def test_the_rate_is_batch_over_examples(plan_of):
    images, labels = examples(256)
    _, (_, optimizer, loader) = by_opacus(linear_model(), images, labels, batch_size=100, poisson_sampling=True)
    assert loader.sample_rate == pytest.approx(1 / 3), "the control: one over the length of the loader"
    assert optimizer.expected_batch_size == 85, "the control: int() of it"

    plan, data = plan_of("data.num_train=256", "data.batch_size=100", "trainer.steps=10")
    assert plan.semantic.privacy.sample_rate == 100 / 256
    assert plan.semantic.logical_batch == 100
    parts = build_parts(plan, data, SingleProcess(torch.device("cpu")))
    assert parts.sampler.rate == 100 / 256
    with pytest.raises(ValueError, match=r"divided by 100"):
        parts.rule.begin(85.0)


@pytest.mark.parametrize(("batch", "accumulation", "processes"), [(96, 1, 1), (32, 3, 1), (16, 3, 2), (1, 24, 4)])
def test_the_batch_is_micro_batch_times_accumulation_times_processes(plan_of, batch, accumulation, processes):
    plan, _ = plan_of(
        "data.num_train=250", f"data.batch_size={batch}", f"trainer.accumulation_steps={accumulation}",
        "privacy.noise_multiplier=2", "trainer.epochs=3", processes=processes,
    )  # fmt: skip
    assert plan.semantic.privacy.sample_rate == 96 / 250
    assert plan.semantic.steps == 8
    expected = epsilon("pld", sample_rate=96 / 250, noise_multiplier=2.0, steps=8, delta=1e-5)
    assert plan.semantic.privacy.epsilon == expected


def test_steps_are_counted_and_not_rounded_down_from_a_float(plan_of):
    sampler = UniformWithReplacementSampler(num_samples=93, sample_rate=1 / 93)
    assert len(sampler) == 92, "the control: int(1 / (1 / 93)) loses a step"
    assert (
        plan_of("data.num_train=93", "data.batch_size=1", "trainer.epochs=1", "privacy.noise_multiplier=1")[
            0
        ].semantic.steps
        == 93
    )


def test_batches_without_poisson_sampling_do_not_get_its_epsilon(plan_of):
    images, labels = examples(64)
    reported = []
    for poisson in (True, False):
        engine, (private, optimizer, loader) = by_opacus(
            linear_model(), images, labels, batch_size=8, noise_multiplier=1.0, poisson_sampling=poisson, shuffle=True
        )
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(private(images[:8]), labels[:8]).backward()
            optimizer.step()
        reported.append(engine.get_epsilon(1e-5))
        assert loader is not None
    assert reported[0] == reported[1], "the control: shuffling is reported as Poisson sampling"

    plan, data = plan_of("data.num_train=64", "data.batch_size=8", "trainer.steps=40")
    parts = build_parts(plan, data, SingleProcess(torch.device("cpu")))
    assert isinstance(parts.sampler, PoissonSampler)
    assert plan.semantic.privacy.sampling == "Poisson"
    sizes = {len(parts.sampler.rows(step)) for step in range(40)}
    assert len(sizes) > 3, "batches of a fixed size are no Poisson samples"


def test_a_batch_left_early_leaks_nothing_into_the_next():
    images, labels = examples(8, scale=20.0)  # every gradient is longer than C
    # all of one class and direction, so that clipped gradients add up to their number
    images[:], labels[:] = images[0], 0
    model = linear_model()
    _, (private, optimizer, loader) = by_opacus(model, images, labels, batch_size=8)

    def backward():
        F.cross_entropy(private(images[:4]), labels[:4], reduction="sum").backward()

    with BatchMemoryManager(data_loader=loader, max_physical_batch_size=4, optimizer=optimizer) as physical:
        for _ in physical:
            optimizer.zero_grad()
            backward()
            optimizer.step()
            break
    optimizer._step_skip_queue.clear()
    optimizer.zero_grad()
    F.cross_entropy(private(images), labels, reduction="sum").backward()
    optimizer.clip_and_accumulate()
    leaked = torch.cat([p.summed_grad.flatten() for p in model.parameters()]).norm()
    assert leaked > 8 * CLIP * 1.4, "the control: four examples are in the sum twice"

    model = linear_model()
    rule = by_runner(model)
    rule.begin(1.0)
    rule.add(images[:4], labels[:4])
    rule.begin(1.0)
    rule.add(images, labels)
    assert float(rule.release(0)) == pytest.approx(8 * CLIP, rel=1e-4)


def test_accumulation_keeps_every_micro_batch():
    images, labels = examples(8)

    def ghost(parts):
        model = linear_model()
        before = weights(model)
        _, (private, optimizer, criterion, _) = by_opacus(
            model, images, labels, batch_size=8, grad_sample_mode="ghost", criterion=nn.CrossEntropyLoss()
        )
        for part in parts:
            criterion(private(images[part]), labels[part]).backward()
        optimizer.step()
        return weights(model) - before

    both, last = ghost([slice(0, 4), slice(4, 8)]), ghost([slice(4, 8)])
    torch.testing.assert_close(both, last, msg="the control: only the last micro-batch is in the update")

    def released(parts):
        model = linear_model()
        rule = by_runner(model)
        rule.begin(1.0)
        for part in parts:
            rule.add(images[part], labels[part])
        rule.release(0)
        return gradient(model)

    whole = released([slice(0, 8)])
    torch.testing.assert_close(released([slice(0, 4), slice(4, 8)]), whole, rtol=1e-6, atol=1e-7)
    assert (released([slice(4, 8)]) - whole).norm() > 0.1 * whole.norm()


def test_an_empty_batch_is_a_step_like_any_other(tmp_path, plan_of):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    try:
        sampler = DistributedUniformWithReplacementSampler(
            total_size=64, sample_rate=1 / 64, generator=torch.Generator().manual_seed(0)
        )
        assert len(list(sampler)) < len(sampler), "the control: empty batches are left out, and ranks fall out of step"
    finally:
        torch.distributed.destroy_process_group()

    plan, data = plan_of("data.num_train=64", "data.batch_size=1", "trainer.steps=60", "privacy.unsafe_noise_seed=1")
    parts = build_parts(plan, data, SingleProcess(torch.device("cpu")))
    empty = [step for step in range(60) if len(parts.sampler.rows(step)) == 0]
    assert empty
    step = TrainStep(parts)
    before = weights(parts.model)
    step.run(empty[0])
    assert (weights(parts.model) != before).all(), "noise is released for an empty batch too"


def test_one_broken_example_breaks_itself_alone():
    images, labels = examples(8)
    images[3, 0, 0, 0] = float("nan")
    model = linear_model()
    _, (private, optimizer, _) = by_opacus(model, images, labels, batch_size=8)
    F.cross_entropy(private(images), labels).backward()
    optimizer.step()
    assert weights(model).isnan().all(), "the control: zero times NaN is NaN"

    model = linear_model()
    rule = by_runner(model)
    rule.begin(1.0)
    rule.add(images, labels)
    rule.release(0)
    assert gradient(model).isfinite().all()
    assert int(rule.zeroed) == 1


def test_a_checkpoint_goes_on_with_its_own_mechanism_only(tmp_path, train, configure):
    from runner.execution.job import run_job

    images, labels = examples(16)
    engine, (private, optimizer, _) = by_opacus(
        linear_model(), images, labels, batch_size=8, noise_multiplier=2.0, max_grad_norm=0.5
    )
    engine.save_checkpoint(path=tmp_path / "opacus.pt", module=private, optimizer=optimizer)
    other, (private, optimizer, _) = by_opacus(
        linear_model(), images, labels, batch_size=16, noise_multiplier=0.1, max_grad_norm=9.0
    )
    other.load_checkpoint(path=tmp_path / "opacus.pt", module=private, optimizer=optimizer)
    assert (optimizer.noise_multiplier, optimizer.max_grad_norm) == (0.1, 9.0), "the control: silently another one"

    recipe = ("trainer=dp", "data.limit=40", "model=linear", "data.batch_size=10", "trainer.steps=4",
              "privacy.noise_multiplier=2", "privacy.grad_sample=ghost", "hardware.threads=1")  # fmt: skip
    run_dir = train(*recipe)
    stopped = json.loads((run_dir / "run.json").read_text()) | {"status": "interrupted"}
    (run_dir / "run.json").write_text(json.dumps(stopped))
    for change in (
        "privacy.noise_multiplier=1.9",
        "privacy.max_grad_norm=2",
        "privacy.delta=1e-6",
        "privacy.accountant=rdp",
        "data.batch_size=8",
        "data.limit=39",
    ):
        config = configure("tracker=none", *recipe, change)
        with pytest.raises(RequestError, match="as in the checkpoints"):
            run_job(config, {}, run_dir, None)


def test_a_resumed_run_replays_no_noise():
    generator = torch.Generator().manual_seed(5)
    first = torch.randn(100, generator=generator)
    again = torch.randn(100, generator=generator.manual_seed(5))
    assert torch.equal(first, again), "the control: a generator that is seeded again repeats the noise of step 0"

    key = SecretKey.from_system()
    before = NoiseSource(key, secure=True)
    resumed = NoiseSource(SecretKey(bytes(key)), secure=True)
    device = torch.device("cpu")
    assert torch.equal(before.normal(7, 100, device), resumed.normal(7, 100, device))
    assert not bool((resumed.normal(7, 100, device) == before.normal(0, 100, device)).any())


def test_adamw_and_group_norm_train_privately(train):
    run = train("trainer=dp", "model=small_cnn", "optimizer=adamw", "data.limit=40", "data.batch_size=10",
                "trainer.steps=3", "hardware.threads=1", "privacy.noise_multiplier=1",
                "privacy.grad_sample=ghost")  # fmt: skip
    assert json.loads((run / "run.json").read_text())["status"] == "completed"


def test_residual_nets_train_where_opacus_cannot(train):
    from opacus.grad_sample import GradSampleModule
    from opacus.validators import ModuleValidator
    from torchvision.models import resnet18

    fixed = GradSampleModule(ModuleValidator.fix(resnet18(num_classes=3)))
    with pytest.raises(RuntimeError, match="modified inplace"):
        F.cross_entropy(fixed(torch.randn(2, 3, 16, 16)), torch.tensor([0, 1])).backward()

    run = train("trainer=dp", "model=resnet18", "data=synthetic", "data.image_size=16", "data.limit=12",
                "data.batch_size=3", "trainer.steps=2", "hardware.threads=1", "privacy.grad_sample=ghost",
                "privacy.noise_multiplier=1")  # fmt: skip
    assert json.loads((run / "run.json").read_text())["status"] == "completed"


def test_the_central_limit_figure_is_too_low_and_not_on_offer():
    from opacus.accountants import GaussianAccountant, RDPAccountant

    mechanism = {"sample_rate": 512 / 50_000, "noise_multiplier": 1.0}
    central = GaussianAccountant()
    central.history = [(1.0, 512 / 50_000, 970)]
    renyi = RDPAccountant()
    renyi.history = [(1.0, 512 / 50_000, 970)]
    exact = epsilon("pld", steps=970, delta=1e-5, **mechanism)
    assert central.get_epsilon(1e-5) == pytest.approx(1.633, abs=1e-3), "the control"
    assert central.get_epsilon(1e-5) < exact - 0.2
    assert exact == pytest.approx(1.849, abs=5e-3)
    assert renyi.get_epsilon(1e-5) > exact
    with pytest.raises(RequestError, match=r"privacy\.accountant"):
        epsilon("gdp", steps=970, delta=1e-5, **mechanism)


def test_without_noise_epsilon_is_infinite_and_no_failure():
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(0.0, 0.1, 10)]
    with pytest.raises((OverflowError, ZeroDivisionError, ValueError)):
        accountant.get_epsilon(1e-5)
    for name in ("pld", "prv", "rdp"):
        assert Spending(name, sample_rate=0.1, noise_multiplier=0.0, delta=1e-5, steps=10).final == math.inf


def test_noise_budget_and_length_are_never_all_given(configure):
    with pytest.raises(RequestError, match=r"privacy\."):
        configure("trainer=dp", "privacy.epsilon=3", "privacy.noise_multiplier=1", "trainer.steps=10")


def test_a_delta_that_allows_publishing_a_record_is_refused(plan_of):
    images, labels = examples(256)
    engine, (private, optimizer, _) = by_opacus(linear_model(), images, labels, batch_size=8, noise_multiplier=1.0)
    F.cross_entropy(private(images[:8]), labels[:8]).backward()
    optimizer.step()
    assert engine.get_epsilon(0.1) < 0.1, "the control: a delta of 0.1 for 256 examples is answered with a tiny epsilon"

    with pytest.raises(RequestError, match=r"privacy\.delta.*such as"):
        plan_of("data.num_train=256", "privacy.delta=0.1", "data.batch_size=8", "trainer.steps=5")


@pytest.mark.parametrize(
    ("overrides", "key"), [(("trainer=dp", "privacy=none"), "privacy"), (("privacy.epsilon=3",), "privacy.epsilon")]
)
def test_what_looks_private_and_is_not_is_refused(configure, overrides, key):
    from runner.training.trainers import DPTrainer

    with pytest.raises(RequestError) as refused:
        DPTrainer.check(configure(*overrides))
    assert refused.value.key == key
