"""Refusal of a search whose every trial would be refused, for what is fixed does not go together, say."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Transformer

from runner.config.compose import Composer
from runner.config.request.search_config import ends_of
from runner.config.schema import RunConfig
from runner.errors import RequestError

_MOST = 64
"""Combinations of searched values that are tried; a search with one that may start ends the trying."""


def refuse_hopeless(
    composer: Composer,
    fixed: Sequence[str],
    searched: Sequence[Override],
    check: Callable[[RunConfig], None],
    is_whole: Callable[[str], bool],
) -> None:
    """Refuse a search of which no combination of values tried may start: all, or where there are many, some of them.

    Args:
        composer: composes.
        fixed: the overrides that all trials share.
        searched: what is searched.
        check: the rules of a configuration.
        is_whole: says which keys hold whole numbers.

    Raises:
        RequestError: what the first combination was refused for.
    """
    values = {one.key_or_group: _values(one, whole=is_whole(one.key_or_group)) for one in searched}
    notes, refusal, tried = dict(composer.notes), None, 0
    for lines in _combinations(values):
        try:
            check(composer.load(composer.compose([*fixed, *lines]), number=0))
            return
        except RequestError as error:
            refusal, tried = refusal or error, tried + 1
        finally:
            composer.notes = dict(notes)
    assert refusal is not None
    place = "every trial of the search" if tried == _size(values) else f"each of {tried} trials that were tried"
    raise RequestError(refusal.key, refusal.got, refusal.expected, nearest=refusal.nearest, cell=place) from refusal


def _size(values: Mapping[str, Sequence[str]]) -> int:
    return math.prod(map(len, values.values()))


def _combinations(values: Mapping[str, Sequence[str]]) -> Iterator[Sequence[str]]:
    """All combinations, or of too many some, drawn as they would be again."""
    if _size(values) <= _MOST:
        yield from itertools.product(*values.values())
        return
    source = random.Random(0)
    for _ in range(_MOST):
        yield [source.choice(one) for one in values.values()]


def _values(override: Override, *, whole: bool) -> list[str]:
    """The overrides that try a key: every listed value, or the ends of an interval and points between them."""
    key, value = override.get_key_element(), override.value()
    if isinstance(value, RangeSweep):
        return [f"{key}={item}" for item in override.sweep_iterator(transformer=Transformer.encode)]
    found = list(ends_of(override, whole=whole))
    if isinstance(value, IntervalSweep):
        assert value.start is not None
        assert value.end is not None
        low, high = value.start, value.end
        between = [(low + high) / 2, *([math.sqrt(low * high)] if low > 0 else [])]
        found += [f"{key}={round(one) if whole else one}" for one in between]
    return found
