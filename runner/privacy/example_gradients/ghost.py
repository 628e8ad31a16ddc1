"""``privacy.grad_sample=ghost``: one forward and one backward pass of the whole batch, and then a rule for each layer.

The backward pass computes the gradients of the layers' outputs and no weight gradient.  Nothing is changed in the
model: layers may work in place, and kernels are those of ordinary training.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from runner.errors import RequestError
from runner.internals.trees import TreeSpec, tree_flatten, tree_unflatten
from runner.internals.versions import version_of
from runner.privacy.example_gradients.layer_rules import rule_for
from runner.privacy.example_gradients.low_precision import at_least_float32, plain_attention, quiet_fallbacks
from runner.privacy.example_gradients.parameter import ExampleGradients, Rows, over_copies
from runner.privacy.example_gradients.per_example import Forward, Loss, PerExample, trainable
from runner.privacy.mechanism.random_layers import LayerKeys


@dataclass(frozen=True)
class _Call:
    """One use of a layer in the forward pass."""

    name: str
    inputs: list[Any]
    """What it was called with, by place and by name, taken out of lists and the like; tensors detached."""
    shape: TreeSpec
    """How they lay in there: ``(positional arguments, keyword arguments)``."""
    versions: tuple[int, ...]
    """How often each input tensor had been written to."""
    edge: GradientEdge
    """The output, as it was before anything was done to it in place."""

    def tensors(self) -> list[Tensor]:
        return [value for value in self.inputs if isinstance(value, Tensor)]


class GhostGradients:
    """Layer inputs and output gradients of one pass, made into norms and weighted sums by ``layer_rules.py``.

    A layer without a rule is run again on single examples under ``torch.func.vmap``, as long as its parameters are its
    own and it makes one output tensor.

    Several images of an example are to a layer what further positions of one image are: their gradients add up, and the
    norm is that of the sum.
    """

    def __init__(self, model: nn.Module, *, loss: Loss, forward: Forward, scale: float, copies: int = 1) -> None:
        """See ``per_example_gradients``.

        Raises:
            RequestError: a parameter belongs to more than one layer.
        """
        self._model = model
        self._loss = loss
        self._forward = forward
        self._scale = scale
        self._copies = copies
        self._names = {id(parameter): name for name, parameter in trainable(model).items()}
        self._layers = {
            name: module
            for name, module in model.named_modules()
            if any(parameter.requires_grad for parameter in module.parameters(recurse=False))
        }
        self._rules = {name: rule_for(layer) for name, layer in self._layers.items()}
        owners: dict[int, str] = {}
        for name, layer in self._layers.items():
            for parameter in layer.parameters(recurse=False):
                if owners.setdefault(id(parameter), name) != name:
                    raise _refusal(f"{name} shares a parameter with {owners[id(parameter)]}")
        quiet_fallbacks()

    def __call__(self, images: Tensor, labels: Tensor) -> PerExample:
        """See ``PerExampleGradients``."""
        calls: list[_Call] = []
        with torch.enable_grad():
            with self._recorded(calls), self._forward():
                logits = self._model(images)
            logits = at_least_float32(logits)
            losses = self._loss(logits, labels.repeat_interleave(self._copies)) / self._copies
            edges = [call.edge for call in calls]
            outputs = torch.autograd.grad(losses.sum() * self._scale, edges, allow_unused=True)
        found: dict[str, ExampleGradients] = {}
        for call, output in zip(calls, outputs, strict=True):
            for name, gradients in self._of(call, output, len(labels)).items():
                # used twice: only the sum over both uses has a norm
                found[name] = Rows(found[name].rows() + gradients.rows()) if name in found else gradients
        missing = [name for name in self._names.values() if name not in found]
        if missing:
            raise _refusal(f"no layer used {missing[0]}")
        in_order = [found[name] for name in self._names.values()]
        by_example = (len(labels), self._copies)
        hits = logits.detach().unflatten(0, by_example).mean(1).argmax(1) == labels
        return PerExample(losses.detach().unflatten(0, by_example).sum(1), hits, in_order)

    @contextmanager
    def _recorded(self, calls: list[_Call]) -> Iterator[None]:
        handles = []
        opaque: list[str] = []
        for name, layer in self._layers.items():

            def before(module: nn.Module, inputs: tuple[Any, ...], *, name: str = name) -> None:
                if opaque:
                    raise _refusal(
                        f"{opaque[-1] or type(self._model).__name__} has parameters of its own around {name}"
                    )
                if self._rules[name] is None:
                    opaque.append(name)

            def after(
                module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any], output: Any, *, name: str = name
            ) -> None:
                if self._rules[name] is None:
                    opaque.pop()
                made = output[0] if isinstance(output, tuple) else output
                leaves, shape = tree_flatten((inputs, options))
                values = [value.detach() if isinstance(value, Tensor) else value for value in leaves]
                versions = tuple(version_of(value) for value in values if isinstance(value, Tensor))
                calls.append(_Call(name, values, shape, versions, get_gradient_edge(made)))

            handles += [
                layer.register_forward_pre_hook(before),
                layer.register_forward_hook(after, with_kwargs=True),
            ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _of(self, call: _Call, output: Tensor | None, size: int) -> dict[str, ExampleGradients]:
        """The gradients of one use of a layer for ``size`` examples, by the parameters' names in the model."""
        layer = self._layers[call.name]
        rule = self._rules[call.name]
        # a layer without a rule may use those of the layers inside it
        own = dict(layer.named_parameters(recurse=rule is None))
        if tuple(version_of(value) for value in call.tensors()) != call.versions:
            raise _refusal(f"the input of {call.name} is changed in place after its use")
        if output is None:
            # does not reach the loss
            gradients: dict[str, ExampleGradients] = {
                name: Rows(torch.zeros(size, *parameter.shape, dtype=parameter.dtype, device=parameter.device))
                for name, parameter in own.items()
            }
        elif len(output) != size * self._copies:
            raise _refusal(f"the output of {call.name} has {len(output)} rows for {size * self._copies} images")
        elif rule is None:
            gradients = self._again(layer, call, output)
        else:
            gradients = rule(layer, call.tensors()[0], at_least_float32(output), self._copies)
        full_names = {name: self._names.get(id(parameter)) for name, parameter in own.items()}
        return {full: gradients[name] for name, full in full_names.items() if full is not None}

    def _again(self, layer: nn.Module, call: _Call, output: Tensor) -> dict[str, ExampleGradients]:
        """Runs ``layer`` on every image by itself."""
        if LayerKeys.of(layer) is not None:
            # a second pass would draw other numbers
            raise _refusal(f"{call.name} has a random layer inside and no rule")
        parameters = {name: parameter.detach() for name, parameter in layer.named_parameters()}

        def one(inputs: list[Any], gradient: Tensor) -> dict[str, Tensor]:
            def run(parameters: dict[str, Tensor]) -> Tensor:
                batch = [value.unsqueeze(0) if isinstance(value, Tensor) else value for value in inputs]
                given, named = tree_unflatten(batch, call.shape)
                made = torch.func.functional_call(layer, parameters, given, named)
                return made[0] if isinstance(made, tuple) else made

            return torch.func.vjp(run, parameters)[1](gradient.unsqueeze(0))[0]

        split = [0 if isinstance(value, Tensor) else None for value in call.inputs]
        with self._forward(), plain_attention():
            # "error": for the same reason
            rows = torch.func.vmap(one, in_dims=(split, 0), randomness="error")(call.inputs, output)
        return {name: Rows(over_copies(at_least_float32(row), self._copies)) for name, row in rows.items()}


def _refusal(reason: str) -> RequestError:
    return RequestError("privacy.grad_sample", "ghost", f"functional: {reason}")
