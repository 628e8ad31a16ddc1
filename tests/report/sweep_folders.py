"""Folders of sweeps with figures of one's choice, written as the runner writes them."""

import csv
import json

import numpy as np
import yaml

from runner.records.predictions import Predictions, write_predictions
from runner.records.run_file import Energy, FinalMetrics, Memory, PrivacySpent, RunRecord, Throughput, write_run
from runner.report import contents, plot_sections, privacy_section, search_section

ENVIRONMENT = {
    "python": "3.11.7",
    "platform": "Linux 6.1 x86_64",
    "cpu": "A <fast> CPU",
    "cores": 2,
    "threads": 2,
    "ram_bytes": 8 * 2**30,
    "gpus": [],
    "packages": {"torch": "2.15.0"},
    "runner": "0.1.0",
    "git": {"commit": "0123456789abcdef", "dirty": True},
    "variables": {"OMP_NUM_THREADS": "2"},
}


def draw_nothing(monkeypatch):
    """Leave the pictures, which take most of its time, out of a report."""
    for module in (contents, plot_sections, privacy_section, search_section):
        monkeypatch.setattr(module, "drawn", lambda *_: [])


def write_sweep(folder, cells, *, comparison=None, typed=("precision=fp32,fp16", "seed=0,1")):
    """Write a sweep of ``cells``: (overrides, accuracy or a status that is not completed, and figures by name)."""
    for number, (overrides, outcome, *figures) in enumerate(cells):
        write_cell(folder / str(number), overrides, outcome, comparison=comparison, **(figures[0] if figures else {}))
    hydra = {"overrides": {"hydra": ["hydra.mode=MULTIRUN", "hydra.sweep.dir=x"], "task": list(typed)}, "sweeper": {}}
    (folder / "multirun.yaml").write_text(yaml.safe_dump({"hydra": hydra}))
    return folder


def write_cell(
    cell,
    overrides,
    outcome,
    *,
    comparison=None,
    seconds=10.0,
    rate=1000.0,
    mib=500,
    joules=None,
    epsilon=None,
    steps=100,
    examples=640,
    error=None,
    identity=None,
    fingerprint="d",
    curve=(2.0, 1.0, 0.5),
    config=None,
    step_time=None,
    most_predicted=None,
    majority=None,
    images=None,
    right=None,
    origin="d",
    chosen=None,
    val=None,
):
    (cell / ".hydra").mkdir(parents=True)
    (cell / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides.split()))
    composed = {"seed": 0, "optimizer": {"lr": 0.1, "name": "sgd"}, "comparison": comparison or {}, **(config or {})}
    (cell / ".hydra" / "config.yaml").write_text(yaml.safe_dump(composed))
    choices = {"precision": "fp32", "trainer": "standard", "hydra/launcher": "basic", **(chosen or {})}
    typed = {"hydra": ["hydra.run.dir=x"], "task": overrides.split()}
    hydra = {"overrides": typed, "runtime": {"choices": choices}}
    (cell / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump({"hydra": hydra}))
    if outcome == "not_started":
        return
    done = not isinstance(outcome, str)
    spent = None
    if epsilon is not None:
        spent = PrivacySpent(epsilon=epsilon, delta=1e-5, noise_multiplier=1.0, max_grad_norm=1.0, sample_rate=0.1,
                             steps=steps, accountant="pld", adjacency="add or remove one")  # fmt: skip
    data = {"fingerprint": fingerprint, "examples": examples}
    semantic = {"steps": steps, "steps_per_epoch": 10, "logical_batch": 64, "seed": 0, "data": data}
    record = RunRecord(
        name="r",
        status="completed" if done else outcome,
        metrics=FinalMetrics(
            val_accuracy=val,
            test_accuracy=outcome,
            test_loss=1 - outcome,
            test_majority=majority,
            test_most_predicted=most_predicted,
        )
        if done
        else FinalMetrics(),
        throughput=Throughput(samples_per_second=rate),
        memory=Memory(peak_bytes=mib * 2**20),
        energy=Energy(joules=joules),
        step_time=step_time,
        privacy=spent,
        steps=steps,
        epochs=10.0,
        seconds=seconds,
        error=error,
        plan={
            "identity": identity or overrides,
            "trainer": "standard",
            "semantic": semantic,
            "performance": {},
            "splits": [] if images is None else [{"name": "test", "examples": images}],
        },
        environment=ENVIRONMENT,
        started="2026-11-23T06:00:00.000+00:00",
    )
    write_run(cell, record)
    if right is not None:
        answers = np.where(right, 0, 1)
        kept = Predictions(labels=np.zeros_like(answers), answers=answers, images=origin)
        write_predictions(cell, record.plan["identity"], {"test": kept})
    lines = []
    for epoch, loss in enumerate(curve, start=1):
        at = {"step": 10 * epoch, "epoch": float(epoch)}
        lines.append({**at, "kind": "train", "loss": loss, "seconds": 0.7 * seconds * epoch / len(curve)})
        lines.append({**at, "kind": "val", "loss": loss, "accuracy": 1 - loss / 4})
    (cell / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_trials(folder, values, *, states=None, columns=("value",), directions=("maximize",), objectives=None):
    results = {"directions": list(directions)} | ({"objectives": list(objectives)} if objectives else {})
    (folder / "optimization_results.yaml").write_text(yaml.safe_dump(results))
    with (folder / "trials.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["number", "state", *columns, "params_optimizer.lr", "params_optimizer", "user_attrs_folder"])
        for number, value in enumerate(values):
            state = (states or {}).get(number, "COMPLETE")
            found = value if state == "COMPLETE" else [""] * len(columns)
            writer.writerow([number, state, *found, rate_of(number), ("sgd", "adam")[number % 2], number])


def rate_of(number):
    return 10 ** (-4 + number / 10)


def write_search(folder, values, **trials):
    cells = [
        (f"optimizer.lr={rate_of(n)} optimizer={('sgd', 'adam')[n % 2]} trainer.epochs=3", 0.123 + n / 1000)
        for n in range(len(values))
    ]
    write_sweep(folder, cells)
    write_trials(folder, [[value] for value in values], objectives=("val_accuracy",), **trials)
