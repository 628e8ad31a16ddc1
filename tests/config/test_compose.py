"""Composition: every option of every group, the order of overrides, sweeps, and a user's own folder."""

import itertools

import pytest
from omegaconf import OmegaConf

from runner.config.compose import Composer
from runner.config.groups import CLOSED, OPEN
from runner.config.request.request import read_request
from runner.config.rules.rules import check
from runner.config.store import shipped, sweep_files
from runner.errors import RequestError

CONF = shipped("conf")
# What an option cannot do without, or forbids.
NEEDS = {
    "hardware=multi_gpu": ["trainer=accelerate"],
    "privacy=dp": ["trainer=dp"],
}


def options(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def choices():
    return [f"{group}={option}" for group in (*OPEN, *CLOSED, "experiment") for option in options(group)]


@pytest.mark.parametrize("choice", choices())
def test_every_option_composes_and_passes_the_rules(composer, choice):
    composed = composer.compose([choice, *NEEDS.get(choice, [])])
    config = composer.load(composed)
    check(config)
    group, _, option = choice.partition("=")
    assert composed.hydra.runtime.choices[group] == option


@pytest.mark.parametrize(("trainer", "precision"), list(itertools.product(options("trainer"), options("precision"))))
def test_every_precision_goes_with_every_trainer(composer, trainer, precision):
    config = composer.load(composer.compose([f"trainer={trainer}", f"precision={precision}"]))
    check(config)
    chosen = OmegaConf.load(CONF / "precision" / f"{precision}.yaml")
    assert config.precision.amp_dtype == chosen.amp_dtype
    assert config.trainer.name == trainer


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["trainer=dp", "privacy.epsilon=3"], {"privacy.enabled": True, "privacy.epsilon": 3.0}),
        (["trainer=mixed_precision", "precision=fp16"], {"precision.amp_dtype": "float16"}),
        (["trainer=mixed_precision", "precision.amp_dtype=float16"], {"precision.amp_dtype": "float16"}),
        (["trainer=dp", "privacy=none"], {"privacy.enabled": False}),
        (["optimizer=adam", "optimizer.lr=0.5"], {"optimizer.lr": 0.5, "optimizer.name": "adam"}),
        (["experiment=debug", "trainer.steps=3"], {"trainer.steps": 3, "data.limit": 100}),
        (["experiment=debug", "hardware=auto"], {"hardware.device": "auto"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_order_of_overrides_does_not_matter(composer, typed, expected):
    for order in itertools.permutations(typed):
        composed = composer.compose(order)
        assert {key: OmegaConf.select(composed, key) for key in expected} == expected


def test_presets_choose_what_the_user_leaves_open(composer):
    assert composer.compose(["trainer=mixed_precision"]).precision.amp_dtype == "auto16"
    assert composer.compose(["trainer=dp"]).privacy.enabled is True
    assert composer.compose([]).privacy.enabled is False


def test_an_argument_that_the_yaml_does_not_list_can_be_added_to_an_open_group(composer):
    config = composer.load(composer.compose(["model=timm", "+model.drop_rate=0.1"]))
    assert config.model.options == {"drop_rate": 0.1}


def test_two_plus_signs_set_a_key_or_add_it_as_hydra_means_them(composer):
    typed = ["model=timm", "++model.drop_rate=0.1", "++optimizer.lr=0.3", "++hydra.verbose=true"]
    request = read_request(composer, typed, multirun=False, check=check)
    assert request.lines == ("model=timm", "+model.drop_rate=0.1", "optimizer.lr=0.3", "hydra.verbose=true")
    assert (request.configs[0].optimizer.lr, request.configs[0].model.options) == (0.3, {"drop_rate": 0.1})
    # a sweep; of several options each has keys of its own
    grid = read_request(composer, ["optimizer=sgd,adamw", "++optimizer.momentum=0.5", "++seed=3,4"], multirun=True,
                        check=check)  # fmt: skip
    assert [(one.optimizer.options["momentum"], one.seed) for one in grid.configs] == [(0.5, 3), (0.5, 4)] * 2
    with pytest.raises(RequestError, match=r"did you mean optimizer\.momentum"):
        composer.parse(["optimizer=sgd,adamw", "++optimizer.momentun=0.5"])


def test_a_pattern_lists_the_options_of_a_group(composer, tmp_path):
    grid = read_request(composer, ["model=glob(resnet*,exclude=*5*)", "seed=1"], multirun=True, check=check)
    assert grid.cells_lines == (("model=resnet18", "seed=1"), ("model=resnet34", "seed=1"))
    with pytest.raises(RequestError, match="add --multirun"):
        composer.compose(["model=glob(resnet*)"])
    write(tmp_path / "sweeps" / "nets.yaml", "hydra: {sweeper: {params: {model: glob(resnet*)}}}\n")
    asked = read_request(Composer(caller=tmp_path), ["sweep=nets"], multirun=False, check=check)
    assert [one.model.name for one in asked.configs] == ["resnet18", "resnet34", "resnet50"]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_options_from_a_folder_of_the_user(tmp_path):
    write(tmp_path / "mine" / "model" / "wide.yaml", "defaults: [mlp]\nhidden: [512]\n")
    composer = Composer(caller=tmp_path, extra=tmp_path / "mine")
    assert "wide" in composer.options("model")
    config = composer.load(composer.compose(["model=wide", "model.hidden=[64]"]))
    assert config.model.options["hidden"] == [64]
    assert "wide" not in Composer(caller=tmp_path).options("model")


def test_sweeps_of_the_caller_hide_shipped_ones(tmp_path):
    write(tmp_path / "sweeps" / "mine.yaml", "hydra: {mode: MULTIRUN}\nseed: 7\n")
    assert sweep_files(tmp_path)["mine"] == tmp_path / "sweeps" / "mine.yaml"
    composed = Composer(caller=tmp_path).compose(["sweep=mine"])
    assert composed.seed == 7
    assert composed.hydra.mode.name == "MULTIRUN"
    # A later composer in another folder knows nothing of it.
    assert Composer(caller=tmp_path / "sweeps").options("sweep") == sorted(sweep_files(tmp_path / "sweeps"))


def test_shipped_sweeps_are_found_once_when_the_caller_stands_in_the_checkout():
    root = CONF.parent
    assert sorted(sweep_files(root)) == sorted({path.stem for path in (root / "sweeps").glob("*.yaml")})


@pytest.mark.parametrize("name", sorted(sweep_files(CONF.parent)))
def test_every_shipped_sweep_is_a_request_that_may_start(composer, name):
    checked = []
    request = read_request(composer, [f"sweep={name}"], multirun=False, check=checked.append)
    assert request.multirun
    if request.cells is not None:
        assert len(checked) == request.cells > 1
        for config in checked:
            check(config)


def test_a_grid_is_checked_cell_by_cell(composer):
    checked = []
    request = read_request(composer, ["seed=0,1", "precision=fp32,bf16"], multirun=True, check=checked.append)
    assert (request.multirun, request.cells) == (True, 4)
    cells = [(config.seed, config.precision.amp_dtype) for config in checked]
    assert cells == [(0, "float32"), (0, "bfloat16"), (1, "float32"), (1, "bfloat16")]


def test_a_composition_of_files_merged_before_is_one_of_its_own(composer):
    """What one composition changes, or is typed for it, the next of the same files has not heard of."""
    first = composer.compose(["trainer=dp", "optimizer.lr=0.5"])
    first.data.batch_size = 7
    second = composer.compose(["trainer=dp"])
    assert (second.data.batch_size, second.optimizer.lr) != (7, 0.5)
    assert second.hydra.overrides.task == ["trainer=dp"]
    third = composer.compose(["trainer=dp"])
    assert OmegaConf.to_container(second, resolve=False) == OmegaConf.to_container(third, resolve=False)


def test_files_and_questions_of_the_user_are_read_for_each_composition(tmp_path):
    option, question = (tmp_path / name / "mine.yaml" for name in ("model", "sweeps"))
    for file in (option, question):
        file.parent.mkdir()
    for width in (3, 4):
        option.write_text(f"defaults: [mlp]\nwidths: [{width}]\n")
        question.write_text(f"seed: {width}\n")
        config = Composer(caller=tmp_path, extra=tmp_path).compose(["model=mine", "sweep=mine"])
        assert (list(config.model.widths), config.seed) == ([width], width)
