"""Everything that a run leaves and that depends on neither clock nor memory, as one flat mapping to be compared."""

import hashlib
import json

import torch

from runner.records.metrics import read_metrics
from runner.training.checkpointing.checkpoint import load_checkpoint

_OF_THE_MACHINE = {"samples_per_second", "seconds", "timed_examples", "run_seconds", "peak_bytes"}
_MEASURED = ("metrics", "privacy", "steps", "epochs", "skipped_steps", "zeroed_examples", "status")


def final_state(run_dir):
    """Path -> value or digest, of both checkpoints, the records, ``run.json`` and the names of all files."""
    found = {}
    for name in ("last", "best"):
        checkpoint = load_checkpoint(run_dir / "checkpoints" / name)
        _flatten(found, f"{name}.step", checkpoint.step)
        _flatten(found, f"{name}.weights", checkpoint.weights)
        # each run has an entry of its own in the ledger
        state = {key: value for key, value in checkpoint.state.items() if key != "ledger_entry"}
        _flatten(found, f"{name}.state", state)
    _flatten(found, "records", read_metrics(run_dir / "metrics.jsonl"))
    run = json.loads((run_dir / "run.json").read_text())
    _flatten(found, "run", {key: run[key] for key in _MEASURED})
    names = sorted(str(path.relative_to(run_dir)) for path in run_dir.rglob("*") if "failures.log" not in path.name)
    _flatten(found, "files", names)
    return found


def differences(ours, theirs):
    """Paths at which two states differ."""
    return sorted(path for path in ours | theirs if ours.get(path, "absent") != theirs.get(path, "absent"))


def _flatten(found, path, value):
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in _OF_THE_MACHINE:
                _flatten(found, f"{path}.{key}", inner)
        found[f"{path} keys"] = str(sorted(str(key) for key in value if key not in _OF_THE_MACHINE))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            _flatten(found, f"{path}.{number}", inner)
        found[f"{path} length"] = len(value)
    elif isinstance(value, torch.Tensor):
        content = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        found[path] = (str(value.dtype), tuple(value.shape), hashlib.sha256(content).hexdigest())
    else:
        found[path] = repr(value)
