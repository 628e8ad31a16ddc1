"""Thirty networks, BatchNorm exchanged for GroupNorm: against an exchange by hand, and one private step each.

Run by hand (an hour on a core): ``python -m tests.models.norm_exchange_campaign [--results FILE] [NAME ...]``.  Outputs
are compared in float64, in training and in evaluation mode, with the same random draws; the step is that of
``trainer=dp`` on synthetic images, through the command line.
"""

import argparse
import contextlib
import io
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from runner.commands.train import main
from runner.config.schema import ModelConfig
from runner.errors import RequestError
from runner.models.build import build_network
from tests.models.hand_made import hand_made

TIMM = {
    **dict.fromkeys(("densenet121", "resnet18", "resnet10t", "skresnet18", "dla46_c"), 32),
    **dict.fromkeys(
        ("efficientnet_lite0", "mobilenetv2_035", "mobilenetv3_small_050", "mnasnet_small", "lcnet_035"), 32
    ),
    **dict.fromkeys(("regnety_002", "ghostnet_050", "repvgg_a0", "mobileone_s0", "ese_vovnet19b_dw"), 32),
    **dict.fromkeys(("repvit_m0_9", "fastvit_t8", "selecsls42b"), 64),
    **dict.fromkeys(("levit_128s", "efficientvit_m0"), 224),
}
TORCHVISION = {
    **dict.fromkeys(("resnet18", "densenet121", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0"), 32),
    **dict.fromkeys(("shufflenet_v2_x0_5", "mnasnet0_5", "regnet_x_400mf", "regnet_y_400mf"), 32),
    "googlenet": 64,
}
WITHOUT_BATCH_NORM = {
    "timm": {
        **dict.fromkeys(("convnext_atto", "edgenext_xx_small", "test_nfnet"), 32),
        "test_vit": 160,
        **dict.fromkeys(("vit_tiny_patch16_224", "mixer_s32_224"), 224),
    },
    "torchvision": {"convnext_tiny": 32, "squeezenet1_1": 64},
}
OPTIONS = {"googlenet": {"aux_logits": False, "init_weights": False}}


def differences(library, name, size):
    """Layers exchanged, and the largest difference from the exchange by hand over the largest output."""
    config = ModelConfig(target=f"runner.models.from_{library}.build", name=name, options=OPTIONS.get(name, {}))

    def build(norm):
        torch.manual_seed(0)
        return build_network(config, channels=3, num_classes=10, image_size=size, norm=norm)

    expected, count = hand_made(build("batch"))
    found = build("group")
    left = sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in found.modules())
    assert not left, f"{left} of BatchNorm are left"
    images = torch.randn(2, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    worst = 0.0
    for training in (True, False):
        outputs = []
        for model in (expected, found):
            torch.manual_seed(2)
            with torch.no_grad():
                outputs.append(model.double().train(training)(images))
        worst = max(worst, ((outputs[0] - outputs[1]).abs().max() / outputs[0].abs().max()).item())
    return count, worst


def private_step(library, name, size, precision="fp32"):
    """What became of one private step: the way to its gradients, or the line that refuses it."""
    options = [f"+model.{key}={value}" for key, value in OPTIONS.get(name, {}).items()]
    line = ""
    for way in ("ghost", "functional"):
        said = io.StringIO()
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(said),
        ):
            code = main(
                [
                    *("trainer=dp", f"model={library}", f"model.name={name}", "data=synthetic", "data.num_train=24"),
                    *("data.num_val=4", "data.num_test=4", f"data.image_size={size}", "data.batch_size=4"),
                    *("trainer.steps=1", "trainer.epochs=null", f"privacy.grad_sample={way}", *options),
                    f"precision={precision}",
                    *("privacy.epsilon=null", "privacy.noise_multiplier=1.0", f"hydra.run.dir={folder}/run"),
                ]
            )
        if code == 0:
            return f"one step by {way}"
        lines = [each.removeprefix("error: ") for each in said.getvalue().splitlines() if each.strip()]
        line = next((each for each in lines if each.startswith(("privacy.", "model."))), lines[-1] if lines else "")
        if not line.startswith("privacy.grad_sample"):
            break
    return f"refused: {line}"


def row(library, name, size):
    """One line of the table, and whether it holds."""
    try:
        count, worst = differences(library, name, size)
        exchanged, holds = f"{count} | {worst:.1e}", worst < 1e-6
    except RequestError as error:
        exchanged, holds = f"refused | {error}", True
    step = private_step(library, name, size)
    return f"| {library} | {name} | {size} | {exchanged} | {step} |", holds


def run(arguments):
    """Print the table row by row; write it with what it was measured on where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--precisions", nargs="+")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if asked.precisions:
        return _in_precisions(asked.names, asked.precisions)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
    begun = time.monotonic()
    rows, wrong = [], []
    for library, networks in (("timm", TIMM), ("torchvision", TORCHVISION)):
        for name, size in networks.items():
            if asked.names and name not in asked.names:
                continue
            line, holds = row(library, name, size)
            rows.append(line)
            if not holds:
                wrong.append(name)
            print(line, flush=True)
    if asked.results is not None:
        asked.results.write_text(_page(rows, wrong, time.monotonic() - begun, commit.strip()))
    return 1 if wrong else 0


def _in_precisions(names, precisions):
    """Print a row for each network; exit code 1 where what becomes of its step differs between the precisions."""
    unlike = 0
    for library, networks in (("timm", TIMM), ("torchvision", TORCHVISION)):
        for name, size in {**networks, **WITHOUT_BATCH_NORM[library]}.items():
            if names and name not in names:
                continue
            steps = [private_step(library, name, size, precision) for precision in precisions]
            unlike += len(set(steps)) > 1
            print(f"| {library} | {name} | {size} | {' | '.join(steps)} |", flush=True)
    return 1 if unlike else 0


def _page(rows, wrong, seconds, commit):
    model = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "timm"))
    return "\n".join(
        (
            "# BatchNorm exchanged for GroupNorm in thirty networks",
            "",
            f"{date.today()}, {model.split(':')[1].strip()}, one thread, Python {platform.python_version()},",
            f"{versions}, commit {commit}, {seconds / 60:.0f} minutes:",
            "`python -m tests.models.norm_exchange_campaign --results FILE`.",
            "",
            "*difference*: the largest over logits of two images, in training and in evaluation mode with the same",
            "draws, in float64, from an exchange by hand (`tests/models/hand_made.py`, which shares no code with the",
            "product), over the largest logit; at most 1e-6 is asked. *private step*: `trainer=dp`, one update on",
            "synthetic images.",
            "",
            f"{'All hold.' if not wrong else 'Wrong: ' + ', '.join(wrong) + '.'}",
            "",
            "| library | network | pixels | layers exchanged | difference | private step |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        )
    )


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
