"""Twenty questions that people ask a report, answered before they scroll: on a terminal, a wide screen and a phone."""

import html.parser
import re
import textwrap
from dataclasses import dataclass, replace

import pytest

from runner.report.write import write_report
from tests.report.first_screens import precision_sweep, privacy_sweep, search_sweep
from tests.report.sweep_folders import draw_nothing

PRECISION, PRIVACY, SEARCH = "precision", "privacy", "search"
SWEEPS = {PRECISION: precision_sweep, PRIVACY: privacy_sweep, SEARCH: search_sweep}
QUESTIONS = {
    "Which one?": {PRECISION: "So far bf16 leads", PRIVACY: "So far epsilon=null leads",
                   SEARCH: "optimizer.lr=0.0126 optimizer=adam"},
    "Is that settled?": {PRECISION: "So far", PRIVACY: "So far", SEARCH: "selected, so optimistic"},
    "What does it do better?": {PRECISION: "2.2x as fast, 17% less memory", PRIVACY: "2.3x as fast"},
    "What do I lose?": {PRECISION: "a loss of more than 1.30 pp is unlikely", PRIVACY: "so that a loss is unlikely"},
    "How sure?": {PRECISION: "95% interval -1.30 pp to +0.97 pp", PRIVACY: "95% interval +0.24 pp to +2.10 pp"},
    "Against what?": {PRECISION: "against fp32", PRIVACY: "against epsilon=3"},
    "How good is it?": {PRECISION: "test accuracy 96.10 %", PRIVACY: "test accuracy 96.16 %",
                        SEARCH: "test accuracy 94.84 %"},
    "How long does it train?": {PRECISION: "4.9 s", PRIVACY: "6.0 s", SEARCH: "7.0 s"},
    "Does it fit my memory?": {PRECISION: "425 MiB", PRIVACY: "500 MiB", SEARCH: "500 MiB"},
    "How many runs is that from?": {PRECISION: "5 paired seeds", PRIVACY: "5 paired seeds",
                                    SEARCH: "24 completed trials"},
    "What counts as the same?": {PRECISION: "a margin of 0.28 pp", PRIVACY: "a margin of 0.28 pp"},
    "On how many images?": {PRECISION: "one of the 359 test images", PRIVACY: "one of the 359 test images"},
    "And on other images?": {PRECISION: "For training again and new images the 95% interval is -1.44 pp to +1.10 pp",
                             PRIVACY: "For training again and new images the 95% interval is"},
    "On which data?": {PRECISION: "on digits", PRIVACY: "on digits", SEARCH: "on digits"},
    "What has it cost so far?": {PRECISION: "the 10 runs on digits took 78 s in all",
                                 PRIVACY: "the 15 runs on digits took 3 min in all",
                                 SEARCH: "the 24 runs on digits took 3 min in all"},
    "What is not known?": {PRECISION: "whether fewer than 45% of its runs fail", PRIVACY: "Not known:"},
    "What is missing?": {PRECISION: "Missing: that it lies within 0.28 pp of fp32",
                         PRIVACY: "Missing: that it lies within 0.28 pp of epsilon=3 and epsilon=8"},
    "What would it take to know?": {PRECISION: "python -m runner --multirun sweep=precision comparison.until=decided",
                                    PRIVACY: "python -m runner --multirun sweep=privacy_cost comparison.until=decided",
                                    SEARCH: "python -m runner --multirun optimizer.lr=0.012589254117941675"
                                            " optimizer=adam seed=1,2,3,4,5"},
    "What would that cost me?": {PRECISION: "about 3 min to 10 seeds", SEARCH: "about 35 s",
                                 PRIVACY: "each further private run spends ε = 8.00"},
    "What does publishing it spend?": {PRIVACY: "is covered by no ε. Publishing one of epsilon=3 and epsilon=8 spends"
                                                " ε = 21.40 at δ = 1e-05"},
}  # fmt: skip


@dataclass(frozen=True)
class Screen:
    """What fits: height in pixels, and of each kind of text the characters and pixels of a line and what is around."""

    height: int
    kinds: dict[str, tuple[int, float, float]]


# Measured in Chromium, and rounded to less room.
WIDE = Screen(800, {"h1": (60, 30, 60), "strong": (84, 28, 30), "lead": (100, 25, 10), "command": (100, 22, 28),
                    "p": (105, 25, 10), "h2": (70, 26, 60), "pre": (100, 22, 50), "tr": (120, 35, 0)})  # fmt: skip
PHONE = Screen(844, {"h1": (34, 25, 26), "strong": (33, 24, 24), "lead": (40, 21.5, 4), "command": (36, 19, 24),
                     "p": (40, 25, 10), "h2": (34, 26, 50), "pre": (36, 22, 45), "tr": (44, 34, 0)})  # fmt: skip


class Blocks(html.parser.HTMLParser):
    """The texts of a page in their order, each with its kind."""

    def __init__(self, page):
        super().__init__()
        self.kinds, self.found = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        kind = "command" if ("class", "command") in attributes else "lead" if ("class", "lead") in attributes else tag
        if kind in PHONE.kinds:
            self.kinds.append((tag, kind))
            self.found.append([kind, ""])

    def handle_endtag(self, tag):
        if self.kinds and self.kinds[-1][0] == tag:
            self.kinds.pop()
            if self.kinds:  # the rest of the sentence around it
                self.found.append([self.kinds[-1][1], ""])

    def handle_data(self, text):
        if self.kinds:
            self.found[-1][1] += text.replace("\N{NO-BREAK SPACE}", " ") + (" " if self.kinds[-1][1] == "tr" else "")


def visible(page, screen):
    """The text that ``screen`` shows of a page before it is scrolled."""
    left, shown = float(screen.height), []
    for kind, text in Blocks(page).found:
        width, line, around = screen.kinds[kind]
        words = " ".join(text.split())
        if not words:
            continue
        left -= around
        for row in textwrap.wrap(words, width):
            left -= line
            if left < 0:
                return " ".join(shown)
            shown.append(row)
    return " ".join(shown)


@pytest.fixture(scope="module", params=[PRECISION, PRIVACY, SEARCH])
def screens(request, tmp_path_factory):
    """(the sweep, where it is looked at -> the text that is seen there)."""
    folder = SWEEPS[request.param](tmp_path_factory.mktemp(request.param))
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        report = write_report(folder)
    page, top = report.path.read_text(), (folder / "report.md").read_text().partition("\n## ")[0]
    return request.param, {
        "a terminal of 80 columns": " ".join(textwrap.wrap(report.answer, 80)[:22]),
        "a wide screen": visible(page, WIDE),
        "a phone": visible(page, PHONE),
        "the file for mail": " ".join(re.sub(r"[\\*`]|```.*\n", "", top).split()),
    }


def test_there_are_twenty_questions():
    assert len(QUESTIONS) == 20
    assert all(sum(sweep in answers for answers in QUESTIONS.values()) >= 9 for sweep in SWEEPS)


def test_every_question_is_answered_before_anybody_scrolls(screens):
    sweep, seen = screens
    lost = [
        f"{question} on {place}"
        for question, answers in QUESTIONS.items()
        for place, text in seen.items()
        if sweep in answers and " ".join(answers[sweep].split()) not in text
    ]
    assert not lost


def test_a_smaller_screen_would_not_do(tmp_path, monkeypatch):
    """Negative control: half a phone shows who leads, and not what would settle it."""
    draw_nothing(monkeypatch)
    page = write_report(precision_sweep(tmp_path)).path.read_text()
    text = visible(page, replace(PHONE, height=400))
    assert "So far bf16 leads" in text
    assert "comparison.until=decided" not in text
