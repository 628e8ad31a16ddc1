"""``--json FILE``: what a command found, as JSON."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from runner.errors import RequestError
from runner.records.json_values import encode, encode_pretty, write_json


def refuse_unwritable(target: str | None) -> None:
    """Answer before the work what ``write_json_file`` would find out after it."""
    if target in (None, "-"):
        return
    path = Path(str(target))
    if path.is_dir():
        raise RequestError("--json", target, "a file, which a folder is not")
    if path.exists() and not path.is_file():
        return
    folder = path.resolve().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise RequestError("--json", target, f"a file that can be written, in a folder that is there ({folder})")


def write_json_file(target: str | None, plain: Any) -> None:
    """Write ``plain`` to the file ``target``, or print it where that is ``-``; nothing for null."""
    if target == "-":
        print(encode(plain))
    elif target is not None:
        path = Path(target)
        try:
            if path.exists() and not path.is_file():
                path.write_text(encode_pretty(plain), encoding="utf-8")  # a device or a pipe, which nothing may replace
            else:
                write_json(path.resolve(), plain)
        except OSError as error:
            raise RequestError("--json", target, f"a file that can be written ({error.strerror})") from error
