"""Work for processes that makes the one that waits for them hear Ctrl-C at a known moment."""

import os
import signal
import time


class WhileStarting:
    """A job whose second copy, for the second process, is made while Ctrl-C comes to another thread of this one."""

    def __init__(self, thread):
        self.thread = thread
        self.copies = 0

    def __reduce__(self):
        self.copies += 1
        if self.copies == 2:
            signal.pthread_kill(self.thread, signal.SIGINT)
            time.sleep(0.05)  # which lets the other thread run, and this one notice
        return str, ()


def busy(job, world, device):
    """Take longer than anybody waits."""
    time.sleep(120)


def when_done(job, world, device):
    """End as if nothing had happened; the other process hears it while this one ends."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    os.kill(os.getppid(), signal.SIGINT)
    return "done"


def twice(job, world, device):
    """Heed the first one, and not the second."""
    passed_on = []
    signal.signal(signal.SIGUSR1, lambda number, frame: passed_on.append(number))
    os.kill(os.getppid(), signal.SIGINT)
    end = time.monotonic() + 60
    while not passed_on and time.monotonic() < end:
        time.sleep(0.01)
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(60)
    return "not ended"
