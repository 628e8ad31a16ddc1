"""From a composed configuration to dataclasses: types, options, defaults."""

import dataclasses

import pytest
from omegaconf import OmegaConf

from runner.config.load import load_config
from runner.config.schema import AugmentConfig, RunConfig
from runner.errors import RequestError


def test_every_group_is_its_dataclass(composer):
    config = composer.load(composer.compose([]))
    for field in dataclasses.fields(RunConfig):
        value = getattr(config, field.name)
        if field.name not in ("seed", "folds", "deterministic", "name", "resume", "profile"):
            assert type(value).__name__ == field.type
    assert isinstance(config.data.augment, AugmentConfig)


def test_whole_numbers_become_floats_where_a_float_is_meant(composer):
    config = composer.load(composer.compose(["trainer.epochs=3", "optimizer.lr=1", "data.augment.crop_area=[1,1]"]))
    assert [type(x) for x in (config.trainer.epochs, config.optimizer.lr, *config.data.augment.crop_area)] == [
        float
    ] * 4


def test_what_the_dataclass_does_not_know_becomes_options(composer):
    config = composer.load(composer.compose(["optimizer=adam", "optimizer.eps=1"]))
    assert config.optimizer.target == "torch.optim.Adam"
    assert config.optimizer.options == {"betas": [0.9, 0.999], "eps": 1}


def test_the_saved_configuration_of_a_run_loads_to_the_same(composer, tmp_path):
    composed = composer.compose(["trainer=dp", "privacy.epsilon=3", "model=resnet18"])
    expected = composer.load(composed)
    OmegaConf.save(OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"]), tmp_path / "c.yaml")
    assert load_config(OmegaConf.load(tmp_path / "c.yaml")) == expected


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"data": {"batch_size": "many"}}, "data.batch_size"),
        ({"trainer": {"epoks": 3}}, "trainer.epoks"),
        ({"sede": 3}, "sede"),
        ({"seed": "???"}, "seed"),
        ({"optimizer": {"lr": float("nan")}}, "optimizer.lr"),
        ({"data": {"root": "${nope}"}}, "data.root"),
    ],
)
def test_a_saved_configuration_that_was_edited_badly_is_refused(composer, change, key):
    saved = OmegaConf.to_container(composer.compose([]))
    saved.pop("hydra")
    load_config(OmegaConf.create(saved))
    for name, value in change.items():
        saved[name] = saved[name] | value if isinstance(value, dict) else value
    with pytest.raises(RequestError) as caught:
        load_config(OmegaConf.create(saved))
    assert caught.value.key == key


def test_interpolations_of_the_user_are_resolved(composer):
    config = composer.load(composer.compose(["data.split_seed=${seed}", "seed=3", "name=${model.name}-${seed}"]))
    assert (config.data.split_seed, config.name) == (3, "small_cnn-3")


def test_interpolations_into_hydra_are_resolved_before_there_is_a_run(composer):
    assert composer.load(composer.compose(["name=cell${hydra:job.num}"]), number=4).name == "cell4"


@pytest.mark.parametrize("value", ["1", "0.5"])
def test_a_number_is_accepted_for_a_float_option(composer, value):
    assert composer.load(composer.compose([f"optimizer.momentum={value}"])).optimizer.options["momentum"] == float(
        value
    )


def test_a_null_default_accepts_anything(composer):
    for value in ("true", "null", "7"):
        composer.load(composer.compose(["model=resnet18", f"model.small_stem={value}"]))
