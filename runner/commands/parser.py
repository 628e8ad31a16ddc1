"""The one parser of the command line: how every command reads its words, refuses one, and prints its ``--help``."""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from runner.config.words.columns import WIDTH, two_columns
from runner.config.words.instead import Instead, one_line
from runner.errors import ExitCode, RequestError, nearest
from runner.internals.argument_parsers import arguments_of
from runner.processes.command_end import run_command

Meaning = Callable[[str, str | None], Instead | None]
"""The name of a flag that a command does not have, and its value -> what is typed for them; None where nobody knows."""

_KINDS = {"int": "a whole number", "float": "a number"}
_FILES = (".yaml", ".yml")


class Parser(argparse.ArgumentParser):
    """Reads the words of one command.  A wrong one is a ``RequestError``: one line, and exit code 2."""

    def __init__(
        self,
        command: str,
        *,
        about: str = "",
        failed: str = "",
        keys: Mapping[str, str] | None = None,
        meaning: Meaning | None = None,
        **options: Any,
    ) -> None:
        """Make a parser without arguments of its own but ``--help``.

        Args:
            command: Its name.
            about: What it does, in a sentence or two, for ``--help``.
            failed: What exit code 1 means, for ``--help``.
            keys: ``key=default`` -> what it means, of what is typed without dashes, for ``--help``.
            meaning: What is typed for a flag of other tools; null where the command takes no keys.
            options: Those of ``argparse``.
        """
        super().__init__(
            prog=f"python -m runner {command}",
            description=textwrap.fill(about, WIDTH),
            epilog=_epilog(keys or {}, failed),
            formatter_class=_Format,
            allow_abbrev=False,
            **options,
        )
        self._typed: list[str] = []
        self._meaning: Meaning = meaning or (lambda word, value: None)

    def run(self, argv: Sequence[str] | None, act: Callable[[argparse.Namespace], int]) -> int:
        """The exit code of a whole command: ``act``, given what ``argv`` (null: that of the process) says."""

        def whole() -> int:
            try:
                args = self.read(sys.argv[1:] if argv is None else argv)
            except SystemExit:  # --help has been printed
                return ExitCode.DONE
            return act(args)

        return run_command(whole)

    def read(self, argv: Sequence[str]) -> argparse.Namespace:
        """What ``argv`` says.

        Raises:
            RequestError: a word is wrong.
            SystemExit: after ``--help``.
        """
        self._typed = list(argv)
        args, unknown = self.parse_known_intermixed_args(self._typed)
        if unknown:
            raise self._unknown(unknown)
        return args

    def error(self, message: str) -> NoReturn:
        """Refuse in one line, where argparse would print its usage and leave the process."""
        if missing := re.match(r"the following arguments are required: (.*)", message):
            own = self._flags()
            unknown = [word for word in self._typed if word[:1] == "-" and word.partition("=")[0] not in own]
            raise self._unknown(unknown) if unknown else RequestError(missing[1], "nothing", self._form())
        about = re.match(r"argument ([^:/ ]+)[^:]*: (.*)", message, re.DOTALL)
        if about is None:
            raise RequestError("command line", message, self._form())
        flag, fault = about[1], about[2]
        if choice := re.match(r"invalid choice: '(.*?)' \(choose from (.*)\)", fault):
            names = choice[2].replace("'", "").split(", ")
            if choice[1].endswith(_FILES) and (instead := self._meaning("config", choice[1])) is not None:
                raise RequestError(flag, choice[1], str(instead))
            raise RequestError(flag, choice[1], f"one of {', '.join(names)}", nearest=nearest(choice[1], names))
        if kind := re.match(r"invalid (\w+) value: '(.*)'", fault, re.DOTALL):
            raise RequestError(flag, kind[2], _KINDS.get(kind[1], "another value"))
        if explicit := re.match(r"ignored explicit argument '(.*)'", fault, re.DOTALL):
            raise RequestError(flag, explicit[1], "no value: it is a switch")
        if fault.startswith("expected"):
            raise RequestError(flag, "nothing", f"{flag} {self._metavar(flag)}")
        raise RequestError(flag, fault, self._form())

    def _unknown(self, words: Sequence[str]) -> RequestError:
        """The refusal of ``words``, which no argument takes."""
        flags = [word for word in words if word.startswith("-")]
        if not flags:
            return RequestError(words[0], "one word too many", self._form())
        given = [_flag_and_value(flag, self._typed) for flag in flags]
        found = [(name, value, self._meaning(name.lstrip("-"), value)) for name, value in given]
        for name, value, instead in found:
            if instead is None:
                return self._unknown_flag(name, value)
        known = [(name, value, instead) for name, value, instead in found if instead is not None]
        if len(known) == 1:
            ((name, value, instead),) = known
            return RequestError(name, "a flag" if value is None else value, str(instead))
        typed = " ".join(name if value is None else f"{name} {value}" for name, value, _ in known)
        return RequestError("flags", typed, one_line(known))

    def _unknown_flag(self, name: str, value: str | None) -> RequestError:
        near = nearest(name, [flag for flag in self._flags() if flag.startswith("--")])
        if near is None and "." in name:
            return RequestError(name, "dashes before a key", f"{name.lstrip('-')}={value or 'VALUE'}")
        return RequestError(name, "an unknown flag", self._form(), nearest=near)

    def _flags(self) -> list[str]:
        return [flag for action in arguments_of(self) for flag in action.option_strings]

    def _form(self) -> str:
        """What the command takes, in short, as its usage says it."""
        usage = " ".join(self.format_usage().split()).removeprefix(f"usage: {self.prog}")
        return usage.replace(" [-h]", "").strip() or "nothing more"

    def _metavar(self, flag: str) -> str:
        action = next(action for action in arguments_of(self) if flag in action.option_strings)
        return str(action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper())


class _Format(argparse.RawDescriptionHelpFormatter):
    """``--help`` in 80 columns, wherever it is printed."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=WIDTH, max_help_position=26)

    def start_section(self, heading: str | None) -> None:
        """Begin a part under the one name that it has on every page."""
        super().start_section({"positional arguments": "arguments", "options": "flags"}.get(heading or "", heading))


def _epilog(keys: Mapping[str, str], failed: str) -> str:
    column = min(30, 4 + max(map(len, keys), default=0))
    lines = [line for key, text in keys.items() for line in two_columns(key, text, column=column)]
    codes = f"0 done,{f' 1 {failed},' if failed else ''} 2 the request was wrong, 75 interrupted"
    page = textwrap.fill(f"exit codes: {codes}", WIDTH)
    return "\n".join(["keys:", *lines, "", page]) if keys else page


def _flag_and_value(word: str, argv: Sequence[str]) -> tuple[str, str | None]:
    """The flag that ``word`` is, and its value: behind the sign, or the next word where that can be one."""
    name, equals, value = word.partition("=")
    if equals:
        return name, value
    following = [*argv, "-", "-"][list(argv).index(word) + 1] if word in argv else "-"
    return name, None if following.startswith("-") or "=" in following else following
