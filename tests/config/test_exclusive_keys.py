"""Keys of which one counts: what is typed wins over what stands elsewhere, and nothing loses without a word."""

import pytest

from runner.config.compose import Composer
from runner.config.request import presets
from runner.config.request.request import check_run, read_request
from runner.config.request.swept_values import params_as_typed
from runner.config.rules.rules import value_at
from runner.config.untrusted import screened_source
from runner.errors import RequestError

DIGITS = "experiment=dp_digits"
CROPS = "data=cifar10 data.root=."

# What is typed, what the run then has, and words of what is said.
WON = [
    (f"{DIGITS} trainer.epochs=6", {"trainer.epochs": 6.0, "trainer.steps": None}, "trainer.steps=100"),
    (f"{DIGITS} trainer.steps=6", {"trainer.steps": 6}, None),
    (f"{DIGITS} trainer.epochs=null", {"trainer.steps": 100}, None),
    (f"{DIGITS} privacy.noise_multiplier=5", {"privacy.epsilon": None}, "privacy.epsilon=3.0"),
    (
        f"{DIGITS} trainer=standard",
        {"privacy.epsilon": None, "privacy.delta": None, "privacy.max_grad_norm": 1.0},
        "trainer=standard takes the place of privacy.epsilon=3.0",
    ),
    (
        "experiment=dp_cifar10 data=synthetic trainer.effective_batch_size=512",
        {"trainer.accumulation_steps": None, "trainer.effective_batch_size": 512},
        "trainer.accumulation_steps=4",
    ),
    (
        f"{CROPS} data.augment.random_resized_crop=true",
        {"data.augment.crop_padding": 0, "data.augment.random_resized_crop": True},
        "data.augment.crop_padding=4",
    ),
    (
        "experiment=cifar10_resnet18 data=synthetic trainer=mixed_precision",
        {"precision.amp_dtype": "auto16"},
        "trainer=mixed_precision takes the place of precision=auto",
    ),
    ("hardware=laptop_4gb trainer=mixed_precision", {"precision.amp_dtype": "auto16"}, "hardware=laptop_4gb chooses"),
    (
        "hardware=laptop_4gb data.batch_size=32",
        {"hardware.micro_batch": None},
        "data.batch_size=32 takes the place of hardware.micro_batch=16",
    ),
    ("hardware=laptop_4gb trainer.accumulation_steps=2", {"hardware.micro_batch": None}, "hardware.micro_batch=16"),
    ("hardware=laptop_4gb data.batch_size=32 hardware.micro_batch=8", {"hardware.micro_batch": 8}, None),
    (f"{DIGITS} optimizer=adam", {"optimizer.momentum": None}, "optimizer.lr=7.0, which experiment=dp_digits sets for"),
    ("data.folds=10", {"data.folds": 10}, "data.folds changes nothing without data.fold=0"),
    ("data.on_bad_file=skip", {}, "data.on_bad_file changes nothing without data=image_folder"),
    (
        "optimizer.weight_decay=0 optimizer.decay_norm_and_bias=true",
        {},
        "changes nothing without optimizer.weight_decay",
    ),
    ("data.augment={crop_padding: 2}", {"data.augment.crop_padding": 2}, None),
]


@pytest.fixture
def fresh(composer):
    """The composer of all tests, which has said nothing yet."""
    composer.notes.clear()
    return composer


@pytest.mark.parametrize(("typed", "values", "words"), WON, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_typed_takes_the_place_of_its_rival(fresh, typed, values, words):
    request = read_request(fresh, typed.split(" ") if "{" not in typed else [typed], multirun=False, check=check_run)
    (run,) = request.configs
    assert {key: value_at(run, key) for key in values} == values
    assert any(words in note for note in fresh.notes) if words else not fresh.notes
    # Hydra composes it once more, from the lines that the request has
    assert fresh.load(fresh._load(list(request.lines))) == run


def test_a_sweep_over_a_length_trains_each_length(fresh):
    request = read_request(fresh, [DIGITS, "trainer.epochs=2,4"], multirun=True, check=check_run)
    assert [(run.trainer.epochs, run.trainer.steps) for run in request.configs] == [(2.0, None), (4.0, None)]
    assert [lines[-1] for lines in request.cells_lines] == ["trainer.steps=null"] * 2
    assert "trainer.steps=null" in request.fixed, "it is no part of a cell's name"


def test_without_the_rule_such_a_sweep_has_one_recipe(fresh, monkeypatch):
    monkeypatch.setattr(presets, "replaced_by", lambda config, typed: [])
    request = read_request(fresh, [DIGITS, "trainer.epochs=2,4"], multirun=True, check=check_run)
    assert {run.trainer.steps for run in request.configs} == {100}


def test_what_is_typed_takes_the_place_of_what_a_question_asks(tmp_path):
    composer = brought(tmp_path, "hydra:\n  sweeper:\n    params:\n      trainer.epochs: 1,2\n")
    request = read_request(composer, ["sweep=mine", "trainer.steps=10"], multirun=False, check=check_run)
    assert [run.trainer.steps for run in request.configs] == [10]
    assert next(iter(composer.notes)).startswith("trainer.steps=10 takes the place of trainer.epochs=1,2")


def brought(folder, text):
    (folder / "sweeps").mkdir(exist_ok=True)
    (folder / "sweeps" / "mine.yaml").write_text("# @package _global_\n" + text)
    return Composer(caller=folder)


LENGTH = """
defaults:
  - override /experiment: debug
trainer:
  epochs: 2
hydra:
  sweeper:
    params:
      seed: 0,1
"""


def test_a_file_that_is_read_later_takes_the_place_too(tmp_path):
    request = read_request(brought(tmp_path, LENGTH), ["sweep=mine"], multirun=False, check=check_run)
    assert {(run.trainer.epochs, run.trainer.steps) for run in request.configs} == {(2.0, None)}


def test_without_the_rule_a_file_loses(tmp_path, monkeypatch):
    monkeypatch.setattr("runner.config.store.resolve_exclusive_keys", lambda node, file: None)
    monkeypatch.setattr(screened_source, "resolve_exclusive_keys", lambda node, file: None)
    request = read_request(brought(tmp_path, LENGTH), ["sweep=mine"], multirun=False, check=check_run)
    assert {run.trainer.steps for run in request.configs} == {10}


def test_a_file_that_sets_both_is_refused(tmp_path):
    text = LENGTH.replace("  epochs: 2", "  epochs: 2\n  steps: 3")
    with pytest.raises(RequestError, match=r"trainer.epochs: got 2 beside trainer.steps=3 in .*mine.yaml"):
        read_request(brought(tmp_path, text), ["sweep=mine"], multirun=False, check=check_run)


QUESTION = """
data:
  augment: {random_resized_crop: true}
hydra:
  sweeper:
    params:
      trainer.clip_norm: [null, 1.0]
      trainer.patience: null
      name: ['a b', null]
      optimizer.nesterov: [true]
      data.augment.crop_area: [0.2, 1.0]
"""


def test_nulls_and_lists_of_a_question_are_values(tmp_path):
    request = read_request(brought(tmp_path, QUESTION), ["sweep=mine"], multirun=False, check=lambda run: None)
    found = [(run.trainer.clip_norm, run.name) for run in request.configs]
    assert found == [(None, "a b"), (None, None), (1.0, "a b"), (1.0, None)]
    (one,) = {(run.trainer.patience, *run.data.augment.crop_area) for run in request.configs}
    assert one == (None, 0.2, 1.0)


@pytest.mark.parametrize(("value", "typed"), [
    (None, "null"), (True, "true"), (0.5, "0.5"), ("0.1,0.2", "0.1,0.2"), ([], "[]"),
    ([None, 1], "null,1"), ([[0.9, 0.99], [0.8, 0.9]], "[0.9,0.99],[0.8,0.9]"), (["fp32", "null"], "fp32,'null'"),
])  # fmt: skip
def test_what_a_file_asks_is_what_would_be_typed(value, typed):
    assert params_as_typed({"some.key": value}) == [f"some.key={typed}"]


def test_options_of_a_swept_group_are_judged_by_their_own_keys(fresh):
    typed = ["optimizer=adam,adamw", "optimizer.betas=[0.8,0.99]", "+optimizer.amsgrad=true"]
    request = read_request(fresh, typed, multirun=True, check=check_run)
    assert [run.optimizer.options["betas"] for run in request.configs] == [[0.8, 0.99]] * 2
    assert request.deferred == tuple(typed[1:]), "Hydra's own composition has the default optimizer"


def test_a_search_may_fix_a_key_of_the_options_that_it_chooses_from(fresh):
    typed = ["hydra/sweeper=optuna", "optimizer=adam,adamw", "optimizer.betas=[0.8,0.99]"]
    request = read_request(fresh, typed, multirun=True, check=check_run)
    assert request.lines == tuple(typed[1:])
    assert request.deferred == (typed[-1],)
