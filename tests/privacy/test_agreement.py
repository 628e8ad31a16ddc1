"""Every way, precision and split gives the update of one example at a time: one matrix, each of its cells checked."""

import contextlib
import itertools

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import multiprocessing, nn

from runner.errors import EpsilonVoid
from runner.privacy.example_gradients.grad_sample import GRAD_SAMPLES
from runner.privacy.example_gradients.per_example import trainable
from runner.privacy.mechanism.key import SecretKey
from runner.privacy.mechanism.noise import NoiseSource
from runner.privacy.mechanism.private_rule import PrivateRule

CLIP, SIGMA, EXAMPLES = 3.68, 0.1, 7
# relative to the update; 16-bit types round a number by up to 2^-8 and 2^-11
TOLERANCE = {"float32": 1e-6, "bfloat16": 3 * 2**-8, "float16": 3 * 2**-11}
SPLITS = {"whole": 7, "three": 3, "remainder": [1, 4, 2]}
CASES = ("plain", "empty", "broken")
MATRIX = list(itertools.product(GRAD_SAMPLES, TOLERANCE, SPLITS, CASES))


class OneProcess:
    def sum_(self, tensor, flags=()):
        pass


class Processes:
    def sum_(self, tensor, flags=()):
        dist.all_reduce(tensor)
        found = torch.tensor(flags, dtype=torch.int64)
        dist.all_reduce(found)
        return found.bool().tolist()


def loss(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none")


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(inplace=True), nn.Conv2d(4, 8, 3, stride=2),
        nn.Tanh(), nn.Flatten(), nn.Linear(72, 5),
    )  # fmt: skip


def make_batch(case):
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(EXAMPLES, 1, 8, 8, generator=generator) * torch.logspace(-0.5, 0.5, EXAMPLES).view(-1, 1, 1, 1)
    labels = torch.arange(EXAMPLES) % 5
    if case == "empty":
        return images[:0], labels[:0]
    if case == "broken":
        images[3, 0, 2, 2] = float("nan")
    return images, labels


def forward_in(precision):
    if precision == "float32":
        return contextlib.nullcontext
    return lambda: torch.autocast("cpu", getattr(torch, precision))


class FoundBy:
    """A watch that has found a fault, or has not."""

    def __init__(self, *, fault):
        self.fault = fault

    def check(self, *arguments):
        pass


def released(way, precision, split, case, *, world, rank=0, size=1, watch=None):
    model = make_model()
    rule = PrivateRule(
        model, loss=loss, forward=forward_in(precision), world=world, max_grad_norm=CLIP, noise_multiplier=SIGMA,
        noise=NoiseSource(SecretKey.from_unsafe_seed(0), secure=True), expected_batch=10.0,
        static_scale=64.0 if precision == "float16" else 1.0, grad_sample=way, watch=watch,
    )  # fmt: skip
    images, labels = (part[rank::size] for part in make_batch(case))
    pieces = SPLITS[split]
    if isinstance(pieces, list):
        # a process has its share of each piece
        starts = [sum(pieces[:i]) for i in range(len(pieces) + 1)]
        numbers = torch.arange(EXAMPLES)[rank::size]
        pieces = [int(((numbers >= a) & (numbers < b)).sum()) for a, b in itertools.pairwise(starts)]
        pieces = pieces if len(labels) else [0]
    rule.begin(10.0)
    for part, targets in zip(images.split(pieces), labels.split(pieces), strict=True):
        rule.add(part, targets)
    rule.share((False, False))
    rule.release(5)
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def brute_force(case):
    """One example at a time by ordinary back-propagation, in float64; the broken one is left out; noise added once."""
    model = make_model().double()
    parameters = list(trainable(model).values())
    noise = NoiseSource(SecretKey.from_unsafe_seed(0), secure=True)
    total = noise.normal(5, sum(p.numel() for p in parameters), torch.device("cpu")).double() * SIGMA * CLIP
    images, labels = make_batch(case)
    clipped = 0
    for image, label in zip(images.double(), labels, strict=True):
        if image.isfinite().all():
            found = torch.autograd.grad(loss(model(image[None]), label[None]).sum(), parameters)
            row = torch.cat([gradient.flatten() for gradient in found])
            clipped += bool(row.norm() > CLIP)
            total += row * min(1.0, CLIP / float(row.norm()))
    assert case == "empty" or 0 < clipped < EXAMPLES - 1, "some examples must be clipped and some must not"
    return total / 10


EXPECTED = {}


def check(found, cell):
    _, precision, _, case = cell
    if case not in EXPECTED:
        EXPECTED[case] = brute_force(case)
    expected = EXPECTED[case]
    error = float((found.double() - expected).norm() / expected.norm())
    # without an example nothing is rounded but the noise
    assert error <= (1e-6 if case == "empty" else TOLERANCE[precision]), (cell, error)


@pytest.mark.parametrize("cell", MATRIX, ids="-".join)
def test_one_process(cell):
    check(released(*cell, world=OneProcess()), cell)


def _work(rank, size, path, results):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=size)
    found = [released(*cell, world=Processes(), rank=rank, size=size) for cell in MATRIX]
    ends = []
    for finder in (0, 1):
        watch = FoundBy(fault="they meet" if rank == finder else None)
        try:
            released("ghost", "float32", "whole", "plain", world=Processes(), rank=rank, size=size, watch=watch)
        except EpsilonVoid as void:
            ends.append(str(void).split(":")[0])
    results.put((rank, torch.stack(found).tolist(), ends))
    dist.destroy_process_group()


def test_two_processes(tmp_path):
    """The same cells, the examples dealt out to two processes; a piece of a split may leave one of them without."""
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    workers = [context.Process(target=_work, args=(rank, 2, tmp_path / "rendezvous", results)) for rank in range(2)]
    for worker in workers:
        worker.start()
    answers = {rank: answer for rank, *answer in (results.get() for _ in workers)}
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    found, ends = ({rank: answer[part] for rank, answer in answers.items()} for part in (0, 1))
    other = "another process has found that examples of a batch depend on each other"
    assert ends == {0: ["they meet", other], 1: [other, "they meet"]}, "what one has found ends both, and neither waits"
    assert found[0] == found[1], "both release the same bits"
    for update, cell in zip(found[0], MATRIX, strict=True):
        check(torch.tensor(update), cell)


def test_the_tolerances_tell():
    """The controls: a lost micro-batch, noise added twice, and bfloat16 taken for float32 lie outside."""
    expected = brute_force("plain")
    found = released("ghost", "float32", "whole", "plain", world=OneProcess())
    empty = released("ghost", "float32", "whole", "empty", world=OneProcess())
    for wrong in (empty, found + empty):
        assert (wrong.double() - expected).norm() > 2 * TOLERANCE["bfloat16"] * expected.norm()
    rough = released("ghost", "bfloat16", "whole", "plain", world=OneProcess())
    assert (rough.double() - expected).norm() > 10 * TOLERANCE["float32"] * expected.norm()
