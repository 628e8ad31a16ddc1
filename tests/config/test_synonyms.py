"""Words of other tools get the right key: the table holds, and it is asked wherever a word can be wrong."""

import contextlib
import re
import shlex
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from runner.commands import keys, plan
from runner.commands.train import main
from runner.config.compose import Composer
from runner.config.groups import CLOSED, OPEN, RECIPES
from runner.config.request.request import check_run, read_request
from runner.config.request.resume_request import expand_resume
from runner.config.words import synonyms
from runner.config.words.override_lines import key_of
from runner.config.words.synonyms import find_synonym, options, table
from runner.config.words.unknown_flag import in_place_of
from runner.config.words.unknown_key import unknown_key
from runner.errors import RequestError
from runner.inference.request import _ELSEWHERE, InferenceRequest
from tests.conftest import ROOT

GROUPS = (*OPEN, *CLOSED)


@pytest.fixture(scope="module")
def composed(composer):
    return composer.compose([])


# a key with its value, and words that must stand in the answer
KEYS = [
    ("early_stopping=true", "trainer.patience=5"),
    ("trainer.gradient_clip_val=1", "trainer.clip_norm"),
    ("loss=focal", "did you mean task.loss?"),
    ("trainer.pin_memory=true", "no loader workers to set"),
    ("data_dir=photos", "data.root=photos"),
    ("max_epochs=3", "did you mean trainer.epochs?"),
    ("trainer.maxEpochs=3", "did you mean trainer.epochs?"),
    ("optimizer.max_steps=3", "trainer.steps"),
    ("lr=0.1", "did you mean optimizer.lr?"),
    ("trainer.learning_rate=0.1", "did you mean optimizer.lr?"),
    ("wd=0.1", "did you mean optimizer.weight_decay?"),
    ("device=cuda", "did you mean hardware.device?"),
    ("gpus=4", "trainer=accelerate hardware.processes=4"),
    ("precision.amp=true", "precision=bf16 or precision=fp16"),
    ("trainer.fp16=true", "precision=fp16"),
    ("trainer.seed=3", "did you mean seed?"),
    ("output_dir=runs/1", "hydra.run.dir=runs/1"),
    ("resume_from=runs/1", "resume=runs/1"),
    ("accum=4", "did you mean trainer.accumulation_steps?"),
    ("data.val_split=0.2", "data.val_fraction"),
    ("model.pretrained=true", "model.weights=DEFAULT"),
    ("model.num_classes=3", "the classes come from the data"),
    ("model.dropout=0.2", "model=timm +model.drop_rate=0.2"),
    ("trainer.target_epsilon=8", "trainer=dp privacy.epsilon=8"),
    ("privacy.target_epsilon=8", "trainer=dp privacy.epsilon=8"),
    ("privacy.clip=2", "trainer=dp privacy.max_grad_norm=2"),
    ("noise=1.1", "trainer=dp privacy.noise_multiplier=1.1"),
    ("max_grad_norm=1", "trainer.clip_norm=1 or trainer=dp privacy.max_grad_norm=1"),
    ("wandb.project=cats", "did you mean tracker.project?"),
    ("warmup=500", "scheduler.warmup_epochs (it counts epochs"),
    ("scheduler.patience=3", "scheduler=plateau scheduler.patience=3"),
    ("trainer_type=dp", "expected trainer=dp"),
    ("training.trainer_type=mixed_precision", "expected trainer=mixed_precision"),
    ("training.dp.target_epsilon=3", "expected trainer=dp privacy.epsilon=3"),
    ("training.dp.noise_multiplier=1.1", "did you mean privacy.noise_multiplier?"),
    ("target_epsilon=3", "expected trainer=dp privacy.epsilon=3"),
    ("mixed_precision=false", "expected precision=fp32"),
    ("precision_type=fp16", "expected precision=fp16"),
    ("scheduler.step_size=30", "scheduler.step_epochs=30"),
    ("callbacks=[]", "nothing: what callbacks do elsewhere has keys"),
    ("metrics=[accuracy]", "nothing: loss and accuracy are always measured"),
    ("steps_per_epoch=100", "trainer.steps ends a run after so many updates"),
    ("data.val_dir=x", "folders in data.root named train, val and test"),
    ("inference.strategy=mixed_precision", "python -m runner infer run=FOLDER"),
]
# the same for whole command lines
ASKED = [
    ("trainer.ema=0.999", "trainer.ema_decay=0.999"),
    ("grad_clip=1.0", "trainer.clip_norm"),
    ("data.num_workers=4", "nothing: images are decoded once"),
    ("optimizer=adam optimizer.momentum=0.8", "optimizer=sgd optimizer.momentum=0.8"),
    ("--multirun batch=32,64", "did you mean data.batch_size?"),
    ("optimizer=adam optimizer.nesterov=true", "optimizer=sgd beside it: optimizer=adam has no nesterov"),
    ("precision=16-mixed", "did you mean fp16?"),
    ("optimizer=AdamW", "did you mean adamw?"),
    ("model=ResNet-50", "did you mean resnet50?"),
    ("scheduler=ReduceLROnPlateau", "did you mean plateau?"),
    ("--config c.yaml", "--config-dir FOLDER experiment=NAME"),
    ("-c c.yaml", "--config-dir FOLDER experiment=NAME"),
    ("--amp", "trainer=mixed_precision or precision=bf16"),
    ("--epochs 3 --lr 0.1", "expected trainer.epochs=3 optimizer.lr=0.1"),
    ("--lr=0.1", "expected optimizer.lr=0.1"),
    ("--batch_size 32", "expected data.batch_size=32"),
    ("--data-dir 'my photos'", "'data.root=my photos'"),
    ("--model resnet-18", "expected model=resnet-18"),
    ("--clip_grad_norm 1.0", "expected trainer.clip_norm=1.0"),
    ("--num_workers 4", "no loader workers to set"),
    ("--checkpoint_path runs/1", "python -m runner infer"),
    ("-j 4", "no loader workers to set"),
    ("--amp True", "--amp: got True, expected trainer=mixed_precision or precision=bf16"),
    ("--amp False", "--amp: got False, expected precision=fp32"),
    ("--mixed_precision bf16", "expected precision=bf16"),
    (
        "--clip_grad_norm=1.0 --epochs=3",
        "expected trainer.clip_norm=1.0 trainer.epochs=3 (--clip_grad_norm: the largest",
    ),
    ("--gpus 4 --distributed", "expected trainer=accelerate hardware.processes=4 ("),
    ("--mixed_precision --precision_type fp16", "expected trainer=mixed_precision precision=fp16 ("),
    ("--num_machines 2 --machine_rank 0", "expected nothing (--num_machines, --machine_rank: torchrun"),
    ("--data_dir 'my photos' --workers 4", "'data.root=my photos' data.image_size=224 ("),
    ("--epochs 3 --nonsense", "--nonsense: got an unknown flag"),
    ("--noise-multiplier 1.1", "expected trainer=dp privacy.noise_multiplier=1.1"),
    ("--torch-compile", "expected hardware.compile=true"),
    ("--save_strategy epoch", "expected trainer.save_every=1 (it counts epochs)"),
    ("--opt sgd", "expected optimizer=sgd ("),
    ("scheduler=OneCycleLR", "did you mean cosine?"),
    ("model=mobilenet_v3_small model.dropout=0.1", "model.dropout: got 0.1, expected +model.dropout=0.1"),
    ("model=timm model.dropout=0.1", "expected +model.drop_rate=0.1"),
    ("model=torchvision +model.wieghts=x", "did you mean model.weights?"),
]


@pytest.mark.parametrize(("typed", "words"), KEYS, ids=[typed for typed, _ in KEYS])
def test_a_usual_word_gets_the_right_key(composer, composed, typed, words):
    key, _, value = typed.partition("=")
    assert words in str(unknown_key(key, value, composed, composer.groups()))


@pytest.mark.parametrize(("typed", "words"), ASKED, ids=[typed for typed, _ in ASKED])
def test_a_usual_word_is_one_line_that_says_what_to_type(composer, capsys, typed, words):
    if typed.startswith("-") and not typed.startswith("--multirun"):
        assert main(shlex.split(typed)) == 2
        answer = capsys.readouterr().err.rstrip("\n")
    else:
        lines = [word for word in typed.split() if word != "--multirun"]
        with pytest.raises(RequestError) as refused:
            read_request(composer, lines, multirun=len(lines) < len(typed.split()), check=check_run)
        answer = f"error: {refused.value}"
    assert answer.startswith("error: ")
    assert "\n" not in answer
    assert words in answer


def test_an_argument_that_is_added_is_looked_up_too(configure):
    from runner.models.build import build_network

    with pytest.raises(RequestError, match=r"model=timm \+model.drop_rate=0.2"):
        build_network(configure("+model.dropout=0.2").model, channels=1, num_classes=10, image_size=8, norm="batch")


def test_an_argument_of_a_library_is_no_typing_error_of_a_key(configure):
    config = configure("model=torchvision", "model.name=googlenet", "+model.init_weights=true")
    assert config.model.options["init_weights"] is True


def test_what_is_said_to_take_an_argument_takes_it(configure):
    import torch

    from runner.models.build import build_network

    pytest.importorskip("timm")
    for entry in table():
        for option, line in entry.added.items():
            typed = re.sub("[{}]", "", line)
            with torch.device("meta"):
                build_network(
                    configure(f"model={option}", typed).model, channels=3, num_classes=2, image_size=64, norm="batch"
                )


def test_the_file_that_is_meant_by_the_folder_of_a_run(composer, tmp_path):
    file = tmp_path / "checkpoints" / "best" / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()
    read_request(composer, [f"model.weights={tmp_path}"], multirun=False, check=check_run)
    for folder in (file.parent.parent, file.parent):
        with pytest.raises(RequestError, match=f"or model.weights={re.escape(str(file))}$"):
            read_request(composer, [f"model.weights={folder}"], multirun=False, check=check_run)


def test_the_page_for_those_who_come_from_elsewhere_is_made_of_the_table(capsys):
    assert keys.main(["--elsewhere"]) == 0
    page = capsys.readouterr().out
    assert page == (ROOT / "docs" / "coming_from.md").read_text(encoding="utf-8")
    for entry in table():
        for word in entry.words.split():
            assert f"`{word.removeprefix('.')}`" in page


def test_the_example_of_the_page_is_what_is_answered(capsys):
    page = (ROOT / "docs" / "coming_from.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```\n\$ python -m runner (.*?)```", page, re.DOTALL)
    typed, _, answer = example.partition("\n")
    assert main(shlex.split(typed)) == 2
    assert capsys.readouterr().err.startswith(" ".join(answer.split()).removesuffix("(...)"))


def test_without_the_table_the_words_get_no_key(composer, composed, monkeypatch):
    monkeypatch.setattr(synonyms, "_entries", dict)
    for key in ("trainer.ema", "grad_clip", "data.num_workers", "accum"):
        answer = unknown_key(key, "1", composed, composer.groups())
        assert answer.nearest is None
        assert answer.expected.startswith(("one of", "a key of"))


def test_a_key_of_a_file_is_looked_up_too(tmp_path):
    file = tmp_path / "experiment" / "mine.yaml"
    file.parent.mkdir()
    file.write_text("# @package _global_\ntrainer:\n  max_epochs: 3\n")
    composer = Composer(caller=tmp_path, extra=tmp_path)
    with pytest.raises(RequestError, match=r"experiment/mine.yaml, .*did you mean trainer.epochs"):
        composer.compose(["experiment=mine"])


def test_every_word_stands_once_and_is_no_key():
    words = [word for entry in table() for word in entry.words.split()]
    assert sorted(words) == sorted(set(words))
    assert not {word.lstrip(".") for word in words} & {*GROUPS, *RECIPES, "seed", "seeds", "name", "resume"}
    assert all(word == word.lower() for word in words)


def test_every_word_is_found_in_any_place():
    for entry in table():
        for word in entry.words.split():
            places = [word.lstrip(".")] if "." in word else [word, f"trainer.{word}", f"training.{word}"]
            for place in places:
                assert find_synonym(place) is (synonyms.synonym_of_value(place) or entry)
            if "." not in word:
                assert in_place_of(word, "1") is not None


def test_every_key_that_is_named_exists(composer):
    found = [composer.compose(lines) for lines in ([], ["optimizer=adamw"])]
    for entry in table():
        named = {entry.key} if entry.key else set()
        named |= set(re.findall(rf"(?<![\w.+])(?:{'|'.join(GROUPS)})\.\w+(?:\.\w+)*", entry.note)) - {"data.md"}
        for key in named:
            assert any(OmegaConf.select(config, key, default="absent") != "absent" for config in found), key


def subject(word):
    """What an override is about: two of one subject do not go together."""
    key = key_of(word)
    about = {"trainer.epochs": "length", "trainer.steps": "length", "data.folds": "splits", "data.fold": "splits"}
    about |= {"data.val_fraction": "splits", "data.test_fraction": "splits"}
    return about.get(key, "privacy" if key.startswith("privacy.") else key.partition("augment.")[0])


def together(lines):
    """Lines with the same options of the groups and no subject in common, which one composition can answer for."""
    requests = []
    for line in lines:
        words = line.split()
        options = {word for word in words if "." not in key_of(word)}
        subjects = {subject(word) for word in words if word not in options}
        for request, its_options, its_subjects in requests:
            if options == its_options and not subjects & its_subjects:
                request.extend(word for word in words if word not in options)
                its_subjects |= subjects
                break
        else:
            requests.append((words, options, subjects))
    return [request for request, _, _ in requests]


def test_every_line_that_is_suggested_composes(composer, tmp_path):
    for name in ("FILE.safetensors", "FOLDER/.hydra/overrides.yaml", "FOLDER/experiment/NAME.yaml"):
        Path(tmp_path, name).parent.mkdir(parents=True, exist_ok=True)
        Path(tmp_path, name).write_text("[]" if "overrides" in name else "# @package _global_\nseed: 1\n")
    with contextlib.chdir(tmp_path):
        for words in together(sorted({line for entry in table() for line in entry.lines(None)})):
            asked = composer
            if words[0] == "--config-dir":
                asked, words = Composer(caller=tmp_path, extra=Path(words[1]).absolute()), words[2:]
            multirun = any(word.startswith(("hydra/sweeper", "hydra.sweep.dir")) for word in words)
            typed = expand_resume([*words, *(["seed=0,1"] if multirun else [])], multirun=False)
            read_request(asked, typed, multirun=multirun, check=check_run)


def test_a_line_that_does_not_compose_is_seen(composer):
    with pytest.raises(RequestError):
        read_request(composer, ["optimizer=adam", "optimizer.momentum=0.9"], multirun=False, check=check_run)


@pytest.mark.parametrize("group", options())
def test_every_option_that_is_named_exists(composer, group):
    assert set(options()[group]) <= set(composer.options(group))
    words = [word for several in options()[group].values() for word in several.split()]
    assert sorted(words) == sorted(set(words))
    assert not set(words) & set(composer.options(group))


def test_the_flags_of_the_other_commands(capsys, tmp_path):
    from runner.commands import infer

    assert plan.main(["--epochs", "3"]) == 2
    assert capsys.readouterr().err == "error: --epochs: got 3, expected trainer.epochs=3\n"
    assert infer.main([f"run={tmp_path}", "--precision_type", "bf16"]) == 2
    assert capsys.readouterr().err == "error: --precision_type: got bf16, expected dtype=bf16\n"
    assert infer.main(["checkpoint_dir=runs/1"]) == 2
    assert "did you mean run?" in capsys.readouterr().err


def test_the_words_of_inference_lead_to_its_keys():
    keys = set(InferenceRequest.__dataclass_fields__)
    assert set(_ELSEWHERE) <= keys
    words = [word for several in _ELSEWHERE.values() for word in several.split()]
    assert sorted(words) == sorted(set(words))
    assert not set(words) & keys


def test_the_page_of_data_says_why_there_are_no_workers():
    assert "there is nothing like `num_workers` to set" in (ROOT / "docs" / "data.md").read_text()
