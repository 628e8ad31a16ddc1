"""Optimizers as a user might bring them: with rates of their own, two kinds of weights, and odd state."""

import torch


class ByLayer(torch.optim.SGD):
    """A tenth of the rate and no decay for all tensors but the last two, as in fine-tuning a head."""

    def __init__(self, params, lr=0.1, weight_decay=0.0):
        given = [p for group in params for p in group["params"]]
        slow, fast = given[:-2], given[-2:]
        groups = [{"params": slow, "lr": lr / 10, "weight_decay": 0.0}, {"params": fast, "weight_decay": weight_decay}]
        super().__init__(groups, lr=lr)


class ScheduleFree(torch.optim.Optimizer):
    """Schedule-free SGD (Defazio et al. 2024, equations 3 to 5): gradients at y, steps of z, and x to be used.

    As in the published package the parameters hold y or x, ``train()`` and ``eval()`` turn one into the other, and a
    step in the wrong one is an error.
    """

    def __init__(self, params, lr=0.1, beta=0.9):
        super().__init__(params, {"lr": lr, "beta": beta, "train_mode": False, "k": 0})

    @torch.no_grad()
    def _turn(self, training):
        for group in self.param_groups:
            if group["train_mode"] != training:
                beta = group["beta"]
                for p in group["params"]:
                    if "z" in self.state[p]:
                        p.lerp_(self.state[p]["z"], 1 - beta if training else 1 - 1 / beta)
                group["train_mode"] = training

    def train(self):
        self._turn(True)

    def eval(self):
        self._turn(False)

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            assert group["train_mode"], "not in train mode"
            beta, share = group["beta"], 1 / (group["k"] + 1)
            for p in group["params"]:
                state = self.state[p]
                if "z" not in state:
                    state["z"] = p.clone()
                z = state["z"]
                x = (p - (1 - beta) * z) / beta
                z.sub_(p.grad, alpha=group["lr"])
                x.lerp_(z, share)
                p.copy_(beta * x + (1 - beta) * z)
            group["k"] += 1


class _Counting(torch.optim.SGD):
    """Makes ever smaller steps, by a count beside its state."""

    def __init__(self, params, lr=0.1, weight_decay=0.0):
        super().__init__(params, lr=lr, weight_decay=weight_decay)
        self.start()

    def step(self, closure=None):
        for group in self.param_groups:
            group["lr"] /= self.count()
        super().step(closure)


class CountsPlainly(_Counting):
    """The count is a number."""

    def start(self):
        self.calls = 0

    def count(self):
        self.calls += 1
        return self.calls


class CountsInList(_Counting):
    """The count lies in a list, which no checkpoint has."""

    def start(self):
        self.calls = [0]

    def count(self):
        self.calls[0] += 1
        return self.calls[0]


class CountsInTensor(CountsInList):
    """The count is a tensor that ``state`` does not have."""

    def start(self):
        self.calls = torch.zeros(1)


class GivesItsCount(CountsInList):
    """The count is given by ``state_dict``."""

    def state_dict(self):
        return super().state_dict() | {"calls": self.calls[0]}

    def load_state_dict(self, state):
        self.calls = [state["calls"]]
        super().load_state_dict({key: value for key, value in state.items() if key != "calls"})


class EvalAlone(torch.optim.SGD):
    """Puts its average into the parameters, and has no way back."""

    def eval(self):
        pass


class Preconditioner:
    """What a second-order method keeps."""


class WithObjects(torch.optim.SGD):
    """Keeps an object where a tensor is expected."""

    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["preconditioner"] = Preconditioner()
