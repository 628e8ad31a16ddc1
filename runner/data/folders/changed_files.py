"""Files of a data set that have changed since a run began, from hashes kept beside the decoded images."""

from __future__ import annotations

from collections.abc import Sequence

from runner.config.words.pluralize import pluralize
from runner.data.cache.folder_cache import Cache

MOST_FILES = 100_000
"""Of more no list is kept, which would take longer to read than to look at the folder."""


def keep_list(cache: Cache, contents: str, names: Sequence[str], digests: Sequence[bytes]) -> None:
    """Remember in ``cache`` what the data set ``contents`` holds: ``names`` of files with the hashes of each."""
    if len(names) <= MOST_FILES:
        listed = zip(names, digests, strict=True)
        cache.write_note(_note(contents), {name: digest.hex()[:32] for name, digest in listed})


def changed_files(cache: Cache, before: str, now: str) -> str | None:
    """In words, what the data set ``now`` has other than ``before``; None where there is no list of one of them."""
    old, new = cache.read_note(_note(before)), cache.read_note(_note(now))
    if not old or not new:
        return None
    more, gone = sorted(new.keys() - old.keys()), sorted(old.keys() - new.keys())
    other = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
    found = [
        f"{pluralize(len(names), 'file')} {what} ({names[0]}{', ...' if len(names) > 1 else ''})"
        for names, what in ((more, "more"), (gone, "less"), (other, "with other contents"))
        if names
    ]
    return " and ".join(found) or None


def _note(contents: str) -> str:
    return f"files-{contents[:32]}.json"
