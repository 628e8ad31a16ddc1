"""One secret key never gives two noises for one step: a run goes on with the noise that it was begun with."""

import json
import re
import shutil

import pytest
import torch

from runner.errors import RequestError
from runner.privacy.mechanism.key import SecretKey
from runner.privacy.mechanism.noise import NoiseSource, layout_of
from runner.training.checkpointing.checkpoint import load_checkpoint

KILLED_AT = 38
CPU = torch.device("cpu")
RECIPE = (
    "trainer=dp", "data.limit=608", "data.batch_size=16", "model=linear", f"trainer.steps={KILLED_AT + 1}",
    "trainer.save_every=1", "privacy.noise_multiplier=1", "privacy.grad_sample=ghost", "optimizer=sgd",
    "optimizer.momentum=0", "hardware.threads=1", "scheduler=constant",
)  # fmt: skip


def killed_at_38(train, *changes):
    run_dir = train(*RECIPE, *changes)
    shutil.rmtree(run_dir / "checkpoints" / f"step_{KILLED_AT + 1:08d}")
    assert load_checkpoint(max((run_dir / "checkpoints").glob("step_*"))).step == KILLED_AT
    run = json.loads((run_dir / "run.json").read_text()) | {"status": "running"}
    (run_dir / "run.json").write_text(json.dumps(run))
    return run_dir


@pytest.mark.parametrize(("begun", "asked"), [("chacha20", "philox of numpy"), ("philox of numpy", "chacha20")])
def test_the_other_generator_is_refused_by_its_key_and_touches_nothing(train, begun, asked):
    secure = begun == "chacha20"
    run_dir = killed_at_38(train, f"privacy.secure_noise={str(secure).lower()}")
    before = sorted((path, path.lstat().st_mtime_ns) for path in (run_dir / "checkpoints").rglob("*"))
    expected = rf"privacy\.secure_noise: got noise of {asked}.*, expected {begun}.*, as in the checkpoints of "
    with pytest.raises(RequestError, match=expected):
        train(*RECIPE, f"privacy.secure_noise={str(not secure).lower()}", run_dir=run_dir)
    assert sorted((path, path.lstat().st_mtime_ns) for path in (run_dir / "checkpoints").rglob("*")) == before


def test_without_the_guard_two_releases_differ_by_their_noises_alone(train, monkeypatch, tmp_path):
    run_dir = killed_at_38(train)
    other = shutil.copytree(run_dir, tmp_path / "copy", symlinks=True)
    monkeypatch.setattr("runner.execution.job.refuse_other_noise", lambda *given: None)
    train(*RECIPE, run_dir=run_dir)
    train(*RECIPE, "privacy.secure_noise=false", run_dir=other)
    ends = [load_checkpoint(folder / "checkpoints" / "last") for folder in (run_dir, other)]
    key, lr = SecretKey(ends[0].state["secret_key"]), ends[0].state["optimizer"]["param_groups"][0]["lr"]
    in_order = sorted(ends[0].weights, key=lambda name: name.endswith("bias"))  # of one layer: weight, bias
    released = [torch.cat([end.weights[name].flatten() for name in in_order]).double() for end in ends]
    plan = json.loads((run_dir / "run.json").read_text())["plan"]["semantic"]
    layout = ends[0].state["noise_form"]["layout"]
    noises = [NoiseSource(key, secure=secure, layout=layout).normal(KILLED_AT, len(released[0]), CPU).double()
              for secure in (True, False)]  # fmt: skip
    # both releases hold the same gradients: their mean has less noise than was accounted for
    scale = lr * plan["privacy"]["noise_multiplier"] * plan["privacy"]["max_grad_norm"] / plan["logical_batch"]
    torch.testing.assert_close(released[0] - released[1], scale * (noises[1] - noises[0]), rtol=0, atol=1e-6)
    assert float((released[0] - released[1]).abs().max()) > 1e-2


def test_a_copied_folder_gives_the_same_bits_twice(train, tmp_path):
    run_dir = killed_at_38(train)
    other = shutil.copytree(run_dir, tmp_path / "copy", symlinks=True)
    ends = [load_checkpoint(train(*RECIPE, run_dir=folder) / "checkpoints" / "last") for folder in (run_dir, other)]
    torch.testing.assert_close(ends[0].weights, ends[1].weights, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "value", "key"),
    [
        ("generator", "philox of torch 2.9.0 on NVIDIA H100", "privacy.secure_noise"),
        ("dtype", "float64", "precision.amp_dtype"),
        ("layout", "channels_last " + "0" * 64, "hardware.channels_last"),
        ("layout", "contiguous " + "0" * 64, "model"),
    ],
)
def test_whatever_noise_is_a_function_of_is_refused_by_its_key(train, monkeypatch, name, value, key):
    run_dir = killed_at_38(train)
    honest = load_checkpoint

    def elsewhere(path):
        checkpoint = honest(path)
        checkpoint.state["noise_form"][name] = value
        return checkpoint

    monkeypatch.setattr("runner.training.checkpointing.resume.load_checkpoint", elsewhere)
    with pytest.raises(RequestError, match=re.escape(f"{key}: got noise of ")) as refused:
        train(*RECIPE, run_dir=run_dir)
    assert "\n" not in str(refused.value)


def test_memory_order_counts_because_noise_falls_in_it():
    weight = torch.zeros(4, 3, 2, 2)
    moved = weight.to(memory_format=torch.channels_last)
    layouts = {layout_of({"a": weight}), layout_of({"a": moved}), layout_of({"b": weight}),
               layout_of({"a": weight, "b": weight}), layout_of({"b": weight, "a": weight})}  # fmt: skip
    assert len(layouts) == 5


def test_other_forms_of_one_key_share_nothing():
    key, one = SecretKey.from_unsafe_seed(0), torch.float32
    first = NoiseSource(key, secure=True, layout="contiguous a").normal(3, 4096, CPU)
    others = [
        NoiseSource(key, secure=True, layout="contiguous b").normal(3, 4096, CPU),
        NoiseSource(key, secure=False, layout="contiguous a").normal(3, 4096, CPU),
        NoiseSource(key, secure=True, layout="contiguous a").normal(3, 4096, CPU, torch.float64).to(one),
    ]
    for other in others:
        # four deviations of a correlation of independent normals, of values and of their sizes
        for mine, theirs in ((first, other), (first.abs(), other.abs())):
            assert abs(float(torch.corrcoef(torch.stack([mine, theirs]))[0, 1])) < 4 / 64
