"""Every option of every group is composed and trained for two steps, so a new YAML is tested by existing."""

import json

import pytest
import torch
from PIL import Image

from runner.errors import RequestError
from tests.conftest import ROOT

GROUPS = ("data", "model", "trainer", "precision", "optimizer", "scheduler", "task", "privacy", "hardware", "tracker")
OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((ROOT / "conf" / group).glob("*.yaml"))]

# what is measured before a run is so with the least images: which is chosen is tested elsewhere
SMALL = ("data.limit=12", "data.batch_size=4", "trainer.steps=2", "hardware.threads=1", "hardware.probe_seconds=0.1")
# what an option needs beside itself to be trained at all
NEEDS = {
    ("model", "torchvision"): ("model.name=squeezenet1_1", "data=synthetic", "data.image_size=64"),
    ("model", "timm"): ("model.name=resnet10t", "data=synthetic", "data.image_size=32"),
    # 86 M weights, which every image meets 65 times: few images
    ("model", "vit_b_16"): ("data.batch_size=1",),
    ("privacy", "dp"): ("trainer=dp",),
    ("privacy", "none"): ("trainer=standard",),
}
LARGE = ("resnet18", "resnet34", "resnet50", "efficientnet_b0", "mobilenet_v3_small", "vit_b_16")
DOWNLOADED = ("cifar10", "cifar100", "mnist", "fashion_mnist")
ELSEWHERE = {**dict.fromkeys(("one_gpu", "multi_gpu", "v100", "a100", "h100"), "cuda"), "mps": "mps"}


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda value: value)
def test_option(train, tmp_path, group, option):
    extra = list(NEEDS.get((group, option), ()))
    if group == "model" and option in LARGE:
        extra += ["data=synthetic", "data.image_size=32"]
    if group == "data" and option == "image_folder":
        extra += [f"data.root={_folder(tmp_path)}", "data.val_fraction=0.25", "data.test_fraction=0.25"]
    if group == "data" and option == "manifest":
        folder = _folder(tmp_path)
        table = folder / "labels.csv"
        listed = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
        table.write_text("\n".join(["path,label", *(f"{path},{path.parent.name}" for path in listed)]))
        extra += [f"data.manifest={table}", "data.val_fraction=0.25", "data.test_fraction=0.25"]
    if group == "data" and option == "hf":
        datasets = pytest.importorskip("datasets")
        datasets.disable_progress_bars()
        images = [{"bytes": path.read_bytes(), "path": None} for path in sorted(_folder(tmp_path).rglob("*.png"))]
        rows = datasets.Dataset.from_dict({"image": images, "label": [number % 2 for number in range(len(images))]})
        rows.cast_column("image", datasets.Image()).save_to_disk(str(tmp_path / "hf"))
        datasets.enable_progress_bars()
        extra += [f"data.dataset={tmp_path / 'hf'}", "data.val_fraction=0.25", "data.test_fraction=0.25"]
    if group == "data" and option in DOWNLOADED:
        with pytest.raises(RequestError, match=r"data\.root"):
            train(*SMALL, f"{group}={option}", f"data.root={tmp_path / 'nothing'}")
        return
    if group == "hardware" and not _is_here(ELSEWHERE.get(option)):
        with pytest.raises(RequestError, match=r"hardware\.device"):
            train(*SMALL, f"{group}={option}")
        return
    run = json.loads((train(*SMALL, *extra, f"{group}={option}") / "run.json").read_text())
    assert run["status"] == "completed"
    assert run["steps"] == 2
    assert run["metrics"]["test_loss"] is not None
    assert 0 <= run["metrics"]["test_accuracy"] <= 1


@pytest.mark.parametrize("experiment", sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")))
def test_experiment(train, tmp_path, experiment):
    """Composed as it is; data that must be fetched is replaced by a folder of the same size."""
    recipe = [f"experiment={experiment}", "data.limit=12", "data.batch_size=4", "trainer.steps=2",
              "scheduler.warmup_epochs=0", "trainer.accumulation_steps=1", "hardware.threads=1",
              "hardware.probe_seconds=0.1"]  # fmt: skip
    if "cifar10" in experiment:
        recipe += ["data=synthetic", "data.image_size=32"]
    assert json.loads((train(*recipe) / "run.json").read_text())["status"] == "completed"


@pytest.mark.parametrize("trainer", ["standard", "mixed_precision", "accelerate", "dp"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_trainer_takes_every_precision(train, trainer, precision):
    run = json.loads((train(*SMALL, f"trainer={trainer}", f"precision={precision}") / "run.json").read_text())
    dtype = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}[precision]
    assert run["plan"]["semantic"]["precision"]["dtype"] == dtype
    assert (run["privacy"] is not None) == (trainer == "dp")


@pytest.mark.parametrize("optimizer", [option for group, option in OPTIONS if group == "optimizer"])
def test_every_optimizer_takes_private_gradients(train, optimizer):
    run = json.loads((train(*SMALL, "trainer=dp", f"optimizer={optimizer}") / "run.json").read_text())
    assert (run["status"], run["privacy"]["steps"]) == ("completed", 2)


def test_overriding_the_type_alone_does_the_whole_right_thing(train):
    run_dir = train(*SMALL, "trainer.log_every=1", "precision.amp_dtype=float16")
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert records[0]["loss_scale"] == 65536.0


def _folder(tmp_path):
    generator = torch.Generator().manual_seed(0)
    for name in ("left", "right"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(16):
            pixels = torch.randint(0, 256, (16, 16, 3), dtype=torch.uint8, generator=generator).numpy()
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def _is_here(kind):
    return (
        kind is None or (kind == "cuda" and torch.cuda.is_available()) or (kind == "mps" and torch.mps.is_available())
    )
