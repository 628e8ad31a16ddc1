"""Labels of images by the folders that they lie in, or why there are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runner.config.words.pluralize import pluralize
from runner.data.folders.folder_layout import same_name
from runner.errors import nearest

_SHOWN = 3


def labels_by_folder(
    names: Sequence[str], classes: Sequence[str], *, root: Path
) -> tuple[NDArray[np.int64] | None, str | None]:
    """The class of each file by its first folder, and what to say where folders are no classes.

    Args:
        names: Paths of the files below ``root``, with forward slashes.
        classes: Names of the model's classes.
        root: As the user typed it.

    Returns:
        Labels ``[n]``, or None unless every file lies in a folder named like a class; a line that says why there are
        none, which is None where there are, and where no file lies in any folder.
    """
    number = {same_name(name): i for i, name in enumerate(classes)}
    folders = [same_name(name.partition("/")[0]) if "/" in name else None for name in names]
    images = Counter(folders)
    loose = images.pop(None, 0)
    strange = [folder for folder in images if folder not in number]
    if not images:
        return None, None
    if strange:
        why = _strange(str(strange[0]), len(strange), images[strange[0]], names, classes, root)
    elif loose:
        first = names[folders.index(None)]
        why = f"{pluralize(loose, 'image')} lie in no class folder, the first is {first}"
    else:
        return np.array([number[str(folder)] for folder in folders], dtype=np.int64), None
    return None, f"predictions only, no metrics: {why}"


def _strange(folder: str, folders: int, images: int, names: Sequence[str], classes: Sequence[str], root: Path) -> str:
    """What to say of ``folders`` that are no classes, of which ``folder`` with so many ``images`` is the first."""
    which = f"{folder} ({pluralize(images, 'image')})"
    text = (
        f"the folder {which} is no class of the run"
        if folders == 1
        else f"{folders} folders are no classes of the run, the first is {which}"
    )
    inner = {parts[1] for name in names if len(parts := name.split("/")) > 2 and parts[0] == folder}
    if inner and inner <= set(classes):
        return f"{text}; did you mean images={root / folder}?"
    # in any mix of capitals: Cat is nearer to cat than to Car
    lower = {name.casefold(): name for name in reversed(classes)}
    if (like := nearest(folder.casefold(), lower)) is not None:
        return f"{text}; did you mean {lower[like]}?"
    more = ", ..." if len(classes) > _SHOWN else ""
    return f"{text}, which are {', '.join(classes[:_SHOWN])}{more}"
