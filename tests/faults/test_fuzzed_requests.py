"""Requests drawn without thought end with exit code 0 or 2, in one line; the long form is ``make faults``."""

import pytest
from hypothesis import HealthCheck, given, settings

from tests.faults.fuzz import call, judge, prepare, requests


@pytest.fixture(autouse=True)
def _working_folder(tmp_path, monkeypatch):
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)


@settings(max_examples=40, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(requests())
def test_forty_requests(request_and_yaml):
    arguments, yaml = request_and_yaml
    prepare(yaml)
    judge(arguments, yaml, *call(arguments))


def test_a_traceback_would_be_seen():
    with pytest.raises(AssertionError):
        judge([], None, 2, "Traceback (most recent call last):\n")
    with pytest.raises(AssertionError):
        judge([], None, 1, "error: x: got 1, expected 2\n")
    with pytest.raises(AssertionError):
        judge([], None, 2, "error: x\nand more\n")


@pytest.mark.parametrize(
    ("arguments", "yaml"),
    [
        (["-c=all", "--package", "trainer.log_every=range(1,3)"], None),
        (["--config-dir", "extra", "model=fuzzed"], b"_target_: runner.models.dense.mlp\ndefaults: [fuzzed]\n"),
    ],
    ids=["package", "a-file-in-itself"],
)
def test_what_has_been_found(arguments, yaml):
    prepare(yaml)
    code, err = call(arguments)
    judge(arguments, yaml, code, err)
    assert code == 2
