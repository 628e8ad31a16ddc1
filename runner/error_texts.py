"""The failures of libraries that have no class of their own, told by what their messages say.

Everywhere else a decision is taken by the class of an exception or by its fields; ``tests/test_error_texts.py`` holds
the code to that, and these words to the libraries.
"""

from __future__ import annotations

import errno
import os
import re
import sys

_OUT_OF_MEMORY = (
    "out of memory",  # MPS, and CUDA where torch.AcceleratorError comes instead
    "can't allocate memory",  # torch's allocator on the CPU
    "bad_alloc",
    "STATUS_ALLOC_FAILED",  # cuBLAS and cuDNN
)

_READS_NUMBERS = ("data-dependent", ".item()", "dynamic shape", "data pointer")

_TOO_FEW_VALUES = "more than 1 value per channel"

_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out: torch has a class for that, which it uses on CUDA alone."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")  # what is not imported has raised nothing
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


def reads_numbers(error: RuntimeError) -> bool:
    """Whether ``torch.func.vmap`` stopped at a function that reads numbers out of a tensor."""
    return any(words in str(error) for words in _READS_NUMBERS)


def has_too_few_values(error: ValueError) -> bool:
    """Whether BatchNorm was given a single value a channel, which has no variance."""
    return _TOO_FEW_VALUES in str(error)


def disk_error_text(error: BaseException) -> str | None:
    """What the system said of a disk, where ``error`` quotes a compiler that could not write; None for anything else.

    The compiler is a program of its own, and what it printed stands far below what torch says of it.
    """
    return next((os.strerror(code) for code in _OF_THE_DISK if os.strerror(code) in str(error)), None)


def unexpected_argument(error: TypeError) -> str | None:
    """The keyword argument that a function does not take; None where ``error`` is about something else."""
    found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    return None if found is None else found[1]
