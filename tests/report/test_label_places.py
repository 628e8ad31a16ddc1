"""Names beside the marks of a plot lie over nothing else."""

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

from runner.report import label_places
from runner.report.label_places import Mark, name_marks
from runner.report.style import canvas, label_logarithmic


def named(count):
    """(overlaps of names with names and with marks, names without room, names and their places) of ``count`` marks."""
    rng = np.random.default_rng(7)
    places = rng.normal(size=(count, 2)) * 0.3
    with canvas(3.3, columns=2) as (figure, (axes, _)):
        axes.plot(*places.T, "o", markersize=8)
        axes.margins(x=0.22, y=0.16)
        figure.draw_without_rendering()
        nameless = name_marks(figure, axes, [Mark(*place, f"lr={n}", "k") for n, place in enumerate(places.tolist())])
        figure.draw_without_rendering()
        renderer = FigureCanvasAgg(figure).get_renderer()
        texts = [text for text in axes.texts if text.get_text()]
        boxes = [text.get_window_extent(renderer) for text in texts]
        frame = axes.get_window_extent(renderer)
        assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)
        half = 4 * figure.dpi / 72
        marks = [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in axes.transData.transform(places)]
        over = sum(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
        over += sum(box.overlaps(mark) for box in boxes for mark in marks)
        return over, nameless, [(text.get_text(), text.get_position()) for text in texts]


@pytest.mark.parametrize("count", [3, 8, 20])
def test_names_overlap_nothing_and_those_without_room_are_counted(count):
    over, nameless, texts = named(count)
    assert over == 0
    assert len(texts) + nameless == count
    assert nameless <= count // 5
    assert named(count)[2] == texts, "the same marks, the same places"


def test_names_put_beside_their_marks_without_looking_would_overlap(monkeypatch):
    monkeypatch.setattr(label_places, "_is_free", lambda *_, **__: True)
    assert named(20)[0] > 5


def test_ticks_of_a_logarithmic_axis_keep_apart():
    with canvas(3.3) as (_, (axes,)):
        axes.set_xscale("log")
        label_logarithmic(axes.xaxis, {"1": 1.0, "1.1": 1.1, "3": 3.0, "7.9": 7.9, "8": 8.0})
        assert sorted(label.get_text() for label in axes.get_xticklabels()) == ["1", "3", "8"]
        label_logarithmic(axes.xaxis, {"2": 2.0})
        assert [label.get_text() for label in axes.get_xticklabels()] == ["2"]
