"""The error for an argument that a part of a run does not take."""

from __future__ import annotations

from collections.abc import Sequence

from runner.config.words.synonyms import find_synonym
from runner.errors import RequestError, as_typed, nearest


def unknown_option(key: str, value: object, names: Sequence[str], of: str, *, target: str) -> RequestError:
    """The refusal of ``value`` at the dotted ``key``, where the part ``of`` that name takes the arguments ``names``.

    A ``target`` of the user's, typed over the shipped one, is still given what the chosen option sets.
    """
    near = nearest(key.rpartition(".")[2], names)
    if near is None and (word := find_synonym(key)) is not None:
        return RequestError(key, value, str(word.instead(as_typed(value))))
    expected = f"one of {', '.join(names)}{of}" if names else f"no such key{of}"
    if not target.startswith(("runner.", "torch.")):
        group = key.partition(".")[0]
        expected += f"; if the chosen option sets it: an option of your own, FOLDER/{group}/NAME.yaml with --config-dir"
    return RequestError(key, value, expected, nearest=near)
