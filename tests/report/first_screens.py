"""Sweeps as people make them, with the figures of real ones, whose reports are asked questions."""

import json

import numpy as np

from tests.report.sweep_folders import write_sweep, write_trials

IMAGES = 359
_SHIPPED = {"data": "digits", "model": "small_cnn"}


def _answers(rng, share):
    """Whether each image is answered rightly: the same hard ones wrong in most runs."""
    right = np.arange(IMAGES) >= round((1 - share) * IMAGES)
    flipped = rng.integers(0, IMAGES // 6, 4)
    right[flipped] = ~right[flipped]
    return right


def precision_sweep(folder):
    """``sweep=precision``: two types on five seeds, one of them twice as fast, on 359 images."""
    rng = np.random.default_rng(1)
    cells = []
    for precision, seconds, mib in (("fp32", 10.4, 512), ("bf16", 4.7, 425)):
        for seed in range(5):
            right = _answers(rng, 0.97)
            figures = {"seconds": seconds + 0.1 * seed, "mib": mib, "images": IMAGES, "right": right,
                       "chosen": _SHIPPED, "identity": f"{precision}{seed}"}  # fmt: skip
            cells.append((f"precision={precision} seed={seed}", float(right.mean()), figures))
    return write_sweep(folder, cells, typed=("sweep=precision", "seed=0,1,2,3,4"))


def privacy_sweep(folder):
    """``sweep=privacy_cost``: two budgets and no privacy, on five seeds."""
    rng = np.random.default_rng(2)
    cells = []
    for budget, share, seconds in (("null", 0.97, 6.0), ("3", 0.955, 14.0), ("8", 0.965, 14.1)):
        for seed in range(5):
            right = _answers(rng, share)
            spent = None if budget == "null" else float(budget)
            figures = {"seconds": seconds, "images": IMAGES, "right": right, "epsilon": spent, "chosen": _SHIPPED,
                       "identity": f"{budget}{seed}"}  # fmt: skip
            cells.append((f"privacy.epsilon={budget} seed={seed}", float(right.mean()), figures))
    together = {"epsilon": 21.4, "delta": 1e-5, "accountant": "prv"}
    told = [{"cell": str(number), "private": True, "epsilon": figures["epsilon"]}
            for number, (_, _, figures) in enumerate(cells) if figures["epsilon"]]  # fmt: skip
    data = {"data": "digits", "cells": told, "publish_all": together, "note": None, "evaluations_without_noise": 0,
            "cells_not_private": 0, "publish_best": {**together, "by": "composition"}, "void": []}  # fmt: skip
    found = {"sweep": "s", "cells_without_privacy": 5, "publishable": None, "data": [data]}
    write_sweep(
        folder,
        cells,
        comparison={"decision": "epsilon", "reference": "null"},
        typed=("sweep=privacy_cost", "seed=0,1,2,3,4"),
    )
    (folder / "privacy.json").write_text(json.dumps(found))
    return folder


def search_sweep(folder):
    """A search of 24 trials for a learning rate and an optimizer."""
    rng = np.random.default_rng(3)
    values = [0.90 + 0.06 * rng.random() for _ in range(24)]
    cells = [
        (f"optimizer.lr={10 ** (-4 + n / 10)} optimizer={('sgd', 'adam')[n % 2]}", value - 0.01,
         {"chosen": _SHIPPED, "images": IMAGES, "seconds": 7.0})
        for n, value in enumerate(values)
    ]  # fmt: skip
    write_sweep(folder, cells, typed=("sweep=optuna", "model=small_cnn"))
    write_trials(folder, [[value] for value in values], objectives=("val_accuracy",))
    return folder
