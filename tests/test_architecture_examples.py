"""The examples of docs/architecture.md are done as written: each block goes to the file that its first line names."""

import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.conftest import ROOT

BLOCKS = re.findall(r"```(?:yaml|python)\n# (\S+)\n(.*?)```", (ROOT / "docs" / "architecture.md").read_text(), re.S)
OPTIONS = [name for name, _ in BLOCKS if name.startswith("conf/")]
# what goes into files of the runner
ADDED = dict(block for block in BLOCKS if block[0].startswith("runner/"))


def added(tmp_path, file):
    """The example that is to be added to ``file``, as a module of its own."""
    path = tmp_path / f"added_{Path(file).name}"
    path.write_text(ADDED[file])
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "choices",
    [
        {"optimizer": "adagrad", "model": "pooled_linear", "scheduler": "square_root", "data": "blobs",
         "trainer": "careful", "tracker": "lines"},
        {"model": "shufflenet", "data": "synthetic"},
    ],
    ids=lambda choices: choices["model"],
)  # fmt: skip
def test_added_parts_run(tmp_path, choices):
    for path, content in BLOCKS:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    (tmp_path / "runner").rename(tmp_path / "not_to_be_imported")
    command = [sys.executable, "-m", "runner", "--config-dir", "conf", "tracker=none",
               *(f"{group}={option}" for group, option in choices.items()), "hydra.run.dir=out", "data.limit=32",
               "trainer.steps=3", "data.batch_size=8"]  # fmt: skip
    command = [word for word in command if word != "tracker=none" or "tracker" not in choices]
    if choices["model"] == "shufflenet":
        command += ["data.image_size=32"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}", "RECIPE_RUNNER_TARGETS": "my_parts"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    plan = json.loads((tmp_path / "out" / "run.json").read_text())["plan"]
    names = {group: plan["semantic"][group]["name"] for group in ("optimizer", "model", "scheduler", "data")}
    names |= {"trainer": plan["trainer"], "model": names["model"].replace("shufflenet_v2_x0_5", "shufflenet")}
    if "tracker" in choices:
        lines = (tmp_path / "out" / "lines.txt").read_text().splitlines()
        names["tracker"] = "lines" if lines[-1].startswith("test 3 ") else lines
    assert {group: names[group] for group in choices} == choices


def test_every_kind_of_example_is_there():
    assert {name.split("/")[1] for name in OPTIONS} == {"optimizer", "model", "scheduler", "data", "trainer", "tracker"}
    assert {Path(file).stem for file in ADDED} == {"precision", "accountants", "layer_rules", "words"}


def test_an_added_precision_makes_updates(tmp_path):
    precision = added(tmp_path, "runner/training/precision/precision.py").CountedForward(torch.device("cpu"))
    layer = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    before = layer.bias.item()
    with precision.forward():
        layer(torch.ones(2, 3)).mean().backward()
    precision.step(optimizer, list(layer.parameters()), 0)
    assert precision.calls == 1
    assert layer.bias.item() == pytest.approx(before - 1.0)


def test_an_added_accountant_is_an_upper_bound(tmp_path):
    from runner.privacy.accounting.accountants import curve

    added_bound = added(tmp_path, "runner/privacy/accounting/accountants.py")._zcdp(2.0, 1e-5)
    for steps in (1, 30, 1000):
        assert added_bound(steps) > curve("rdp", 1.0, 2.0, 1e-5, steps, coarse=False)(steps)


def test_an_added_layer_rule_gives_the_gradients_of_the_layer_alone(tmp_path, monkeypatch):
    from runner.privacy.example_gradients import layer_rules
    from runner.privacy.example_gradients.grad_sample import per_example_gradients

    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.PReLU(), nn.Linear(5, 3))
    images, labels = torch.randn(4, 3, 2, 2), torch.tensor([0, 1, 2, 1])
    rule = added(tmp_path, "runner/privacy/example_gradients/layer_rules.py")._prelu

    def losses(logits, labels):
        return nn.functional.cross_entropy(logits, labels, reduction="none")

    def weight_norms(way):
        gradients = per_example_gradients(way, model, loss=losses, forward=contextlib.nullcontext)
        return gradients(images, labels).gradients[2].norms()

    alone = weight_norms("functional")
    monkeypatch.setitem(layer_rules._RULES, nn.PReLU, rule)
    torch.testing.assert_close(weight_norms("ghost"), alone)
    wrong = lambda layer, inputs, outputs, copies: rule(layer, inputs.abs(), outputs, copies)  # noqa: E731
    monkeypatch.setitem(layer_rules._RULES, nn.PReLU, wrong)
    assert not torch.allclose(weight_norms("ghost"), alone)


def test_an_added_command_answers(tmp_path, capsys):
    command = added(tmp_path, "runner/commands/words.py")
    assert command.main([]) == 0
    assert "infer: predict inference" in capsys.readouterr().out
    assert command.main(["--wrong"]) == 2
