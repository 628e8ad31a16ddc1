"""Evaluation and prediction with real runs: the run's own figures again, every file once, nothing replaced."""

import csv
import dataclasses
import json
import logging
import shutil

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from runner.commands import infer
from runner.config.schema import HardwareConfig
from runner.data.decoding.decode import FORMATS
from runner.errors import RequestError
from runner.inference import evaluation, measure
from runner.inference.finished_run import open_run
from runner.inference.image_sources import open_folder
from runner.planning.device import detect_device
from runner.privacy.ledger.ledger import find_ledgers


def predictions(folder):
    with (folder / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def test_standard_inference_measures_what_the_run_measured(digits_run, ask):
    run = json.loads((digits_run / "run.json").read_text())["metrics"]
    found, folder = ask(digits_run, draw=True)
    assert found["metrics"]["accuracy"] == run["test_accuracy"] == found["run_test_accuracy"]
    assert found["metrics"]["loss"] == run["test_loss"]
    val, _ = ask(digits_run, "split=val")
    assert (val["metrics"]["accuracy"], val["metrics"]["loss"]) == (run["val_accuracy"], run["val_loss"])
    rows = predictions(folder)
    assert [row["file"] for row in rows] == [f"test/{position}" for position in range(359)]
    right = sum(row["class"] == row["label"] for row in rows)
    assert right / 359 == run["test_accuracy"]
    assert sum(map(sum, found["metrics"]["confusion"])) == 359
    assert (folder / "confusion.png").read_bytes().startswith(b"\x89PNG")
    speed = found["speed"]
    assert 0 < speed["images_per_second_p25"] <= speed["images_per_second"] <= speed["images_per_second_p75"]
    assert found["threads"] == 1
    assert found["privacy"] is None


def test_several_processes_give_exactly_what_one_gives(digits_run, ask):
    """359 images in batches of 60: six batches, the last one short, dealt to two processes."""
    one, alone = ask(digits_run, "batch_size=60", "threads=1")
    two, shared = ask(digits_run, "batch_size=60", "threads=1", "inference=accelerate")
    assert two["processes"] == 2
    assert two["metrics"] == one["metrics"]
    assert (shared / "predictions.csv").read_text() == (alone / "predictions.csv").read_text()


def test_more_processes_than_cores_are_refused_and_two_go_everywhere(digits_run, tmp_path, monkeypatch, capsys):
    cpu = detect_device(HardwareConfig(device="cpu"))
    for cores, most in ((1, 2), (2, 2), (64, 64)):
        monkeypatch.setattr(evaluation, "available_cores", lambda cores=cores: cores)
        assert evaluation.most_processes(cpu) == most
    assert evaluation.most_processes(dataclasses.replace(cpu, kind="cuda", count=4)) == 4
    words = [f"run={digits_run}", f"output={tmp_path / 'out'}", "device=cpu", "inference=accelerate", "processes=65"]
    assert infer.main(words) == 2
    message = "error: processes: got 65, expected at most 64, one for each core of the CPU\n"
    assert capsys.readouterr().err == message
    assert list(tmp_path.iterdir()) == []


def test_sixteen_bits_change_next_to_nothing(digits_run, ask):
    whole, _ = ask(digits_run)
    for dtype in ("bfloat16", "float16"):
        half, _ = ask(digits_run, "inference=mixed_precision", f"dtype={dtype}")
        assert half["dtype"] == dtype
        assert abs(half["metrics"]["accuracy"] - whole["metrics"]["accuracy"]) <= 1 / 359
        assert 0 < abs(half["metrics"]["loss"] - whole["metrics"]["loss"]) < 0.01


def test_a_cache_that_cannot_be_written_is_told_without_keys_that_inference_has_not(
    digits_run, digit_files, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    run = open_run(digits_run)
    (note,) = open_folder(run, digit_files).notes
    assert "recipe-runner is not written (Not a directory)" in note
    run.config.data.cache = "disk"
    with pytest.raises(RequestError) as caught:
        open_folder(run, digit_files)
    assert caught.value.key == "run"
    assert "XDG_CACHE_HOME" in caught.value.expected
    assert "data.cache=" not in str(caught.value)


def test_files_in_class_folders_score_as_the_split_that_they_hold(digits_run, digit_files, ask):
    split, _ = ask(digits_run)
    files, folder = ask(digits_run, f"images={digit_files}")
    same = ("accuracy", "classes", "confusion")
    assert [files["metrics"][key] for key in same] == [split["metrics"][key] for key in same]
    listed = sorted(str(path.relative_to(digit_files)) for path in digit_files.rglob("*.png"))
    assert sorted(row["file"] for row in predictions(folder)) == listed


def test_a_folder_without_classes_is_predicted_and_bad_files_are_counted(digits_run, digit_files, tmp_path, ask):
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, path in enumerate(sorted(digit_files.rglob("*.png"))[:5]):
        shutil.copy(path, flat / f"{number}.png")
    (flat / "broken.png").write_bytes(b"\x89PNG, but no more")
    (flat / "notes.txt").write_text("no image")
    # another size, colour, transparency: brought to what the model knows
    Image.fromarray(np.full((20, 30, 4), 99, dtype=np.uint8)).save(flat / "large.png")
    found, folder = ask(digits_run, f"images={flat}")
    assert found["metrics"] is None
    broken = {"file": "broken.png", "reason": f"none of the formats {', '.join(FORMATS)}"}
    assert found["skipped"] == [broken]
    assert found["notes"] == [f"1 unreadable file was skipped: broken.png ({broken['reason']})"]
    rows = predictions(folder)
    assert [row["file"] for row in rows] == [*(f"{number}.png" for number in range(5)), "large.png"]
    assert list(rows[0]) == ["file", "class", "probability"]
    assert not (folder / "confusion.png").exists()
    (flat / "empty.png").write_bytes(b"")
    (flat / "pipe.png").symlink_to(tmp_path / "nowhere")
    for _ in range(2):  # decoded, and out of the cache
        again, _ = ask(digits_run, f"images={flat}")
        assert again["skipped"] == [
            {"file": "pipe.png", "reason": "the link leads nowhere"}, broken,
            {"file": "empty.png", "reason": "the file is empty"},
        ]  # fmt: skip
        assert again["notes"][0].startswith("3 unreadable files were skipped, each named in inference.json under")
    # one class folder among others: predictions only, and the user is told
    (flat / "3").mkdir()
    shutil.copy(flat / "0.png", flat / "3")
    (flat / "thre").mkdir()
    shutil.copy(flat / "0.png", flat / "thre")
    found, _ = ask(digits_run, f"images={flat}")
    assert found["metrics"] is None
    told = "predictions only, no metrics: the folder thre (1 image) is no class of the run"
    assert found["notes"][0].startswith(told)


def test_weights_of_a_run_that_did_not_finish_are_told(digits_run, digit_files, tmp_path, ask):
    shutil.copytree(digits_run, tmp_path / "cut", symlinks=True)
    record = json.loads((tmp_path / "cut" / "run.json").read_text())
    (tmp_path / "cut" / "run.json").write_text(json.dumps(record | {"status": "interrupted"}))
    (note,) = ask(tmp_path / "cut", f"images={digit_files}")[0]["notes"]
    steps = record["plan"]["semantic"]["steps"]
    assert note == f"the run has not finished (interrupted): these are its weights after {steps} of {steps} updates"
    assert open_run(digits_run).unfinished is None


def test_a_folder_of_nothing_to_read(digits_run, tmp_path, ask):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(RequestError, match="no images"):
        ask(digits_run, f"images={empty}")
    (empty / "a.png").write_bytes(b"nothing")
    with pytest.raises(RequestError, match="none of 1 files can be read"):
        ask(digits_run, f"images={empty}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "empty"]


def test_results_are_not_replaced_unless_asked(digits_run, tmp_path, capsys):
    words = [f"run={digits_run}", f"output={tmp_path / 'out'}"]
    assert infer.main(words) == 0
    assert "accuracy" in capsys.readouterr().out
    before = (tmp_path / "out" / "inference.json").read_text()
    assert infer.main(words) == 2
    assert "(there already), expected output=FOLDER, or overwrite=true" in capsys.readouterr().err
    assert (tmp_path / "out" / "inference.json").read_text() == before
    assert infer.main([*words, "overwrite=true"]) == 0
    assert (tmp_path / "out" / "inference.json").read_text() != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"], "no temporary folder is left"


def test_data_that_have_moved_are_evaluated_and_those_that_have_changed_are_not(finished, tmp_path, ask, caplog):
    from tests.data.image_files import class_folders, noise, put

    root = class_folders(tmp_path / "photos", per_class=12, size=(8, 8))
    run = finished(
        "data=image_folder", f"data.root={root}", f"data.cache_dir={tmp_path}/cache", "data.image_size=8",
        "model=linear", "trainer.steps=1", "data.batch_size=8",
    )  # fmt: skip
    found, _ = ask(run)
    assert found["metrics"]["accuracy"] == found["run_test_accuracy"]
    moved = root.rename(tmp_path / "moved")
    with pytest.raises(
        RequestError, match=r"its data\.root is .*\), expected data_root=FOLDER with the images of the run"
    ):
        ask(run)
    again, _ = ask(run, f"data_root={moved}")
    assert again["metrics"] == found["metrics"]
    caplog.set_level(logging.INFO, "runner")
    caplog.clear()

    def refused():
        with pytest.raises(RequestError) as caught:
            ask(run, f"data_root={moved}")
        got = str(caught.value)
        assert got.startswith(f"run: got {run} (the data, {moved}, have changed since: ")
        return got[got.index("since: ") + 7 : got.index("), expected data as they were")]

    put(moved / "cat" / "000.png", noise((8, 8), seed=99))
    assert refused() == "the same classes and as many training images with other files or contents"
    for path in sorted((moved / "cat").iterdir())[:4]:
        path.unlink()
    assert refused() == "17 training images then and 14 now"
    put(moved / "bird" / "000.png", noise((8, 8)))
    assert refused() == "new class: bird"
    shutil.rmtree(moved / "dog")
    assert refused() == "new class: bird; missing class: dog"
    assert "decoding" not in caplog.text


def test_constants_that_are_not_the_runs_are_refused(digits_run, tmp_path, ask):
    copy = shutil.copytree(digits_run, tmp_path / "copy", symlinks=True)
    config = copy / ".hydra" / "config.yaml"
    composed = OmegaConf.load(config)
    composed.data.mean = [0.9]
    OmegaConf.save(composed, config)
    with pytest.raises(RequestError, match=r"its configuration has data\.mean \(0\.9,\), its run\.json \(0\.\d+,\)"):
        ask(copy)


def test_another_accuracy_than_the_runs_is_told(digits_run, tmp_path, ask):
    copy = shutil.copytree(digits_run, tmp_path / "copy", symlinks=True)
    record = json.loads((copy / "run.json").read_text())
    record["metrics"]["test_accuracy"] = 0.5
    (copy / "run.json").write_text(json.dumps(record))
    found, _ = ask(copy)
    assert found["notes"][0].startswith("the run itself had an accuracy of 50.0000% here")
    for words in (["checkpoint=last"], ["split=val"]):
        found, _ = ask(copy, *words)
        assert (found["run_test_accuracy"], found["notes"]) == (None, [])


def test_data_from_no_folder_cannot_have_moved(digits_run, ask, tmp_path):
    with pytest.raises(RequestError, match=r"expected nothing: the data of this run \(digits\) come from no folder"):
        ask(digits_run, f"data_root={tmp_path}")


class TestPrivacy:
    def test_reports_and_predictions_carry_the_guarantee(self, private_run, ask):
        spent = json.loads((private_run / "run.json").read_text())["privacy"]
        found, folder = ask(private_run)
        assert (found["privacy"]["epsilon"], found["privacy"]["delta"]) == (spent["epsilon"], spent["delta"])
        assert "does not cover figures" in found["notes"][0]
        row = predictions(folder)[0]
        assert (float(row["epsilon"]), float(row["delta"])) == (spent["epsilon"], spent["delta"])

    def test_private_validation_data_are_used_on_the_record(self, private_run, ask, tmp_path):
        (ledger,) = find_ledgers(_ledger_of(private_run))
        (before,) = ledger.entries()
        ask(private_run)
        assert ledger.entries()[0].uses == before.uses, "the test split is not in the ledger"
        ask(private_run, "split=val")
        (after,) = ledger.entries()
        assert after.uses == before.uses + 1
        assert (after.steps, after.status) == (before.steps, "completed")
        ledger.verify()
        with pytest.raises(RequestError, match=r"ledger_dir: got .*it has no ledger of the data"):
            ask(private_run, "split=val", f"ledger_dir={tmp_path / 'elsewhere'}")
        assert ledger.entries()[0].uses == after.uses

    def test_a_known_seed_is_called_not_private(self, finished, tmp_path, ask):
        run = finished(
            "trainer=dp", "model=linear", "trainer.steps=1", "privacy.noise_multiplier=1",
            "privacy.unsafe_noise_seed=1", "privacy.grad_sample=functional", f"privacy.ledger_dir={tmp_path}/ledger",
        )  # fmt: skip
        found, folder = ask(run)
        assert found["privacy"]["epsilon"] is None
        assert predictions(folder)[0]["epsilon"] == "inf"


def _ledger_of(run):
    from pathlib import Path

    from runner.inference.finished_run import open_run

    return Path(open_run(run).config.privacy.ledger_dir)


@pytest.mark.parametrize(("enough", "patience", "passes"), [(0.0, 60.0, 3), (60.0, 60.0, 20), (0.0, 1e-9, 1)])
def test_how_many_passes_are_timed(digits_run, ask, monkeypatch, enough, patience, passes):
    monkeypatch.setattr(measure, "ENOUGH_SECONDS", enough)
    monkeypatch.setattr(measure, "PATIENCE", patience)
    assert ask(digits_run)[0]["speed"]["passes"] == passes
