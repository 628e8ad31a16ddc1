"""Processes of one run as threads that take turns: one computes until it has something to exchange, then the next."""

import pickle
import threading
from contextlib import contextmanager

import torch


class TimedSteps:
    """The worlds of ``size`` processes, and what calls a function in each."""

    def __init__(self, size):
        self.size = size
        self._turn = threading.Condition()
        self._whose = 0
        self._given = {}
        self._gone = set()
        self._round = 0

    def call(self, work):
        """``work(world)`` in every process; what each returned or raised."""
        ended = [None] * self.size

        def process(rank):
            self._wait_for(rank)
            try:
                ended[rank] = work(World(self, rank))
            except Exception as error:
                ended[rank] = error
            finally:
                self._gone.add(rank)
                self._pass_on(rank)

        threads = [threading.Thread(target=process, args=(rank,), daemon=True) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
            assert not thread.is_alive(), "a process waits for ever"
        return ended

    def exchange(self, rank, value):
        """What every process has given, in their order; a process that has gone is noticed, as by its connection."""
        self._given[rank] = value
        while len(self._given) < self.size:
            if self._gone:
                raise ConnectionError(f"process {min(self._gone)} has gone")
            self._pass_on(rank)
            self._wait_for(rank)
        given = [self._given[each] for each in range(self.size)]
        self._taken = getattr(self, "_taken", 0) + 1
        if self._taken == self.size:
            self._taken, self._given = 0, {}
        else:
            self._pass_on(rank)
            self._wait_for(rank)
        return given

    def _wait_for(self, rank):
        with self._turn:
            self._turn.wait_for(lambda: self._whose == rank, timeout=60)

    def _pass_on(self, rank):
        with self._turn:
            others = [(rank + step) % self.size for step in range(1, self.size + 1)]
            self._whose = next((other for other in others if other not in self._gone), -1)
            self._turn.notify_all()


class World:
    """What one process sees of the others (``runner.training.distributed.world.World``)."""

    def __init__(self, turns, rank):
        self.rank, self.size, self.is_main = rank, turns.size, rank == 0
        self.device = torch.device("cpu")
        self._turns = turns

    def sum_(self, tensor, flags=()):
        shares = self._turns.exchange(self.rank, (tensor.clone(), list(flags)))
        tensor.copy_(sum(share for share, _ in shares))
        return [any(votes) for votes in zip(*(flags for _, flags in shares), strict=True)]

    def any(self, flag):
        return any(self._turns.exchange(self.rank, flag))

    def broadcast(self, obj):
        return pickle.loads(self._turns.exchange(self.rank, pickle.dumps(obj))[0])

    def gather(self, obj):
        return list(map(pickle.loads, self._turns.exchange(self.rank, pickle.dumps(obj))))

    def barrier(self):
        self._turns.exchange(self.rank, None)

    def close(self):
        self.barrier()


class Stop:
    """A request to stop that comes after ``after`` steps (``runner.processes.signals.StopRequest``)."""

    def __init__(self, after=None):
        self._left = after

    @property
    def pending(self):
        if self._left is None:
            return None
        self._left -= 1
        return "SIGTERM" if self._left <= 0 else None

    @contextmanager
    def polled(self):
        yield
