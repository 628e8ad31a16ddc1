"""A report as one HTML page: no file beside it, no network, no script; day and night, wide and narrow screens."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from runner.records.document import Bullets, Grid, Heading, Paragraph, ShellCommand
from runner.records.printable import printable
from runner.report.document import Figure, Folded, Part

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --muted: #59636e; --paper: #ffffff; --grid: #d5dae0;
  --soft: #f4f6f8; --accent: #2f6fb0; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e7ec; --muted: #98a2ae; --paper: #14181d; --grid: #343c46; --soft: #1c2229; --accent: #78aee6; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 2.2rem 1.2rem 4rem; max-width: 58rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.55rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.12rem; margin: 2.4rem 0 .6rem; padding-top: .9rem; border-top: 1px solid var(--grid); }
p { margin: .6rem 0; overflow-wrap: anywhere; }
p.lead strong { font-size: 1.14rem; font-weight: 600; }
p.lead { margin: 1.1rem 0; padding: .75rem 1rem; background: var(--soft);
  border-left: 4px solid var(--accent); border-radius: 0 .4rem .4rem 0; }
ul { margin: .5rem 0; padding-left: 1.2rem; } li { margin: .25rem 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; margin: .9rem 0; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .34rem .8rem .34rem 0; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--grid);
  vertical-align: top; }
th { font-weight: 600; color: var(--muted); border-bottom-width: 2px; }
th.words, td.words { text-align: left; white-space: normal; min-width: 6rem; }
th:last-child, td:last-child { padding-right: 0; }
figure { margin: 1.2rem 0; }
figcaption { color: var(--muted); font-size: .88rem; margin-top: .2rem; }
svg { display: block; width: 100%; min-width: 34rem; height: auto; color: var(--ink); stroke-linejoin: round; }
svg text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans",
  sans-serif !important; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .88em; }
code { background: var(--soft); padding: .08em .3em; border-radius: .25em; }
code.command { display: block; margin: .4rem 0; padding: .5rem .7rem; background: var(--paper); }
pre { background: var(--soft); padding: .8rem 1rem; border-radius: .4rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }
details { margin: .5rem 0; border: 1px solid var(--grid); border-radius: .4rem; padding: 0 1rem; }
summary { cursor: pointer; padding: .55rem 0; overflow-wrap: anywhere; }
details[open] summary { border-bottom: 1px solid var(--grid); }
h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; }
td, th, li, code, pre, figcaption { unicode-bidi: isolate; }
@media (max-width: 40rem) {
  body { padding: 1.2rem .9rem 3rem; } h1 { font-size: 1.25rem; }
  p.lead { padding: .5rem .7rem; font-size: .93rem; line-height: 1.42; margin: .7rem 0; }
  p.lead strong { font-size: 1.06rem; }
  .wide { scrollbar-width: thin; } table { width: max-content; } th.words, td.words { min-width: 0; max-width: 15rem; }
}
@media print {
  html { font-size: 9pt; } body { max-width: none; padding: 0; line-height: 1.35; }
  h2 { margin-top: .8rem; padding-top: .4rem; break-after: avoid; }
  p, p.lead { margin: .4rem 0; } p.lead { padding: .35rem .8rem; }
  .wide { margin: .5rem 0; } th, td { padding-top: .2rem; padding-bottom: .2rem; }
  figure, tr { break-inside: avoid; }
}
"""


_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]+")


def to_html(parts: Sequence[Part]) -> str:
    """The report as a page that needs nothing else."""
    title = next(part.text for part in parts if isinstance(part, Heading))
    body = "\n".join(_part(part) for part in parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(printable(title))}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n"
        "</main>\n</body>\n</html>\n"
    )


def _part(part: Part) -> str:
    match part:
        case Folded(summary, parts, _):
            inner = "\n".join(_part(one) for one in parts)
            return f"<details><summary>{_inline(summary)}</summary>\n{inner}\n</details>"
        case Heading(level, text):
            return f"<h{level}>{_inline(text)}</h{level}>"
        case Paragraph(text, lead):
            return _lead(text) if lead else f"<p>{_inline(text)}</p>"
        case Bullets(items):
            return "<ul>\n" + "\n".join(f"<li>{_inline(item)}</li>" for item in items) + "\n</ul>"
        case ShellCommand(text):
            return f"<pre>{_lines(text)}</pre>"
        case Figure(picture):
            caption = _inline(picture.caption)
            return f'<figure><div class="wide">{picture.svg}</div><figcaption>{caption}</figcaption></figure>'
        case Grid():
            return _table(part)


def _lead(text: str) -> str:
    """The answer: its first sentence stands out from what it rests on."""
    first, *rest = re.split(r"(?<=[.!?]) (?=[A-Z])", text, maxsplit=1)
    return f'<p class="lead"><strong>{_inline(first)}</strong>{"".join(f" {_inline(one)}" for one in rest)}</p>'


def _lines(text: str) -> str:
    return "\n".join(html.escape(printable(line)) for line in text.split("\n"))


def _table(grid: Grid) -> str:
    kinds = [' class="words"' if name in grid.words else "" for name in grid.head]
    head = "".join(f"<th{kind}>{_inline(name)}</th>" for name, kind in zip(grid.head, kinds, strict=True))
    rows = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{_inline(cell)}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in grid.rows
    )
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>'


def _inline(text: str) -> str:
    """Text, with code between backquotes; a name of another direction turns round nothing but itself."""
    escaped = html.escape(printable(text), quote=False)
    escaped = re.sub(r"(?<=\d) (?=%|(?:pp|s|min|h|MiB)\b)", "&nbsp;", _RIGHT_TO_LEFT.sub(r"<bdi>\g<0></bdi>", escaped))
    return re.sub(r"`([^`]*)`", _code, escaped)


def _code(found: re.Match[str]) -> str:
    """Code within a sentence; a command on lines of its own."""
    kind = ' class="command"' if found[1].startswith("python ") else ""
    return f"<code{kind}>{found[1]}</code>"
