"""What a person sees: a terminal of a given width, in this process, that understands what the runner sends."""

import io
import os
import re
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden" / "screens"
_CODE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|(\r|\n)|([^\x1b\r\n]+)")


class FakeTerminal(io.StringIO):
    """A stream that is a terminal."""

    encoding = "utf-8"

    def __init__(self, monkeypatch, columns, *, term="xterm-256color"):
        """Take the place of standard output and standard error."""
        super().__init__()
        self.columns = columns
        for name, value in {"COLUMNS": str(columns), "LINES": "40", "TERM": term}.items():
            monkeypatch.setenv(name, value)
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("sys.stderr", self)
        monkeypatch.setattr("sys.stdout", self)

    def isatty(self):
        """True."""
        return True

    def fileno(self):
        """None, as of every stream in memory."""
        raise io.UnsupportedOperation

    def screen(self):
        """The lines on the screen, as the terminal shows them by now: a line that is too long goes on below."""
        return screen_of(self.getvalue(), self.columns)


def screen_of(sent, columns):
    """The lines that a terminal of ``columns`` shows after ``sent``; an unknown code is an error."""
    lines, row, column = [""], 0, 0
    for match in _CODE.finditer(sent):
        number, code, control, text = match.groups()
        if control == "\r":
            column = 0
        elif control == "\n":
            row, column = row + 1, 0
        elif text:
            for letter in text:
                if column == columns:
                    row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
                line = lines[row].ljust(column)
                lines[row] = line[:column] + letter + line[column + 1 :]
                column += 1
        elif code == "A":
            row = max(0, row - int(number or 1))
        elif code == "K":
            assert number == "2"
            lines[row] = ""
        else:
            assert code == "m" or number == "?25", f"{match[0]!r} is not understood"
        lines += [""] * (row + 1 - len(lines))
    assert "".join(match[0] for match in _CODE.finditer(sent)) == sent
    return [line.rstrip() for line in lines]


def compare_with_golden(name, shown):
    """``shown``, the lines of a screen, are those of the file; RENEW_SCREENS=1 writes it, to be looked at."""
    file = GOLDEN / f"{name}.txt"
    text = "\n".join(shown).rstrip("\n") + "\n"
    if os.environ.get("RENEW_SCREENS"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")
