"""Exported files answer as the model does, and a file that does not is never left."""

import dataclasses
import errno
import io
import json
import signal
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from runner.commands import export as command
from runner.inference import exporting
from runner.inference.exporting import CHECKED, _compare
from runner.inference.finished_run import open_run
from runner.inference.image_sources import open_own_data, open_split


@pytest.fixture(scope="module")
def pixels(digits_run):
    images = open_split(open_run(digits_run), "test").images
    return images.images[images.rows]


def export(run, form, output):
    return command.main([f"run={run}", f"format={form}", f"output={output}"])


def test_onnx(digits_run, tmp_path, capsys, pixels):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert export(digits_run, "onnx", tmp_path / "out") == 0
    assert "checked on 1,000 real images: the same classes" in capsys.readouterr().out
    _check_record(tmp_path / "out")
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 7):
        (probabilities,) = session.run(None, {"pixels": pixels[:count]})
        np.testing.assert_allclose(probabilities, _wanted(digits_run, pixels[:count]), atol=1e-5)
    assert "privacy_statement.md" not in session.get_modelmeta().custom_metadata_map
    assert not (tmp_path / "out" / "privacy_statement.md").exists()
    assert export(digits_run, "onnx", tmp_path / "out") == 2
    assert "(there already)" in capsys.readouterr().err


def test_torch_export(digits_run, tmp_path, pixels):
    assert export(digits_run, "torch_export", tmp_path / "out") == 0
    _check_record(tmp_path / "out")
    program = torch.export.load(tmp_path / "out" / "model.pt2").module()
    for count in (1, 7):
        found = program(torch.from_numpy(pixels[:count]))
        np.testing.assert_allclose(found.detach(), _wanted(digits_run, pixels[:count]), atol=1e-5)


def stated(run):
    """What the statement of ``run`` says by now: other tests have used its validation images since it was written."""
    return exporting.render(exporting._statement(open_run(run)))


def test_a_private_models_file_says_so_and_holds_no_image(private_run, tmp_path, capsys, pixels):
    assert export(private_run, "torch_export", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "privacy: ε=" in said
    assert f"checked on {len(pixels)} real images" in said, "of a private run the test images alone"
    assert json.loads((tmp_path / "out" / "export.json").read_text())["privacy"]["epsilon"] > 0
    statement = (tmp_path / "out" / "privacy_statement.md").read_text()
    assert statement == stated(private_run)
    extra = {"privacy_statement.md": ""}
    torch.export.load(tmp_path / "out" / "model.pt2", extra_files=extra)
    assert extra["privacy_statement.md"] == statement
    with zipfile.ZipFile(tmp_path / "out" / "model.pt2") as archive:
        (kept,) = [name for name in archive.namelist() if "sample_inputs" in name and name.endswith(".pt")]
        arguments, _ = torch.load(io.BytesIO(archive.read(kept)), weights_only=True)
    (example,) = arguments
    assert example.untyped_storage().nbytes() == example.nbytes, "a view would take its whole storage along"
    assert not example.any()


def test_the_statement_travels_in_an_onnx_file(private_run, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    (out := tmp_path / "out").mkdir()
    (out / "export.json").write_text("{}")  # of an older one
    assert command.main([f"run={private_run}", "format=onnx", f"output={out}", "overwrite=true"]) == 0
    session = onnxruntime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map.get("privacy_statement.md") == stated(private_run)
    assert (out / "privacy_statement.md").exists()


def test_a_private_run_without_test_images_needs_others(private_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(exporting, "open_own_data", lambda run: dataclasses.replace(open_own_data(run), test=None))
    assert export(private_run, "torch_export", tmp_path / "out") == 2
    assert "expected images=FOLDER with others" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_ctrl_c_that_the_exporter_swallows_is_one(digits_run, tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise RuntimeError("next steps:") from error

    monkeypatch.setattr(exporting, "_export_torch", interrupted)
    assert export(digits_run, "torch_export", tmp_path / "out") == 75
    assert capsys.readouterr().err == "interrupted\n"
    assert list(tmp_path.iterdir()) == []


def test_sigterm_is_answered_like_ctrl_c(digits_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(exporting, "_export_torch", lambda *_: signal.raise_signal(signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    assert export(digits_run, "torch_export", tmp_path / "out") == 75
    assert signal.getsignal(signal.SIGTERM) == before
    assert capsys.readouterr().err == "interrupted\n"
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line(digits_run, tmp_path, monkeypatch, capsys):
    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert export(digits_run, "torch_export", tmp_path / "out") == 1
    assert capsys.readouterr().err == "error: model.pt2 cannot be written (No space left on device)\n"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda p: p + 2e-4 * torch.eye(p.shape[1])[0],  # a probability too far off
        lambda p: p.roll(1, 1),  # other classes
        lambda p: p * float("nan"),
    ],
)
def test_other_answers_do_not_pass(digits_run, pixels, wrong):
    from runner.inference.exporting import Exported
    from runner.inference.preprocessing import Normalise

    run = open_run(digits_run)
    data = run.plan.semantic.data
    model = Exported(Normalise(data.mean, data.std, torch.float32), run.build_model(torch.float32))
    images = torch.from_numpy(pixels)
    assert _compare(model, model, images).passed
    assert not _compare(model, lambda part: wrong(model(part)), images).passed


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["format=onnx"], "run: got nothing, expected run=DIR"),
        (["run=x"], "format: got nothing, expected format=onnx|torch_export"),
        (["run=x", "format=onxx"], "did you mean onnx?"),
        (["run=x", "form=onnx"], "did you mean format?"),
        (["run=nowhere", "format=onnx"], "run: got nowhere (no such folder)"),
        (["run=x", "format=onnx", "images=nowhere"], "images: got nowhere (no such folder)"),
        (
            ["run=x", "format=onnx", "checkpoint=../best"],
            "expected best, last, or the name of a folder in checkpoints/",
        ),
        (["run=x", "format="], "format: got nothing, expected a value"),
    ],
)
def test_a_wrong_request_ends_in_one_line(capsys, words, says):
    assert command.main(words) == 2
    message = capsys.readouterr().err
    assert says in message
    assert message.count("\n") == 1


def test_exports_of_other_weights_than_the_best_are_named_by_them():
    given = {"run": "x", "format": "onnx"}
    folders = [command._folder(given | more) for more in ({}, {"checkpoint": "best"}, {"checkpoint": "last"})]
    assert [folder.name for folder in folders] == ["onnx", "onnx", "onnx_last"]


def _check_record(folder):
    record = json.loads((folder / "export.json").read_text())
    assert record["check"]["images"] == CHECKED
    assert record["check"]["other_classes"] == 0
    assert record["check"]["largest_difference"] <= 1e-4
    assert record["classes"] == list("0123456789")
    assert record["input"]["shape"] == ["batch", 8, 8, 1]


def _wanted(run, pixels):
    from runner import load_run

    return load_run(run, device="cpu")(pixels).probabilities
