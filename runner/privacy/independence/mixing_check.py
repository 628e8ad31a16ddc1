"""The check before a private run that each example's gradient depends on that example alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn

from runner.error_texts import is_out_of_memory
from runner.errors import RequestError
from runner.privacy.example_gradients.grad_sample import per_example_gradients
from runner.privacy.example_gradients.low_precision import normalisations, norms_in_float32
from runner.privacy.example_gradients.per_example import Forward
from runner.privacy.independence.batch_probe import BatchProbe
from runner.privacy.independence.carried_state import NOTHING_KEPT, CarriedState
from runner.privacy.independence.fewer_examples import on_fewer_where_memory_ends
from runner.privacy.independence.global_generators import GeneratorStates, drawing_layer
from runner.privacy.independence.refusals import NoUsableGradSample


def check_examples_independent(
    model: nn.Module,
    *,
    grad_sample: str,
    image_shape: tuple[int, int, int],
    forward: Forward = nullcontext,
    batch_size: int = 8,
    copies: int = 1,
) -> None:
    """Shows on random images that ``model`` gives one gradient per example, or refuses it.

    All in training mode, random layers drawing:

    1. A forward pass leaves nothing behind: no buffer, attribute or parameter changes (``carried_state.py``), and no
       generator that others share (``global_generators.py``).
    2. It reads no number out of the batch, to decide by it.
    3. What some examples add to the clipped sum keeps its bits when their companions change, in batches of
       ``batch_size`` (fewer for large models) and in the precision's own ``forward`` context.
    4. It stays the same within rounding when they are alone, or among fewer and in another order.  The allowance is
       measured: what rounding each weight and pixel otherwise does.  For a pass in 16 bits, whose rounding would hide
       much, this is done in float32, and the operations of both are shown to be the same (``same_operations.py``).
    5. It is the gradient of ordinary back-propagation.

    Of ``functional``, where ``vmap`` runs the model on one example at a time and examples cannot meet, 2 and 4 are left
    out and 3 is tried on two examples: an operation with a vectorised form of its own sees them all.

    No such test finds what acts only after very many calls, or on images unlike any that were tried; the run looks
    again while it goes on (``runtime_check.py``).

    Parameters, buffers, training mode and the global random state are left as they were found.  ``image_shape`` is
    (C, H, W), ``copies`` the number of images of each example.

    Raises:
        ExamplesMixed: examples meet in batches; names the layer.
        NoUsableGradSample: the forward pass changes something or draws for all examples at once; says what and where.
        RequestError: why per-example gradients cannot be had in this way.
    """
    gradients = per_example_gradients(grad_sample, model, loss=BatchProbe.loss, forward=forward, copies=copies)
    device = next(model.parameters()).device
    with in_training(model), fixed_randomness(device):
        probe = BatchProbe(model, grad_sample, image_shape=image_shape, copies=copies, forward=_plainly(model, forward))
        with _refusing(model, grad_sample):
            _refuse_traces(model, probe)
            carried, drawn = CarriedState(model), GeneratorStates(device)
            if grad_sample == "functional":
                probe.compare_few(gradients)
            else:
                probe.refuse_reading()
                whole = isinstance(forward(), nullcontext)
                on_fewer_where_memory_ends(
                    lambda size: probe.compare(gradients, size, full_precision=whole), probe.largest(batch_size)
                )
        if (place := carried.changed()) is not None:
            raise _keeps(place)
        if (whose := drawn.changed()) is not None:
            raise _draws(type(model).__name__, whose)


def _refuse_traces(model: nn.Module, probe: BatchProbe) -> None:
    """Refuse a forward pass that leaves something behind, or that draws from a shared generator.

    What a model computes once, when it is first used, may stay: it must be the same after other images, and must not
    change again.
    """
    before, twin = CarriedState(model), _twin(model)
    generators = GeneratorStates(probe.device)
    probe.check(model)
    if (whose := generators.changed()) is not None:
        with probe.forward():
            raise _draws(drawing_layer(model, probe.batch(2)), whose)
    if (place := before.changed()) is None:
        return
    if twin is None:
        raise _keeps(place)
    after = CarriedState(model)
    probe.check(twin)
    probe.check(model)
    if (other := CarriedState(twin).differs_from(after) or after.changed()) is not None:
        raise _keeps(other)


def _twin(model: nn.Module) -> nn.Module | None:
    """A copy of everything but the parameters, which both have; None where it cannot be copied."""
    try:
        return copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
    except (RuntimeError, TypeError, NotImplementedError):
        return None


def _keeps(place: str) -> NoUsableGradSample:
    return NoUsableGradSample("model.name", f"{place}, which the forward pass changes", NOTHING_KEPT)


def _draws(layer: str, whose: str) -> NoUsableGradSample:
    got = f"{layer}, which draws from {whose}'s generator for all examples of a batch"
    return NoUsableGradSample("model.name", got, "nn.Dropout or stochastic depth by row, which draw for each by itself")


def _plainly(model: nn.Module, forward: Forward) -> Forward:
    """The context of a forward pass of ``model`` by itself: some layers warn of weights wider than their input."""
    norms = normalisations(model)

    @contextmanager
    def opened() -> Iterator[None]:
        with norms_in_float32(norms), forward():
            yield

    return opened


@contextmanager
def _refusing(model: nn.Module, grad_sample: str) -> Iterator[None]:
    try:
        yield
    except RequestError:
        raise
    except (RuntimeError, NotImplementedError, ValueError, TypeError) as failure:
        if is_out_of_memory(failure):
            raise
        reason = str(failure).splitlines()[0][:160]
        another = "hooks" if grad_sample == "functional" else "functional"
        expected = f"{another}, or another model: {type(model).__name__} has no gradients per example here: {reason}"
        raise RequestError("privacy.grad_sample", grad_sample, expected) from failure


@contextmanager
def in_training(model: nn.Module) -> Iterator[None]:
    """The model is in training mode inside, and each of its modules in its own afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.train()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def fixed_randomness(device: torch.device) -> Iterator[None]:
    """The global random state is put back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else [], device_type="cuda"):
        yield
