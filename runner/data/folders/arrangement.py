"""Whether the folders below ``data.root`` are splits with class folders in them, or the classes themselves."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from runner.config.words.pluralize import pluralize
from runner.data.folders.listing import Listing, folders_of, list_files
from runner.data.folders.split_names import SPLITS, hinted_role, is_fold, roles_of, says_nothing
from runner.errors import RequestError, nearest

_SHOWN = 3

_CALLED = {"train": "training", "val": "validation", "test": "the test"}


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """Where the images of each split lie."""

    root: Path
    """The folder that holds the splits or the classes, links resolved: ``data.root``, or the one folder in it."""
    splits: dict[str, str]
    """Of ``train`` and where they exist ``val`` and ``test``, in this order, the folder below ``root``; "" of ``train``
    alone where ``root`` holds the class folders."""
    listing: Listing
    """What lies in these folders."""
    notes: tuple[str, ...] = ()
    """What was left out."""
    follow_links: bool = False
    """Whether links to folders and out of ``root`` were followed."""

    def again(self, wanted: Callable[[str], bool]) -> Listing:
        """The same listing, made now."""
        below = tuple(self.splits.values())
        return list_files(self.root, below=below, wanted=wanted, follow_links=self.follow_links)


@dataclass
class _Folder:
    """A folder that may be a split or a class."""

    path: str
    """Below the root: its name, or that of the only folder in it."""
    loose: int = 0
    """Images that lie in it directly."""
    inner: Counter[str] = field(default_factory=Counter)
    """Images in each of its folders, at any depth."""

    @property
    def images(self) -> int:
        return self.loose + self.inner.total()

    @property
    def holding(self) -> set[str]:
        """Folders with images."""
        return {name for name, images in self.inner.items() if images}


def arrange(
    root: Path,
    *,
    wanted: Callable[[str], bool],
    splits: Mapping[str, str] | None = None,
    follow_links: bool = False,
) -> Arrangement:
    """Settle which folders of ``root`` are the splits, by their names and by what is in them.

    Args:
        root: Existing folder.
        wanted: Says by name whether a file is an image.
        splits: What the user says: the folder of each split; none where every folder is a class; None where the names
            are to tell.
        follow_links: As for ``list_files``.

    Raises:
        RequestError: The folders look like splits and cannot be told apart, or ``splits`` names what is not there.
        OSError: A folder cannot be listed.
    """
    root = root.resolve()

    def arranged(splits: dict[str, str], listing: Listing, notes: Sequence[str] = ()) -> Arrangement:
        return Arrangement(root=root, splits=splits, listing=listing, notes=tuple(notes), follow_links=follow_links)

    def listed(*below: str) -> Listing:
        return list_files(root, below=below, wanted=wanted, follow_links=follow_links)

    if splits is not None:
        chosen = _check_named(root, splits) or {"train": ""}
        return arranged(chosen, listed(*chosen.values()))
    names = folders_of(root, links=follow_links)
    linked = [name for name in roles_of(folders_of(root, links=True)) if name not in names]
    listing = listed("", *linked)
    folders = _survey(root, [*names, *linked], listing, follow_links=follow_links)
    roles = roles_of(folders)
    holding = [name for name, folder in folders.items() if folder.images]
    stray = any("/" not in file.path for file in listing.files)
    if not roles and len(holding) == 1 and not stray and roles_of(folders[holding[0]].inner):
        return arrange(root / holding[0], wanted=wanted, follow_links=follow_links)
    assigned, unlabelled = _assign_splits(root, folders, roles)
    if not assigned:
        return arranged({"train": ""}, listed("") if linked else listing)
    notes = [
        f"{name}/ holds {pluralize(folders[name].images, 'image')} and no class folders: it is left out; predict them"
        f" with python -m runner infer run=FOLDER images={root / name}"
        for name in unlabelled
    ]
    if beside := [name for name in holding if name not in roles]:
        images = sum(folders[name].images for name in beside)
        notes.append(
            f"only {_slashed(assigned.values())} are used, not {_slashed(beside)} ({pluralize(images, 'image')}):"
            " data.splits={train: FOLDER, test: FOLDER} names others"
        )
    return arranged(assigned, _below(listing, assigned.values()), notes)


def _check_named(root: Path, splits: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(splits, Mapping) or not all(isinstance(folder, str) for folder in splits.values()):
        raise RequestError("data.splits", splits, "the folder of each split, such as {train: a, test: b}, or {}")
    for split in splits:
        if split not in SPLITS:
            near = nearest(str(split), SPLITS)
            raise RequestError("data.splits", f"{split}", "train and maybe val and test", nearest=near)
    if splits and "train" not in splits:
        raise RequestError("data.splits", f"{', '.join(splits)} without train", "the folder of train as well")
    chosen: dict[str, str] = {}
    for split in SPLITS:
        if split in splits:
            inside = os.path.normpath(splits[split])
            if inside.startswith(("..", "/")) or inside == "." or not (root / inside).is_dir():
                raise RequestError("data.splits", f"{split}: {splits[split]}", f"a folder in {root}")
            for other, taken in chosen.items():
                if f"{inside}/".startswith(f"{taken}/") or f"{taken}/".startswith(f"{inside}/"):
                    raise RequestError("data.splits", f"{inside} within {other}: {taken}", "folders apart")
            chosen[split] = inside
    return chosen


def _survey(root: Path, names: Iterable[str], listing: Listing, *, follow_links: bool) -> dict[str, _Folder]:
    """What each of the top folders ``names`` holds; of a split in a folder of its own, what that holds."""
    names = sorted(names)
    roles = roles_of(names)
    folders: dict[str, _Folder] = {}
    for name in names:
        path, inner = name, folders_of(root / name, links=follow_links)
        alone = len(inner) == 1 and name in roles
        if alone and (says_nothing(inner[0]) or hinted_role(inner[0]) == roles[name]):
            path, inner = f"{name}/{inner[0]}", folders_of(root / name / inner[0], links=follow_links)
        folders[name] = _Folder(path=path, inner=Counter(dict.fromkeys(inner, 0)))
    for file in listing.files:
        folder = folders.get(file.path.partition("/")[0])
        if folder is None:
            continue
        first, _, rest = file.path.removeprefix(f"{folder.path}/").partition("/")
        if not rest or not file.path.startswith(f"{folder.path}/"):
            folder.loose += 1
        else:
            folder.inner[first] += 1
    return folders


def _assign_splits(
    root: Path, folders: Mapping[str, _Folder], roles: Mapping[str, str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The folder of each split, or none where all are classes; and folders of test images without labels."""
    others = [name for name, folder in folders.items() if folder.images and name not in roles]
    shaped = [name for name in roles if folders[name].holding]
    if not shaped:
        _refuse_classes_like_splits(root, folders, roles, others)
        return {}, ()
    by_role = {split: [name for name in roles if roles[name] == split] for split in SPLITS}
    for split, names in by_role.items():
        if len(names) > 1:
            raise _ambiguous(root, f"{len(names)} folders for {_CALLED[split]}: {_some(names)}")
    train = by_role["train"]
    if not train or train[0] not in shaped:
        lacking = "no folder for training"
        if train:
            lacking = f"{train[0]}/ without {'class folders' if folders[train[0]].images else 'images'}"
        raise _ambiguous(root, f"{_slashed(shaped)} {f'beside {_slashed(others)}' if others else f'and {lacking}'}")
    if others and (len(shaped) == 1 or folders[train[0]].holding & set(others)):
        raise _ambiguous(root, f"{_slashed(shaped)} beside {_slashed(others)}")
    alike = [name for name in others if len(folders[name].holding & folders[train[0]].holding) > 1]
    if alike and not all(by_role.values()):
        images = pluralize(sum(folders[name].images for name in alike), "image")
        raise _ambiguous(root, f"{_slashed(shaped)} beside {_slashed(alike)}, {images} of the same classes")
    assigned: dict[str, str] = {}
    unlabelled: tuple[str, ...] = ()
    for split, (name, *_) in ((split, names) for split, names in by_role.items() if names):
        folder = folders[name]
        if not folder.images and not folder.inner:
            raise RequestError("data.root", f"{root / name} (no images)", "images in it, or no such folder")
        if folder.holding or not folder.images:
            assigned[split] = folder.path
        elif split == "test":
            unlabelled = (name,)
        else:
            held = pluralize(folder.images, "image")
            raise RequestError("data.root", f"{root / name} ({held} in no class folder)", "a folder for each class")
    return assigned, unlabelled


def _refuse_classes_like_splits(
    root: Path, folders: Mapping[str, _Folder], roles: Mapping[str, str], others: Sequence[str]
) -> None:
    """See that the folders, of which none is a split with class folders in it, are classes.

    Raises:
        RequestError: they may be something else.
    """
    holding = {name: folder for name, folder in folders.items() if folder.images}
    flat = [name for name in holding if name in roles]
    if flat and not others:
        raise RequestError(
            "data.root", f"{root} ({_slashed(flat)} with images in no class folder)", "a folder for each class in them"
        )
    if tests := [name for name in flat if roles[name] == "test"]:
        raise _ambiguous(root, f"{_slashed(tests)} beside {_slashed(others)}")
    hinting = {name: role for name in holding if (role := hinted_role(name))}
    if len(set(hinting.values())) > 1:
        raise _ambiguous(root, _slashed(hinting))
    if len(holding) > 1:
        alike = set.intersection(*(folder.holding for folder in holding.values()))
        if len(alike) > 1:
            raise _ambiguous(root, f"{_slashed(holding)}, each with {_slashed(sorted(alike))}")
        if all(map(is_fold, holding)):
            raise _ambiguous(root, f"{_slashed(holding)}, which are called like folds")
    for name, folder in holding.items():
        within = roles_of(folder.holding)
        if len(set(within.values())) > 1:
            raise _ambiguous(root, _slashed(f"{name}/{inner}" for inner in within))


def _ambiguous(root: Path, got: str) -> RequestError:
    expected = (
        "splits or classes that can be told apart: 'data.splits={train: FOLDER, test: FOLDER}' names the splits,"
        " data.splits={} makes every folder a class"
    )
    return RequestError("data.root", f"{root} ({got})", expected)


def _slashed(names: Iterable[str]) -> str:
    return _some(f"{name}/" for name in names)


def _some(names: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b, c and 2 more``."""
    names = list(names)
    shown = names[:_SHOWN] if len(names) > _SHOWN + 1 else names
    last = f"{len(names) - _SHOWN} more" if len(shown) < len(names) else shown.pop()
    return f"{', '.join(shown)} and {last}" if shown else last


def _below(listing: Listing, folders: Iterable[str]) -> Listing:
    """The part of ``listing`` that lies in ``folders``."""
    starts = tuple(f"{folder}/" for folder in folders)
    return replace(
        listing,
        files=tuple(file for file in listing.files if file.path.startswith(starts)),
        bad=tuple(bad for bad in listing.bad if bad[0].startswith(starts)),
        links=tuple(path for path in listing.links if path.startswith(starts)),
        ignored=tuple(path for path in listing.ignored if path.startswith(starts)),
    )
