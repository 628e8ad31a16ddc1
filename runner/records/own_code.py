"""The user's own code that a run leans on, told by its contents: a plan holds its name and options alone."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

from runner.config.untrusted.trusted_packages import own_packages


def own_code(targets: Iterable[str]) -> dict[str, str]:
    """Module -> file and hash, such as ``nets.py 3f29c0a1b2c4``, of those of ``targets`` that the user has written.

    A module counts that is imported and lies under a package that the user named as trusted; what it imports itself
    does not count.
    """
    found = {}
    own = {path.partition(".")[0] for path in own_packages()}
    for name in sorted({target.rpartition(".")[0] for target in targets}):
        if name.partition(".")[0] not in own:
            continue
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None and Path(file).is_file():
            digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
            found[name] = f"{Path(file).name} {digest[:12]}"
    return found
