"""The privacy statement in words that need no explanation but their own."""

from __future__ import annotations

import math
from collections.abc import Iterator

from runner.config.words.pluralize import pluralize
from runner.privacy.accounting.privacy_text import (
    certainty_text,
    delta_text,
    epsilon_text,
    lower_bound_text,
    odds_text,
    one_in,
)
from runner.records.document import Bullets, Grid, Heading, Paragraph, Text
from runner.statement.facts import Bound, Facts, Share, Total

TITLE = "Privacy statement"
_COMPARED = (0.5, 1.0, 3.0, 8.0)
_WEAK = 8.0
_ACCOUNTANTS = {
    "pld": "privacy loss distributions, rounded upwards",
    "prv": "privacy loss random variables, upper end of the error",
    "rdp": "Rényi divergences",
}

_OF_THE_BEST = (
    " On top of it, the best of a random number of runs: Rényi divergences (Papernot and Steinke 2022, th. 2)."
)


def state(facts: Facts) -> list[Text]:
    """The statement without its title; sections have headings of level 2."""
    if facts.void is not None:
        return [*_opening(facts), *_void(facts.void)]
    bound = promised(facts)
    if bound is None:
        return [*_opening(facts), *_not_private(facts)]
    return [
        *_opening(facts),
        *_promise(bound),
        *_several(facts),
        *_covered(facts, bound),
        *_audit(facts),
        *_method(facts),
    ]


def promised(facts: Facts) -> Bound | None:
    """What may be said of the run where it is published: by itself, or as the best of a number that was drawn.

    None where nothing is promised.
    """
    if facts.void is not None:
        return None
    chosen = facts.share is not None and facts.share.chosen
    return facts.share.publish_best if chosen and facts.share is not None else facts.bound


def verdict(facts: Facts) -> str:
    """The statement in one sentence."""
    if facts.void is not None:
        return "VOID: the ε that this run reported does not hold, and nothing is promised."
    bound = promised(facts)
    if bound is None:
        return "NOT private: nothing is promised."
    figures = _figures(bound)
    if facts.audited is not None and not facts.audited.passed:
        return f"In doubt: an audit contradicts what this run reported ({figures})."
    share = facts.share
    if share is not None and share.drawn and not share.chosen:
        return f"Not for publication. Private by itself: {figures}."
    if share is not None and share.publish_best is not None and not share.drawn and share.cells > 1:
        best = epsilon_text(share.publish_best.epsilon)
        picked = "nothing is promised" if math.isinf(share.publish_best.epsilon) else f"ε = {best}"
        return f"Private: {figures} by itself; {picked} if it was picked as the best of its sweep."
    if share is not None and not share.drawn and share.publish_best is None:
        return f"Private: {figures} by itself; it is one of several runs, whose sum is not known here."
    return f"Private: {figures}, for each single training image."


def _figures(bound: Bound) -> str:
    return f"ε = {epsilon_text(bound.epsilon)} at δ = {delta_text(bound.delta)}"


def _opening(facts: Facts) -> Iterator[Text]:
    yield Paragraph(verdict(facts), lead=True)
    images = pluralize(facts.examples, "image")
    ended = {
        "completed": "completed",
        "budget_exhausted": "completed",
        "pruned": "ended early by its search",
        "failed": "failed",
        "interrupted": "interrupted",
        "running": "under way or killed",
    }[facts.status]
    day = "" if facts.day is None else f" on {facts.day}"
    steps = f" after {facts.steps:,} of {pluralize(facts.steps_planned, 'step')}."
    if facts.counted_whole:
        steps = f". How many steps it made is not on record, so all {facts.steps_planned:,} that were planned count."
    elif facts.status == "pruned":
        steps += " The search chose when by what the run had shown, so all that were planned count."
    elif facts.status == "interrupted" and facts.bound is not None and facts.epsilon_planned is not None:
        steps += (
            " The figure holds if when it was interrupted did not depend on what it had shown; otherwise that of the"
            f" whole plan does, ε = {epsilon_text(facts.epsilon_planned)}."
        )
    yield Paragraph(
        f"For the model `{facts.name}` (`{facts.model}`), trained on {images} of the data set `{facts.data}`;"
        f" {ended}{day}{steps}"
    )


def _promise(bound: Bound) -> Iterator[Text]:
    shown = float(epsilon_text(bound.epsilon))
    yield Heading(2, "What is promised")
    yield Paragraph(
        "Random noise was added while the model learned, so that it would have come out almost as likely had any one of"
        " the images been missing. This is called differential privacy. Two numbers say how strong it is: epsilon (ε),"
        " how far “almost” goes, where 0 is perfect and smaller is better; and delta (δ), the chance, here"
        f" {delta_text(bound.delta)} or {one_in(bound.delta)}, that the promise does not hold."
    )
    yield Paragraph(
        "Whoever suspects with even odds that a certain image was used, and then studies the model, can end up with"
        f" odds of at most {odds_text(shown)}, that is {certainty_text(shown)} sure, except with the chance δ.",
        lead=True,
    )
    compared = sorted({*_COMPARED, shown})
    yield Grid(
        ["ε", "sure at most", ""],
        [
            [epsilon_text(one), certainty_text(one), "this model"]
            if one == shown
            else [f"{one:g}", certainty_text(one), ""]
            for one in compared
        ],
        frozenset({""}),
    )
    weak = " A promise of this size is weak by itself." if shown >= _WEAK else ""
    yield Paragraph(f"That is the worst case: somebody who knows all the other images and saw every step.{weak}")


def _several(facts: Facts) -> Iterator[Text]:
    """The other runs on the same images."""
    lines = [*([] if facts.share is None else [_of_sweep(facts.share)]), *_of_ledger(facts.ledger)]
    yield Heading(2, "Other runs on the same images")
    yield Bullets(lines)


def _of_ledger(found: Total | str | None) -> Iterator[str]:
    if found is None:
        return
    ledger = "The ledger, which records private runs on these images,"
    if isinstance(found, str):
        yield f"{ledger} {found}: what all of them cost cannot be said here."
        return
    shared = "" if not found.elsewhere else f" {found.elsewhere:,} on other data that share images with these,"
    counts = (
        f"{ledger} counts {pluralize(found.runs, 'run')}, this one included,{shared} the last begun on {found.last}."
    )
    if found.runs == 1:
        yield f"{ledger} knew no other one on {found.last}."
    else:
        shown = float(epsilon_text(found.bound.epsilon))
        yield (
            f"{counts} For whoever sees the models of all of them, {_figures(found.bound)}: odds of at most"
            f" {odds_text(shown)} ({certainty_text(shown)} sure)."
        )
    if found.not_private:
        are = "is" if found.not_private == 1 else "are"
        yield f"It also counts {pluralize(found.not_private, 'run')} that {are} not private and that no sum covers."


def _of_sweep(share: Share) -> str:
    if share.drawn and share.chosen:
        return (
            "It is the best of several runs, whose number was drawn at random beforehand; the figures above include the"
            " choice. They hold as long as nothing of the other runs is published, nor how many they were."
            + (" To choose among the best of several such sweeps costs more." if share.beside else "")
        )
    if share.drawn:
        return (
            "It is one of several runs of which the best alone may be published, and it is not that one, or that is not"
            " settled. Keep it to yourself: publishing it would break what is promised for the best."
        )
    if share.publish_all is None or share.publish_best is None:
        return (
            "It is one of several runs of a sweep (the same images, other settings), whose sum is not known here. The"
            " figures above hold only if the others are seen by nobody and had no part in choosing this one. This page"
            " is written again when the sweep ends."
        )
    if share.cells == 1:
        return "It is the only private run of its sweep."
    if math.isinf(share.publish_best.epsilon):
        return (
            f"It is one of {share.cells:,} private runs of a sweep (the same images, other settings), not all of which"
            " hold what they promised. If this one was chosen by a look at the others, nothing is promised."
        )
    best = float(epsilon_text(share.publish_best.epsilon))
    same = share.publish_all == share.publish_best
    return (
        f"It is one of {share.cells:,} private runs of a sweep (the same images, other settings). The figures above"
        " hold only if the others are seen by nobody and had no part in choosing this one. Publishing it as the best"
        f" of them{', or all of them,' if same else ''} costs {_figures(share.publish_best)}, because each was looked"
        f" at to choose: odds of at most {odds_text(best)} ({certainty_text(best)} sure)."
        + ("" if same else f" Publishing all of them costs {_figures(share.publish_all)}.")
    )


def _covered(facts: Facts, bound: Bound) -> Iterator[Text]:
    twice = epsilon_text(2 * float(epsilon_text(bound.epsilon)))
    yield Heading(2, "What is covered, and what is not")
    yield Grid(
        ["what", "covered?"],
        [
            ["each single training image with its label, added or left out", "yes"],
            [
                "the weights (the numbers that make the model), at the end and at every step, and all that is computed"
                " from them without the training images",
                "yes",
            ],
            ["a person in two of the training images", f"less: ε = {twice}, and a larger δ"],
            ["training loss and accuracy, numbers of images, times and memory, in the records of the run", "no"],
            *_validation(facts),
            ["test images, on which it was measured once at the end", "no"],
            ["the images behind the weights that it started from", _weights(facts)],
            ["what is true of many, such as a sign of an illness: the model may tell it of anybody", "no"],
            [
                "the folder `checkpoints/`, all but `model.safetensors`: it holds the key of the noise",
                "no: never publish it",
            ],
        ],
        frozenset({"what", "covered?"}),
    )


def _validation(facts: Facts) -> Iterator[list[str]]:
    if facts.validation == "private":
        times = "" if facts.validation_uses is None else f" {pluralize(facts.validation_uses, 'time')}"
        yield [f"validation images: it was measured on them{times} without noise; a choice by such figures", "no"]
    elif facts.validation == "public":
        yield ["validation images, which were declared to be nobody's secret when the run was started", "no"]


def _weights(facts: Facts) -> str:
    if facts.weights is None:
        return "there are none: random numbers"
    return "no: those of its library" if facts.weights == "DEFAULT" else f"no: a file, SHA-256 {facts.weights[:12]}"


def _method(facts: Facts) -> Iterator[Text]:
    yield Heading(2, "For specialists: how it was computed")
    accountant = _ACCOUNTANTS.get(facts.accountant, facts.accountant)
    yield Paragraph(
        f"T = {pluralize(facts.steps, 'step')}. Each example enters a step with the chance q = {facts.sample_rate:.6g}"
        f" ({facts.sampling} sampling), moves it by at most C = {facts.max_grad_norm:g} (clipping norm), and is hidden"
        f" by normal noise of the standard deviation σC, with σ = {facts.noise_multiplier:.6g}."  # noqa: RUF001
        f" Neighbouring data sets: {facts.adjacency}. Accountant: {facts.accountant} ({accountant})."
        + (_OF_THE_BEST if facts.share is not None and facts.share.chosen else "")
    )


def _audit(facts: Facts) -> Iterator[Text]:
    yield Heading(2, "Was it attacked?")
    found = facts.audited
    if found is None:
        yield Paragraph(
            "Not audited. `python -m runner audit run=FOLDER`, with the folder of this run, attacks the program with"
            " this run's settings; `python -m runner report FOLDER` then renews this page."
        )
        return
    proved = f"ε is at least {lower_bound_text(found.lower_bound)} (with {found.confidence:.0%} confidence)"
    if found.passed:
        yield Paragraph(
            f"Audited on {found.day}: an attack on the program with this run's settings found nothing against the"
            f" promise. From what it saw, {proved}; it could have shown {lower_bound_text(found.measurable)} at most."
            " That is evidence, not proof."
        )
    else:
        yield Paragraph(
            f"The audit FAILED on {found.day} ({', '.join(found.failures)}). From what the attack saw, {proved}."
            " Do not rely on the figures of this page.",
            lead=True,
        )


def _not_private(facts: Facts) -> Iterator[Text]:
    yield Heading(2, "Why")
    yield Paragraph(
        "The noise that should hide each image came from a seed that stands in the run's settings"
        " (`privacy.unsafe_noise_seed`). Anyone who knows it can compute the noise and take it away. Such runs are for"
        " tests: treat the model as if it had been trained on the images without any protection, and do not publish it"
        " where they are confidential."
    )


def _void(reason: str) -> Iterator[Text]:
    yield Heading(2, "Why")
    yield Paragraph(
        "It was found, during the run or later, that single images may show through the noise that should hide them."
        " Whatever the run was said to promise, ε and δ included, is withdrawn."
    )
    yield Paragraph(
        "Treat the model as if it had been trained on the images without any protection; do not publish it where"
        " they are confidential."
    )
    yield Paragraph(f"For specialists: {reason}")
