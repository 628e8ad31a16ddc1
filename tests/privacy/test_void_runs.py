"""Which runs of earlier versions have an epsilon that does not hold."""

import pytest

from runner.planning.build import build_plan
from runner.planning.device import detect_device
from runner.privacy.ledger.void_runs import void_reason


@pytest.fixture
def recorded(configure):
    """recorded("key=value", ...) -> the plan of a private run as an earlier version wrote it."""
    from runner.data.open import open_data

    def recorded(*overrides):
        config = configure(
            "trainer=dp", "privacy.noise_multiplier=1", "data.limit=60", "data.batch_size=16", *overrides
        )
        plan = build_plan(config, open_data(config.data), detect_device(config.hardware), processes=1).as_dict()
        del plan["semantic"]["privacy"]["draws"]
        return plan

    return recorded


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("model=linear",), None),
        (("model=mlp",), None),
        (("model=small_cnn",), None),
        (("model=scatter_linear", "data.image_size=16"), None),
        (("model=resnet18",), None),
        (("model=vit_b_16",), None),
        (("model=timm",), None),
        (("model=linear", "data.augment.flip=true"), "augmentation (flip) drew by the place in the batch"),
        (("model=mlp", "data.augment.crop_padding=1", "data.augment.hue=0.1"), "augmentation (crop_padding, hue)"),
        (("model=linear", "data.augment.crop_area=[0.5,1]"), None),
        (("model=mobilenet_v3_small",), "mobilenet_v3_small, which may have random layers"),
        (("model=efficientnet_b0",), "efficientnet_b0, which may have random layers"),
        (("model=torchvision",), "convnext_tiny, which may have random layers"),
        (("model=timm", "+model.drop_rate=0.1"), "resnet18 with drop_rate drew"),
        (("model=vit_b_16", "+model.attention_dropout=0.1"), "vit_b_16 with attention_dropout drew"),
        (("model=vit_b_16", "+model.dropout=0.0"), None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_a_run_may_have_drawn_decides(recorded, changes, said):
    found = void_reason(recorded(*changes))
    assert (found is None) == (said is None)
    assert said is None or said in found
    assert said is None or found.endswith("no epsilon holds")


def test_a_model_of_somebody_else_counts_against_the_run(recorded):
    plan = recorded("model=linear")
    plan["semantic"]["model"]["target"] = "my_parts.pooling.pooled_linear"
    assert "may have random layers" in void_reason(plan)


def test_a_run_of_today_and_one_without_privacy_are_not_void(recorded):
    plan = recorded("model=linear", "data.augment.flip=true")
    plan["semantic"]["privacy"]["draws"] = "example"
    assert void_reason(plan) is None
    plan["semantic"]["privacy"] = None
    assert void_reason(plan) is None


@pytest.mark.parametrize(
    "plan", [{"semantic": {"privacy": {}}}, {"semantic": {"privacy": {}, "data": 3}}, {"semantic": {"privacy": 1}}]
)
def test_a_record_that_does_not_say_counts_against_the_run(plan):
    assert void_reason(plan) == "its record does not say what it drew, and by what"
