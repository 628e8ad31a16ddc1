"""What a search found: its trials, and which parameters mattered."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from runner.records.document import Bullets, Heading, Paragraph
from runner.report.document import Part
from runner.report.plot_sections import drawn
from runner.report.search_plots import draw_history, draw_importances
from runner.report.search_records import Search
from runner.report.search_words import describe_trial


def describe_search(search: Search | None) -> Iterator[Part]:
    """The section of a search; nothing for a grid."""
    if search is None:
        return
    yield Heading(2, "Search")
    states: dict[str, int] = {}
    for trial in search.trials:
        states[trial.state] = states.get(trial.state, 0) + 1
    yield Paragraph(f"{len(search.trials)} trials: {', '.join(f'{n} {state.lower()}' for state, n in states.items())}.")
    if len(search.directions) > 1 and search.front:
        yield Paragraph("Trials that no other beats in all objectives:")
        yield Bullets([describe_trial(trial) for trial in search.front])
    yield from drawn(partial(draw_history, search), partial(draw_importances, search))
