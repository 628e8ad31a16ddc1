import importlib
import inspect
from dataclasses import fields
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from runner.config.schema import DataConfig
from runner.data.open import open_data
from runner.errors import RequestError

FOLDER = Path(__file__).parents[2] / "conf" / "data"
COMMON = {field.name for field in fields(DataConfig)} - {"target", "options"}


def config_of(path, **keys):
    given = OmegaConf.to_container(OmegaConf.load(path)) | keys
    given.pop("augment", None)
    target = given.pop("_target_")
    options = {key: given.pop(key) for key in list(given) if key not in COMMON}
    return DataConfig(target=target, options=options, **given)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_option_is_described_and_names_a_source_that_takes_its_keys(path):
    assert path.read_text().startswith("# ")
    config = config_of(path)
    assert config.name == path.stem
    module, _, name = config.target.rpartition(".")
    inspect.signature(getattr(importlib.import_module(module), name)).bind(config, **config.options)
    assert len(config.mean or ()) == len(config.std or ())


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist", "fashion_mnist"])
def test_the_torchvision_options_say_where_their_files_belong(name, tmp_path):
    from torchvision import datasets

    config = config_of(FOLDER / f"{name}.yaml", root=str(tmp_path), cache_dir=str(tmp_path / "cache"))
    kind = getattr(datasets, config.options["dataset"])
    for arguments in config.options["splits"].values():
        inspect.signature(kind).bind(root="", download=False, **arguments)
    (file,) = config.options["files"]
    # torchvision looks in the same place.
    own = kind.base_folder if hasattr(kind, "base_folder") else f"{kind.__name__}/raw"
    assert file == own
    with pytest.raises(RequestError, match=rf"^data.root: got .* \(no {file}\), expected the files of"):
        open_data(config)


@pytest.mark.parametrize("channels", [1, 3])
def test_synthetic_works_as_it_stands(channels):
    assert open_data(config_of(FOLDER / "synthetic.yaml", channels=channels)).channels == channels
