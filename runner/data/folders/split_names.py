"""Names by which people call the folders of training, validation and test images."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

SPLITS = ("train", "val", "test")

_WORDS = {
    "train": "train|trainings?|trn|entrainement|apprentissage|entrenamiento|treino|treinamento|addestramento",
    "val": "val|valid|validation|validate|dev|development|validierungs?|validacion|validacao|validazione|convalida",
    "test": "test|testing|tst|holdout|heldout|teste|pruebas?|prova",
    "eval": "eval|evaluation",
}
"""English, German, French, Spanish, Portuguese and Italian, without accents.  Of ``eval`` it depends on what stands
beside it: see ``roles_of``."""

_FILLERS = (
    r"daten|datensatz|bilder|donnees|datos|imagenes|dados|imagens|dati|immagini"
    r"|sets?|data|images?|imgs?|pics?|pictures?|photos?|files?|splits?|folder|labell?ed|classes|samples?|my"
    r"|the|new|all|full|final|raw|clean|original|resized|cropped|processed|preprocessed|augmented|\d+"
)
"""What does not change the meaning of such a name: ``training_set``, ``TrainImages``, ``val2017``."""

_NAME = {
    role: re.compile(rf"(?:{_FILLERS})*+(?:{words})(?:{_FILLERS})*+", re.ASCII | re.IGNORECASE)
    for role, words in _WORDS.items()
}
_CORE = re.compile(rf"{'|'.join(_WORDS.values())}", re.ASCII | re.IGNORECASE)
_SEPARATORS = re.compile(r"[\W_]+")
_PIECE = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_FOLD = re.compile(r"k?(?:fold|split|part|partition|subset|cv)s?\d+|\d+(?:st|nd|rd|th)?(?:fold|split|part)", re.ASCII)
_NO_CLASS = re.compile(rf"(?:{_FILLERS}|unlabell?ed|unknown|unsorted|test|testing|pred|predict|submission)++", re.ASCII)


def roles_of(names: Iterable[str]) -> dict[str, str]:
    """For each of ``names`` that is usual for a split, which of ``SPLITS`` that is.

    Case, separators and words such as "set" or "images" do not matter, nor does what all such names have in common:
    ``seg_train`` beside ``seg_test``.  ``eval`` is the test, or the validation where another folder is the test and
    none the validation.
    """
    names = sorted(name for name in names if _CORE.search(_squashed(name)))
    roles = {name: role for name in names if (role := _role(name))}
    affixed: dict[tuple[str, ...], dict[str, str]] = {}
    for name in names:
        words = tuple(_SEPARATORS.split(name.casefold()))
        for role in _WORDS:
            core = [word for word in words if _role(word) == role and not word.isdecimal()]
            if name not in roles and len(core) == 1:
                rest = tuple(word for word in words if word != core[0])
                affixed.setdefault(rest, {})[name] = role
    for alike in affixed.values():
        if len(set(alike.values())) > 1:
            roles |= alike
    taken = set(roles.values())
    instead = "val" if "test" in taken and "val" not in taken else "test"
    return {name: instead if role == "eval" else role for name, role in roles.items()}


def hinted_role(name: str) -> str | None:
    """The role that one of the words of ``name`` stands for, as in ``trainA`` or ``test strip``; None without one."""
    return next((role for word in _PIECE.findall(name) if (role := _role(word))), None)


def is_fold(name: str) -> bool:
    """Whether ``name`` is usual for a part of a cross-validation."""
    return _FOLD.fullmatch(_SEPARATORS.sub("", name).casefold()) is not None


def says_nothing(name: str) -> bool:
    """Whether ``name`` is one for images without a class, such as ``images`` or ``unknown``."""
    return _NO_CLASS.fullmatch(_squashed(name).casefold()) is not None


def _role(name: str) -> str | None:
    return next((role for role, pattern in _NAME.items() if pattern.fullmatch(_squashed(name))), None)


def _squashed(name: str) -> str:
    """``name`` without separators and accents."""
    letters = (letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
    return _SEPARATORS.sub("", "".join(letters))
