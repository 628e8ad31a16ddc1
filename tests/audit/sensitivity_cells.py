"""Recipes whose sensitivity is measured: every shipped model, augmentation, number of copies, precision and way."""

import itertools
from pathlib import Path

import torch

from runner.audit.sensitivity import measure_sensitivity
from runner.autotune.resolve import resolve_plan
from runner.config.compose import Composer
from runner.config.load import load_config, typed_keys
from runner.config.rules.rules import check
from runner.data.open import open_data
from runner.errors import RequestError
from runner.planning.build import build_plan
from runner.planning.device import detect_device
from runner.privacy.example_gradients.grad_sample import GRAD_SAMPLES
from runner.privacy.mechanism.key import SecretKey
from runner.training.distributed.world import SingleProcess, torch_device
from runner.training.parts import build_parts
from runner.training.torch_settings import torch_settings
from tests.conftest import ROOT
from tests.test_options import LARGE, NEEDS

MODELS = tuple(sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml")))
PRECISIONS = ("fp32", "bf16", "fp16", "fp64")
AUGMENTATIONS = {
    "none": (),
    "padded crop": ("data.augment.crop_padding=1",),
    "flip": ("data.augment.flip=true",),
    "resized crop": ("data.augment.random_resized_crop=true",),
    "jitter and hue": ("data.augment.color_jitter=0.4", "data.augment.hue=0.1"),
}
COPIES = (1, 2)
KEY = SecretKey.from_unsafe_seed(5)
# with room for several examples before, at and after the middle; large models have fewer
ROWS, FEWER_ROWS = torch.arange(1, 40, 2), torch.arange(1, 40, 7)


def every_cell():
    """(model, way, precision, augmentation, copies), without copies that are all alike; few of each large model."""
    cells = itertools.product(MODELS, GRAD_SAMPLES, PRECISIONS, AUGMENTATIONS, COPIES)
    return [cell for cell in cells if (_of_large(*cell[1:]) if cell[0] in LARGE else cell[3] != "none" or cell[4] == 1)]


def _of_large(way, precision, augmentation, copies):
    """Ghost in each type but float64, which takes long, and functional in one."""
    chosen = precision != "fp64" if way == "ghost" else (way, precision) == ("functional", "fp32")
    return chosen and (augmentation, copies) == ("padded crop", 2)


def few_cells():
    """Each small model in each way; precision, augmentation and copies in turn."""
    cells = []
    small = [model for model in MODELS if model not in LARGE and ("model", model) not in NEEDS]
    for number, (model, way) in enumerate(itertools.product(small, GRAD_SAMPLES)):
        augmentation = list(AUGMENTATIONS)[number % 5]
        copies = 1 if augmentation == "none" else COPIES[number // 2 % 2]
        cells.append((model, way, PRECISIONS[number % 4], augmentation, copies))
    return cells


def parts_of(*overrides, key=KEY):
    """(plan, parts) of a private recipe whose examples are all clipped, so that each adds exactly C."""
    composer = Composer(caller=Path.cwd())
    recipe = ("tracker=none", "trainer=dp", "hardware.threads=1", "trainer.steps=3", "data.batch_size=16",
              "privacy.noise_multiplier=1", "privacy.max_grad_norm=1e-3", *overrides)  # fmt: skip
    composed = composer.compose(recipe)
    config = load_config(composed, composer.option_defaults(composed), typed_keys=typed_keys(composed.hydra))
    check(config)
    device, data = detect_device(config.hardware), open_data(config.data)
    world = SingleProcess(torch_device(device.kind))
    plan = resolve_plan(build_plan(config, data, device, processes=1), config, device, world)
    return plan, build_parts(plan, data, world, key=key)


def sensitivities(model, way, precision, augmentation, copies, *, numbers=(1, 2)):
    """``Sensitivity`` at three places for each of ``numbers`` of processes; the reason where the way refuses."""
    needs = NEEDS.get(("model", model), ())
    large = model in LARGE or needs
    # colours, which digits do not have; and small images, for time
    data = ("data=synthetic", "data.num_train=80", f"data.image_size={32 if large else 8}")
    overrides = (*data, *needs, f"model={model}", f"precision={precision}", f"privacy.grad_sample={way}",
                 *AUGMENTATIONS[augmentation])  # fmt: skip
    if copies > 1:
        overrides += (f"privacy.augmentation_multiplicity={copies}",)
    try:
        plan, parts = parts_of(*overrides)
    except RequestError as refusal:
        if refusal.key != "privacy.grad_sample":
            raise
        return str(refusal)
    rows = FEWER_ROWS if large else ROWS
    with torch_settings(plan):
        return [found for processes in numbers for found in measure_sensitivity(parts, 1, rows, processes=processes)]
