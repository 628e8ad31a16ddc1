import json
import os
import random
import stat

import pytest
import torch

from runner.errors import RunError
from runner.training.checkpointing.checkpoint import DamagedCheckpoint, load_checkpoint, save_checkpoint, seal


def save(folder, step, *, best=0, **state):
    return save_checkpoint(
        folder,
        step=step,
        best=best,
        identity="abc",
        recipe={"seed": 0},
        weights={"w": torch.arange(6.0).reshape(2, 3) + step},
        state={"step": step, "optimizer": {"state": {0: {"m": torch.ones(3)}}}, "secret_key": b"k" * 32, **state},
    )


def rewrite_manifest(path, **changes):
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["digest"]
    (path / "manifest.json").write_bytes(seal(manifest | changes))


def test_what_was_saved_is_loaded(tmp_path):
    save(tmp_path, 7, best=7)
    for name in ("last", "best", "step_00000007"):
        checkpoint = load_checkpoint(tmp_path / name)
        assert (checkpoint.step, checkpoint.identity) == (7, "abc")
        assert torch.equal(checkpoint.weights["w"], torch.arange(6.0).reshape(2, 3) + 7)
        assert checkpoint.state["secret_key"] == b"k" * 32
        assert torch.equal(checkpoint.state["optimizer"]["state"][0]["m"], torch.ones(3))


def test_the_last_two_and_the_best_are_kept(tmp_path):
    for step in range(1, 8):
        save(tmp_path, step, best=3 if step >= 3 else 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best", "last", "step_00000003", "step_00000006", "step_00000007",
    ]  # fmt: skip
    assert load_checkpoint(tmp_path / "best").step == 3
    assert load_checkpoint(tmp_path / "last").step == 7


def test_only_the_owner_can_read_it_because_it_may_hold_the_key_of_the_noise(tmp_path):
    path = save(tmp_path, 1)
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {0o600}
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_hundred_flipped_bits_are_found_before_use(tmp_path):
    path = save(tmp_path, 1)
    draw = random.Random(0)
    for _ in range(100):
        file = path / draw.choice(["model.safetensors", "state.pt", "manifest.json"])
        content = bytearray(file.read_bytes())
        place = draw.randrange(len(content))
        content[place] ^= 1 << draw.randrange(8)
        original = file.read_bytes()
        file.write_bytes(content)
        with pytest.raises(DamagedCheckpoint, match="is damaged"):
            load_checkpoint(path)
        file.write_bytes(original)
    assert load_checkpoint(path).step == 1


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors", "state.pt"])
def test_a_missing_file_is_one_clear_error(tmp_path, name):
    path = save(tmp_path, 1)
    (path / name).unlink()
    with pytest.raises(RunError, match="cannot be read"):
        load_checkpoint(path)


def test_another_format_is_refused(tmp_path):
    path = save(tmp_path, 1)
    rewrite_manifest(path, format=99)
    with pytest.raises(RunError, match="format 99"):
        load_checkpoint(path)


class Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def test_a_pickle_that_would_run_code_runs_none(tmp_path):
    import hashlib

    path = save(tmp_path, 1)
    witness = tmp_path / "executed"
    torch.save({"optimizer": Malicious(witness)}, path / "state.pt")
    digests = json.loads((path / "manifest.json").read_text())["sha256"]
    rewrite_manifest(path, sha256=digests | {"state.pt": hashlib.sha256((path / "state.pt").read_bytes()).hexdigest()})
    with pytest.raises(RunError, match="other than tensors"):
        load_checkpoint(path)
    assert not witness.exists()
    # the control: the same file does run code when it is loaded without care
    torch.load(path / "state.pt", weights_only=False)
    assert witness.exists()
