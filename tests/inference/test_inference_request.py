"""What may be asked of a finished run, and the one line that answers anything else."""

import subprocess
import sys

import pytest

from runner.commands import infer
from runner.errors import RequestError
from runner.inference.request import keys, read_request
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["images=x"], "run: got nothing, expected run=DIR"),
        (["run={}", "splitt=val"], "splitt: got val, expected one of run, checkpoint,"),
        (["run={}", "inference=standart"], "did you mean standard?"),
        (["run={}", "split=train"], "split: got train, expected one of test, val"),
        (["run={}", "inference=quantized", "bits=5"], "bits: got 5, expected one of 8, 4"),
        (["run={}", "bits=4"], "bits: got 4 with inference=standard, expected inference=quantized, or no bits"),
        (["run={}", "dtype=float16"], "dtype: got float16 with inference=standard, expected inference=mixed_precision"),
        (["run={}", "batch_size=0"], "batch_size: got 0, expected a number >= 1"),
        (["run={}", "batch_size=many"], "batch_size: got many, expected a whole number"),
        (["run={}", "overwrite=yes"], "overwrite: got yes, expected true or false"),
        (["run={}", "output="], "output: got nothing, expected a value"),
        (["run={}", "images=nowhere"], "images: got nowhere (no such folder), expected a folder that holds images"),
        (["run={}", "data_root=nowhere"], "data_root: got nowhere (no such folder), expected a folder that holds"),
        (["run={}", "images={}", "data_root={}"], "expected nothing besides images, which stand in the data's place"),
        (["run={}", "images={}", "split=val"], "split: got val, expected nothing besides images"),
        (["run={}", "checkpoint=../other"], "checkpoint: got ../other, expected best, last, or the name of a folder"),
        (["run=nowhere"], "run: got nowhere (no such folder), expected the folder of a finished run"),
        (["standard"], "standard: got a bare word, expected key=value"),
        (["--compare", "run={}", "inference=standard"], "inference: got standard, expected nothing besides --compare"),
        (["--checkpoint_path", "{}/checkpoints/best", "run={}"], "expected nothing besides --checkpoint_path"),
        (["--checkpoint_path", "{}/model.pt"], "expected DIR/checkpoints/best, with DIR the folder of a run"),
        (
            ["--check", "run={}"],
            "--check: got an unknown flag, expected [--checkpoint_path DIR/checkpoints/best] [--compare]",
        ),
        (["run={}"], "(no run.json), expected the folder of a run, with its run.json"),
    ],
)
def test_a_wrong_request_ends_in_one_line(tmp_path, capsys, words, says):
    assert infer.main([word.replace("{}", str(tmp_path)) for word in words]) == 2
    message = capsys.readouterr().err
    assert says in message
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_path_is_the_run_and_the_checkpoint(tmp_path):
    asked = read_request([], checkpoint_path=str(tmp_path / "checkpoints" / "last"))
    assert asked == read_request([f"run={tmp_path}", "checkpoint=last"])


def test_results_are_named_by_how_and_on_what(tmp_path):
    def name(*words):
        return read_request([f"run={tmp_path}", *words]).name

    assert name() == "standard_test"
    assert name("inference=quantized", "bits=4", "split=val") == "quantized_int4_val"
    assert name("checkpoint=best") == "standard_test"
    assert name("checkpoint=last", "split=val") == "standard_last_val"
    assert read_request([f"run={tmp_path}", "checkpoint=last"]).compare_folder.name == "compare_last_test"
    for folder in ("photos", "test"):
        (tmp_path / folder).mkdir()
    assert name(f"images={tmp_path}/test") == "standard_images_test"
    assert name("inference=mixed_precision", f"images={tmp_path}/photos") == "mixed_precision_auto_photos"


def test_the_help_explains_every_key():
    text = dict(keys())
    assert [key.partition("=")[0] for key in text] == list(read_request.__globals__["InferenceRequest"].__annotations__)
    assert all(text.values())


def test_wrong_keys_and_help_are_answered_without_torch(tmp_path):
    ask = (
        "import sys; from runner.commands.infer import main\n"
        "try: print('code', main(sys.argv[1:]))\n"
        "finally: print('torch' in sys.modules)"
    )
    for words, code in ((["runn=x"], "code 2"), (["--help"], "usage")):
        ended = subprocess.run(
            [sys.executable, "-c", ask, *words], cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""},
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert code in ended.stdout
        assert ended.stdout.splitlines()[-1] == "False"


def test_a_package_that_offers_the_predictor_imports_no_torch():
    ask = "import sys, runner; assert 'load_run' in runner.__all__; print('torch' in sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stdout.strip() == "False"
    import runner

    with pytest.raises(AttributeError, match="load_model"):
        runner.load_model  # noqa: B018
    assert isinstance(RequestError("a", 1, "b"), ValueError)
